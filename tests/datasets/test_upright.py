"""A picture is opened in one way wherever a model sees it.

Own pictures are opened upright, those of public sets as the original opens them.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from minalbef.data import transform
from minalbef.datasets import augment as photos
from minalbef.datasets.loader import RecordBatches
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records
from minalbef.evaluation.loop import How
from minalbef.recipes import finetune
from minalbef.system import checkpoint
from minalbef.tasks import retrieval
from minalbef.tasks.run import Run, load
from untrained import untrained

WORDS = (
    "a cat", "two dogs on a mat", "a red car", "an apple", "the blue house", "a banana on a plate",
)
SIZE = 48  # of the run's pictures


def drawing(seed: int) -> Image.Image:
    """Noise with a half that is transparent, whose colour below would show if it were dropped."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 4), np.uint8)
    pixels[:, :15, 3] = 0
    pixels[:, 15:, 3] = 255
    return Image.fromarray(pixels)


def save_all(folder) -> None:
    """Six pictures: two transparent, two turned by EXIF, a palette with a hole, a plain one."""
    folder.mkdir(parents=True)
    drawing(0).save(folder / "0.png")
    drawing(1).save(folder / "1.webp", lossless=True)
    for i, (name, turn) in enumerate({"2.jpg": 6, "3.jpg": 3}.items(), 2):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = turn
        drawing(i).convert("RGB").save(folder / name, exif=exif)
    palette = drawing(4).convert("RGB").quantize(16)
    palette.save(folder / "4.png", transparency=palette.getpixel((3, 3)))
    drawing(5).convert("RGB").save(folder / "5.png")


@pytest.fixture
def own_set(tmp_path):
    """A prepared set of own pictures, all of them to train on, and what was said of it."""
    save_all(tmp_path / "mine")
    rows = [
        f"{path.name},{text},train"
        for path, text in zip(sorted((tmp_path / "mine").iterdir()), WORDS)
    ]
    (tmp_path / "mine" / "captions.csv").write_text("\n".join(["file,caption,split", *rows]) + "\n")
    return tmp_path / "out" / "pairs", prepare("pairs", tmp_path / "mine", tmp_path / "out")


@pytest.fixture
def public(tmp_path):
    """The same pictures as a public set."""
    save_all(tmp_path / "coco")
    rows = [
        {"image": path.name, "caption": text}
        for path, text in zip(sorted((tmp_path / "coco").iterdir()), WORDS)
    ]
    (tmp_path / "coco" / "coco_train.json").write_text(json.dumps(rows))
    return tmp_path / "out" / "coco", prepare(
        "coco", tmp_path / "coco", tmp_path / "out", look=True
    )


def pixels_in_training(records, run: Run, monkeypatch) -> torch.Tensor:
    """What training's reader gives the encoder by number, without crops, flips and colours.

    It resizes by PIL, as evaluation does: torch rounds otherwise, see `augment.resize`.
    """
    bicubic = Image.Resampling.BICUBIC
    with monkeypatch.context() as patch:
        patch.setattr(photos, "SIDES", photos.re.compile(""))  # no flips: it is in every text
        patch.setattr(photos, "rand_augment", lambda image, rng: image)
        patch.setattr(photos, "resize", lambda image, size: image.resize((size, size), bicubic))
        config = replace(run.config, batch=len(records), epoch=len(records), crop=1.0)
        batch = RecordBatches(records, retrieval.collate, config, run.tokenizer)(0).to("cpu")
    return batch.image[torch.tensor([batch.ids.tolist().index(record.id) for record in records])]


def pixels_in_evaluation(records, run: Run, monkeypatch) -> torch.Tensor:
    """What evaluation gives the image encoder, by number."""
    images = []
    encode = run.model.encode_image
    with monkeypatch.context() as patch:
        patch.setattr(
            run.model, "encode_image", lambda image: images.append(image) or encode(image)
        )
        retrieval.evaluate_retrieval(run.model, run.tokenizer, records, How(batch=2, quiet=True))
    return torch.cat(images)


def run_with(upright: bool, tmp_path) -> Run:
    """An untrained run with a folder, whose pictures are opened so."""
    run = untrained()
    config = replace(run.config, upright=upright)
    folder = tmp_path / f"run-{upright}"
    checkpoint.save(folder, finetune.at_size(run.model, config), run.tokenizer)
    return load(folder)


def pixels_of(files, upright: bool) -> torch.Tensor:
    """By PIL alone."""
    pixels = []
    for path in files:
        image = Image.open(path)
        if upright:
            image = ImageOps.exif_transpose(image).convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        pixels.append(transform(np.array(image), SIZE))
    return torch.stack(pixels)


@torch.no_grad()
def test_own_pictures_have_the_same_features_wherever_they_are_read(own_set, tmp_path, monkeypatch):
    """To the last digit: by training's reader, evaluation, search, predict and in Python."""
    run = run_with(True, tmp_path)
    records = Records(own_set[0], "train")
    files = [record.image.path for record in records]
    assert files == sorted((tmp_path / "mine").glob("?.*"))
    pixels = pixels_of(files, True)
    # the check is blind
    assert (pixels != pixels_of(files, False)).flatten(1).any(1).tolist() == [True] * 5 + [False]
    for images in (
        pixels_in_training(records, run, monkeypatch),
        pixels_in_evaluation(records, run, monkeypatch),
        retrieval.collate(list(records), run.tokenizer, SIZE).to("cpu").image,
        torch.stack([*map(run.transform, files)]),
        torch.stack([run.transform(record.image) for record in records]),
    ):
        assert torch.equal(images, pixels)


@torch.no_grad()
def test_a_public_sets_pictures_are_read_as_the_original_reads_them(public, tmp_path, monkeypatch):
    """In training, and in evaluation whatever the run does with pictures from outside."""
    records = Records(public[0], "train")
    pixels = pixels_of([record.image for record in records], False)
    for upright in (False, True):
        run = run_with(upright, tmp_path)
        assert torch.equal(pixels_in_evaluation(records, run, monkeypatch), pixels)
        assert torch.equal(pixels_in_training(records, run, monkeypatch), pixels)
