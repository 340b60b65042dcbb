"""The shipped clip art: splits, licence; `prepare clipart`, and `prepare emoji`."""

import csv
import importlib.util
from pathlib import Path

import pytest

from commands import call
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records
from minalbef.system.images import open_image

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "data" / "clipart"


SPLITS = ("train", "validation", "test")

with open(FOLDER / "captions.csv", newline="", encoding="utf-8") as table:
    ROWS = list(csv.DictReader(table))


def rows_of(split: str) -> list[dict]:
    return [row for row in ROWS if row["split"] == split]


@pytest.fixture(scope="module")
def make():
    """data/clipart/make.py, which is a script."""
    spec = importlib.util.spec_from_file_location("make_clipart", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("out")
    return out / "clipart", prepare("clipart", out=out)


# the set


def test_no_family_is_in_two_splits_and_a_hash_of_its_first_drawing_decides(make):
    splits: dict[str, set[str]] = {}
    for row in ROWS:
        splits.setdefault(row["family"], set()).add(row["split"])
        assert row["file"].startswith(f"{row['split']}/")
    for names in splits.values():
        assert len(names) == 1
    roots: dict[tuple[str, str], str] = {}
    for row in ROWS:
        root = row["author"], make.root_of(row["title"])
        # one author's variants of a title
        assert roots.setdefault(root, row["family"]) == row["family"]
    assert make.split_of("animals/bat") == make.split_of("animals/bat") in SPLITS
    assert {make.split_of(f"{i}") for i in range(60)} == set(SPLITS)


def test_only_drawings_of_the_public_domain_are_taken(make, tmp_path):
    svg = """<svg xmlns:rdf="r"><metadata><rdf:RDF xmlns:cc="c" xmlns:dc="d"><cc:Work><dc:title>a cat</dc:title>
    <dc:subject><rdf:Bag><rdf:li>pet</rdf:li></rdf:Bag></dc:subject><cc:license rdf:resource="{}"/></cc:Work></rdf:RDF>
    </metadata></svg>"""
    for address, free in (
        ("http://web.resource.org/cc/PublicDomain", True),
        ("", False),
        ("http://creativecommons.org/licenses/publicdomain/", True),
        ("http://creativecommons.org/licenses/GPL/2.0/", False),
    ):
        (tmp_path / "cat.svg").write_text(svg.format(address))
        drawing = make.read_drawing(tmp_path / "cat.svg", tmp_path)
        assert (drawing.title, drawing.keywords) == ("a cat", ["pet"])
        assert (make.reason_to_skip(drawing) == "") == free


# prepare clipart


def test_prepared_clip_art_has_all_drawings_which_open(prepared):
    folder, account = prepared
    for split in SPLITS:
        records = Records(folder, split)
        drawings = rows_of(split)
        assert len({record.id for record in records}) == len(drawings)
        assert open_image(records[0].image).size == (96, 96)
        assert f"{split}: {len(drawings):,} images" in account
        # a folder to search
        assert len(list((folder / "images" / split).iterdir())) == len(drawings)
    assert len(Records(folder, "test")) == len(rows_of("test"))
    assert len(Records(folder, "train")) > 2 * len(rows_of("train"))


def test_emoji_are_prepared_for_training_alone_beside_clip_art(tmp_path, prepared):
    call("prepare", "emoji", "--out", tmp_path)
    call("prepare", "emoji", "--from", tmp_path / "emoji" / "images", "--out", tmp_path)  # again
    records = Records(tmp_path / "emoji", "train")
    assert {"a", "apple"} & {record.text for record in records} == {"apple"}
    assert open_image(records[0].image).size == (48, 48)
    assert not (tmp_path / "emoji" / "test").exists()
    clip_art = {record.id for record in Records(prepared[0], "train")}
    assert not clip_art & {record.id for record in records}
