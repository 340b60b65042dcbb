"""One table of grades for Canvas and Moodle, with late days and what went wrong; a similarity report.

`python report.py tidy COURSE` puts submissions where nbgrader expects them and names those that can't be graded;
`grade COURSE ASSIGNMENT` tidies, then calls nbgrader on all of them; `grades COURSE` writes grades.csv; `similarity
COURSE` writes similarity.csv. Optional files in the course's folder: roster.csv, with Canvas's or Moodle's columns and
one row a student, and deadlines.csv, with the columns assignment and due (2026-11-30 23:59).
"""
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

CANVAS = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
MOODLE = ["Identifier", "Full name", "Email address"]
LARGEST = 16 << 20                    # bytes of a notebook
TOKENS = 12                           # a shingle's length, in tokens


def assignments(course: Path) -> list[str]:
    return sorted(path.name for path in (course / "source").glob("a*") if path.is_dir())


def problem_of(path: Path) -> str:
    """Why a notebook cannot be graded; nothing where it can."""
    try:
        if path.stat().st_size > LARGEST:
            return f"{path.name} is larger than {LARGEST >> 20} megabytes"
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        ids = [cell["metadata"].get("nbgrader", {}).get("grade_id", "") for cell in cells]
        [str(cell["cell_type"]) + "".join(cell["source"]) for cell in cells]
    except UnicodeDecodeError:
        return f"{path.name} is not UTF-8 text"
    except OSError as problem:
        return f"{path.name} cannot be read: {problem}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{path.name} is not a notebook"
    if not any(name.startswith("tests-") for name in ids):
        return f"{path.name} is not the assignment's notebook: it has none of its tests"
    return ""


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
        why = problem_of(found[0]) if found else (
            f"no {assignment}.ipynb among " + (", ".join(sorted(path.name for path in folder.iterdir())) or "no files"))
        if why:
            problems[student] = f"{assignment}: {why}"
            away = course / "unreadable" / student / assignment
            shutil.rmtree(away, ignore_errors=True)
            away.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder, away)
        elif found[0] != want:
            shutil.copy2(found[0], want)
    kept = course / "problems.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    known[assignment] = problems
    kept.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return problems


def grade(course: Path, assignment: str) -> None:
    """Autograde all submissions of an assignment. One that stops nbgrader costs itself alone."""
    for why in tidy(course, assignment).values():
        print(why)
    run = subprocess.run([sys.executable, "-m", "nbgrader", "autograde", assignment], cwd=course, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    (course / f"{assignment}.log").write_text(run.stdout, encoding="utf-8")
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


if __name__ == "__main__":
    action, where, *more = sys.argv[1:]
    where = Path(where).resolve()
    if action == "tidy":
        found = [why for name in more or assignments(where) for why in tidy(where, name).values()]
        print("\n".join(found) or "all readable")
    elif action == "grade":
        for assignment in more or assignments(where):
            grade(where, assignment)
    else:
        print({"grades": grades, "similarity": similarity}[action](where))
