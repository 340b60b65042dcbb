"""Chapter 16, a reader's own data, on another set than as committed."""

import itertools
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image, ImageDraw

from blanks import CHAPTERS, ROOT

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "grey", "black")
CAPTIONS = (
    "A {colour} square on a {ground} ground .",
    "On {ground} there is one {colour} square .",
    "Someone drew a square in {colour} .",
    "This square is {colour} , the rest {ground} .",
    "A square , {colour} , before {ground} paper .",
)


def write_flickr30k(folder: Path) -> Path:
    """A made-up set in Flickr30k's layout: squares on coloured grounds, five captions each."""
    images = folder / "flickr30k-images"
    images.mkdir(parents=True)
    splits = ("test", "val", "train", "train", "train", "train")
    entries = []
    for i, (colour, ground) in enumerate(itertools.permutations((*COLOURS, "white"), 2)):
        image = Image.new("RGB", (80, 60), ground)
        ImageDraw.Draw(image).rectangle((20 + i % 9, 8, 55 + i % 9, 50), fill=colour)
        image.save(images / f"{1000 + i}.jpg")
        sentences = [{"raw": text.format(colour=colour, ground=ground)} for text in CAPTIONS]
        entry = {"filename": f"{1000 + i}.jpg", "imgid": i, "split": splits[i % 6]}
        entries.append(entry | {"sentences": sentences})
    book = {"images": entries, "dataset": "flickr30k"}
    (folder / "dataset_flickr30k.json").write_text(json.dumps(book), encoding="utf-8")
    return folder


@pytest.mark.slow(minutes=2)
def test_chapter_16_runs_whole_on_a_set_in_flickr30ks_layout_and_shows_its_figures(tmp_path):
    parameters = f"""
data = {str(write_flickr30k(tmp_path / "set"))!r}
set_name = "flickr30k"
changes = "epochs=4 batch=16 vocab_size=200 match_from=1 queue_from=1 crop=0.7 validate_every=1"
fewer = 0.5
"""
    notebook = nbformat.read(CHAPTERS["16"], 4)
    for place, cell in enumerate(notebook.cells):
        if "parameters" in cell.metadata.get("tags", []):
            break
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(parameters))
    place = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    printed = ""
    alts = ""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            printed += output.get("text", "")
            alts += output.get("metadata", {}).get("image/png", {}).get("alt", "")
    # it searches with these captions' words
    assert re.search(r"words, among unseen +[1-9]", printed)
    assert re.search(r"in the prepared split: \d+ families", printed)
    assert "in red" in alts or "red square" in alts
    assert not re.search("clip ?art|openclipart|sailing", alts)
