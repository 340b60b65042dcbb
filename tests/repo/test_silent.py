"""Nothing is silent: with wrong input a command fails, or it names the cause in what it prints.

A case makes a folder in which something is wrong and calls commands; the last outcome is judged. Add one with
`@case("what is wrong", "words that the output must contain")`.
"""
import io
import os
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import pytest
import report

from commands import Outcome, call

Case = Callable[[Path], Outcome]
CASES: dict[str, tuple[str, Case]] = {}


def case(name: str, pattern: str) -> Callable[[Case], Case]:
    """Register a case. pattern: a regular expression for the words that name the cause."""
    def register(make: Case) -> Case:
        assert name not in CASES, f"two cases are called {name!r}"
        CASES[name] = pattern, make
        return make
    return register


@case("a set that doesn't exist", "no set 'nope'")
def unknown_set(folder: Path) -> Outcome:
    return call("prepare", "nope", "--from", folder)


# --- course

def hand_in(folder: Path) -> Path:
    """Where ada's notebook belongs."""
    at = folder / "submitted" / "ada" / "a2_alignment"
    at.mkdir(parents=True)
    return at / "a2_alignment.ipynb"


def grade(folder: Path) -> Outcome:
    """`python report.py grade COURSE a2_alignment`."""
    (folder / "nbgrader_config.py").write_text("configure(c)", encoding="utf-8")
    with mock.patch.dict(os.environ, MINALBEF_UNSAFE="1"), redirect_stdout(io.StringIO()) as said:
        report.main(["grade", str(folder), "a2_alignment"])
    return Outcome(0, said.getvalue())


@case("a submission that isn't JSON", "ada: .*is not a notebook")
def broken_submission(folder: Path) -> Outcome:
    hand_in(folder).write_text('{"cells": [', encoding="utf-8")
    return grade(folder)


@case("a submission in an older notebook format", "ada: .*has nbformat 3")
def older_submission(folder: Path) -> Outcome:
    hand_in(folder).write_text('{"nbformat": 3, "worksheets": []}', encoding="utf-8")
    return grade(folder)


@case("a submission that is huge", "ada: .*larger than 16 megabytes")
def huge_submission(folder: Path) -> Outcome:
    hand_in(folder).write_text(" " * (17 << 20), encoding="utf-8")
    return grade(folder)


@case("a folder in a submission's place", "ada: .*is a folder")
def folder_for_submission(folder: Path) -> Outcome:
    hand_in(folder).mkdir()
    return grade(folder)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_silent(name, tmp_path):
    pattern, make = CASES[name]
    outcome = make(tmp_path)
    assert re.search(pattern, outcome.text), f"exit status {outcome.status}, and it said:\n{outcome.text}"
