"""Nothing is silent: with wrong input a command fails, or it names the cause in what it prints.

A case makes a folder in which something is wrong and calls commands; the last outcome is judged. Add one with
`@case("what is wrong", "words that the output must contain")`.
"""
import re
from collections.abc import Callable
from pathlib import Path

import pytest

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


# --- rest


@case("a list flag without a value", "--data has no value")
def empty_list(folder: Path) -> Outcome:
    return call("pretrain", "--data", "--run", folder / "run")


@case("two sets, of which the first doesn't exist", "no prepared set|nope1")
def first_of_two(folder: Path) -> Outcome:
    return call("pretrain", "--data", folder / "nope1", "--data", folder / "nope2", "--run", folder / "run")


@case("an option that doesn't exist", "no option has 'nope'")
def unknown_option(folder: Path) -> Outcome:
    return call("options", "nope")


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_silent(name, tmp_path):
    pattern, make = CASES[name]
    outcome = make(tmp_path)
    assert re.search(pattern, outcome.text), f"exit status {outcome.status}, and it said:\n{outcome.text}"
