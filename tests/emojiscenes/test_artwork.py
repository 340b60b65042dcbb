"""The embedded drawings are whole, named in good English, and stand with their licences."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image

import emojiscenes
from emojiscenes.painting import sheet, write_drawings

FOLDER = Path(emojiscenes.__file__).parent / "artwork"
ABOUT = json.loads((FOLDER / "objects.json").read_text())
NAMES = [obj["name"] for obj in ABOUT["objects"]]


@pytest.fixture(scope="module")
def make_artwork():
    spec = importlib.util.spec_from_file_location("make_artwork", FOLDER.parent / "make_artwork.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("vendor", ABOUT["vendors"])
def test_a_cell_is_full_unless_its_object_is_missing(vendor):
    cell = ABOUT["cell"]
    columns = ABOUT["columns"]
    about = ABOUT["vendors"][vendor]
    with Image.open(FOLDER / about["sheet"]) as sheet:
        assert sheet.mode == "RGBA"
        assert sheet.size == (cell * columns, cell * -(-len(NAMES) // columns))
        for i, name in enumerate(NAMES):
            x = i % columns * cell
            y = i // columns * cell
            box = sheet.crop((x, y, x + cell, y + cell)).getchannel("A").getbbox()
            if name in about["missing"]:
                assert box is None, name
            else:
                assert max(box[2] - box[0], box[3] - box[1]) == cell - 2, name


def test_written_drawings_are_those_of_the_training_styles_by_name(tmp_path):
    write_drawings(tmp_path)
    with open(tmp_path / "captions.csv", newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    training = {name: about for name, about in ABOUT["vendors"].items() if about["training"]}
    assert len(rows) == sum(len(NAMES) - len(about["missing"]) for about in training.values())
    assert len({row["file"] for row in rows}) == len(rows)
    for row in rows:
        name, _, vendor = Path(row["file"]).stem.rpartition("-")
        assert vendor in training                   # OpenMoji is for tests alone
        assert row["title"] == name.replace("_", " ") in NAMES
        assert row["title"] not in training[vendor]["missing"]
    with Image.open(tmp_path / "train" / f"{NAMES[0]}-noto.png".replace(" ", "_")) as image:
        assert image.size == (ABOUT["cell"], ABOUT["cell"])
        for at in ((0, 0), (24, 24), (24, 40), (47, 47)):
            *colour, opacity = sheet("noto").getpixel(at)
            for value, result in zip(colour, image.getpixel(at), strict=True):
                on_white = (value * opacity + 255 * (255 - opacity)) / 255
                assert result == pytest.approx(on_white, abs=1)


def test_objects_follow_from_their_source(make_artwork):
    objects = make_artwork.read_objects((FOLDER / "objects.txt").read_text())
    keys = ("name", "plural", "article")
    for drawing, expected in zip(objects, ABOUT["objects"], strict=True):
        for key in keys:
            assert drawing[key] == expected[key]
