"""The manifest: what `prepare` wrote is what training and evaluation read, whatever happens to the files meanwhile."""

import json
import os
import random
import shlex
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import call
from minalbef.datasets import looks, store
from minalbef.datasets.prepare import prepare
from minalbef.datasets.readers import Fault, Finder, photo_id
from minalbef.datasets.store import Records, hash_of, read_about
from minalbef.datasets.tables import Columns
from minalbef.system.images import ChangedImage, content_hash, open_image
from miniature_sets import img2dataset, photo, tar, write

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
    """How often each split, image and caption is read; each image must be the one that was prepared."""
    counts = Counter()
    for split, records in splits(out).items():
        for record in records:
            open_image(record.image)
            counts[split, record.id, record.text] += 1
    return counts


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
            source_bytes = getattr(record.image, "source", record.image).read()
            assert record.id == content_hash(source_bytes) < 2**63
    ids = {record.id for record in splits(tmp_path / "out" / "pairs")["train"]}
    assert Records(tmp_path / "out" / "coco", "train")[0].id == content_hash(
        (source / "3.jpg").read_bytes()
    )
    assert len(ids) > 4


def test_tars_of_equal_names_and_keys_hold_different_images(tmp_path):
    for part, first in (("a", 0), ("b", 500)):
        (tmp_path / "in" / part).mkdir(parents=True)
        members = {}
        for i in range(10):
            members |= {f"{i:09d}.jpg": photo(first + i), f"{i:09d}.txt": b"a dog"}
        tar(tmp_path / "in" / part / "00000.tar", members)
    account = prepare("shards", tmp_path / "in", tmp_path / "out")
    assert "train: 20 images" in account
    assert len({record.id for record in Records(tmp_path / "out" / "shards", "train")}) == 20


def test_a_crop_is_no_other_crop_and_not_its_photograph():
    whole = photo_id("COCO_val2014_000000000007.jpg")
    crops = [photo_id(f"COCO_val2014_000000000007_crop{i}.jpg") for i in (0, 1)]
    assert len({whole, *crops}) == 3 and whole == photo_id("x/COCO_val2014_7.png")


def test_two_images_that_change_names_are_noticed_though_size_and_time_stay(tmp_path):
    source = own(tmp_path)
    prepare("pairs", source, tmp_path / "out")
    a = source / "0.jpg"
    b = source / "1.jpg"
    spare = source / "spare"
    for old, new in ((a, spare), (b, a), (spare, b)):
        old.rename(new)
    refusal = r"0.jpg has changed since .* minalbef prepare pairs --out"
    with pytest.raises(ChangedImage, match=refusal):
        content(tmp_path / "out" / "pairs")


def test_records_that_were_edited_are_refused(tmp_path):
    prepare("pairs", own(tmp_path), tmp_path / "out")
    seal = read_about(tmp_path / "out" / "pairs")["seal"]
    file = tmp_path / "out" / "pairs" / "train.jsonl"
    file.write_bytes(file.read_bytes().replace(b"a cat 0", b"a dog 0"))
    with pytest.raises(ValueError, match="train.jsonl has changed since the set was prepared"):
        hash_of(tmp_path / "out" / "pairs", "train")
    with pytest.raises(ValueError, match="train.jsonl has changed since the set was prepared"):
        Records(tmp_path / "out" / "pairs", "train")
    prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert read_about(tmp_path / "out" / "pairs")["seal"] == seal, "the same files, the same seal"
    (tmp_path / "in" / "0.jpg").write_bytes(photo(99))
    prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert read_about(tmp_path / "out" / "pairs")["seal"] != seal


@pytest.mark.parametrize(
    "change",
    [
        {"image": None}, {"image": 7}, {"image": ["x"]}, {"text": 7}, {"text": None}, {"id": []},
        {"nonsense": 1},
    ],
)
def test_a_damaged_record_is_an_error_in_words(tmp_path, change, monkeypatch):
    prepare("pairs", own(tmp_path), tmp_path / "out")
    folder = tmp_path / "out" / "pairs"
    lines = (folder / "train.jsonl").read_bytes().splitlines(keepends=True)
    lines[0] = (json.dumps(json.loads(lines[0]) | change) + "\n").encode()
    (folder / "train.jsonl").write_bytes(b"".join(lines))
    np.save(folder / "train.npy", np.cumsum([0, *map(len, lines)]))
    with pytest.raises(ValueError, match="train.jsonl"):
        hash_of(folder, "train")
    with pytest.raises(ValueError, match="train.jsonl"):
        Records(folder, "train")
    monkeypatch.setattr(
        store, "HASHED", 0
    )  # as of a set that is too large to hash whenever it is opened
    if "id" not in change:
        with pytest.raises(ValueError, match="record 0 of .*train.jsonl is damaged"):
            Records(folder, "train")[0]


# splits


@pytest.mark.parametrize("form", ["test.csv", "test/metadata.jsonl", "test/1.txt", "test/LABEL"])
def test_what_is_named_test_is_all_test(tmp_path, form):
    source = tmp_path / "in"
    if form == "test.csv":
        table(
            source if source.mkdir() else source,
            {path.name: "a cat" for path in pictures(source)},
            "test.csv",
        )
    elif form == "test/metadata.jsonl":
        rows = [{"file_name": path.name, "text": "a cat"} for path in pictures(source / "test")]
        write(source / "test" / "metadata.jsonl", rows)
    elif form == "test/1.txt":
        for path in pictures(source / "test"):
            path.with_suffix(".txt").write_text("a cat")
    else:
        pictures(source / "test" / "cat", 6)
        pictures(source / "test" / "dog", 6, 6)
    prepare("pairs", source, tmp_path / "out")
    read = splits(tmp_path / "out" / "pairs")
    assert [*read] == ["test"] and len(read["test"]) == 12
    assert read_about(tmp_path / "out" / "pairs")["splits"]["test"]["origin"] == "named"


@pytest.mark.parametrize("form", ["texts", "table", "labels"])
def test_folders_train_and_test_are_splits_at_any_depth(tmp_path, form):
    source = tmp_path / "in"
    rows = ["file,caption"]
    for part, first in (("train", 0), ("test", 20)):
        folder = source / "data" / part
        if form == "labels":
            pictures(folder / "cat", 4, first)
            pictures(folder / "dog", 4, first + 50)
            continue
        for path in pictures(folder, 8, first):
            rows.append(f"{path.relative_to(source)},a {part} {path.stem}")
            if form == "texts":
                path.with_suffix(".txt").write_text(f"a {part} {path.stem}")
    if form == "table":
        (source / "captions.csv").write_text("\n".join(rows))
    prepare("pairs", source, tmp_path / "out")
    read = splits(tmp_path / "out" / "pairs")
    assert {split: len(records) for split, records in read.items()} == {"train": 8, "test": 8}
    paths = {
        split: {record.image.source.path.parts for record in records}
        for split, records in read.items()
    }
    for split, counts in paths.items():
        for parts in counts:
            assert split in parts


def test_a_train_table_alone_is_divided_and_says_so_in_its_origin(tmp_path):
    paths = pictures(tmp_path / "in", 40)
    table(tmp_path / "in", {path.name: f"a cat {path.stem}" for path in paths}, "train.csv")
    prepare("pairs", tmp_path / "in", tmp_path / "out")
    about = read_about(tmp_path / "out" / "pairs")
    assert {notes["origin"] for notes in about["splits"].values()} == {"hashed"}
    assert len(about["splits"]) == 3


def test_rows_that_name_their_split_beside_rows_that_do_not_are_said(tmp_path):
    paths = pictures(tmp_path / "in")
    rows = [f"{path.name},a cat {i},{'test' if i < 3 else ''}" for i, path in enumerate(paths)]
    (tmp_path / "in" / "captions.csv").write_text("\n".join(["file,caption,split", *rows]))
    assert "3 rows name theirs and 9 don't" in prepare("pairs", tmp_path / "in", tmp_path / "out")


def test_a_group_stays_in_one_split(tmp_path):
    paths = pictures(tmp_path / "in", 40)
    rows = [f"{path.name},a cat {i % 8},{i % 8}" for i, path in enumerate(paths)]
    (tmp_path / "in" / "captions.csv").write_text("\n".join(["file,caption,family", *rows]))
    account = prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert "stand word for word in train" in account
    account = prepare("pairs", tmp_path / "in", tmp_path / "out", columns=Columns(group="family"))
    assert "word for word" not in account
    texts = [
        {record.text for record in records}
        for records in splits(tmp_path / "out" / "pairs").values()
    ]
    assert sum(map(len, texts)) == 8
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


def test_copies_of_few_pixels_tell_different_images_apart():
    a = {i: np.random.default_rng(i).integers(0, 256, 192, np.uint8) for i in range(50)}
    b = {100 + i: (copy.astype(int) + 1).clip(0, 255).astype(np.uint8) for i, copy in a.items()}
    assert looks.find_alike(a, b) == [(i, 100 + i) for i in range(50)]
    assert looks.find_alike(a, {7: a[3]}) == [], "an image of equal content is told otherwise"
    # a blank image is like all blank ones
    assert looks.find_alike(a, {200: np.full(192, 255, np.uint8)}) == []


def test_files_that_change_places_are_read_anew_in_the_same_process(tmp_path):
    source = own(tmp_path)
    prepare("pairs", source, tmp_path / "out")
    before = {
        record.text: record.id
        for records in splits(tmp_path / "out" / "pairs").values()
        for record in records
    }
    a = source / "0.jpg"
    b = source / "1.jpg"
    padded = max(len(a.read_bytes()), len(b.read_bytes()))
    contents = [path.read_bytes().ljust(padded, b"\0") for path in (a, b)]
    for path, content_ in zip((a, b), contents):
        path.write_bytes(content_)
        os.utime(path, ns=(1, 1))
    prepare("pairs", source, tmp_path / "out")
    for path, content_ in zip((a, b), contents[::-1]):
        path.write_bytes(content_)
        os.utime(path, ns=(1, 1))
    prepare("pairs", source, tmp_path / "out")
    content(tmp_path / "out" / "pairs")
    after = {
        record.text: record.id
        for records in splits(tmp_path / "out" / "pairs").values()
        for record in records
    }
    assert before.keys() == after.keys()
    assert (
        after["a cat 0"]
        == content_hash(contents[1])
        != after["a dog 1"]
        == content_hash(contents[0])
    )


def test_what_about_json_says_is_sealed(tmp_path):
    prepare("pairs", own(tmp_path), tmp_path / "out")
    path = tmp_path / "out" / "pairs" / "about.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"upright": False}))
    with pytest.raises(ValueError, match="it has changed since the set was prepared"):
        Records(path.parent, "train")
    path.write_text(json.dumps(about | {"root": str(tmp_path / "moved")}))
    (tmp_path / "in").rename(tmp_path / "moved")
    assert content(path.parent), "images may move"


def test_the_command_that_prepares_again_makes_the_same_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own(Path())
    prepare("pairs", "in", "out", share=0.6, look=True, most_bad=0.3)
    about = read_about(tmp_path / "out" / "pairs")
    monkeypatch.chdir("/")
    assert not call(*shlex.split(about["command"])).failed
    assert read_about(tmp_path / "out" / "pairs")["seal"] == about["seal"]


# an account of every input


def test_captions_without_words_count_in_the_split_in_which_they_are(tmp_path):
    paths = pictures(tmp_path / "in", 40)
    rows = [
        f"{path.name},{'...' if 20 <= i < 38 else f'a cat {i}'},{'test' if i >= 20 else 'train'}"
        for i, path in enumerate(paths)
    ]
    (tmp_path / "in" / "captions.csv").write_text("\n".join(["file,caption,split", *rows]))
    refusal = "pairs/test: 2 good records and 18 bad entries; at most 50% may be bad"
    with pytest.raises(ValueError, match=refusal):
        prepare("pairs", tmp_path / "in", tmp_path / "out")
    account = prepare("pairs", tmp_path / "in", tmp_path / "out", most_bad=0.95)
    assert "18 times no words" in account
    assert read_about(tmp_path / "out" / "pairs")["splits"]["test"]["faults"] == {"no words": 18}


def test_images_without_a_caption_are_counted_and_named(tmp_path):
    source = own(tmp_path)
    (source / "left.jpg").write_bytes(photo(77))
    account = prepare("pairs", source, tmp_path / "out")
    assert "1 images are in no record, such as" in account and "left.jpg" in account
    assert read_about(tmp_path / "out" / "pairs")["unused"] == 1


def test_a_text_beside_two_images_of_its_name_is_a_fault(tmp_path):
    for path in pictures(tmp_path / "in"):
        path.with_suffix(".txt").write_text(f"a cat {path.stem}")
    (tmp_path / "in" / "1.png").write_bytes(photo(60, "PNG"))
    account = prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert "1 times ambiguous image" in account and "1.jpg or 1.png" in account


def test_rows_between_two_quotation_marks_are_counted(tmp_path):
    paths = pictures(tmp_path / "in")
    lines = ["file\tcaption", *(f"{path.name}\ta cat {path.stem}" for path in paths)]
    lines[3] = lines[3].replace("\ta", '\t"a')
    lines[7] = lines[7] + '"'
    (tmp_path / "in" / "captions.tsv").write_text("\n".join(lines) + "\n")
    account = prepare("pairs", tmp_path / "in", tmp_path / "out", most_bad=0.9)
    assert "5 times rows within quotation marks" in account


def test_a_caption_of_two_lines_is_one_caption(tmp_path):
    paths = pictures(tmp_path / "in")
    rows = [f'{path.name},"a cat,\non a mat {path.stem}"' for path in paths]
    (tmp_path / "in" / "captions.csv").write_text("\n".join(["file,caption", *rows]))
    assert "quotation" not in prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert sum(content(tmp_path / "out" / "pairs").values()) == 12


@pytest.mark.parametrize(
    "encoding, fine",
    [
        ("utf-8", True), ("utf-8-sig", True), ("utf-16", True), ("cp1252", False),
        ("shift-jis", False),
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
    assert not any("\ufffd" in one for one in texts)


@pytest.mark.parametrize(
    "start, kind",
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is SVG"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "is HEIC or AVIF"),
        (b"%PDF-1.7", "is PDF"),
        (b"<html>404</html>", "has no header of an image"),
        (b"", "has no header of an image"),
    ],
)
def test_what_is_no_image_that_can_be_read_is_a_fault(tmp_path, start, kind):
    source = own(tmp_path)
    (source / "3.jpg").write_bytes(start)
    account = prepare("pairs", source, tmp_path / "out")
    assert "1 times no image" in account
    assert f"3.jpg {kind}, and must be JPEG, PNG" in account


def test_a_tars_sample_of_two_images_is_a_fault(tmp_path):
    members = {}
    for i in range(6):
        members |= {f"{i}.jpg": photo(i), f"{i}.txt": b"a cat"}
    (tmp_path / "in").mkdir()
    tar(tmp_path / "in" / "00000.tar", members | {"5.png": photo(9, "PNG")})
    assert "5 has a jpg and a png" in prepare("shards", tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("name, ending", [("label", "csv"), ("Class_Name", "csv"), ("category", "jsonl")])
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
    assert len(keys) == 4 and all(len(found) == 1 for found in keys.values())
    assert len(set.union(*keys.values())) == 4


def test_captions_that_many_images_share_are_said_where_they_are_no_labels(tmp_path):
    paths = pictures(tmp_path / "in", 40)
    for captions, doubtful in ((4, True), (40, False)):
        table(tmp_path / "in", {path.name: f"a thing {i % captions}" for i, path in enumerate(paths)})
        account = prepare("pairs", tmp_path / "in", tmp_path / f"out{captions}")
        assert ("4 of 4 captions are of several images" in account) == doubtful


def test_an_image_under_two_labels_is_a_fault_and_records_of_one_label_match(tmp_path):
    pictures(tmp_path / "in" / "cat", 6)
    pictures(tmp_path / "in" / "dog", 6, 6)
    shutil.copy(tmp_path / "in" / "cat" / "0.jpg", tmp_path / "in" / "dog" / "9.jpg")
    account = prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert "1 times two labels" in account
    keys = {}
    for records in splits(tmp_path / "out" / "pairs").values():
        for record in records:
            keys.setdefault(record.text, set()).add(record.match_key)
    assert {text: len(counts) for text, counts in keys.items()} == {"cat": 1, "dog": 1}
    assert keys["cat"] != keys["dog"]


# what fits twice is an error


def test_an_image_that_two_folders_have_is_ambiguous(tmp_path):
    for i, part in enumerate("ab"):
        pictures(tmp_path / part, 2, 10 * i)
    find = Finder([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(Fault, match="may be .*a/0.jpg or .*b/0.jpg; give"):
        find("0.jpg")
    assert Finder([tmp_path / "a", tmp_path / "a"])("0.jpg") == tmp_path / "a" / "0.jpg"


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


@pytest.mark.parametrize("order", [("zz/1.jpg", "1.jpg"), ("1.jpg", "zz/1.jpg")])
def test_two_names_of_a_table_are_not_one_file(tmp_path, order):
    pictures(tmp_path / "in")
    rows = {order[0]: "a cat", order[1]: "a dog"} | {f"{i}.jpg": f"a cow {i}" for i in range(2, 12)}
    table(tmp_path / "in", rows)
    account = prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert "1 times ambiguous image" in account and "would be the same file" in account


# at random


def change_something(source: Path, rng: random.Random) -> str:
    """Permute, replace, rename, duplicate or drop an image or the table's rows: -> what was done."""
    images = sorted(source.glob("*.jpg"))
    a, b = rng.sample(images, 2)
    what = rng.choice(
        ["swap", "replace", "rename", "duplicate", "drop", "rows", "drop rows", "touch"]
    )
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
        rest = lines[1:]
        rng.shuffle(rest)
        (source / "captions.csv").write_text("\n".join([lines[0], *rest]))
    elif what == "drop rows":
        (source / "captions.csv").write_text("\n".join(lines[:-1]))
    else:
        os.utime(a, (1, 1))
    return what


@pytest.mark.parametrize("seed", range(12))
def test_after_any_change_of_the_files_records_read_the_same_or_an_error_says_why(tmp_path, seed):
    source = own(tmp_path)
    prepare("pairs", source, tmp_path / "out")
    before = content(tmp_path / "out" / "pairs")
    what = change_something(source, random.Random(seed))
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
