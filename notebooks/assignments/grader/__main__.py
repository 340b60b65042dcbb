"""`python -m grader check a2_alignment.ipynb`: what the grader runs, with the tests that
students see."""
import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# figures are drawn and not shown
os.environ.setdefault("MPLBACKEND", "Agg")


def main(words: list[str] | None = None) -> int:
    """Check what would be handed in, and print points and what is wrong -> 0 where all
    visible tests pass."""
    parser = argparse.ArgumentParser(prog="python -m grader", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="grade a notebook or a package as the "
                                              "course does, by its visible tests")
    check.add_argument("path", type=Path, help="such as package, or "
                       "assignments/a2_alignment/a2_alignment.ipynb")
    args = parser.parse_args(words)
    import check as checks  # here and not above: help and mistakes need no torch

    try:
        outcome = checks.check(args.path.resolve(), HERE / "release")
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 2
    print(checks.summary(outcome))
    return 1 if any(result.says for result in outcome.results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
