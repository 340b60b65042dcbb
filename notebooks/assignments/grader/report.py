"""One table of grades for Canvas and Moodle, with late days and what went wrong; a similarity report.

`python report.py tidy COURSE` puts submissions where nbgrader expects them and names those that can't be graded;
`grade COURSE ASSIGNMENT` tidies, then calls nbgrader on those that are new or have changed (`--force`: on all;
`--unsafe`: without a sandbox); `grades COURSE` writes grades.csv; `similarity COURSE` writes similarity.csv. Optional
files in the course's folder: roster.csv, with Canvas's or Moodle's columns and one row a student, and deadlines.csv,
with the columns assignment and due (2026-11-30 23:59).
"""
import argparse
import csv
import io
import itertools
import json
import keyword
import math
import re
import shutil
import statistics
import subprocess
import sys
import tokenize
from datetime import datetime, timezone
from pathlib import Path

import apart_sandbox
from apart_rebuild import answers_of, rebuilt
from submission import problem_of

CANVAS = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
MOODLE = ["Identifier", "Full name", "Email address"]
TOKENS = 12                           # a shingle's length, in tokens


def assignments(course: Path) -> list[str]:
    return sorted(path.name for path in (course / "source").glob("a*") if path.is_dir())


def tidy(course: Path, assignment: str) -> dict[str, str]:
    """Put each submission's notebook at submitted/NAME/ASSIGNMENT/ASSIGNMENT.ipynb -> problems, by student.

    Accepts names such as "a2_alignment (1).ipynb", and a folder inside the folder. What cannot be graded moves to
    unreadable/NAME/ASSIGNMENT, and nbgrader doesn't see it.
    """
    problems = {}
    for folder in sorted((course / "submitted").glob(f"*/{assignment}")):
        student, want = folder.parent.name, folder / f"{assignment}.ipynb"
        found = sorted((path for path in folder.rglob("*.ipynb") if path.is_file() and not path.is_symlink()
                        and re.fullmatch(rf"{assignment}[^/]*\.ipynb", path.name)
                        and not {"__MACOSX", ".ipynb_checkpoints"} & set(path.parts)),
                       key=lambda path: (path.name != want.name, len(path.parts), -path.stat().st_mtime))
        if found:
            why = problem_of(found[0])
        elif want.is_dir():
            why = f"{want.name} is a folder, without a notebook in it"
        else:
            names = ", ".join(sorted(path.name for path in folder.iterdir())) or "no files"
            why = f"no {want.name} among {names}"
        if why:
            problems[student] = f"{assignment}: {why}"
            away = course / "unreadable" / student / assignment
            shutil.rmtree(away, ignore_errors=True)
            away.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder, away)
        elif found[0] != want:
            notebook = found[0].read_bytes()
            if want.is_symlink():
                want.unlink()                                    # else what it points at would be overwritten
            elif want.is_dir():
                shutil.rmtree(want)                              # a folder with the notebook's name, around it
            want.write_bytes(notebook)
    kept = course / "problems.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    known[assignment] = problems
    kept.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return problems


def changed(course: Path, assignment: str) -> list[str]:
    """Students whose answers are not those that were graded. nbgrader asks for the time stamp alone."""
    students = []
    for path in sorted((course / "submitted").glob(f"*/{assignment}/{assignment}.ipynb")):
        student = path.parents[1].name
        graded = course / "autograded" / student / assignment / path.name
        if graded.exists():
            release, new, old = (json.loads(one.read_text(encoding="utf-8")) for one in (
                course / "release" / assignment / path.name, path, graded))
            if answers_of(rebuilt(release, new)) != answers_of(old):
                students.append(student)
    return students


def grade(course: Path, assignment: str, force: bool = False) -> None:
    """Autograde all submissions of an assignment that are new or have changed. One that stops nbgrader costs itself
    alone. force: those that were graded before, too, such as after a change of the tests.

    RuntimeError where submissions would run without a sandbox, or by a configuration that knows of none.
    """
    apart_sandbox.choose()
    if not (course / "nbgrader_config.py").is_file():
        raise RuntimeError(f"{course} is no course's folder: it has no nbgrader_config.py. `make course` writes one to "
                           "runs/course")
    if "configure(c)" not in (course / "nbgrader_config.py").read_text(encoding="utf-8"):
        raise RuntimeError(f"{course}/nbgrader_config.py was written by an earlier version, and would run submissions "
                           "beside their tests; move it away, call `make course`, and put its secret into the new one")
    for student, why in tidy(course, assignment).items():
        print(f"{student}: {why}")
    if not any((course / "submitted").glob(f"*/{assignment}")):
        print(f"{assignment}: nothing to grade in {course}/submitted")
        return
    for student in changed(course, assignment):
        print(f"{assignment}: {student} has other answers than those that were graded; they are graded again")
        shutil.rmtree(course / "autograded" / student / assignment)
    problem = course / "sandbox_problem.txt"
    problem.unlink(missing_ok=True)
    run = subprocess.run([sys.executable, "-m", "nbgrader", "autograde", assignment, *["--force"] * force], cwd=course,
                         text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    (course / f"{assignment}.log").write_text(run.stdout, encoding="utf-8")
    if problem.exists():
        print(f"{assignment}: {problem.read_text(encoding='utf-8').strip()}")
    handed = sorted(path.parent.name for path in (course / "submitted").glob(f"*/{assignment}"))
    lost = [student for student in handed if not (course / "autograded" / student / assignment).exists()]
    print(f"{assignment}: {len(handed) - len(lost)} of {len(handed)} graded; nbgrader's own words: {assignment}.log")
    for student in lost:
        print(f"{assignment}: nbgrader could not grade {student}")


def late_days(stamp: str, due: str) -> int:
    """Days begun after the deadline; both in UTC where they name no zone."""
    times = []
    for text in (stamp.replace(" UTC", "+00:00"), due):
        time = datetime.fromisoformat(text.strip())
        times.append(time if time.tzinfo else time.replace(tzinfo=timezone.utc))
    return max(0, math.ceil((times[0] - times[1]).total_seconds() / 86400))


def table(path: Path, key: str) -> dict[str, dict[str, str]]:
    """A CSV's rows by one of its columns; none where there is no such file."""
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        return {row[key].strip(): row for row in csv.DictReader(file) if row.get(key, "").strip()}


def roster(course: Path, folders: set[str]) -> dict[str, dict[str, str]]:
    """The roster's rows by the name of the student's folder: the platform's number or login, or the student's name."""
    found = {}
    if (course / "roster.csv").exists():
        with open(course / "roster.csv", newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                names = [(row.get(key) or "").removeprefix("Participant ").strip()
                         for key in ("ID", "Identifier", "SIS Login ID", "Student", "Full name")]
                if names := [name for name in names if name]:
                    found[next((name for name in names if name in folders), names[0])] = row
    return found


def scores(course: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Assignment -> student -> points, of how many: nbgrader's gradebook and the package's files."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    if (course / "gradebook.db").exists():
        from nbgrader.api import Gradebook

        with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
            for assignment in book.assignments:
                found[assignment.name] = {one.student.id: (one.score, one.max_score)
                                          for one in book.assignment_submissions(assignment.name)}
    package = {path.stem: json.loads(path.read_text(encoding="utf-8"))
               for path in sorted((course / "package" / "graded").glob("*.json"))}
    if package:
        found["package"] = {student: (one["points"], one["of"]) for student, one in package.items()}
    return found


def notes(course: Path) -> dict[str, list[str]]:
    """What went wrong, by student: files that cannot be read, packages that were refused."""
    said: dict[str, list[str]] = {}
    if (course / "problems.json").exists():
        for problems in json.loads((course / "problems.json").read_text(encoding="utf-8")).values():
            for student, why in problems.items():
                said.setdefault(student, []).append(why)
    for path in sorted((course / "package" / "graded").glob("*.json")):
        if why := json.loads(path.read_text(encoding="utf-8")).get("says"):
            said.setdefault(path.stem, []).append(f"package: {why}")
    for folder in sorted((course / "submitted").glob("*/a*")):
        if not (course / "autograded" / folder.parent.name / folder.name).exists():
            said.setdefault(folder.parent.name, []).append(f"{folder.name}: not graded yet")
    return said


def grades(course: Path) -> Path:
    """One table over notebooks and package, with the columns by which Canvas and Moodle know a student."""
    points, due, said = scores(course), table(course / "deadlines.csv", "assignment"), notes(course)
    folders = {*said, *(student for some in points.values() for student in some)}
    known = roster(course, folders)
    late: dict[tuple[str, str], int] = {}
    for stamp in (*(course / "submitted").glob("*/*/timestamp.txt"),
                  *(course / "package" / "submitted").glob("*/timestamp.txt")):
        package = stamp.parent.parent.parent.name == "package"
        name, student = ("package", stamp.parent.name) if package else (stamp.parent.name, stamp.parent.parent.name)
        if (when := due.get(name, {}).get("due", "").strip()):
            late[student, name] = late_days(stamp.read_text(encoding="utf-8"), when)
    full = {name: max((of for _, of in some.values()), default=0) for name, some in points.items()}
    columns = [*CANVAS, *MOODLE, *full, "Total", *(f"Late days {name}" for name in full), "Late days", "Notes"]
    path = course / "grades.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, columns, restval="")
        out.writeheader()
        out.writerow({"Student": "    Points Possible", **full, "Total": sum(full.values())})     # as Canvas writes it
        for student in sorted({*folders, *known}):
            row = {"Student": student}
            row |= {key: value for key, value in known.get(student, {}).items() if key in columns and value}
            own = {name: some[student][0] for name, some in points.items() if student in some}
            days = {f"Late days {name}": late[student, name] for name in full if (student, name) in late}
            out.writerow(row | own | days | {"Total": sum(own.values()), "Late days": sum(days.values()),
                                             "Notes": "; ".join(said.get(student, []))})
    return path


# similarity: what two submissions share that the release and most of the class do not

def shingles(source: str) -> set[tuple[str, ...]]:
    """Runs of tokens, with names, numbers and strings made alike: renaming and comments change nothing."""
    tokens = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.NAME:
                tokens.append(token.string if keyword.iskeyword(token.string) else "name")
            elif token.type in (tokenize.NUMBER, tokenize.STRING):
                tokens.append(tokenize.tok_name[token.type])
            elif token.type == tokenize.OP:
                tokens.append(token.string)
    except (tokenize.TokenError, IndentationError, SyntaxError):
        pass                                                     # what came before it counts
    return {tuple(tokens[i:i + TOKENS]) for i in range(len(tokens) - TOKENS + 1)}


def code_of(path: Path) -> str:
    """A notebook's code, or a package's, or nothing where it cannot be read."""
    try:
        if path.is_dir():
            return "\n".join(one.read_text(encoding="utf-8") for one in sorted(path.rglob("*.py"))
                             if one.name not in ("config.py", "conftest.py", "test_mine.py"))
        return "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
                         if cell["cell_type"] == "code"
                         and not cell["metadata"].get("nbgrader", {}).get("locked"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def pairs(codes: dict[str, str], release: str) -> list[tuple[str, str, float, int]]:
    """Two submissions each, the most alike first: the share of the smaller one's shingles that both have, and how many.

    What the release has doesn't count, nor does what more than half of a class of six or more has.
    """
    given = shingles(release)
    own = {student: shingles(code) - given for student, code in codes.items()}
    if len(own) >= 6:
        count: dict[tuple[str, ...], int] = {}
        for some in own.values():
            for one in some:
                count[one] = count.get(one, 0) + 1
        own = {student: {one for one in some if count[one] <= len(own) / 2} for student, some in own.items()}
    found = [(a, b, len(own[a] & own[b]) / max(1, min(len(own[a]), len(own[b]))), len(own[a] & own[b]))
             for a, b in itertools.combinations(sorted(own), 2)]
    return sorted(found, key=lambda pair: (-pair[2], -pair[3]))


def similarity(course: Path) -> Path:
    """Pairs of every assignment and of the package that are more alike than the class is, for a person to read."""
    path = course / "similarity.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["assignment", "one", "other", "share", "runs of tokens", "median of all pairs"])
        for name in [*assignments(course), "package"]:
            if name == "package":
                codes = {folder.name: code_of(folder) for folder in (course / name / "submitted").glob("*")
                         if folder.is_dir()}
                release = code_of(course / name / "release")
            else:
                codes = {folder.parent.name: code_of(folder / f"{name}.ipynb")
                         for folder in (course / "submitted").glob(f"*/{name}")}
                release = code_of(course / "release" / name / f"{name}.ipynb")
            found = pairs(codes, release)
            if found:
                middle = statistics.median(share for _, _, share, _ in found)
                out.writerows([name, a, b, f"{share:.2f}", shared, f"{middle:.2f}"]
                              for a, b, share, shared in found[:50] if shared and share >= middle)
    return path


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["tidy", "grade", "grades", "similarity"])
    parser.add_argument("course", type=lambda path: Path(path).resolve())
    parser.add_argument("assignments", nargs="*", help="all, where none is named")
    parser.add_argument("--force", action="store_true", help="grade again what was graded and has not changed")
    parser.add_argument("--unsafe", action="store_true", help=apart_sandbox.MEANS)
    asked = parser.parse_args(words)
    names = asked.assignments or assignments(asked.course)
    if asked.action == "tidy":
        found = [f"{student}: {why}" for name in names for student, why in tidy(asked.course, name).items()]
        print("\n".join(found) or "all readable")
    elif asked.action == "grade":
        if asked.unsafe:
            apart_sandbox.without()
        try:
            for name in names:
                grade(asked.course, name, asked.force)
        except RuntimeError as problem:
            raise SystemExit(str(problem)) from None
    else:
        print({"grades": grades, "similarity": similarity}[asked.action](asked.course))


if __name__ == "__main__":
    main(sys.argv[1:])
