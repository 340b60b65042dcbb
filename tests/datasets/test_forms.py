"""Sets in the layouts in which people have them, from their folders to records; samples first, then a contact sheet."""

import json
import logging

import pytest
from PIL import Image

from minalbef.cli import train as cli
from minalbef.cli.main import main
from minalbef.datasets import sheet
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records
from miniature_sets import jpeg, write

CAPTIONS = [
    f'Two young guys with "shaggy" hair, {word}' for word in ("one", "two", "three", "four")
]
NAMES = [f"{1000092795 + i}.jpg" for i in range(4)]
TOKENS = "".join(f"{name}#{i}\t{text}\n" for name, text in zip(NAMES, CAPTIONS) for i in range(2))
KAGGLE = "image_name| comment_number| comment\n" + "".join(
    f"{name}| {i}| {text}\n" for name, text in zip(NAMES, CAPTIONS) for i in range(2)
)
FLICKR8K = "image,caption\n" + "".join(f"{name},{text}\n" for name, text in zip(NAMES, CAPTIONS))


def titles(names, folder="", start=0) -> str:
    """A table of open_clip's."""
    lines = [f"{folder}{name}\t{CAPTIONS[start + i]}" for i, name in enumerate(names)]
    return "\n".join(["filepath\ttitle", *lines])


def json_lines(names, start=0) -> list[dict]:
    """Hugging Face's metadata.jsonl."""
    return [{"file_name": name, "text": CAPTIONS[start + i]} for i, name in enumerate(names)]


def pictures(folder, names=NAMES, first=0):
    for i, name in enumerate(names):
        jpeg(folder / name, size=(8 + first + i, 8))


def prepared(path) -> dict[str, list[tuple[str, str]]]:
    """Prepare a folder of pairs: -> by split, the images' last folder with their names, and captions."""
    prepare("pairs", path, path.parent / "out")
    about = json.loads((path.parent / "out" / "pairs" / "about.json").read_text())
    read = {}
    for split in about["splits"]:
        records = Records(path.parent / "out" / "pairs", split)
        read[split] = [("/".join(one.image.source.path.parts[-2:]), one.text) for one in records]
    return read


def everything(read: dict) -> list:
    return sorted(pair for split in read.values() for pair in split)


@pytest.mark.parametrize(
    "table, text, images, times",
    [
        ("results.csv", KAGGLE, "flickr30k_images", 2),
        ("flickr30k_images/results.csv", KAGGLE, "flickr30k_images/flickr30k_images", 2),
        ("results_20130124.token", TOKENS, "flickr30k-images", 2),
        ("Flickr8k_text/Flickr8k.token.txt", TOKENS, "Flicker8k_Dataset", 2),
        ("captions.txt", FLICKR8K, "Images", 1),
        ("train.csv", titles(NAMES, "images/"), "images", 1),
        ("train.csv", titles(NAMES, "/data/someone/images/"), "images", 1),
        ("metadata.jsonl", json_lines(NAMES), "photos", 1),
    ],
)
def test_the_tables_of_flickr_kaggle_open_clip_and_hugging_face_are_found_with_their_images(
    tmp_path, table, text, images, times
):
    pictures(tmp_path / "in" / images)
    write(tmp_path / "in" / table, text)
    write(tmp_path / "in" / "readme.txt", "what it is")
    write(tmp_path / "in" / "Flickr8k_text" / "Flickr_8k.trainImages.txt", NAMES[0])
    folder = images.rpartition("/")[2]
    expected = [
        (f"{folder}/{name}", caption)
        for name, caption in zip(NAMES, CAPTIONS)
        for _ in range(times)
    ]
    assert everything(prepared(tmp_path / "in")) == sorted(expected)


@pytest.mark.parametrize("form", ["open_clip", "imagefolder"])
def test_tables_that_are_named_by_their_splits_are_read_together(tmp_path, form):
    source = tmp_path / "in"
    if form == "open_clip":
        pictures(source / "images")
        write(source / "train.csv", titles(NAMES[:3], "images/"))
        write(source / "val.csv", titles(NAMES[3:], "images/", 3))
    else:  # equal names, each beside its own table
        pictures(source / "train", ["0.jpg", "1.jpg", "2.jpg"])
        pictures(source / "val", ["0.jpg"], 3)
        write(source / "train" / "metadata.jsonl", json_lines(["0.jpg", "1.jpg", "2.jpg"]))
        write(source / "val" / "metadata.jsonl", json_lines(["0.jpg"], 3))
    read = prepared(source)
    assert [text for _, text in read["train"]] == CAPTIONS[:3]
    assert [text for _, text in read["validation"]] == CAPTIONS[3:]
    assert "test" not in read
    assert form == "open_clip" or read["validation"][0][0] == "val/0.jpg"


def test_a_name_that_fits_several_images_is_a_fault_and_a_path_that_is_gone_is_no_other_image(
    tmp_path,
):
    pictures(tmp_path / "in" / "more" / "cats", ["0.jpg", "1.jpg"])
    pictures(tmp_path / "in" / "more" / "dogs", ["0.jpg", "2.jpg"], 2)
    rows = ["0.jpg,a pet", "cats/0.jpg,a cat", "dogs/0.jpg,a dog", "dogs/1.jpg,a dog that is gone"]
    write(tmp_path / "in" / "captions.csv", "\n".join(["file,caption", *rows]))
    assert everything(prepared(tmp_path / "in")) == [
        ("cats/0.jpg", "a cat"),
        ("dogs/0.jpg", "a dog"),
    ]
    faults = (tmp_path / "out" / "pairs" / "train.faults.txt").read_text()
    assert "entry 0: image '0.jpg' may be " in faults
    assert "entry 3: image 'dogs/1.jpg' is not below" in faults


def test_folders_of_images_are_captions_by_their_names(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for i, folder in enumerate(("train/golden_retriever", "train/Bus", "val/tabby-cat", "val/Bus")):
        pictures(tmp_path / "in" / folder, ["0.jpg"], i)
    pictures(tmp_path / "in", ["alone.jpg"], 9)
    write(tmp_path / "in" / "README.txt", "what it is")
    read = prepared(tmp_path / "in")
    assert sorted(text for _, text in read["train"]) == ["Bus", "golden retriever"]
    assert sorted(text for _, text in read["validation"]) == ["Bus", "tabby cat"]
    assert "names of the images' 3 folders, 'Bus', 'golden retriever', 'tabby cat'" in caplog.text
    assert (
        "alone.jpg is in no folder whose name is a caption"
        in (tmp_path / "out" / "pairs" / "train.faults.txt").read_text()
    )


def test_folders_of_a_public_set_or_of_images_alone_are_no_captions(tmp_path):
    pictures(tmp_path / "in" / "train2017")
    refusal = "has no captions.csv .* no folders whose names could be captions"
    with pytest.raises(ValueError, match=refusal):
        prepare("pairs", tmp_path / "in", tmp_path / "out")
    pictures(tmp_path / "in" / "val2017", first=4)
    write(tmp_path / "in" / "annotations" / "captions_train2017.json", {})
    refusal = "captions_train2017.json may be of the public set coco: minalbef prepare"
    with pytest.raises(ValueError, match=refusal):
        prepare("pairs", tmp_path / "in", tmp_path / "out")


def test_coco_of_2017_is_read_as_it_is_unzipped(tmp_path):
    for i, part in enumerate(("train", "val")):
        name = f"{57870 + i:012d}.jpg"
        jpeg(tmp_path / "in" / f"{part}2017" / name)
        write(
            tmp_path / "in" / "annotations" / f"captions_{part}2017.json",
            {
                "info": {},
                "licenses": [],
                "images": [{"id": 57870 + i, "file_name": name}],
                "annotations": [
                    {"image_id": 57870 + i, "id": n, "caption": f"a cat {n}"} for n in range(5)
                ],
            },
        )
    prepare("coco", tmp_path / "in", tmp_path / "out")
    for split in ("train", "validation"):
        assert [record.text for record in Records(tmp_path / "out" / "coco", split)] == [
            f"a cat {n}" for n in range(5)
        ]


def test_a_contact_sheet_shows_images_to_train_on_above_their_captions(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        sheet.ImageDraw.ImageDraw, "text", lambda self, place, text, *rest: drawn.append(text)
    )
    for i, colour in enumerate(["red", "lime", "blue"] * 10):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.new("RGB", (40 + i, 20), colour).save(tmp_path / "in" / f"{i}.png")
    rows = [
        f"{i}.png,picture {i} {word},{'test' if i > 27 else 'train'}"
        for i in range(30)
        for word in ("a", "b")
    ]
    write(tmp_path / "in" / "captions.csv", "\n".join(["file,caption,split", *rows]))
    account = prepare("pairs", tmp_path / "in", tmp_path / "out")
    path = tmp_path / "out" / "pairs" / "sheet.png"
    assert f"{path} shows 24 images to train on" in account
    numbers = {int(text.split()[2]) for text in drawn}
    # two captions each, none of the test
    assert len(drawn) == 48 and len(numbers) == 24 and max(numbers) < 28
    with Image.open(path) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert colours == {(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)}
    broken = (tmp_path / "in" / "0.png").read_bytes()[:60]  # a header, and no whole image
    (tmp_path / "in" / "0.png").write_bytes(broken)
    write(tmp_path / "in" / "captions.csv", "file,caption,split\n0.png,a cat,train\n")
    prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert drawn[-2:] == ["· (this image can't be read)", "· a cat"]


@pytest.mark.parametrize("command", ["pretrain", "finetune retrieval"])
def test_changes_after_data_are_changes(command, tmp_path, monkeypatch):
    pictures(tmp_path / "in")
    write(
        tmp_path / "in" / "captions.csv",
        "file,caption,split\n" + "".join(f"{name},a cat,train\n" for name in NAMES),
    )
    prepare("pairs", tmp_path / "in", tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    calls = []
    name = command.split()[0]
    monkeypatch.setattr(
        f"minalbef.recipes.{name}.{name}", lambda *args, **options: calls.append(args)
    )
    words = [
        "minalbef", *command.split(), "lr=7e-3", "--data", "out/pairs", "epochs=17", "batch=4",
        "--run", "run",
    ]
    monkeypatch.setattr("sys.argv", words)
    main()
    (call,) = calls
    config = next(value for value in call if hasattr(value, "epochs"))
    data = next(value for value in call if isinstance(value, tuple) and value)
    assert (config.lr, config.epochs, config.batch) == (7e-3, 17, 4)
    assert list(map(str, data)) == ["out/pairs"]


def test_data_of_changes_alone_is_refused_and_a_path_with_an_equals_sign_is_a_path(tmp_path):
    refusal = "--data epochs=3 names no prepared set.*put these before --data"
    with pytest.raises(ValueError, match=refusal):
        cli.part_changes((tmp_path.__class__("epochs=3"),), ())
    folder = tmp_path / "a=b"
    folder.mkdir()
    assert cli.part_changes((folder, folder), ("lr=1",)) == ((folder, folder), ("lr=1",))
