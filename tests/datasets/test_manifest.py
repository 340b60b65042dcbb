"""What `prepare` wrote is what training and evaluation read, whatever happens to the files."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minalbef.datasets.forms import Columns
from minalbef.datasets.prepare import prepare
from minalbef.datasets.readers import Fault, Finder
from minalbef.datasets.store import Records, read_about
from minalbef.system.images import ChangedImage, content_hash, open_image
from miniature_sets import img2dataset, photo, texts_of, write

WORDS = ("cat", "dog", "cow", "hen", "owl", "fox", "pig", "ape", "bat", "elk", "ant", "bee")


def pictures(folder: Path, count: int = 12, first: int = 0) -> list[Path]:
    """Different images, 0.jpg to 11.jpg."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(photo(first + i))
    return paths


def table(folder: Path, rows: dict[str, str], name: str = "captions.csv") -> None:
    lines = ["file,caption", *(f"{file},{text}" for file, text in rows.items())]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def own(folder: Path, count: int = 12) -> Path:
    """A folder of images with captions in a table: -> the folder."""
    paths = pictures(folder / "in", count)
    table(folder / "in", {path.name: f"a {WORDS[i % 12]} {i}" for i, path in enumerate(paths)})
    return folder / "in"


def splits(out: Path) -> dict[str, list]:
    return {split: list(Records(out, split)) for split in read_about(out)["splits"]}


def content(out: Path) -> Counter:
    """How often each split, image and caption is read; each image must be as prepared."""
    counts = Counter()
    for split, records in splits(out).items():
        for record in records:
            open_image(record.image)
            counts[split, record.id, record.text] += 1
    return counts


def test_of_a_fraction_of_the_data_the_training_images_are_a_part_and_the_test_is_whole(tmp_path):
    source = own(tmp_path, 60)
    ids = {}
    for fraction in (0.3, 0.6, 1.0):
        prepare("pairs", source, tmp_path / f"{fraction}", data_fraction=fraction)
        sets = splits(tmp_path / f"{fraction}" / "pairs")
        ids[fraction] = {record.id for record in sets["train"]}, {r.id for r in sets["test"]}
    assert ids[0.3][0] < ids[0.6][0] < ids[1.0][0]
    assert ids[0.3][1] == ids[0.6][1] == ids[1.0][1] != set()


# identity is content


def test_the_id_is_the_contents_hash_in_every_reader(tmp_path):
    source = own(tmp_path)
    prepare("pairs", source, tmp_path / "out")
    img2dataset(tmp_path / "tars", 3)
    prepare("shards", tmp_path / "tars", tmp_path / "out")
    write(tmp_path / "coco" / "coco_train.json", [{"image": "train2014/a.jpg", "caption": "a cat"}])
    (tmp_path / "coco" / "train2014").mkdir()
    (tmp_path / "coco" / "train2014" / "a.jpg").write_bytes((source / "3.jpg").read_bytes())
    prepare("coco", tmp_path / "coco", tmp_path / "out")
    for name in ("pairs", "shards", "coco"):
        for record in Records(tmp_path / "out" / name, "train"):
            source_bytes = record.image.read()
            assert record.id == content_hash(source_bytes) < 2**63
    ids = {record.id for record in splits(tmp_path / "out" / "pairs")["train"]}
    assert Records(tmp_path / "out" / "coco", "train")[0].id == content_hash(
        (source / "3.jpg").read_bytes()
    )
    assert len(ids) > 4


# splits


@pytest.mark.parametrize("form", ["test.csv", "test/1.txt", "test/LABEL"])
def test_what_is_named_test_is_all_test(tmp_path, form):
    source = tmp_path / "in"
    if form == "test.csv":
        table(
            source if source.mkdir() else source,
            {path.name: "a cat" for path in pictures(source)},
            "test.csv",
        )
    elif form == "test/1.txt":
        for path in pictures(source / "test"):
            path.with_suffix(".txt").write_text("a cat")
    else:
        pictures(source / "test" / "cat", 6)
        pictures(source / "test" / "dog", 6, 6)
    prepare("pairs", source, tmp_path / "out")
    records = splits(tmp_path / "out" / "pairs")
    assert [*records] == ["test"] and len(records["test"]) == 12
    assert read_about(tmp_path / "out" / "pairs")["splits"]["test"]["origin"] == "named"


def test_a_group_stays_in_one_split(tmp_path):
    paths = pictures(tmp_path / "in", 40)
    rows = [f"{path.name},a cat {i % 8},{i % 8}" for i, path in enumerate(paths)]
    (tmp_path / "in" / "captions.csv").write_text("\n".join(["file,caption,family", *rows]))
    account = prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert "stand word for word in train" in account
    account = prepare("pairs", tmp_path / "in", tmp_path / "out", columns=Columns(group="family"))
    assert "word for word" not in account
    count = 0
    for records in splits(tmp_path / "out" / "pairs").values():
        count += len(set(texts_of(records)))
    assert count == 8
    refusal = "no column 'clan'; name the group's column"
    with pytest.raises(ValueError, match=refusal):
        prepare("pairs", tmp_path / "in", tmp_path / "out", columns=Columns(group="clan"))


def test_a_picture_in_train_is_found_in_test_in_another_format(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for i in range(20):
        colours = np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(colours).resize((96, 96), Image.Resampling.BICUBIC).save(
            source / f"{i}.png"
        )
    with Image.open(source / "3.png") as image:
        image.save(source / "copy.jpg", quality=80)
    names = [*(f"{i}.png" for i in range(20)), "copy.jpg"]
    rows = [f"{name},a cat {name},{'test' if name == 'copy.jpg' else 'train'}" for name in names]
    (source / "captions.csv").write_text("\n".join(["file,caption,split", *rows]))
    assert "1 images of test look like one of train" in prepare("pairs", source, tmp_path / "out")
    (source / "copy.jpg").write_bytes((source / "7.png").read_bytes())
    assert "1 images of pairs/train are in pairs/test" in prepare("pairs", source, tmp_path / "out")


# an account of every input


@pytest.mark.parametrize(
    "encoding, fine",
    [
        ("utf-8-sig", True), ("utf-16", True), ("cp1252", False), ("shift-jis", False),
    ],
)
def test_text_files_are_utf_8_or_a_fault(tmp_path, encoding, fine):
    text = "猫 ネコ" if encoding == "shift-jis" else "un café à l'œil"
    for path in pictures(tmp_path / "in"):
        path.with_suffix(".txt").write_text("a cat")
    (tmp_path / "in" / "3.txt").write_text(text, encoding=encoding)
    account = prepare("pairs", tmp_path / "in", tmp_path / "out")
    texts = {text for _, _, text in content(tmp_path / "out" / "pairs")}
    assert (text in texts) == fine and ("isn't in UTF-8" in account) == (not fine)
    assert "\ufffd" not in "".join(texts)


@pytest.mark.parametrize(
    "name, ending", [("label", "csv"), ("Class_Name", "csv"), ("category", "jsonl")]
)
def test_labels_in_a_column_match_all_their_images_and_one_image_has_one(tmp_path, name, ending):
    paths = pictures(tmp_path / "in", 40)
    rows = [(path.name, WORDS[i % 4]) for i, path in enumerate(paths)] + [("0.jpg", "bee")]
    lines = [f"file,{name}", *(",".join(row) for row in rows)]
    if ending == "jsonl":
        lines = [json.dumps({"file": file, name: label}) for file, label in rows]
    (tmp_path / "in" / f"captions.{ending}").write_text("\n".join(lines))
    account = prepare("pairs", tmp_path / "in", tmp_path / "out", columns=Columns(caption=name))
    assert "1 times two labels" in account and "doubtful" not in account
    keys = {}
    for records in splits(tmp_path / "out" / "pairs").values():
        for record in records:
            keys.setdefault(record.text, set()).add(record.match_key)
    assert len(keys) == 4
    assert list(map(len, keys.values())) == [1] * 4
    assert len(set.union(*keys.values())) == 4


def test_captions_that_many_images_share_are_said_where_they_are_no_labels(tmp_path):
    paths = pictures(tmp_path / "in", 40)
    for captions, doubtful in ((4, True), (40, False)):
        rows = {path.name: f"a thing {i % captions}" for i, path in enumerate(paths)}
        table(tmp_path / "in", rows)
        account = prepare("pairs", tmp_path / "in", tmp_path / f"out{captions}")
        assert ("4 of 4 captions are of several images" in account) == doubtful


# what fits twice is an error


def test_a_missing_image_is_not_the_one_of_its_name_in_another_folder(tmp_path):
    pictures(tmp_path, 2)
    pictures(tmp_path / "a", 2, 10)
    find = Finder(tmp_path)
    assert find("/their/disk/1.jpg") == tmp_path / "1.jpg", "folders that only the list's maker had"
    assert find("a/1.jpg") == tmp_path / "a" / "1.jpg"
    (tmp_path / "b").mkdir()
    with pytest.raises(Fault, match="'b/1.jpg' is not below"):
        find("b/1.jpg")
    refusal = "'c/1.jpg' and '/their/disk/1.jpg' would be the same file, .*1.jpg"
    with pytest.raises(Fault, match=refusal):
        find("c/1.jpg")


# changes


CHANGES = ("swap", "replace", "rename", "duplicate", "drop", "rows", "drop rows", "touch")


def change(source: Path, what: str) -> None:
    """Permute, replace, rename, duplicate or drop an image or the table's rows."""
    a, b, *_ = sorted(source.glob("*.jpg"))
    lines = (source / "captions.csv").read_text().splitlines()
    if what == "swap":
        first = a.read_bytes()
        second = b.read_bytes()
        a.write_bytes(second)
        b.write_bytes(first)
    elif what == "replace":
        a.write_bytes(photo(1000))
    elif what == "rename":
        a.rename(source / "other.jpg")
    elif what == "duplicate":
        shutil.copy(a, source / "other.jpg")
    elif what == "drop":
        a.unlink()
    elif what == "rows":
        (source / "captions.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    elif what == "drop rows":
        (source / "captions.csv").write_text("\n".join(lines[:-1]))
    else:
        os.utime(a, (1, 1))


@pytest.mark.parametrize("what", CHANGES)
def test_after_any_change_of_the_files_records_read_the_same_or_an_error_says_why(tmp_path, what):
    source = own(tmp_path)
    prepare("pairs", source, tmp_path / "out")
    before = content(tmp_path / "out" / "pairs")
    change(source, what)
    try:
        assert content(tmp_path / "out" / "pairs") == before, what
    except ChangedImage as error:
        assert what in ("swap", "replace", "rename")
        assert str(source) in str(error)
    except ValueError as error:
        assert what in ("swap", "replace", "rename", "drop")
        assert str(source) in str(error)
    else:
        assert what in ("duplicate", "rows", "drop rows", "touch")
    account = prepare("pairs", source, tmp_path / "again")
    after = content(tmp_path / "again" / "pairs")
    if what in ("rows", "touch", "duplicate"):
        assert after == before
    if what in ("rename", "drop", "duplicate", "drop rows"):
        assert "missing image" in account or "in no record" in account
