"""Nothing is silent: with wrong input a command fails, or it names the cause in what it prints.

A case makes a folder in which something is wrong and calls commands; the last outcome is judged. Add one with
`@case("what is wrong", "words that the output must contain")`.
"""
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import Outcome, call
from minalbef.data import data_folder

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


@case("a pipe or a folder as an index", "is no index .not a file, but a folder, device or pipe")
def pipe_as_index(folder: Path) -> Outcome:
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "index")
    else:
        (folder / "index").mkdir()
    return call("search", "an apple", "--index", folder / "index", "--run", "tiny", "--out", folder / "a.png")


@case("a file as the folder of an export", "is a file; name a folder")
def export_to_file(folder: Path) -> Outcome:
    (folder / "onnx").write_text("mine")
    return call("export", "tiny", "--onnx", folder / "onnx")


@case("boxes that aren't numbers", "not four finite numbers")
def infinite_box(folder: Path) -> Outcome:
    image = data_folder() / "tiny" / "example.png"
    return call("predict", "grounding", "--image", image, "--text", "a rocket", "--run", "tiny", "--boxes",
                0, 0, "inf", 3, "--out", folder / "a.png")


@case("a float TIFF whose white is unknown", "between -1 and 1, so that white is unknown")
def unknown_white(folder: Path) -> Outcome:
    Image.fromarray(np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)).save(folder / "a.tif")
    return call("predict", "retrieval", "--image", folder / "a.tif", "--text", "a rocket", "--run", "tiny",
                "--out", folder / "a.png")


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_silent(name, tmp_path):
    pattern, make = CASES[name]
    outcome = make(tmp_path)
    assert re.search(pattern, outcome.text), f"exit status {outcome.status}, and it said:\n{outcome.text}"
