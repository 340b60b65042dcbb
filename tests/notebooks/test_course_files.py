"""The students' bundle, and the instructor's table of grades and similarity report."""

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import apart_rebuild
import bs4
import bundle
import course
import nbformat
import package
import pytest
import report

from hostile import HONEST, HOSTILE, hostile
from release import secret_lines, text_of

ROOT = Path(__file__).parents[2]
ASSIGNMENTS = ROOT / "notebooks" / "assignments"


def as_released(cell: course.Cell) -> str:
    """A cell as nbgrader releases it: no solution, no hidden test, no model answer."""
    if cell.kind == "written":
        return "*Your answer.*"
    hidden = r"### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS"
    return re.sub(hidden, "", course.blank(cell.source), flags=re.S)


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    for path in course.SOURCES:
        at = folder / "release" / path.name
        at.mkdir(parents=True)
        cells = [replace(cell, source=as_released(cell)) for cell in course.read(path)]
        course.save(at / f"{path.name}.ipynb", course.notebook(cells))
        for needed in (*course.BESIDE, *course.GRADER.glob(f"{path.name[:2]}_*.csv")):
            (at / needed.name).write_bytes(needed.read_bytes())
    package.save(package.files(), folder / "package" / "release")
    return bundle.write(folder, folder / "students" / "albef-course")


def test_the_students_folder_holds_no_line_of_an_answer_a_hidden_test_or_a_mistake(students):
    secret = secret_lines()
    folder = students.with_suffix("")
    text = "\n".join(text_of(path) for path in folder.rglob("*") if path.is_file())
    assert len(secret) > 1500 and not [line for line in secret if line in text]
    names = {path.name for path in folder.rglob("*")}
    assert not names & {
        "solution.py", "hidden.py", "mistakes.py", "course.py", "apart_nbgrader.py",
        "package_right.py",
    }
    # this reads files
    assert "COURSE_SECRET" in text_of(folder / "assignments" / "a1_encoders" / "grading.py")


def checked(folder: Path, path: str) -> tuple[int, list[str]]:
    """`python -m grader check`, as a student types it in the course's folder -> exit status, lines."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(folder / "data")])}
    run = subprocess.run(
        [sys.executable, "-m", "grader", "check", path], cwd=folder, text=True, env=env,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    return run.returncode, run.stdout.splitlines()


def test_a_students_check_gives_points_and_says_why_not(students):
    """Right, wrong, refused and blank answers, and a helper in a cell that isn't graded."""
    folder = students.with_suffix("")
    cells = course.read(ASSIGNMENTS / "a2_alignment")
    source = {name: course.find(cells, "answer", name).source for name in course.answers(cells)}
    wrong = course.variants(cells, "both_ways")[0]
    mistake = next(iter(wrong))
    helped = source["sigmoid_loss"].replace("    ### BEGIN SOLUTION", "    helper()")
    book = course.notebook(
        cells,
        {
            "itc_loss": "import os\n" + source["itc_loss"],
            "both_ways": wrong[mistake],
            "sigmoid_loss": helped,
            "Ring": course.blank(source["Ring"]),
        },
    )
    book.cells.insert(0, nbformat.v4.new_code_cell("%timeit 1\ndef helper():\n    pass"))
    course.save(folder / "assignments" / "a2_alignment" / "a2_alignment (1).ipynb", book)
    status, lines = checked(folder, "assignments/a2_alignment/a2_alignment (1).ipynb")
    assert status == 1
    assert lines[0] == "similarity: 4 of 4"
    for line, name in zip(lines[1:], ("itc_loss", "both_ways", "sigmoid_loss", "Ring")):
        assert re.match(rf"{name}: 0 of \d: .", line), line
    assert "imports os" in lines[1]
    status, lines = checked(folder, "assignments/a3_distillation/a2_alignment.ipynb")
    assert status == 2 and "there is no file" in lines[-1]


# what comes back


def submit(folder: Path, student: str, name: str, text: str, encoding: str = "utf-8") -> None:
    path = folder / "submitted" / student / "a2_alignment" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)


def test_names_of_browsers_and_nested_folders_are_accepted_and_bad_files_are_named(tmp_path):
    complete = nbformat.writes(course.notebook(course.read(ASSIGNMENTS / "a2_alignment")))
    without_tests = nbformat.writes(nbformat.v4.new_notebook())
    submit(tmp_path, "ada", "a2_alignment (1).ipynb", complete)
    submit(tmp_path, "ben", "work/a2_alignment.ipynb", complete)
    submit(tmp_path, "cem", "a2_alignment.ipynb", '{"cells": "café"}', "latin-1")
    submit(tmp_path, "dora", "a2_alignment.ipynb", "{")
    submit(tmp_path, "emil", "answers.docx", "no notebook")
    submit(tmp_path, "fay", "a2_alignment.ipynb", without_tests)
    problems = report.tidy(tmp_path, "a2_alignment")
    rules = {
        "cem": "UTF-8", "dora": "not a notebook", "emil": "answers.docx", "fay": "none of its tests",
    }
    assert problems.keys() == rules.keys()
    for student, rule in rules.items():
        assert rule in problems[student]
    accepted = {path.parts[-3] for path in tmp_path.glob("submitted/*/*/a2_alignment.ipynb")}
    assert accepted == {"ada", "ben"}
    assert (tmp_path / "unreadable" / "cem" / "a2_alignment" / "a2_alignment.ipynb").exists()


def test_the_table_of_grades_has_both_platforms_columns_late_days_and_what_went_wrong(tmp_path):
    for student, points in (("101", 45), ("102", 50)):
        graded = {"student": student, "points": points, "of": 50, "seams": {}}
        at = tmp_path / "package"
        package.save({f"{student}.json": json.dumps(graded)}, at / "graded")
        stamp = {"timestamp.txt": "2026-12-02 00:30:00+00:00"}
        package.save(stamp, at / "submitted" / student)
    (tmp_path / "deadlines.csv").write_text("assignment,due\npackage,2026-11-30 23:59\n")
    (tmp_path / "roster.csv").write_text(
        'Student,ID,SIS Login ID,Section\n"Lovelace, Ada",101,ada,A\n"Nobody, Ned",103,ned,A\n'
    )
    (tmp_path / "problems.json").write_text(
        json.dumps({"a2_alignment": {"102": "a2_alignment: not a notebook"}})
    )
    with open(report.grades(tmp_path), newline="", encoding="utf-8") as file:
        rows = {row["Student"].strip(): row for row in csv.DictReader(file)}
    assert set(rows) == {"Points Possible", "Lovelace, Ada", "102", "Nobody, Ned"}
    assert set(report.CANVAS + report.MOODLE) <= set(rows["102"])
    ada = rows["Lovelace, Ada"]
    assert (ada["package"], ada["Total"], ada["Late days"], ada["ID"]) == ("45", "45", "2", "101")
    assert rows["102"]["Notes"] == "a2_alignment: not a notebook"
    assert rows["Points Possible"]["package"] == "50"


@pytest.mark.parametrize("where", ["in the notebook", "on the page"])
def test_of_a_written_answer_nothing_runs_or_loads_and_what_is_honest_stays(where):
    """Either holds alone: for JupyterLab, and for Formgrader's page and the feedback."""
    filters = pytest.importorskip("nbconvert.filters")
    import apart_pages

    cells = []
    for cell in course.read(ASSIGNMENTS / "a1_encoders"):
        cells.append(replace(cell, source=as_released(cell)))
    release = course.notebook(cells)
    rebuilt = apart_rebuild.rebuilt(release, hostile(json.loads(nbformat.writes(release))))
    # an answer that was cleaned is not taken for a changed one
    assert apart_rebuild.rebuilt(release, rebuilt) == rebuilt
    assert rebuilt.metadata == release.metadata
    assert not any(cell.get("outputs") for cell in rebuilt.cells)
    for cell, source in zip(rebuilt.cells, release.cells, strict=True):
        assert (cell.metadata, cell.id) == (source.metadata, source.id)
    written = next(cell.source for cell in rebuilt.cells if "written-" in str(cell.metadata))

    def page(source: str) -> str:
        if where == "on the page":
            return apart_pages.page_of(source)
        return filters.markdown2html(apart_rebuild.harmless(source))

    for name, source in HOSTILE.items():
        assert source not in written
        for tag in bs4.BeautifulSoup(page(source), "html.parser").find_all(True):
            assert tag.name in {"p", "a", "img"}, name
            assert tag.attrs.keys() <= {"href", "src", "alt"}, name
            assert tag.get("href", "http").startswith("http"), name
            assert ":" not in tag.get("src", ""), name
    tags = {tag.name for tag in bs4.BeautifulSoup(page(HONEST), "html.parser").find_all(True)}
    assert tags >= {"strong", "code", "table", "th", "td", "pre", "img"}
    assert "a&lt;" in page(HONEST)


def test_a_copy_with_other_names_and_comments_leads_the_similarity_report():
    cells = course.read(ASSIGNMENTS / "a2_alignment")
    answers = []
    blanks = []
    variants = []
    for name in course.answers(cells):
        answers.append(course.find(cells, "answer", name).source)
        blanks.append(course.blank(answers[-1]))
        variants.append(next(iter(course.variants(cells, name)[1].values())))
    release = "\n".join(blanks)
    answer = "\n".join(answers)
    copy = re.sub(r"\bkeys\b", "kk", answer).replace("\n    ", "\n    # mine\n    ")
    pairs = report.pairs({"ada": answer, "ben": copy, "cem": "\n".join(variants)}, release)
    assert pairs[0][:2] == ("ada", "ben") and pairs[0][2] > 0.9
    for _, _, share, _ in pairs[1:]:
        assert share < 0.6
