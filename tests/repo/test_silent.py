"""Nothing is silent: with wrong input a command fails, or it names the cause in what it prints.

A case makes a folder in which something is wrong and calls commands; the last outcome is judged. Add one with
`@case("what is wrong", "words that the output must contain")`.
"""
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


# --- match

LONG = " ".join(["and a hundred small blue boats", *(f"with {n} sails" for n in range(9))])          # 33 words


def boats(folder: Path) -> Path:
    """Forty images of two captions, which differ only after 33 words, prepared."""
    for split, count in (("train", 30), ("test", 10)):
        (folder / "own" / split).mkdir(parents=True)
        for i in range(count):
            noise = np.random.default_rng([i, count]).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).save(folder / "own" / split / f"{i}.png")
            (folder / "own" / split / f"{i}.txt").write_text(f"{LONG} number {i % 2}", encoding="utf-8")
    made = call("prepare", "pairs", "--from", folder / "own", "--out", folder / "prepared")
    assert not made.failed, made.text
    return folder / "prepared" / "pairs"


CUT = r"100\.0% of the texts are cut, and \d+\.\d% of their words lost"
SMALL = ["image_size=16", "image_width=32", "text_width=32", "image_heads=2", "text_heads=2", "embed_dim=16", "batch=8",
         "device=cpu", "epochs=1", "validate_every=0", "--quiet"]


@case("captions that pretraining cuts", CUT)
def cut_in_pretraining(folder: Path) -> Outcome:
    return call("pretrain", *SMALL, "--data", boats(folder), "--run", folder / "run")


@case("captions that an evaluation cuts", CUT)
def cut_in_evaluation(folder: Path) -> Outcome:
    return call("evaluate", "tiny", "--data", boats(folder) / "test", "--out", folder / "report")


@case("captions that training cut, for the doctor", CUT)
def cut_for_the_doctor(folder: Path) -> Outcome:
    return call("doctor", "tiny", "--data", boats(folder))


@case("a batch of one, in which ITM has no negatives", "batch=1: pretrain draws negatives from the rows of a pass")
def batch_of_one(folder: Path) -> Outcome:
    outcome = call("pretrain", *SMALL, "batch=1", "--data", boats(folder), "--run", folder / "run")
    assert outcome.failed
    return outcome


@case("passes of one row, of a larger batch", "batch=4: .* take at least batch=8")
def passes_of_one(folder: Path) -> Outcome:
    outcome = call("pretrain", *SMALL, "batch=4", "accumulate=4", "--data", boats(folder), "--run", folder / "run")
    assert outcome.failed
    return outcome


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_silent(name, tmp_path):
    pattern, make = CASES[name]
    outcome = make(tmp_path)
    assert re.search(pattern, outcome.text), f"exit status {outcome.status}, and it said:\n{outcome.text}"
