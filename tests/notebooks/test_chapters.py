"""Chapters elsewhere: with a mistake in the package they fail, with their blanks filled or with a GPU they run."""
import ast
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image, ImageDraw

from blanks import DRAWING

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def fill(cell: str, answer: str) -> str:
    """A cell with the answer's functions in place of its own of the same name."""
    names = {node.name for node in ast.parse(answer).body if hasattr(node, "name")}
    lines = cell.splitlines()
    for node in reversed(ast.parse(cell).body):
        if getattr(node, "name", "") in names:
            lines[node.lineno - 1:node.end_lineno] = answer.splitlines()
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("chapter", [path.stem for path in CHAPTERS if path.stem[:2] in DRAWING])
def test_the_answer_folded_below_a_blank_is_right_where_cells_below_it_draw_other_numbers(chapter):
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", 4)
    blanks = [place for place, cell in enumerate(notebook.cells) if "blank=True" in cell.source]
    for place in blanks:
        answer = re.search(r"```python\n(.*?)```", notebook.cells[place + 1].source, re.S)[1]
        notebook.cells[place].source = fill(notebook.cells[place].source, answer)
        assert "NotImplementedError" not in notebook.cells[place].source, "the answer has the blank's name"
    del notebook.cells[blanks[-1] + 1:]
    NotebookClient(notebook, timeout=600, kernel_name="python3",
                   resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    for place in blanks:
        said = "".join(output.get("text", "") for output in notebook.cells[place].outputs)
        assert "same output" in said and "yours to write" not in said, said


SHAPES = {"circle": ImageDraw.ImageDraw.ellipse, "square": ImageDraw.ImageDraw.rectangle}
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "grey", "black")


def write_flickr30k(folder: Path) -> Path:
    """A made-up set in Flickr30k's layout: 64 images, a shape on a coloured ground each, five captions."""
    images = folder / "flickr30k-images"
    images.mkdir(parents=True)
    entries = []
    pairs = [(a, b) for a in COLOURS for b in COLOURS if a != b] + [(a, "white") for a in COLOURS]
    for i, (colour, ground) in enumerate(pairs):
        shape = list(SHAPES)[i % 2]
        picture = Image.new("RGB", (80, 60), ground)
        SHAPES[shape](ImageDraw.Draw(picture), (20 + i % 9, 8, 55 + i % 9, 50), fill=colour)
        picture.save(images / f"{1000 + i}.jpg")
        said = [f"A {colour} {shape} on a {ground} ground .", f"On {ground} there is one {colour} {shape} .",
                f"Someone drew a {shape} in {colour} .", f"This {shape} is {colour} , the rest {ground} .",
                f"A {shape} , {colour} , before {ground} paper ."]
        entries.append({"filename": f"{1000 + i}.jpg", "imgid": i, "split": ("test", "val", *["train"] * 4)[i % 6],
                        "sentences": [{"raw": text} for text in said]})
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": entries, "dataset": "flickr30k"}), "utf-8")
    return folder


@pytest.mark.slow(minutes=2)
def test_chapter_16_runs_whole_on_a_set_in_flickr30ks_layout_and_shows_its_figures(tmp_path):
    notebook = nbformat.read(ROOT / "notebooks" / "16_your_data.ipynb", 4)
    place, = (i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    changes = "epochs=4 batch=16 vocab_size=200 match_from=1 queue_from=1 crop=0.7 validate_every=1"
    given = {"data": str(write_flickr30k(tmp_path / "set")), "set_name": "flickr30k", "changes": changes, "fewer": 0.5}
    lines = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(lines))
    NotebookClient(notebook, timeout=600, kernel_name="python3",
                   resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    shown = [(output.get("text", ""), output.get("metadata", {}).get("image/png", {}).get("alt", ""))
             for cell in notebook.cells for output in cell.get("outputs", ())]
    printed, figures = ("\n".join(part) for part in zip(*shown))
    assert re.search(r"words, among unseen +[1-9]", printed), "it searches with words of these captions"
    assert re.search(r"in the prepared split: \d+ families", printed)
    assert "in red" in figures or "red circle" in figures
    assert not re.search("clip ?art|openclipart|sailing", figures)
