"""The course from its sources: notebooks for nbgrader, mistakes and other answers in process, a made-up class graded.

An assignment is a folder, a<number>_<topic>, of Python in cells, `# %% KIND NAME POINTS`. Students see student.py:
  [markdown]  text
  (nothing)   code that students see and cannot change; the first of them has all imports
  answer      a function or class to write, blank: `raise NotImplementedError()`
  tests       of that answer, as far as students see them
  written     graded by a person; blank
solution.py holds the answers, whole, and model answers in place of the written ones; hidden.py the rest of the tests,
under their names; mistakes.py, under an answer's name, `mistakes`, edits of the answer, (old, new, old, new ...); other
right answers, named after it, such as similarity_by_loops; and similarity_cheat, which asks the package, where it can.
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
CONFIG = r"""import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from apart_nbgrader import configure

os.environ["COURSE_SECRET"] = "{secret}"     # the tests' random inputs come from it; students must not know it
c = get_config()
c.CourseDirectory.course_id = "minalbef"
configure(c)     # the graded notebook is made from the release, and answers run in a process and a sandbox of their own
c.Execute.timeout = 600     # seconds a cell; above apart.py's own limit, which costs an answer and no submission
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
        body = re.sub(r"^# ?", "", body, flags=re.M) if kind in ("[markdown]", "written") else body
        cells.append(Cell(kind or "code", name, int(points or 0), body.strip()))
    return cells


def read(folder: Path) -> list[Cell]:
    """The cells of an assignment: the students', with solutions, hidden tests and, behind each test, its mistakes."""
    solution, hidden = ({(cell.kind, cell.name): cell.source for cell in parse(folder / f"{name}.py")}
                        for name in ("solution", "hidden"))
    mistakes = {cell.kind: cell.source for cell in parse(folder / "mistakes.py")}
    cells = []
    for cell in parse(folder / "student.py"):
        whole = (cell.kind, cell.name)
        if cell.kind == "answer":
            cells.append(replace(cell, source=solved(cell.source, solution[whole])))
        elif cell.kind == "written":
            cells.append(replace(cell, source=solution[whole]))
        elif cell.kind == "tests":
            more = hidden[whole].removeprefix("with grading.closed():\n")
            whole = f"{cell.source}\n    ### BEGIN HIDDEN TESTS\n{more}\n    ### END HIDDEN TESTS"
            cells.append(replace(cell, source=whole))
            cells.append(Cell("instructor", cell.name, 0, mistakes[cell.name]))
        else:
            cells.append(cell)
    return cells


def solved(blank: str, solution: str) -> str:
    """A blank answer with its solution between nbgrader's marks. ValueError where they differ outside of the blanks."""
    around = re.split(rf"^( *){re.escape(BLANK)}", blank, flags=re.M)     # text, indent, text, indent, text ...
    found = re.fullmatch("(.*?)".join(map(re.escape, around[::2])), solution, flags=re.S)
    if not found:
        raise ValueError(f"the solution differs from student.py's answer outside of its blanks:\n{blank}")
    whole = around[0]
    for body, space, text in zip(found.groups(), around[1::2], around[2::2]):
        whole += f"{space}### BEGIN SOLUTION\n{body}\n{space}### END SOLUTION{text}"
    return whole


def find(cells: list[Cell], kind: str, name: str) -> Cell:
    """The one cell of a kind and a name; ValueError where there is none, or a second."""
    found = [cell for cell in cells if (cell.kind, cell.name) == (kind, name)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} cells '# %% {kind} {name}': a source has one for each answer")
    return found[0]


def answers(cells: list[Cell]) -> list[str]:
    """Names of what is graded by tests."""
    return [cell.name for cell in cells if cell.kind == "answer"]


def notebook(cells: list[Cell], instead: dict[str, str] | None = None):
    """The instructor's notebook, in nbgrader's format; `instead`: other sources for answers, by name."""
    import nbformat.v4 as nbf  # here and not above: tests in process need no notebooks

    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = nbf.new_notebook(metadata={"kernelspec": kernel})
    for number, cell in enumerate(cells):
        if cell.kind == "instructor":
            continue
        text = cell.kind in ("[markdown]", "written")
        source = (instead or {}).get(cell.name, cell.source) if cell.kind == "answer" else cell.source
        made.cells.append((nbf.new_markdown_cell if text else nbf.new_code_cell)(source, id=f"cell-{number}"))
        if cell.kind != "[markdown]":
            made.cells[-1].metadata["nbgrader"] = {
                "schema_version": 3, "task": False, "grade_id": f"{cell.kind}-{cell.name or number}",
                "grade": cell.kind in ("tests", "written"), "solution": cell.kind in ("answer", "written"),
                "locked": cell.kind in ("tests", "code"), **({"points": cell.points} if cell.points else {})}
    return made


def blank(source: str) -> str:
    """An answer as students get it."""
    return re.sub(r"### BEGIN SOLUTION.*?### END SOLUTION", BLANK, source, flags=re.S)


def variants(cells: list[Cell], name: str) -> tuple[dict[str, str], dict[str, str], str | None]:
    """Sources by name: mistakes, other right answers, and the one that calls the package, where the package has it."""
    answer, more = find(cells, "answer", name).source, find(cells, "instructor", name).source
    body = {getattr(node, "name", None) or ast.unparse(node.targets[0]): node for node in ast.parse(more).body}
    wrong = {}
    for what, edits in ast.literal_eval(body["mistakes"].value).items():
        wrong[what] = answer
        for old, new in zip(edits[::2], edits[1::2]):
            if answer.count(old) != 1:
                raise ValueError(f"{name}, mistake '{what}': "
                                 f"{old!r} stands {answer.count(old)} times in the answer, not once")
            wrong[what] = wrong[what].replace(old, new)
    other = {part: f"{blank(answer)}\n\n{more}\n\n{name} = {part}" for part in body if part.startswith(f"{name}_")}
    cheat = other.pop(f"{name}_cheat", None)
    return wrong, other, cheat


def grade(cells: list[Cell], name: str, source: str, seed: int = 0) -> Exception | None:
    """What the tests of one answer raise in this process, on inputs of a seed; None where it keeps its points."""
    first = next(cell for cell in cells if cell.kind == "code")
    before = [cell.source for cell in cells[:cells.index(find(cells, "answer", name))] if cell.kind == "answer"]
    space = {"__name__": "__main__"}
    os.environ["COURSE_SECRET"] = str(seed)
    try:
        for part in (first.source, *before, source, find(cells, "tests", name).source):
            exec(compile(part, f"<{name}>", "exec"), space)
    except Exception as problem:
        return problem
    finally:
        del os.environ["COURSE_SECRET"]


def grade_apart(assignment: str, sources: dict[str, str] | None = None, seed: int = 0,
                seconds: float = 60, check: bool = True) -> dict[str, Exception | None]:
    """Grade a submission in a process of its own, as nbgrader does: name -> what its tests raise, None for its points.

    sources: by name, in place of solutions; check: refuse imports. Figures aren't drawn
    """
    from apart_run import Part, run  # here and not above: tests in process start no other

    cells = read(HERE / assignment)
    first = next(cell for cell in cells if cell.kind == "code")
    parts = [Part(cell.kind, cell.name, (sources or {}).get(cell.name, cell.source) if cell.kind == "answer" else
                  cell.source) for cell in cells if cell is first or cell.kind in ("answer", "tests")]
    os.environ["COURSE_SECRET"] = str(seed)
    try:
        return run(parts, seconds, check)
    finally:
        del os.environ["COURSE_SECRET"]


def write(folder: Path) -> list[str]:
    """A course for nbgrader: config, and every assignment as the instructor's version. -> their names"""
    for path in SOURCES:
        at = folder / "source" / path.name
        at.mkdir(parents=True, exist_ok=True)
        save(at / f"{path.name}.ipynb", notebook(read(path)))
        for needed in (*BESIDE, *GRADER.glob(f"{path.name[:2]}_*.csv")):
            shutil.copy(needed, at)
    for needed in (*BESIDE, *GRADER.glob("apart*.py")):
        shutil.copy(needed, folder)
    config = folder / "nbgrader_config.py"
    if not config.exists():                                      # the instructor's from then on
        config.write_text(CONFIG.replace("{secret}", secrets.token_hex()), encoding="utf-8")
        (folder / "deadlines.csv").write_text(
            "assignment,due\n" + "".join(f"{path.name},\n" for path in SOURCES) + "package,\n", encoding="utf-8")
    return [path.name for path in SOURCES]


def nbgrader(folder: Path, *words: str) -> str:
    """Call nbgrader in the course's folder; -> what it said. RuntimeError, with that, where it fails."""
    run = subprocess.run([sys.executable, "-m", "nbgrader", *words], cwd=folder, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if run.returncode:
        raise RuntimeError(f"nbgrader {' '.join(words)} failed:\n{run.stdout[-3000:]}")
    return run.stdout


def made_up_class(folder: Path, assignment: str) -> dict[str, tuple[float, float]]:
    """Release an assignment to three students, grade them and write their feedback: student -> points, of how many."""
    from nbgrader.api import Gradebook

    cells = read(HERE / assignment)
    nbgrader(folder, "generate_assignment", assignment, "--force")
    cheats = {name: variants(cells, name)[2] or blank(find(cells, "answer", name).source) for name in answers(cells)}
    for student, instead in (("solution", {}), ("blank", None), ("cheat", cheats)):
        at = folder / "submitted" / student / assignment
        shutil.copytree(folder / "release" / assignment, at)
        if instead is not None:
            (at / f"{assignment}.ipynb").unlink()
            save(at / f"{assignment}.ipynb", notebook(cells, instead))
    nbgrader(folder, "autograde", assignment)
    nbgrader(folder, "generate_feedback", assignment)
    with Gradebook(f"sqlite:///{folder}/gradebook.db") as book:
        graded = {s.student.id: [grade for grade in s.notebooks[0].grades if grade.cell.cell_type == "code"]
                  for s in book.assignment_submissions(assignment)}
        return {student: (sum(grade.auto_score or 0 for grade in grades), sum(grade.max_score for grade in grades))
                for student, grades in graded.items()}


def save(path: Path, made) -> None:
    import nbformat

    nbformat.validate(made)
    nbformat.write(made, path)


def main(folder: Path):
    """Write the course into a folder, check it, and say what was found."""
    apart_sandbox.trust_ours()                                   # the made-up class is ours
    for assignment in write(folder):
        cells = read(HERE / assignment)
        print(f"\n{assignment}: {sum(cell.points for cell in cells)} points")
        for name in answers(cells):
            wrong, right, cheat = variants(cells, name)
            lost = sum(grade(cells, name, source) is not None for source in wrong.values())
            kept = sum(grade(cells, name, source) is None for source in right.values())
            print(f"  {name}: {find(cells, 'tests', name).points} points, {lost} of {len(wrong)} mistakes lose them, "
                  f"{kept} of {len(right)} other answers keep them"
                  f"{'' if cheat else '; the package has no such function'}")
            if lost < len(wrong) or kept < len(right):
                raise SystemExit(f"{name}: its tests do not tell right from wrong; see tests/notebooks/test_course.py")
        nbgrader(folder, "generate_assignment", assignment, "--force")
        with tempfile.TemporaryDirectory() as trial:
            write(Path(trial))
            scores = made_up_class(Path(trial), assignment)
        print("  graded by nbgrader:",
              ", ".join(f"{student} {has:g} of {full:g}" for student, (has, full) in scores.items()))
        if [has for _, (has, full) in sorted(scores.items())] != [0, 0, scores["solution"][1]]:
            raise SystemExit(f"{assignment}: the solution must have all points, the blank release and the cheat none")
    package.write(folder / "package")
    given = bundle.write(folder, folder / "students" / "albef-course")
    print(f"\nto give to students: {given}, {given.stat().st_size >> 20} MB; the instructor's version: "
          f"{folder}/source; to grade, see notebooks/assignments/README.md")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/course").resolve())
