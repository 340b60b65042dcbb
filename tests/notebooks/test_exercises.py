"""What a solution expects is what its cells show."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))


def answers(solution: Path) -> list[tuple[str, str]]:
    """What each answer expects, and what its code printed or its figures say."""
    answers = []
    for cell in json.loads(solution.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and source.startswith("## "):
            expected = re.search(r"^Expected:.*?(?=\n\n|\Z)", source, re.M | re.S)[0]
            answers.append((expected, []))
        elif answers:
            for output in cell.get("outputs", []):
                texts = answers[-1][1]
                texts.append("".join(output.get("text", [])))
                texts.append(output.get("metadata", {}).get("image/png", {}).get("alt", ""))
    return [(expected, "\n".join(texts)) for expected, texts in answers]


@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda path: path.stem)
def test_what_a_solution_expects_is_what_its_cells_show(solution):
    """Figures with a decimal point; formulas are free, and so is what takes more time than a solution has."""
    for expected, printed in answers(solution):
        to_run = re.split(r"With\s+more\s+time", expected)[0]
        prose = re.sub(r"\$[^$]*\$|`[^`]*`", "", to_run)
        for figure in re.findall(r"\d\.\d+", prose):
            assert figure in printed, f"{figure}: {expected}"
