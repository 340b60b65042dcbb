"""Sets in the layouts in which people have them, from their folders to records."""

import json
import logging

import pytest

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
EUROPEAN = "File;Caption\n" + "".join(f"{name};{text}\n" for name, text in zip(NAMES, CAPTIONS))


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
    """Prepare a folder of pairs: -> by split, images' last folder and name, and captions."""
    prepare("pairs", path, path.parent / "out")
    about = json.loads((path.parent / "out" / "pairs" / "about.json").read_text())
    pairs = {}
    for split in about["splits"]:
        pairs[split] = []
        for record in Records(path.parent / "out" / "pairs", split):
            name = "/".join(record.image.path.parts[-2:])
            pairs[split].append((name, record.text))
    return pairs


def texts(pairs: list[tuple[str, str]]) -> list[str]:
    return [text for _, text in pairs]


@pytest.mark.parametrize(
    "table, text, images, times",
    [
        ("flickr30k_images/results.csv", KAGGLE, "flickr30k_images/flickr30k_images", 2),
        ("Flickr8k_text/Flickr8k.token.txt", TOKENS, "Flicker8k_Dataset", 2),
        ("train.csv", titles(NAMES, "/data/someone/images/"), "images", 1),
        ("captions.csv", EUROPEAN, "photos", 1),
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
    assert sorted(sum(prepared(tmp_path / "in").values(), [])) == sorted(expected)


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
    pairs = prepared(source)
    assert texts(pairs["train"]) == CAPTIONS[:3]
    assert texts(pairs["validation"]) == CAPTIONS[3:]
    assert "test" not in pairs
    assert form == "open_clip" or pairs["validation"][0][0] == "val/0.jpg"


def test_folders_of_images_are_captions_by_their_names(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for i, folder in enumerate(("train/golden_retriever", "train/Bus", "val/tabby-cat", "val/Bus")):
        pictures(tmp_path / "in" / folder, ["0.jpg"], i)
    pictures(tmp_path / "in", ["alone.jpg"], 9)
    write(tmp_path / "in" / "README.txt", "what it is")
    pairs = prepared(tmp_path / "in")
    assert sorted(texts(pairs["train"])) == ["Bus", "golden retriever"]
    assert sorted(texts(pairs["validation"])) == ["Bus", "tabby cat"]
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
