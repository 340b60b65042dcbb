"""tables, pairs: own captions in tables, and those that are refused."""

import logging
from pathlib import Path

import pytest

from minalbef.datasets import pairs
from minalbef.datasets.forms import Columns, read_form, rows
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import read_about
from miniature_sets import jpeg

CAPTIONS = ["a cat, asleep", "two dogs; one barks"]


def folder(path, table: str = "", text: str = "", pictures: int = 2):
    """A folder of different pictures 0.jpg, 1.jpg, ..., with a table."""
    for i in range(pictures):
        jpeg(path / f"{i}.jpg", size=(8 + i, 8))
    if table:
        (path / table).write_text(text, encoding="utf-8")
    return path


def place_of(path) -> Path:
    return pairs.open_folder(path, [path]).parts[0].place


def separated(separator: str, image: str, caption: str) -> str:
    """CAPTIONS as a table; a caption with the separator in it stands between quotes."""
    lines = [separator.join([image, caption])]
    for i, text in enumerate(CAPTIONS):
        lines.append(separator.join([f"{i}.jpg", f'"{text}"' if separator in text else text]))
    return "\n".join(lines)


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
    says = "captions from photos.csv, separated by ',': images from 'bild', captions from 'wort'"
    assert says in caplog.text
    with pytest.raises(ValueError, match="--image-column .* coco has its format"):
        prepare("coco", tmp_path, tmp_path / "out", columns=Columns("bild"))


def test_of_several_other_tables_none_is_guessed(tmp_path):
    folder(tmp_path, "a.csv", separated(",", "image", "text"))
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    assert place_of(tmp_path).name == "a.csv", "the other has no such columns"
    (tmp_path / "b.csv").write_text(separated(",", "image", "text"))
    refusal = "2 tables of images and captions, such as a.csv and b.csv; .*--from .*a.csv"
    with pytest.raises(ValueError, match=refusal):
        prepare("pairs", tmp_path, tmp_path / "out")
    prepare("pairs", tmp_path / "b.csv", tmp_path / "out", most_bad=1)
    assert read_about(tmp_path / "out" / "pairs")["root"] == str(tmp_path), "a file may be named"
    (tmp_path / "captions.csv").write_text(separated(",", "image", "text"))
    assert place_of(tmp_path).name == "captions.csv"


def test_a_caption_with_commas_is_whole_in_the_last_column_and_else_a_fault(tmp_path):
    text = 'file,caption\n0.jpg,a cat, asleep\n1.jpg,"a dog, awake",,\n\n'
    folder(tmp_path, "captions.csv", text)
    table = rows(read_form(tmp_path / "captions.csv"))
    assert [row.captions for row in table] == [["a cat, asleep"], ["a dog, awake"]]
    (tmp_path / "captions.csv").write_text("caption,file\na cat, asleep,0.jpg\n")
    (cut,) = rows(read_form(tmp_path / "captions.csv"))
    says = "has 3 fields, the header 2; put a text with ',' in it between quotes"
    assert says in str(cut.fault)


@pytest.mark.parametrize(
    "content, refusal",
    [
        (
            b"file,caption,split\n0.jpg,a cat,train\n1.jpg,a dog,fold 2\n",
            "row 1 has split 'fold 2', which is none of .*validation",
        ),
        ("file,caption\n0.jpg,猫 ネコ\n".encode("shift-jis"), "it must be a table in UTF-8"),
        (b"file,caption\n", "pairs/test: 0 good records.*it is empty"),
    ],
    ids=["unknown split", "shift-jis", "empty"],
)
def test_a_table_that_would_lose_its_rows_is_refused(tmp_path, content, refusal):
    folder(tmp_path)
    (tmp_path / "captions.csv").write_bytes(content)
    with pytest.raises(ValueError, match=refusal):
        prepare("pairs", tmp_path, tmp_path / "out")
