"""The chapters as committed: proven against the package, with links, exercises, solutions and times."""

import ast
import re
import sys
from pathlib import Path

import nbformat
import pytest

from blanks import CHAPTERS, ROOT, parse

sys.path.insert(0, str(ROOT / "notebooks"))
import times  # noqa: E402

NOTEBOOKS = list(CHAPTERS.values())
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))
every_chapter = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook: Path, kind: str = "code") -> list:
    return [cell for cell in nbformat.read(notebook, 4).cells if cell.cell_type == kind]


def text_of(notebook: Path) -> str:
    return "\n".join(cell.source for cell in cells(notebook, "markdown"))


@every_chapter
def test_what_a_chapter_claims_of_its_run_is_checked_at_its_parameters(notebook):
    """The asserts of what the text says are on, with the parameters as committed."""
    names: dict = {}
    for cell in cells(notebook):
        if "parameters" in cell.metadata.get("tags", []):
            exec(cell.source, names)
        for node in parse(cell.source):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "as_told":
                assert eval(ast.unparse(node.value), names)
    assert {"preset", "run"} <= names.keys()


@every_chapter
def test_links_lead_somewhere_and_to_the_neighbours(notebook):
    text = text_of(notebook)
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if not re.match(r"https?:|mailto:|#|attachment:|data:", link):
            assert (notebook.parent / link.split("#")[0]).exists(), link
    place = NOTEBOOKS.index(notebook)
    for neighbour in NOTEBOOKS[max(0, place - 1) : place + 2]:
        assert neighbour == notebook or neighbour.name in text


@every_chapter
def test_every_exercise_but_the_open_ones_has_a_solution(notebook):
    _, below = re.split(r"^## .*[Ee]xercises.*$", text_of(notebook), maxsplit=1, flags=re.M)
    items = re.findall(r"^[-*] (.*(?:\n(?![-*#]).+)*)", below.split("\n## ")[0], re.M)
    exercises = [item for item in items if not item.startswith("**Open")]
    solution = text_of(ROOT / "notebooks" / "solutions" / notebook.name)
    answers = re.findall(r"^## ", solution, re.M)
    assert exercises and len(answers) == len(exercises)


@every_chapter
def test_a_header_says_what_is_counted(notebook):
    book = times.read(notebook)
    header = "".join(book["cells"][0]["source"])
    says_so = times.with_header(header, times.count(book)) == header
    assert says_so, "call `python notebooks/times.py --write`"


@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda path: path.stem)
def test_what_a_solution_expects_is_what_its_cells_show(solution):
    """Figures with a decimal point; formulas are free, and so is what takes more time than a solution has."""
    expected = []
    outputs = ""
    for cell in nbformat.read(solution, 4).cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            expected += re.findall(r"^Expected:.*?(?=\n\n|\Z)", cell.source, re.M | re.S)
        for output in cell.get("outputs", ()):
            outputs += output.get("text", "")
            outputs += output.get("metadata", {}).get("image/png", {}).get("alt", "")
    assert expected
    for text in expected:
        to_run = re.split(r"With\s+more\s+time", text)[0]
        prose = re.sub(r"\$[^$]*\$|`[^`]*`", "", to_run)
        for figure in re.findall(r"\d\.\d+", prose):
            assert figure in outputs, f"{figure}: {text}"
