"""tables, pairs: own captions in the tables that people have, and what makes one doubt them."""

import csv
import json
import logging
import os
from pathlib import Path

import pytest

from minalbef import data
from minalbef.datasets import pairs, readers
from minalbef.datasets.prepare import prepare
from minalbef.datasets.readers import Fault
from minalbef.datasets.store import Records
from minalbef.datasets.tables import Columns, find_layout, table_rows
from miniature_sets import jpeg

CAPTIONS = ["a cat, asleep", "two dogs; one barks"]
JSON_ROWS = [{"file_name": f"{i}.jpg", "text": text} for i, text in enumerate(CAPTIONS)]


def folder(path, table: str = "", text: str = "", pictures: int = 2):
    """A folder of different pictures 0.jpg, 1.jpg, ..., with a table."""
    for i in range(pictures):
        jpeg(path / f"{i}.jpg", size=(8 + i, 8))
    if table:
        (path / table).write_text(text, encoding="utf-8")
    return path


def read_rows(path) -> list:
    return list(pairs.open_folder(path, [path]).rows())


def place_of(path) -> Path:
    return pairs.open_folder(path, [path]).parts[0].place


def separated(separator: str, image: str, caption: str) -> str:
    """CAPTIONS as a table; a caption with the separator in it stands between quotes."""
    lines = [separator.join([image, caption])]
    for i, text in enumerate(CAPTIONS):
        lines.append(separator.join([f"{i}.jpg", f'"{text}"' if separator in text else text]))
    return "\n".join(lines)


@pytest.mark.parametrize(
    "table, text",
    [
        ("captions.csv", separated(",", "image", "text")),
        ("captions.csv", separated(";", "File", "Caption")),  # as Excel writes it in Europe
        ("captions.csv", separated(", ", "image", "caption")),
        ("train.csv", separated("\t", "filepath", "title")),  # open_clip's
        ("metadata.csv", separated(",", "file_name", "text")),
        ("metadata.jsonl", "\n".join(map(json.dumps, JSON_ROWS))),  # Hugging Face's
        (
            "results.csv",
            separated("| 0| ", "image_name", "comment").replace("| 0| ", "| comment_number| ", 1),
        ),
        ("captions.txt", separated(",", "image", "caption")),  # Kaggle's Flickr8k
    ],
)
def test_known_tables_are_read_by_their_names_columns_and_separators(tmp_path, table, text):
    folder(tmp_path, table, text)
    read = [(row.image, row.caption) for row in read_rows(tmp_path)]
    assert read == [("0.jpg", CAPTIONS[0]), ("1.jpg", CAPTIONS[1])]
    assert pairs.open_folder(tmp_path, [tmp_path]).description.startswith(table)


def test_kaggles_captions_may_hold_single_quotation_marks(tmp_path):
    text = (
        "image_name| comment_number| comment\n"
        '0.jpg| 0| a " Harley " shirt\n0.jpg| 1|"a dog\n1.jpg| 2   broken\n'
    )
    rows = read_rows(folder(tmp_path, "results.csv", text))
    assert [row.caption for row in rows] == ['a " Harley " shirt', '"a dog', None]


def test_unknown_columns_are_listed_and_can_be_named(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder(tmp_path, "photos.csv", "id,bild,wort\n1,0.jpg,a cat\n2,1.jpg,a dog\n")
    with pytest.raises(
        ValueError,
        match="photos.csv has the columns 'id', 'bild', 'wort' and none called file, image"
        ".*name the image's column with --image-column",
    ):
        prepare("pairs", tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="none called caption, text.*--caption-column"):
        prepare("pairs", tmp_path, tmp_path / "out", columns=Columns("bild"))
    with pytest.raises(ValueError, match="and no column 'worte'"):
        prepare("pairs", tmp_path, tmp_path / "out", columns=Columns("bild", "worte"))
    prepare("pairs", tmp_path, tmp_path / "out", columns=Columns("bild", "wort"), most_bad=1)
    said = "captions from photos.csv, separated by ',': images from 'bild', captions from 'wort'"
    assert said in caplog.text
    with pytest.raises(ValueError, match="coco has its format; leave --image-column"):
        prepare("coco", tmp_path, tmp_path / "out", columns=Columns("bild"))


def test_of_several_other_tables_none_is_guessed(tmp_path):
    folder(tmp_path, "a.csv", separated(",", "image", "text"))
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    assert place_of(tmp_path).name == "a.csv", "the other has no such columns"
    (tmp_path / "b.csv").write_text(separated(",", "image", "text"))
    refusal = "several tables of images and captions: a.csv, b.csv; call the one"
    with pytest.raises(ValueError, match=refusal):
        prepare("pairs", tmp_path, tmp_path / "out")
    (tmp_path / "captions.csv").write_text(separated(",", "image", "text"))
    assert place_of(tmp_path).name == "captions.csv"


def test_a_strange_table_beside_captions_in_text_files_is_not_theirs(tmp_path):
    folder(tmp_path, "sizes.csv", "name,bytes\n0,9\n")
    (tmp_path / "0.txt").write_text("a cat")
    assert place_of(tmp_path) == tmp_path
    assert [row.caption for row in read_rows(tmp_path)] == [["a cat"]]
    (tmp_path / "captions.txt").write_text("a cat\nan image")
    assert place_of(tmp_path) == tmp_path, "a caption file of this name"


def test_a_caption_with_commas_is_whole_in_the_last_column_and_else_a_fault(tmp_path):
    text = 'file,caption\n0.jpg,a cat, asleep\n1.jpg,"a dog, awake",,\n\n'
    folder(tmp_path, "captions.csv", text)
    rows = table_rows(tmp_path / "captions.csv", Columns())
    assert [row.caption for row in rows] == ["a cat, asleep", "a dog, awake"]
    (tmp_path / "captions.csv").write_text("caption,file\na cat, asleep,0.jpg\n")
    (cut,) = table_rows(tmp_path / "captions.csv", Columns())
    says = "has 3 fields, the header 2; put a text with ',' in it between quotes"
    assert says in str(cut.fault)


def test_columns_of_json_are_found_behind_a_broken_entry(tmp_path):
    folder(tmp_path, "captions.jsonl", "\n".join(map(json.dumps, [7, {"odd": 1}, *JSON_ROWS])))
    assert find_layout(tmp_path / "captions.jsonl", Columns()).columns == (
        "file_name", "text", "", "",
    )
    good = []
    faults = []
    for split in pairs.SPLITS:
        good += pairs.open_folder(tmp_path, [tmp_path]).read(on_fault=faults.append, split=split)
    assert len(good) == 2 and len(faults) == 2


@pytest.mark.parametrize(
    "name, split",
    [
        ("train", "train"), ("Training", "train"), ("val", "validation"), ("valid", "validation"),
        ("dev", "validation"), (" test ", "test"),
    ],
)
def test_splits_go_by_their_usual_names(tmp_path, name, split):
    folder(tmp_path, "captions.csv", f"image,text,split\n0.jpg,a cat,{name}\n1.jpg,a dog,{name}\n")
    prepare("pairs", tmp_path, tmp_path / "out")
    assert len(Records(tmp_path / "out" / "pairs", split)) == 2


@pytest.mark.parametrize(
    "content, refusal",
    [
        (
            b"file,caption,split\n0.jpg,a cat,train\n1.jpg,a dog,fold 2\n",
            "row 1 has split 'fold 2', which is none of .*validation",
        ),
        ("file,caption\n0.jpg,un café\n".encode("latin-1"), "it must be a table in UTF-8"),
        (b"file,caption\n", "pairs/test: 0 good records.*it is empty"),
    ],
    ids=["unknown split", "latin-1", "empty"],
)
def test_a_table_that_would_lose_its_rows_is_refused(tmp_path, content, refusal):
    folder(tmp_path)
    (tmp_path / "captions.csv").write_bytes(content)
    with pytest.raises(ValueError, match=refusal):
        prepare("pairs", tmp_path, tmp_path / "out")


def test_the_account_doubts_lines_of_settings_and_uneven_numbers(tmp_path):
    folder(tmp_path, pictures=12)
    for i in range(12):
        (tmp_path / f"{i}.txt").write_text(f"a cat {i}\nfour dogs {i}\n")
    account = prepare("pairs", tmp_path, tmp_path / "out")
    assert "captions per image: 2 (median), from 2 to 2" in account
    assert "doubtful" not in account
    lines = ["a cat = a feline", *(f"{name}.utf8=un gat" for name in ("ach", "cat"))]
    (tmp_path / "3.txt").write_text("\n".join(lines + [f"a cat of {n}" for n in range(20)]))
    account = prepare("pairs", tmp_path, tmp_path / "out")
    assert "from 2 to 23" in account
    assert "such different numbers of them, are rarely meant" in account
    assert "doubtful: 2 captions look like key=value, such as 'ach.utf8=un gat'" in account
    for i in range(12):
        (tmp_path / f"{i}.txt").write_text("\n".join(f"a cat of {n}" for n in range(11)))
    assert "11 (median), from 11 to 11" in (account := prepare("pairs", tmp_path, tmp_path / "out"))
    assert "so many captions per image" in account, "all have many"


def test_a_caption_is_shown_without_obeying_it():
    assert str(Fault("a kind", "\x1b[2J.jpg is gone")).startswith("\\x1b[2J.jpg is gone; ")
    shown = pairs.quote("a \x1b[2J cat" + "!" * 100)
    assert shown.startswith("'a \\x1b[2J cat!!") and len(shown) < 110


def test_a_file_without_permission_is_counted_and_the_rest_is_read(tmp_path, monkeypatch):
    """Root may read everything, so reading is refused here. A folder with a file's name is none."""
    folder(tmp_path, pictures=6)
    for i in range(6):
        (tmp_path / f"{i}.txt").write_text("a cat")
    (tmp_path / "out" / "pairs").mkdir(parents=True)
    (tmp_path / "out" / "pairs" / "train.faults.txt").write_text("an older prepare's")
    (tmp_path / "5.txt").unlink()
    (tmp_path / "5.txt").mkdir()
    (tmp_path / "6.jpg").mkdir()
    (tmp_path / "6.txt").write_text("a cat")
    os.symlink(tmp_path / "gone", tmp_path / "7.jpg")
    (tmp_path / "7.txt").write_text("a cat")

    def refuse(path, *args, **named):  # root may read everything
        if Path(path).name in ("1.jpg", "2.txt"):
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *args, **named)

    for module in (data, readers):
        monkeypatch.setattr(module, "open", refuse, raising=False)
    account = prepare("pairs", tmp_path, tmp_path / "out", most_bad=0.9)
    assert "1 times unreadable image, the first: " in account
    assert "1.jpg cannot be read: Permission denied" in account
    assert "2 times unreadable text" in account
    assert "2.txt cannot be read: Permission denied" in account
    assert "2 times missing image" in account
    about = json.loads((tmp_path / "out" / "pairs" / "about.json").read_text())
    assert sum(split["records"] for split in about["splits"].values()) == 3


def test_a_table_whose_quote_never_ends_is_refused(tmp_path):
    folder(tmp_path, "captions.csv", 'file,caption\n0.jpg,"a cat\n1.jpg,a dog\n')
    refusal = "captions.csv cannot be read .unexpected end of data"
    with pytest.raises(ValueError, match=refusal) as told:
        read_rows(tmp_path)
    assert isinstance(told.value.__cause__, csv.Error)
