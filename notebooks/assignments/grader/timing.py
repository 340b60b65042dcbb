"""How long a class takes: `python timing.py a2_alignment 30` grades so many submissions and prints the seconds."""
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import apart_sandbox  # noqa: E402
import course  # noqa: E402
import report  # noqa: E402


def submissions(assignment: str, number: int):
    """Notebooks of a class, by turns: all right, one function wrong, another right answer, blank."""
    cells = course.read(course.HERE / assignment)
    names = itertools.cycle(course.answers(cells))
    for i in range(number):
        name = next(names)
        wrong, right, _ = course.variants(cells, name)
        blank = {one: course.blank(course.find(cells, "answer", one).source) for one in course.answers(cells)}
        yield course.notebook(cells, [{}, {name: next(iter(wrong.values()))}, {name: next(iter(right.values()))},
                                      blank][i % 4])


def main(assignment: str, number: int) -> None:
    apart_sandbox.trust_ours()
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        course.write(at)
        course.nbgrader(at, "generate_assignment", assignment)
        for i, made in enumerate(submissions(assignment, number)):
            submitted = at / "submitted" / f"student{i:02}" / assignment
            submitted.mkdir(parents=True)
            course.save(submitted / f"{assignment}.ipynb", made)
        start, before = time.monotonic(), os.times()
        report.grade(at, assignment)
        used = sum(os.times()[2:4]) - sum(before[2:4])
        points = [round(has) for has, _ in report.scores(at)[assignment].values()]
        print(f"{number} submissions of {assignment}: {used:.0f} s of processor time, {time.monotonic() - start:.0f} s "
              f"by the clock; points {min(points)} to {max(points)}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
