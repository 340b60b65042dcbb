"""The course: its tests tell right from wrong, and calling the package earns nothing."""

import contextlib
import json
from pathlib import Path

import apart_sandbox
import course
import grading
import matplotlib.pyplot
import package
import pytest
import report
import torch

ASSIGNMENTS = Path(__file__).parents[2] / "notebooks" / "assignments"
GRADED = [
    (path.name, name) for path in course.SOURCES for name in course.answers(course.read(path))
]
every_answer = pytest.mark.parametrize("assignment, name", GRADED)
every_assignment = pytest.mark.parametrize("assignment", [path.name for path in course.SOURCES])
every_seam = pytest.mark.parametrize("seam", package.MISTAKES)
CLASS = "a5_pretraining"  # what the made-up class hands in


def cells_of(assignment: str) -> list[course.Cell]:
    return course.read(ASSIGNMENTS / assignment)


@every_answer
def test_the_solution_and_another_answer_keep_their_points_on_any_numbers(assignment, name):
    cells = cells_of(assignment)
    right = course.variants(cells, name)[1] | {
        "solution": course.find(cells, "answer", name).source
    }
    assert len(right) > 1
    for what, source in right.items():
        for seed in range(2):
            assert course.grade(cells, name, source, seed) is None, (
                f"{what}, with the inputs of seed {seed}"
            )


@every_answer
def test_mistakes_lose_their_points_with_a_message_and_a_blank_has_none(assignment, name):
    cells = cells_of(assignment)
    wrong = course.variants(cells, name)[0]
    assert len(wrong) >= 3
    for what, source in wrong.items():
        assert isinstance(course.grade(cells, name, source), AssertionError), what
    blank = course.blank(course.find(cells, "answer", name).source)
    assert isinstance(course.grade(cells, name, blank), NotImplementedError)


@every_answer
def test_who_asks_the_package_would_be_right_and_earns_nothing(assignment, name, monkeypatch):
    cells = cells_of(assignment)
    cheat = course.variants(cells, name)[2]
    if cheat is None:
        pytest.skip("the package has no such function")
    assert "calls minalbef" in str(course.grade(cells, name, cheat))
    monkeypatch.setattr(grading, "closed", contextlib.nullcontext)
    assert course.grade(cells, name, cheat) is None, "else this test shows nothing"


def test_imports_beyond_the_list_are_refused():
    assert grading.refused("import torch.nn.functional as F\nfrom einops import rearrange") == ""
    for source in (
        "from minalbef.losses import itc_loss",
        "def f():\n    import timm",
        "x = __import__('minalbef')",
        "import importlib",
    ):
        assert grading.refused(source), source
    assert grading.refused("this is no Python") == ""


def test_inputs_differ_between_students_and_stay_for_one(tmp_path, monkeypatch):
    def drawn(student: str, secret: str = "a") -> float:
        folder = tmp_path / student / "a1"
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COURSE_SECRET", secret)
        return torch.rand(1, generator=grading.inputs()).item()

    assert drawn("anna") == drawn("anna") != drawn("ben")
    assert drawn("anna") != drawn("anna", secret="b")


@pytest.mark.slow
@every_assignment
def test_every_cell_of_a_solution_runs(assignment, monkeypatch):
    monkeypatch.setattr(matplotlib.pyplot, "show", lambda *_: None)
    space = {"__name__": "__main__"}
    for cell in cells_of(assignment):
        if cell.kind in ("code", "answer", "tests"):
            exec(compile(cell.source, f"<{cell.kind} {cell.name}>", "exec"), space)
    matplotlib.pyplot.close("all")


@pytest.mark.slow(minutes=2)
def test_nbgrader_gives_a_class_its_points_and_grades_what_was_corrected(tmp_path, monkeypatch):
    """`make course` asks the same of all assignments."""
    pytest.importorskip("nbgrader")
    monkeypatch.setenv("MINALBEF_UNSAFE", "1" if apart_sandbox._bubblewrap_fails() else "")
    points = sum(cell.points for cell in cells_of(CLASS) if cell.kind == "tests")
    course.write(tmp_path)
    scores = course.made_up_class(tmp_path, CLASS)
    assert scores == {"solution": (points, points), "blank": (0, points), "cheat": (0, points)}
    release = (tmp_path / "release" / CLASS / f"{CLASS}.ipynb").read_text()
    assert "NotImplementedError" in release
    assert "HIDDEN TESTS" not in release and "BEGIN SOLUTION" not in release

    # all tests skipped, and what they call replaced
    patched = json.loads(release)
    for cell in patched["cells"]:
        cell["metadata"]["tags"] = ["skip-execution"]
    patch = "import grading\ngrading.equal = grading.same = lambda *_, **__: None\n"
    patched["cells"].insert(1, {
        "cell_type": "code", "execution_count": None, "outputs": [], "id": "own", "metadata": {},
        "source": patch,
    })
    hand_in(tmp_path, "patches", patched, torch=patch, properties=patch, sitecustomize=patch)
    # answers and one of the tests alone, corrected, without a time stamp
    bare = course.notebook(cells_of(CLASS), {})
    bare.cells = [
        cell for cell in bare.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
        or "tests-diagnosis" in str(cell.metadata)
    ]
    hand_in(tmp_path, "blank", bare)
    graded = tmp_path / "autograded" / "solution" / CLASS / f"{CLASS}.ipynb"
    before = graded.stat().st_mtime_ns
    assert report.changed(tmp_path, CLASS) == ["blank"]
    report.grade(tmp_path, CLASS)
    scores = {student: score for student, (score, _) in report.scores(tmp_path)[CLASS].items()}
    assert scores == {"solution": points, "blank": points, "cheat": 0, "patches": 0}
    assert not report.changed(tmp_path, CLASS)
    assert graded.stat().st_mtime_ns == before, "what has not changed is not graded again"


def hand_in(folder: Path, student: str, notebook: dict, **beside: str) -> None:
    at = folder / "submitted" / student / CLASS
    at.mkdir(parents=True, exist_ok=True)
    (at / f"{CLASS}.ipynb").write_text(json.dumps(notebook))
    for name, text in beside.items():
        (at / f"{name}.py").write_text(text)


@every_seam
def test_a_seam_gives_its_points_to_the_solution_and_another_answer_on_any_numbers(seam):
    right = package.variants(seam)[1] | {"solution": package.files(True, True)}
    assert len(right) > 1
    for what, submission in right.items():
        for seed in range(2):
            assert package.tried(submission, seam, seed) is None, (
                f"{what}, with the inputs of seed {seed}"
            )


@every_seam
def test_mistakes_lose_a_seams_points_with_a_message_and_a_blank_has_none(seam):
    wrong = package.variants(seam)[0]
    assert len(wrong) >= 3
    for what, submission in wrong.items():
        assert isinstance(package.tried(submission, seam), AssertionError), what
    blank = {**package.files(), "test_mine.py": package.files(hidden=True)["test_mine.py"]}
    assert isinstance(package.tried(blank, seam), NotImplementedError)
    assert package.tried(package.cheat(), seam) is None, "minalbef is open in this process"


def test_a_package_that_imports_minalbef_is_refused_and_would_find_it_closed():
    scores = package.grade(package.cheat(), "any")
    assert (scores["points"], scores["of"]) == (0, 50)
    assert "mine/losses.py imports minalbef" in scores["says"]
    scores = package.grade(package.cheat(), "any", check=False)
    assert (scores["points"], scores["of"], len(scores["seams"])) == (0, 50, len(package.MISTAKES))
    for seam in scores["seams"].values():
        assert "minalbef is closed" in seam["says"]


@pytest.mark.slow
def test_a_package_handed_in_is_graded_by_seams_into_a_file(tmp_path):
    package.write(tmp_path)
    wrong = package.variants("losses.itc_loss")[0]["the student for the teacher"]
    for student, submission in (
        ("anna", package.files(True)),
        ("ben", wrong),
        ("carl", package.files()),
        ("dora", package.files(True) | {"mine/ema.py": "import os\nos._exit(0)\n"}),
    ):
        package.save(submission, tmp_path / "submitted" / student)
    package.grade_all(tmp_path)
    graded = {
        path.stem: json.loads(path.read_text()) for path in (tmp_path / "graded").glob("*.json")
    }
    assert {student: scores["points"] for student, scores in graded.items()} == {
        "anna": 50, "ben": 45, "carl": 0, "dora": 0,
    }
    assert [name for name, seam in graded["ben"]["seams"].items() if seam["says"]] == ["itc_loss"]
    assert "imports os" in graded["dora"]["says"]
