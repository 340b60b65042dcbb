"""The chapters as committed: run, proven against the package, with links and images for everyone."""

import ast
import json
import re
from pathlib import Path

import pytest

from blanks import parse

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_chapter = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook: Path, kind: str = "code") -> list[dict]:
    book = json.loads(notebook.read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def public_names() -> set[str]:
    """Classes and functions of the package."""
    names = set()
    for path in (ROOT / "minalbef").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_":
                names.add(node.name)
    return names


@every_chapter
def test_a_chapter_proves_what_it_rebuilds(notebook):
    """Public names that it defines at its top are handed to check_same."""
    rebuilt = set()
    proven = set()
    for statement in parse("\n".join(map(source, cells(notebook)))):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            rebuilt.add(statement.name)
        for call in ast.walk(statement):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("check_same"):
                for argument in call.args:
                    proven |= {n.id for n in ast.walk(argument) if isinstance(n, ast.Name)}
    assert rebuilt & public_names() <= proven


@every_chapter
def test_what_a_chapter_claims_of_its_run_is_checked_at_its_parameters(notebook):
    """The asserts of what the text says are on, with the parameters as committed."""
    (parameters,) = [cell for cell in cells(notebook) if "parameters" in tags(cell)]
    names: dict = {}
    exec(source(parameters), names)
    assert {"preset", "run"} <= names.keys()
    for cell in cells(notebook):
        for node in parse(source(cell)):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "as_told":
                assert eval(ast.unparse(node.value), names)


@every_chapter
def test_links_lead_somewhere_and_to_the_neighbours(notebook):
    text = "\n".join(map(source, cells(notebook, "markdown")))
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if not re.match(r"https?:|mailto:|#|attachment:|data:", link):
            assert (notebook.parent / link.split("#")[0]).exists(), link
    place = NOTEBOOKS.index(notebook)
    for neighbour in NOTEBOOKS[max(0, place - 1) : place + 2]:
        assert neighbour == notebook or neighbour.name in text


@every_chapter
def test_every_exercise_but_the_open_ones_has_a_solution_that_ran(notebook):
    text = "\n".join(map(source, cells(notebook, "markdown")))
    _, below = re.split(r"^## .*[Ee]xercises.*$", text, maxsplit=1, flags=re.M)
    items = re.findall(r"^[-*] (.*(?:\n(?![-*#]).+)*)", below.split("\n## ")[0], re.M)
    exercises = [item for item in items if not item.startswith("**Open")]
    solution = ROOT / "notebooks" / "solutions" / notebook.name
    answers = []
    for cell in cells(solution, "markdown"):
        if source(cell).startswith("## "):
            assert "Expected:" in source(cell)
            answers.append(cell)
    assert exercises and len(answers) == len(exercises)
    for cell in cells(solution):
        assert cell["execution_count"] or not source(cell).strip()
