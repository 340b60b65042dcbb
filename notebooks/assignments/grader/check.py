"""A student's own work, graded as the course grades it: the release with its answers, apart
from the visible tests."""
import ast
import contextlib
import io
import os
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import apart_package
import apart_sandbox
from apart_rebuild import grade_id, rebuilt, source_of
from apart_run import above, given_names, parts_of, run
from grading import cleaned
from submission import handed_in, load_json, problem_of


class Result(NamedTuple):
    """One answer, or one seam of a package: its points, of how many, and why they are lost."""

    name: str
    points: float
    of: float
    says: str


class Checked(NamedTuple):
    """The results of a check, and what else a student should know."""

    results: list[Result]
    notes: list[str]


def check(path: Path, releases: Path) -> Checked:
    """Check a notebook, or a package by its folder. ValueError where it can't be graded,
    with the reason."""
    # a student's own code, on a student's own machine
    os.environ[apart_sandbox.UNSAFE] = "1"
    if path.is_dir():
        return check_package(path, releases / "package")
    if not path.exists():
        raise ValueError(f"there is no file {path}; name a notebook, or the "
                         "folder of the package")
    if why := problem_of(path):
        raise ValueError(f"{why}; it would not be graded")
    return check_notebook(load_json(path), releases)


def release_of(notebook: Any, releases: Path) -> Path:
    """The release whose tests a notebook has; by its cells, so that any name of the file
    will do."""
    tests = points_of(notebook).keys()
    for path in sorted(releases.glob("a*/*.ipynb")):
        if tests & points_of(load_json(path)).keys():
            return path
    raise ValueError(f"{releases} holds no assignment with its tests; take the "
                     "course's folder as it was given")


def points_of(notebook: Any) -> dict[str, float]:
    """The points of each answer with tests."""
    points = {}
    for cell in notebook["cells"]:
        kind, _, name = grade_id(cell).partition("-")
        if kind == "tests":
            points[name] = cell["metadata"]["nbgrader"].get("points", 0)
    return points


def check_notebook(notebook: Any, releases: Path) -> Checked:
    """Run the release with a notebook's answers."""
    path = release_of(notebook, releases)
    release = load_json(path)
    book = rebuilt(release, notebook)
    of = points_of(book)
    # its data lie there
    with contextlib.chdir(path.parent), contextlib.redirect_stdout(io.StringIO()):
        problems = run(parts_of(book))
    results = []
    for name, problem in problems.items():
        says = (str(problem) or type(problem).__name__) if problem else ""
        results.append(Result(name, 0 if problem else of[name], of[name], says))
    return Checked(results, left_behind(notebook, book))


def left_behind(notebook: Any, book: Any) -> list[str]:
    """Names that answers use and that only a cell of the student's own defines: such cells
    aren't graded."""
    parts = parts_of(book)
    answers = "\n".join(part.source for part in parts if part.kind == "answer")
    try:
        tree = ast.parse(cleaned(answers))
        defined = {*given_names(answers), *given_names(above(parts))}
    except SyntaxError:
        return []
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    graded = {grade_id(cell) for cell in book["cells"]} - {""}
    notes = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code" or grade_id(cell) in graded:
            continue
        try:
            names = given_names(source_of(cell))
        except SyntaxError:
            continue
        for name in names:
            if name in used - defined:
                notes.append(f"{name} stands in a cell of your own, which is not graded: "
                             "move it into the cell of the answer that uses it")
    return notes


def check_package(folder: Path, release: Path) -> Checked:
    """Run the visible tests of the release on a package."""
    files, why = handed_in(folder)
    if why:
        raise ValueError(f"{why}; it would not be graded")
    blank = {}
    for path in (release / "adapters.py", *(release / "mine").glob("*.py")):
        blank[path.relative_to(release).as_posix()] = path.read_text(encoding="utf-8")
    text = (release / "test_mine.py").read_text(encoding="utf-8")
    tests = types.ModuleType("test_mine")
    sys.modules["test_mine"] = tests
    exec(compile(text.replace("from mine.", "from minalbef."), "test_mine.py", "exec"),
         vars(tests))
    scores = apart_package.grade(files, blank, tests, os.environ.get("MINE_SEED", "0"))
    if "says" in scores:
        return Checked([Result("the package", 0, scores["of"], scores["says"])], [])
    return Checked([Result(name, seam["points"], seam["of"], seam["says"])
                  for name, seam in scores["seams"].items()], [])


def summary(outcome: Checked) -> str:
    """A line for each answer, its points, and what is wrong."""
    lines = []
    total = 0
    full = 0
    for name, points, of, says in outcome.results:
        line = f"{name}: {points:g} of {of:g}"
        lines.append(f"{line}: {says}" if says else line)
        total += points
        full += of
    last = (f"{total:g} of {full:g} by the tests that you see; those that grade you "
            "hold more, on other numbers")
    return "\n".join([*lines, *outcome.notes, last])
