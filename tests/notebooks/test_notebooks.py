"""The chapters as committed: run, compared, proven against the package, with links and pictures for everyone."""
import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_chapter = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook: Path, kind: str = "code") -> list[dict]:
    return [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def ignored(cell: dict) -> bool:
    return "nbval-ignore-output" in cell["metadata"].get("tags", [])


def parse(code: str) -> ast.Module:
    """A notebook's code without its magics."""
    return ast.parse("\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in code.splitlines()))


def public_names() -> set[str]:
    """Classes and functions of the package."""
    nodes = [node for path in (ROOT / "minalbef").rglob("*.py")
             for node in ast.parse(path.read_text(encoding="utf-8")).body]
    return {node.name for node in nodes if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name[0] != "_"}


def unproven(code: str) -> set[str]:
    """Public names that a notebook defines at its top and never hands to check_same."""
    tree = parse(code)
    defined = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))} & public_names()
    proven = {arg.id for node in ast.walk(tree) if isinstance(node, ast.Call)
              if ast.unparse(node.func).endswith("check_same") for given in node.args for arg in ast.walk(given)
              if isinstance(arg, ast.Name)}
    return defined - proven


def asserts_last(code: str) -> bool:
    """Whether a cell ends in an assert, or in one and then what it shows."""
    return any(isinstance(node, ast.Assert) for node in parse(code).body[-2:])


def broken_links(text: str, folder: Path) -> list[str]:
    """Relative links of a Markdown text, that lead to no file."""
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))
    return [link for link in links if not re.match(r"https?:|mailto:|#|attachment:|data:", link)
            and not (folder / link.split("#")[0]).exists()]


@every_chapter
def test_a_chapter_proves_what_it_rebuilds(notebook):
    assert unproven("\n".join(map(source, cells(notebook)))) == set()


@every_chapter
def test_a_chapter_is_committed_as_it_ran(notebook):
    assert notebook.stat().st_size <= 400_000
    code = [cell for cell in cells(notebook) if source(cell).strip()]
    hidden = [cell for cell in code if ignored(cell)]
    assert 3 * len(hidden) <= len(code), f"{len(hidden)} of {len(code)} cells are not compared"
    for cell in code:
        assert cell["execution_count"], f"not run: {source(cell)[:60]}"
        assert all(output["output_type"] != "error" for output in cell["outputs"])


@every_chapter
def test_a_cell_that_is_not_compared_ends_in_an_assert(notebook):
    assert not [source(cell)[:80] for cell in cells(notebook) if ignored(cell) and not asserts_last(source(cell))]


def as_told(notebook: Path) -> list[bool]:
    """Whether the asserts of what the text says are on, with the parameters as committed."""
    given, = [cell for cell in cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    names: dict = {}
    exec(source(given), names)
    return [eval(ast.unparse(node.value), names) for cell in cells(notebook) for node in parse(source(cell)).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "as_told"]


@pytest.mark.parametrize("notebook", [path for path in NOTEBOOKS if "as_told" in path.read_text(encoding="utf-8")],
                         ids=lambda path: path.stem)
def test_what_a_chapter_claims_of_its_run_is_checked_at_its_parameters(notebook):
    assert as_told(notebook) == [True]


@every_chapter
def test_every_picture_says_what_it_shows(notebook):
    shown = [(source(cell)[:60], output.get("metadata", {}).get("image/png", {}).get("alt", ""))
             for cell in cells(notebook) for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert shown and not [where for where, alt in shown if len(alt.split()) < 4 or "; ; " in alt]


@every_chapter
def test_a_chapter_takes_its_parameters_and_links_lead_somewhere(notebook):
    given, = [cell for cell in cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    assert {"preset", "run"} <= {node.targets[0].id for node in parse(source(given)).body}
    text = "\n".join(map(source, cells(notebook, "markdown")))
    assert broken_links(text, notebook.parent) == []
    place = NOTEBOOKS.index(notebook)
    assert all(other.name in text for other in NOTEBOOKS[max(0, place - 1):place + 2]
               if other != notebook), "its neighbours"


def exercises(notebook: Path) -> list[str]:
    """The exercises of a chapter, the open ones too: what its list items below that heading say."""
    text = "\n".join(map(source, cells(notebook, "markdown")))
    _, found, rest = re.split(r"(^## .*[Ee]xercises.*$)", text, maxsplit=1, flags=re.M)
    return re.findall(r"^[-*] (.*(?:\n(?![-*#]).+)*)", rest.split("\n## ")[0], re.M)


@every_chapter
def test_an_exercise_says_how_hard_it_is_and_which_parameters_to_vary_and_has_a_solution_that_ran(notebook):
    solutions = ROOT / "notebooks" / "solutions" / notebook.name
    answers = [source(cell) for cell in cells(solutions, "markdown") if source(cell).startswith("## ")]
    asked = [one for one in exercises(notebook) if not one.startswith("**Open")]
    assert asked and len(answers) == len(asked), "one answer for each exercise but the open ones"
    for exercise, answer in zip(asked, answers):
        level = re.match(r"\*\*(\w+), (?:about )?\d+ (?:minutes?|hours?)\.\*\*", exercise)
        assert level, f"begin it as `**Easy, 5 minutes.**`: {exercise[:80]}"
        assert re.search(r"`[^`]*\w", exercise), f"name the function whose parameters to vary: {exercise[:80]}"
        assert answer.startswith(f"## {level[1]}") and "Expected:" in answer, answer[:80]
    assert all(cell["execution_count"] for cell in cells(solutions) if source(cell).strip())


BUILDING = [path for path in NOTEBOOKS if path.stem[:2] not in ("00", "08", "14", "15")]


@pytest.mark.parametrize("notebook", BUILDING, ids=lambda path: path.stem)
def test_a_building_chapter_leaves_a_blank_with_its_answer_folded_below(notebook):
    both = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    blanks = [place for place, cell in enumerate(both) if "blank=True" in source(cell)]
    assert blanks
    for place in blanks:
        assert "raise NotImplementedError" in source(both[place])
        assert re.search(r"<details>.*```python\n.*```.*</details>", source(both[place + 1]), re.S)
