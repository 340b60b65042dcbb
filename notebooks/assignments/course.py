"""The course from its sources: notebooks for nbgrader, mistakes and other answers in process, a
made-up class graded.

An assignment is a folder, a<number>_<topic>, of Python in cells, `# %% KIND NAME POINTS`.
Students see student.py: [markdown]  text (nothing)   code that students see and cannot change;
the first of them has all imports answer      a function or class to write, blank: `raise
NotImplementedError()` tests       of that answer, as far as students see them written
graded by a person; blank solution.py holds the answers, whole, and model answers in place of
the written ones; hidden.py the rest of the tests, under their names; mistakes.py, under an
answer's name, `mistakes`, edits of the answer, (old, new, old, new ...); other right answers,
named after it, such as similarity_by_loops; and similarity_cheat, which asks the package, where
it can.
"""
import ast
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
GRADER = HERE / "grader"
sys.path[:0] = [str(GRADER), str(HERE / "package")]
import apart_sandbox  # noqa: E402
import bundle  # noqa: E402
import package  # noqa: E402

# nbgrader calls alembic by its name
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
BESIDE = [GRADER / "grading.py", GRADER / "properties.py"]     # tests import them
SOURCES = sorted(HERE.glob("a[0-9]_*/"))
BLANK = "raise NotImplementedError()"
HIDDEN = "### BEGIN HIDDEN TESTS"
HIDDEN_END = "### END HIDDEN TESTS"
CONFIG = r"""import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from apart_nbgrader import configure

# the tests' random inputs come from it; students must not know it
os.environ["COURSE_SECRET"] = "{secret}"
c = get_config()
c.CourseDirectory.course_id = "minalbef"
# the graded notebook is made from the release; answers run in a process and a sandbox of their own
configure(c)
# seconds per cell; above apart.py's own limit, which costs an answer and no submission
c.Execute.timeout = 600
c.ClearSolutions.text_stub = "*Your answer.*"
# zip_collect: the files of Canvas's and of Moodle's zip; a student is the platform's number
c.FileNameCollectorPlugin.named_regexp = (
    r".*[/\\][^/\\]*?_(?:LATE_)?(?P<student_id>\d+)_(?:\d+_|assignsubmission_file_[/\\]?)"
    r"(?:[^/\\]*[/\\])*?(?P<file_id>a\d_[a-z]+)[^/\\]*\.ipynb$")
"""


@dataclass(frozen=True)
class Cell:
    """One cell of an assignment."""

    kind: str
    name: str
    points: int
    source: str


def parse(path: Path) -> list[Cell]:
    """The cells of one file."""
    parts = re.split(r"^# %%(.*)\n", path.read_text(encoding="utf-8"), flags=re.M)[1:]
    cells = []
    for head, body in zip(parts[::2], parts[1::2]):
        kind, name, points = (*head.split(), "", "", "")[:3]
        if kind in ("[markdown]", "written"):
            body = re.sub(r"^# ?", "", body, flags=re.M)
        cells.append(Cell(kind or "code", name, int(points or 0), body.strip()))
    return cells


def read(folder: Path) -> list[Cell]:
    """The cells of an assignment: the students', with solutions, hidden tests and, behind
    each test, its mistakes."""
    instructors = {}
    for file in ("solution", "hidden"):
        for cell in parse(folder / f"{file}.py"):
            instructors[cell.kind, cell.name] = cell.source
    mistakes = {cell.kind: cell.source for cell in parse(folder / "mistakes.py")}
    cells = []
    for cell in parse(folder / "student.py"):
        source = instructors.get((cell.kind, cell.name))
        if cell.kind == "answer":
            cells.append(replace(cell, source=solved(cell.source, source)))
        elif cell.kind == "written":
            cells.append(replace(cell, source=source))
        elif cell.kind == "tests":
            hidden = source.removeprefix("with grading.closed():\n")
            both = f"{cell.source}\n    {HIDDEN}\n{hidden}\n    {HIDDEN_END}"
            cells.append(replace(cell, source=both))
            cells.append(Cell("instructor", cell.name, 0, mistakes[cell.name]))
        else:
            cells.append(cell)
    return cells


def solved(blank: str, solution: str) -> str:
    """A blank answer with its solution between nbgrader's marks. ValueError where they
    differ outside of the blanks."""
    # text, indent, text, indent, text ...
    around = re.split(rf"^( *){re.escape(BLANK)}", blank, flags=re.M)
    pattern = "(.*?)".join(map(re.escape, around[::2]))
    match = re.fullmatch(pattern, solution, flags=re.S)
    if not match:
        raise ValueError("the solution differs from student.py's answer outside of "
                         f"its blanks:\n{blank}")
    source = around[0]
    for body, space, text in zip(match.groups(), around[1::2], around[2::2]):
        source += f"{space}### BEGIN SOLUTION\n{body}\n{space}### END SOLUTION{text}"
    return source


def find(cells: list[Cell], kind: str, name: str) -> Cell:
    """The one cell of a kind and a name; ValueError where there is none, or a second."""
    matches = [cell for cell in cells if (cell.kind, cell.name) == (kind, name)]
    if len(matches) != 1:
        raise ValueError(f"{len(matches)} cells '# %% {kind} {name}': a source has "
                         "one for each answer")
    return matches[0]


def find_imports(cells: list[Cell]) -> Cell:
    """The first cell of code, which has all imports."""
    return next(cell for cell in cells if cell.kind == "code")


def answers(cells: list[Cell]) -> list[str]:
    """Names of what is graded by tests."""
    return [cell.name for cell in cells if cell.kind == "answer"]


def notebook(cells: list[Cell], instead: dict[str, str] | None = None):
    """The instructor's notebook, in nbgrader's format; `instead`: other sources for answers,
    by name."""
    # here and not above: tests in process need no notebooks
    import nbformat.v4 as nbf

    instead = instead or {}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbf.new_notebook(metadata={"kernelspec": kernel})
    for number, cell in enumerate(cells):
        if cell.kind == "instructor":
            continue
        new_cell = nbf.new_code_cell
        if cell.kind in ("[markdown]", "written"):
            new_cell = nbf.new_markdown_cell
        source = cell.source
        if cell.kind == "answer":
            source = instead.get(cell.name, source)
        nb_cell = new_cell(source, id=f"cell-{number}")
        book.cells.append(nb_cell)
        if cell.kind == "[markdown]":
            continue
        nb_cell.metadata["nbgrader"] = {
            "schema_version": 3,
            "task": False,
            "grade_id": f"{cell.kind}-{cell.name or number}",
            "grade": cell.kind in ("tests", "written"),
            "solution": cell.kind in ("answer", "written"),
            "locked": cell.kind in ("tests", "code"),
        }
        if cell.points:
            nb_cell.metadata["nbgrader"]["points"] = cell.points
    return book


def blank(source: str) -> str:
    """An answer as students get it."""
    return re.sub(r"### BEGIN SOLUTION.*?### END SOLUTION", BLANK, source, flags=re.S)


class Variants(NamedTuple):
    """Sources of an answer, by name: mistakes, and other right answers; and the one that calls
    the package, where the package has it."""

    wrong: dict[str, str]
    right: dict[str, str]
    cheat: str | None


def variants(cells: list[Cell], name: str) -> Variants:
    """What an assignment's mistakes.py has for an answer. ValueError for an edit whose old text
    doesn't stand in the answer once."""
    answer = find(cells, "answer", name).source
    more = find(cells, "instructor", name).source
    space = {}
    functions = []
    for node in ast.parse(more).body:
        if isinstance(node, ast.Assign):
            space[ast.unparse(node.targets[0])] = node.value
        else:
            functions.append(node.name)
    wrong = {}
    for what, edits in ast.literal_eval(space["mistakes"]).items():
        wrong[what] = answer
        for old, new in zip(edits[::2], edits[1::2]):
            if answer.count(old) != 1:
                raise ValueError(f"{name}, mistake '{what}': {old!r} stands "
                                 f"{answer.count(old)} times in the answer, not once")
            wrong[what] = wrong[what].replace(old, new)
    right = {}
    for function in functions:
        if function.startswith(f"{name}_"):
            right[function] = f"{blank(answer)}\n\n{more}\n\n{name} = {function}"
    cheat = right.pop(f"{name}_cheat", None)
    return Variants(wrong, right, cheat)


def grade(cells: list[Cell], name: str, source: str, seed: int = 0) -> Exception | None:
    """What the tests of one answer raise in this process, on inputs of a seed; None where it
    keeps its points."""
    sources = [find_imports(cells).source]
    for cell in cells[:cells.index(find(cells, "answer", name))]:
        if cell.kind == "answer":
            sources.append(cell.source)
    sources += [source, find(cells, "tests", name).source]
    space = {"__name__": "__main__"}
    os.environ["COURSE_SECRET"] = str(seed)
    try:
        for part in sources:
            exec(compile(part, f"<{name}>", "exec"), space)
    except Exception as problem:
        return problem
    finally:
        del os.environ["COURSE_SECRET"]


def grade_apart(assignment: str, sources: dict[str, str] | None = None, seed: int = 0,
                seconds: float = 60, check: bool = True) -> dict[str, Exception | None]:
    """Grade a submission in a process of its own, as nbgrader does: name -> what its tests
    raise, None for its points.

    sources: by name, in place of solutions; check: refuse imports. Figures aren't drawn
    """
    # here and not above: tests in process start no other
    from apart_run import Part, run

    cells = read(HERE / assignment)
    first = find_imports(cells)
    parts = [Part(first.kind, first.name, first.source)]
    for cell in cells:
        source = cell.source
        if cell.kind == "answer" and sources:
            source = sources.get(cell.name, source)
        if cell.kind in ("answer", "tests"):
            parts.append(Part(cell.kind, cell.name, source))
    os.environ["COURSE_SECRET"] = str(seed)
    try:
        return run(parts, seconds, check)
    finally:
        del os.environ["COURSE_SECRET"]


def write(folder: Path) -> list[str]:
    """A course for nbgrader: config, and every assignment as the instructor's version. ->
    their names"""
    for path in SOURCES:
        at = folder / "source" / path.name
        at.mkdir(parents=True, exist_ok=True)
        save(at / f"{path.name}.ipynb", notebook(read(path)))
        for needed in (*BESIDE, *GRADER.glob(f"{path.name[:2]}_*.csv")):
            shutil.copy(needed, at)
    for needed in (*BESIDE, *GRADER.glob("apart*.py")):
        shutil.copy(needed, folder)
    names = [path.name for path in SOURCES]
    config = folder / "nbgrader_config.py"
    if not config.exists():              # the instructor's from then on
        text = CONFIG.replace("{secret}", secrets.token_hex())
        config.write_text(text, encoding="utf-8")
        rows = ["assignment,due", *(f"{name}," for name in [*names, "package"])]
        (folder / "deadlines.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return names


def nbgrader(folder: Path, *words: str) -> str:
    """Call nbgrader in the course's folder; -> what it said. RuntimeError, with that, where
    it fails."""
    run = subprocess.run([sys.executable, "-m", "nbgrader", *words], cwd=folder,
                         text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if run.returncode:
        raise RuntimeError(f"nbgrader {' '.join(words)} failed:\n{run.stdout[-3000:]}")
    return run.stdout


def made_up_class(folder: Path, assignment: str) -> dict[str, tuple[float, float]]:
    """Release an assignment to three students, grade them and write their feedback: student
    -> points, of how many."""
    from nbgrader.api import Gradebook

    cells = read(HERE / assignment)
    nbgrader(folder, "generate_assignment", assignment, "--force")
    cheats = {}
    for name in answers(cells):
        source = find(cells, "answer", name).source
        cheats[name] = variants(cells, name).cheat or blank(source)
    for student, instead in (("solution", {}), ("blank", None), ("cheat", cheats)):
        at = folder / "submitted" / student / assignment
        shutil.copytree(folder / "release" / assignment, at)
        if instead is not None:
            (at / f"{assignment}.ipynb").unlink()
            save(at / f"{assignment}.ipynb", notebook(cells, instead))
    nbgrader(folder, "autograde", assignment)
    nbgrader(folder, "generate_feedback", assignment)
    points = {}
    with Gradebook(f"sqlite:///{folder}/gradebook.db") as book:
        for submission in book.assignment_submissions(assignment):
            score = 0
            full = 0
            for grade in submission.notebooks[0].grades:
                if grade.cell.cell_type == "code":
                    score += grade.auto_score or 0
                    full += grade.max_score
            points[submission.student.id] = (score, full)
    return points


def save(path: Path, book) -> None:
    import nbformat

    nbformat.validate(book)
    nbformat.write(book, path)


def main(folder: Path):
    """Write the course into a folder, check it, and say what was found."""
    # the made-up class is ours
    apart_sandbox.trust_ours()
    for assignment in write(folder):
        cells = read(HERE / assignment)
        print(f"\n{assignment}: {sum(cell.points for cell in cells)} points")
        for name in answers(cells):
            wrong, right, cheat = variants(cells, name)
            failures = [grade(cells, name, source) for source in wrong.values()]
            passes = [grade(cells, name, source) for source in right.values()]
            points = find(cells, "tests", name).points
            print(f"  {name}: {points} points, {len(wrong) - failures.count(None)} of "
                  f"{len(wrong)} mistakes lose them, {passes.count(None)} of "
                  f"{len(right)} other answers keep them")
            if not cheat:
                print(f"  {name}: the package has no such function")
            if None in failures or any(passes):
                raise SystemExit(f"{name}: its tests do not tell right from wrong; "
                                 "see tests/notebooks/test_course.py")
        nbgrader(folder, "generate_assignment", assignment, "--force")
        with tempfile.TemporaryDirectory() as trial:
            write(Path(trial))
            scores = made_up_class(Path(trial), assignment)
        for student, (score, full) in scores.items():
            print(f"  graded by nbgrader: {student} {score:g} of {full:g}")
            if score != (full if student == "solution" else 0):
                raise SystemExit(f"{assignment}: the solution must have all points, "
                                 "the blank release and the cheat none")
    package.write(folder / "package")
    archive = bundle.write(folder, folder / "students" / "albef-course")
    print(f"\nto give to students: {archive}, {archive.stat().st_size >> 20} MB; the "
          f"instructor's version: {folder}/source; to grade, see "
          "notebooks/assignments/README.md")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/course").resolve())
