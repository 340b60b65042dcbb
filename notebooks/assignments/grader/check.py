"""A student's own work, graded as the course grades it: the release with its answers, apart from the visible tests."""
import ast
import contextlib
import io
import json
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
from submission import handed_in, problem_of


class Result(NamedTuple):
    """One answer, or one seam of a package: its points, of how many, and why they are lost."""

    name: str
    points: float
    of: float
    says: str


class Found(NamedTuple):
    """What a check has found, and what else a student should know."""

    results: list[Result]
    notes: list[str]


def check(path: Path, releases: Path) -> Found:
    """Check a notebook, or a package by its folder. ValueError where it can't be graded, with the reason."""
    os.environ[apart_sandbox.UNSAFE] = "1"                       # a student's own code, on a student's own machine
    if path.is_dir():
        return check_package(path, releases / "package")
    if not path.exists():
        raise ValueError(f"there is no file {path}; name a notebook, or the folder of the package")
    if why := problem_of(path):
        raise ValueError(f"{why}; it would not be graded")
    return check_notebook(json.loads(path.read_text(encoding="utf-8")), releases)


def release_of(notebook: Any, releases: Path) -> Path:
    """The release whose tests a notebook has; by its cells, so that any name of the file will do."""
    tests = {grade_id(cell) for cell in notebook["cells"] if grade_id(cell).startswith("tests-")}
    for path in sorted(releases.glob("a*/*.ipynb")):
        ours = {grade_id(cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]}
        if tests & ours:
            return path
    raise ValueError(f"{releases} holds no assignment with its tests; take the course's folder as it was given")


def check_notebook(notebook: Any, releases: Path) -> Found:
    """Run the release with a notebook's answers."""
    path = release_of(notebook, releases)
    release = json.loads(path.read_text(encoding="utf-8"))
    made = rebuilt(release, notebook)
    of = {grade_id(cell).removeprefix("tests-"): cell["metadata"]["nbgrader"]["points"] for cell in made["cells"]
          if grade_id(cell).startswith("tests-")}
    with contextlib.chdir(path.parent), contextlib.redirect_stdout(io.StringIO()):       # its data lie there
        problems = run(parts_of(made))
    results = []
    for name, problem in problems.items():
        says = (str(problem) or type(problem).__name__) if problem else ""
        results.append(Result(name, 0 if problem else of[name], of[name], says))
    return Found(results, left_behind(notebook, made))


def left_behind(notebook: Any, made: Any) -> list[str]:
    """Names that answers use and that only a cell of the student's own defines: such cells aren't graded."""
    answers = "\n".join(cleaned(part.source) for part in parts_of(made) if part.kind == "answer")
    ours = {grade_id(cell) for cell in made["cells"]}
    try:
        known = {*given_names(answers), *given_names(above(parts_of(made)))}
        used = {node.id for node in ast.walk(ast.parse(answers)) if isinstance(node, ast.Name)}
    except SyntaxError:
        return []
    notes = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and grade_id(cell) not in ours - {""}:
            try:
                names = given_names(source_of(cell))
            except SyntaxError:
                continue
            notes += [f"{name} stands in a cell of your own, which is not graded: move it into the cell of the answer "
                      "that uses it" for name in names if name in used - known]
    return notes


def check_package(folder: Path, release: Path) -> Found:
    """Run the visible tests of the release on a package."""
    made, why = handed_in(folder)
    if why:
        raise ValueError(f"{why}; it would not be graded")
    given = {path.relative_to(release).as_posix(): path.read_text(encoding="utf-8")
             for path in (release / "adapters.py", *(release / "mine").glob("*.py"))}
    text = (release / "test_mine.py").read_text(encoding="utf-8")
    tests = types.ModuleType("test_mine")
    sys.modules["test_mine"] = tests
    exec(compile(text.replace("from mine.", "from minalbef."), "test_mine.py", "exec"), vars(tests))
    scores = apart_package.grade(made, given, tests, os.environ.get("MINE_SEED", "0"))
    if "says" in scores:
        return Found([Result("the package", 0, scores["of"], scores["says"])], [])
    return Found([Result(name, seam["points"], seam["of"], seam["says"]) for name, seam in scores["seams"].items()], [])


def told(found: Found) -> str:
    """A line for each answer, its points, and what is wrong."""
    lines = [f"{one.name}: {one.points:g} of {one.of:g}" + (f": {one.says}" if one.says else "")
             for one in found.results]
    points, of = (sum(values) for values in zip(*((one.points, one.of) for one in found.results)))
    last = f"{points:g} of {of:g} by the tests that you see; those that grade you hold more, on other numbers"
    return "\n".join([*lines, *found.notes, last])
