"""One table of grades for Canvas and Moodle, with late days and what went wrong; a similarity
report.

`python report.py tidy COURSE` puts submissions where nbgrader expects them and names those that
can't be graded; `grade COURSE ASSIGNMENT` tidies, then calls nbgrader on those that are new or
have changed (`--force`: on all; `--unsafe`: without a sandbox); `grades COURSE` writes
grades.csv; `similarity COURSE` writes similarity.csv. Optional files in the course's folder:
roster.csv, with Canvas's or Moodle's columns and one row a student, and deadlines.csv, with the
columns assignment and due (2026-11-30 23:59).
"""
import argparse
import csv
import io
import itertools
import json
import keyword
import math
import shutil
import statistics
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import apart_sandbox
from apart_rebuild import answers_of, rebuilt
from submission import load_json, problem_of

CANVAS = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
MOODLE = ["Identifier", "Full name", "Email address"]
TOKENS = 12                           # a shingle's length, in tokens


def assignments(course: Path) -> list[str]:
    return sorted(path.name for path in (course / "source").glob("a*") if path.is_dir())


def tidy(course: Path, assignment: str) -> dict[str, str]:
    """Put each submission's notebook at submitted/NAME/ASSIGNMENT/ASSIGNMENT.ipynb -> problems,
    by student.

    Accepts names such as "a2_alignment (1).ipynb", and a folder inside the folder. What cannot
    be graded moves to unreadable/NAME/ASSIGNMENT, and nbgrader doesn't see it.
    """
    problems = {}
    for folder in sorted((course / "submitted").glob(f"*/{assignment}")):
        student = folder.parent.name
        want = folder / f"{assignment}.ipynb"
        notebooks = notebooks_of(folder, assignment)
        if notebooks:
            why = problem_of(notebooks[0])
        elif want.is_dir():
            why = f"{want.name} is a folder, without a notebook in it"
        else:
            names = sorted(path.name for path in folder.iterdir())
            why = f"no {want.name} among {', '.join(names) or 'no files'}"
        if why:
            problems[student] = f"{assignment}: {why}"
            away = course / "unreadable" / student / assignment
            shutil.rmtree(away, ignore_errors=True)
            away.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder, away)
        elif notebooks[0] != want:
            notebook = notebooks[0].read_bytes()
            if want.is_symlink():
                want.unlink()        # else what it points at would be overwritten
            elif want.is_dir():
                shutil.rmtree(want)  # a folder with the notebook's name, around it
            want.write_bytes(notebook)
    record = course / "problems.json"
    by_assignment = load_json(record) if record.exists() else {}
    by_assignment[assignment] = problems
    record.write_text(json.dumps(by_assignment, indent=1) + "\n", encoding="utf-8")
    return problems


def notebooks_of(folder: Path, assignment: str) -> list[Path]:
    """An assignment's notebooks in a submission's folder, the likeliest first."""
    notebooks = []
    for path in folder.rglob(f"{assignment}*.ipynb"):
        hidden = {"__MACOSX", ".ipynb_checkpoints"} & set(path.parts)
        if path.is_file() and not path.is_symlink() and not hidden:
            notebooks.append(path)

    def preference(path: Path) -> tuple[bool, int, float]:
        named = path.name == f"{assignment}.ipynb"
        return not named, len(path.parts), -path.stat().st_mtime

    return sorted(notebooks, key=preference)


def changed(course: Path, assignment: str) -> list[str]:
    """Students whose answers are not those that were graded. nbgrader asks for the time
    stamp alone."""
    students = []
    for path in sorted((course / "submitted").glob(f"*/{assignment}/{assignment}.ipynb")):
        student = path.parents[1].name
        graded = course / "autograded" / student / assignment / path.name
        if graded.exists():
            release = load_json(course / "release" / assignment / path.name)
            new = rebuilt(release, load_json(path))
            if answers_of(new) != answers_of(load_json(graded)):
                students.append(student)
    return students


def grade(course: Path, assignment: str, force: bool = False) -> None:
    """Autograde all submissions of an assignment that are new or have changed. One that stops
    nbgrader costs itself alone. force: those that were graded before, too, such as after a
    change of the tests.

    RuntimeError where submissions would run without a sandbox, or by a configuration that knows
    of none.
    """
    apart_sandbox.choose()
    config = course / "nbgrader_config.py"
    if not config.is_file():
        raise RuntimeError(f"{course} is no course's folder: it has no {config.name}. "
                           "`make course` writes one to runs/course")
    if "configure(c)" not in config.read_text(encoding="utf-8"):
        raise RuntimeError(f"{config} was written by an earlier version, and would run "
                           "submissions beside their tests; move it away, call `make "
                           "course`, and put its secret into the new one")
    for student, why in tidy(course, assignment).items():
        print(f"{student}: {why}")
    folders = sorted((course / "submitted").glob(f"*/{assignment}"))
    if not folders:
        print(f"{assignment}: nothing to grade in {course}/submitted")
        return
    for student in changed(course, assignment):
        print(f"{assignment}: {student} has other answers than those that were "
              "graded; they are graded again")
        shutil.rmtree(course / "autograded" / student / assignment)
    problem = course / "sandbox_problem.txt"
    problem.unlink(missing_ok=True)
    words = [sys.executable, "-m", "nbgrader", "autograde", assignment]
    if force:
        words.append("--force")
    run = subprocess.run(words, cwd=course, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    (course / f"{assignment}.log").write_text(run.stdout, encoding="utf-8")
    if problem.exists():
        print(f"{assignment}: {problem.read_text(encoding='utf-8').strip()}")
    failures = []
    for folder in folders:
        student = folder.parent.name
        if not (course / "autograded" / student / assignment).exists():
            failures.append(student)
    print(f"{assignment}: {len(folders) - len(failures)} of {len(folders)} graded; "
          f"nbgrader's own words: {assignment}.log")
    for student in failures:
        print(f"{assignment}: nbgrader could not grade {student}")


def late_days(stamp: str, due: str) -> int:
    """Days begun after the deadline; both in UTC where they name no zone."""
    late = _time(stamp.replace(" UTC", "+00:00")) - _time(due)
    return max(0, math.ceil(late.total_seconds() / 86400))


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text.strip())
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def table(path: Path) -> list[dict[str, str]]:
    """A CSV's rows; none where there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def roster(course: Path, folders: set[str]) -> dict[str, dict[str, str]]:
    """The roster's rows by the name of the student's folder: the platform's number or login,
    or the student's name."""
    rows = {}
    for row in table(course / "roster.csv"):
        names = []
        for key in ("ID", "Identifier", "SIS Login ID", "Student", "Full name"):
            name = (row.get(key) or "").removeprefix("Participant ").strip()
            if name:
                names.append(name)
        if names:
            folder = next((name for name in names if name in folders), names[0])
            rows[folder] = row
    return rows


def scores(course: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Assignment -> student -> points, of how many: nbgrader's gradebook and the package's
    files."""
    points: dict[str, dict[str, tuple[float, float]]] = {}
    if (course / "gradebook.db").exists():
        from nbgrader.api import Gradebook

        with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
            for assignment in book.assignments:
                by_student = points[assignment.name] = {}
                for handed_in in book.assignment_submissions(assignment.name):
                    by_student[handed_in.student.id] = (handed_in.score, handed_in.max_score)
    for path in sorted((course / "package" / "graded").glob("*.json")):
        graded = load_json(path)
        points.setdefault("package", {})[path.stem] = (graded["points"], graded["of"])
    return points


def notes(course: Path) -> dict[str, list[str]]:
    """What went wrong, by student: files that cannot be read, packages that were refused."""
    remarks = defaultdict(list)
    if (course / "problems.json").exists():
        for problems in load_json(course / "problems.json").values():
            for student, why in problems.items():
                remarks[student].append(why)
    for path in sorted((course / "package" / "graded").glob("*.json")):
        if why := load_json(path).get("says"):
            remarks[path.stem].append(f"package: {why}")
    for folder in sorted((course / "submitted").glob("*/a*")):
        student = folder.parent.name
        if not (course / "autograded" / student / folder.name).exists():
            remarks[student].append(f"{folder.name}: not graded yet")
    return dict(remarks)


def delays(course: Path) -> dict[str, dict[str, int]]:
    """Student -> assignment -> late days, where both a deadline and a time stamp are known."""
    due = {}
    for row in table(course / "deadlines.csv"):
        due[row.get("assignment")] = (row.get("due") or "").strip()
    stamps = defaultdict(dict)
    for path in (course / "submitted").glob("*/*/timestamp.txt"):
        stamps[path.parents[1].name][path.parent.name] = path
    for path in (course / "package" / "submitted").glob("*/timestamp.txt"):
        stamps[path.parent.name]["package"] = path
    days = defaultdict(dict)
    for student, by_assignment in stamps.items():
        for name, path in by_assignment.items():
            if due.get(name):
                stamp = path.read_text(encoding="utf-8")
                days[student][name] = late_days(stamp, due[name])
    return days


def grades(course: Path) -> Path:
    """One table over notebooks and package, with the columns by which Canvas and Moodle know
    a student."""
    points = scores(course)
    remarks = notes(course)
    days = delays(course)
    folders = set(remarks).union(*points.values())
    rows = roster(course, folders)
    full = {}
    for name, by_student in points.items():
        full[name] = max((of for _, of in by_student.values()), default=0)
    late = [f"Late days {name}" for name in full]
    columns = [*CANVAS, *MOODLE, *full, "Total", *late, "Late days", "Notes"]
    path = course / "grades.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, columns, restval="")
        out.writeheader()
        first = {"Student": "    Points Possible", "Total": sum(full.values())}
        out.writerow(first | full)                       # as Canvas writes it
        for student in sorted({*folders, *rows}):
            row = {"Student": student, "Total": 0, "Late days": 0}
            for key, value in rows.get(student, {}).items():
                if key in columns and value:
                    row[key] = value
            for name, by_student in points.items():
                if student in by_student:
                    row[name] = by_student[student][0]
                    row["Total"] += row[name]
                if name in days[student]:
                    row[f"Late days {name}"] = days[student][name]
                    row["Late days"] += days[student][name]
            row["Notes"] = "; ".join(remarks.get(student, []))
            out.writerow(row)
    return path


# similarity: what two submissions share that the release and most of the class do not

def shingles(source: str) -> set[tuple[str, ...]]:
    """Runs of tokens, with names, numbers and strings made alike: renaming and comments
    change nothing."""
    tokens = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.NAME:
                tokens.append(token.string if keyword.iskeyword(token.string)
                              else "name")
            elif token.type in (tokenize.NUMBER, tokenize.STRING):
                tokens.append(tokenize.tok_name[token.type])
            elif token.type == tokenize.OP:
                tokens.append(token.string)
    except (tokenize.TokenError, IndentationError, SyntaxError):
        # what came before it counts
        pass
    return {tuple(tokens[i:i + TOKENS]) for i in range(len(tokens) - TOKENS + 1)}


def code_of(path: Path) -> str:
    """A notebook's code, or a package's, or nothing where it cannot be read."""
    parts = []
    try:
        if path.is_dir():
            for module in sorted(path.rglob("*.py")):
                if module.name not in ("config.py", "conftest.py", "test_mine.py"):
                    parts.append(module.read_text(encoding="utf-8"))
        else:
            for cell in load_json(path)["cells"]:
                locked = cell["metadata"].get("nbgrader", {}).get("locked")
                if cell["cell_type"] == "code" and not locked:
                    parts.append("".join(cell["source"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    return "\n".join(parts)


class Pair(NamedTuple):
    """Two submissions: the share of the smaller one's shingles that both have, and how many."""

    student: str
    classmate: str
    share: float
    number: int


def pairs(codes: dict[str, str], release: str) -> list[Pair]:
    """All pairs of submissions, the most alike first.

    What the release has doesn't count, nor does what more than half of a class of six or more
    has.
    """
    public = shingles(release)
    unique = {student: shingles(code) - public for student, code in codes.items()}
    if len(unique) >= 6:
        count = Counter(itertools.chain(*unique.values()))
        common = {run for run in count if count[run] > len(unique) / 2}
        for runs in unique.values():
            runs -= common
    rows = []
    for a, b in itertools.combinations(sorted(unique), 2):
        both = len(unique[a] & unique[b])
        smaller = min(len(unique[a]), len(unique[b]))
        rows.append(Pair(a, b, both / max(1, smaller), both))
    return sorted(rows, key=lambda pair: (-pair.share, -pair.number))


def submissions(course: Path, name: str) -> tuple[dict[str, str], str]:
    """Students' code of an assignment, or of the package, and the release's."""
    codes = {}
    if name == "package":
        for folder in (course / name / "submitted").glob("*"):
            if folder.is_dir():
                codes[folder.name] = code_of(folder)
        return codes, code_of(course / name / "release")
    for folder in (course / "submitted").glob(f"*/{name}"):
        codes[folder.parent.name] = code_of(folder / f"{name}.ipynb")
    return codes, code_of(course / "release" / name / f"{name}.ipynb")


def similarity(course: Path) -> Path:
    """Pairs of every assignment and of the package that are more alike than the class is,
    for a person to read."""
    path = course / "similarity.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["assignment", "one", "other", "share", "runs of tokens",
                      "median of all pairs"])
        for name in [*assignments(course), "package"]:
            rows = pairs(*submissions(course, name))
            middle = statistics.median(row.share for row in rows) if rows else 0
            for a, b, share, number in rows[:50]:
                if number and share >= middle:
                    out.writerow([name, a, b, f"{share:.2f}", number, f"{middle:.2f}"])
    return path


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["tidy", "grade", "grades", "similarity"])
    parser.add_argument("course", type=lambda path: Path(path).resolve())
    parser.add_argument("assignments", nargs="*", help="all, where none is named")
    parser.add_argument("--force", action="store_true",
                        help="grade again what was graded and has not changed")
    parser.add_argument("--unsafe", action="store_true", help=apart_sandbox.MEANS)
    args = parser.parse_args(words)
    names = args.assignments or assignments(args.course)
    if args.action == "tidy":
        for name in names:
            problems = tidy(args.course, name)
            for student, why in problems.items():
                print(f"{student}: {why}")
            if not problems:
                print(f"{name}: all readable")
    elif args.action == "grade":
        if args.unsafe:
            apart_sandbox.without()
        try:
            for name in names:
                grade(args.course, name, args.force)
        except RuntimeError as problem:
            raise SystemExit(str(problem)) from None
    else:
        print({"grades": grades, "similarity": similarity}[args.action](args.course))


if __name__ == "__main__":
    main(sys.argv[1:])
