"""A solution runs what its exercise says: the settings in the exercise's text are compared with those in the code.

An exercise names its settings in `code`: `train_for(1, True, text_heads=6)`, `steps=1600`. Each stands in the
solution's code, under the same name. The other way round, where a solution calls the chapter's functions with other
numbers than the chapter does, the exercise says so. What follows "With more time" in an exercise is for the reader
alone: no solution has to run it.
"""
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def cells(path: Path) -> list[tuple[str, str]]:
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text("utf-8"))["cells"]]


def exercises(chapter: Path) -> list[str]:
    """The exercises of a chapter that have a solution: all but the open ones."""
    text = "\n".join(source for kind, source in cells(chapter) if kind == "markdown")
    below = re.split(r"^## .*[Ee]xercises.*$", text, maxsplit=1, flags=re.M)[1].split("\n## ")[0]
    found = re.findall(r"^[-*] (.*(?:\n(?![-*#]).+)*)", below, re.M)
    return [one for one in found if not one.startswith("**Open")]


def part_to_run(text: str) -> str:
    """What stands before "With more time"."""
    return re.split(r"With\s+more\s+time", text)[0]


def answers(chapter: Path) -> list[tuple[str, str]]:
    """What a solution expects, and what its code printed or its figures say, for each exercise."""
    parts = []
    book = json.loads((chapter.parent / "solutions" / chapter.name).read_text("utf-8"))
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and source.startswith("## "):
            parts.append((re.search(r"^Expected:.*?(?=\n\n|\Z)", source, re.M | re.S)[0], []))
        elif parts:
            shown = cell.get("outputs", [])
            parts[-1][1].extend("".join(one.get("text", [])) for one in shown)
            parts[-1][1].extend(one.get("metadata", {}).get("image/png", {}).get("alt", "") for one in shown)
    return [(expected, "\n".join(printed)) for expected, printed in parts]


def not_printed(expected: str, printed: str) -> list[str]:
    """Figures with a decimal point that a solution expects and that its cells don't show; formulas are free."""
    prose = re.sub(r"\$[^$]*\$|`[^`]*`", "", part_to_run(expected))
    return [figure for figure in re.findall(r"\d\.\d+", prose) if figure not in printed]


PAIRS = [pytest.param(chapter, place, id=f"{chapter.stem}-{place}") for chapter in NOTEBOOKS
         for place in range(len(exercises(chapter)))]


@pytest.mark.parametrize("chapter, place", PAIRS)
def test_what_a_solution_expects_is_what_its_cells_show(chapter, place):
    assert not_printed(*answers(chapter)[place]) == []
