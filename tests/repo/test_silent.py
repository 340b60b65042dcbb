"""Nothing is silent: with wrong input a command fails, or it names the cause in what it prints.

A case makes a folder in which something is wrong and calls commands; the last outcome is judged. Add one with
`@case("what is wrong", "words that the output must contain")`.
"""
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runs
from captions import CAPTIONS, prepare_captions
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


SMALL = ["image_size=16", "image_width=32", "text_width=32", "image_heads=2", "text_heads=2",
         "embed_dim=16", "batch=8", "device=cpu", "epochs=1", "validate_every=0", "--quiet"]


@case("captions that pretraining cuts",
      r"100\.0% of the texts are cut, and \d+\.\d% of their words lost")
def cut_captions(folder: Path) -> Outcome:
    long = [f"{caption} with a hundred blue boats" for caption in CAPTIONS]
    data = prepare_captions(folder, long)
    return call("pretrain", *SMALL, "batch=4", "text_length=5", "--data", data, "--run", folder / "run")


@case("a batch of one, in which ITM has no negatives",
      "batch=1: pretrain draws negatives from the rows of a pass")
def batch_of_one(folder: Path) -> Outcome:
    data = prepare_captions(folder, CAPTIONS)
    outcome = call("pretrain", *SMALL, "batch=1", "--data", data, "--run", folder / "run")
    assert outcome.failed
    return outcome


@case("images that changed places after prepare",
      r"has changed since the set was prepared.* minalbef prepare coco")
def changed_images(folder: Path) -> Outcome:
    data = prepare_captions(folder, CAPTIONS)
    images = folder / "in-coco" / "train2014"
    shutil.copy(images / "1.png", images / "0.png")
    outcome = call("pretrain", *SMALL, "batch=4", "--data", data, "--run", folder / "run")
    assert outcome.failed
    return outcome


# --- runs

DEEP = "[" * 100_000 + "]" * 100_000
QUICK = ("--scenes", "40")            # of a search


@case("config.json with four heads in place of three",
      "image_heads was 3, and is 4 in config.json.*minalbef.save")
def other_heads(folder: Path) -> Outcome:
    run = runs.copy_of("tiny", folder)
    runs.change_json(run / "config.json", image_heads=4)
    return call("search", "a cat", "--run", run, *QUICK)


@case("config.json and tokenizer.json of another run",
      "model.safetensors was trained with other .* tokenizer was")
def other_files(folder: Path) -> Outcome:
    run = runs.copy_of("tiny", folder)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(runs.checkpoint.run_folder("tiny-paper") / name, run)
    return call("search", "a cat", "--run", run, *QUICK)


@case("weights that another program wrote", "doesn't say with which settings it was trained")
def bare_weights(folder: Path) -> Outcome:
    file = runs.copy_of("tiny", folder) / "model.safetensors"
    runs.save_file(runs.load_file(file), file)
    return call("search", "a cat", "--run", file.parent, *QUICK)


def put_and_search(folder: Path, name: str, text: str | None) -> Outcome:
    """Search a run whose file has another text, None for a pipe, which nobody writes to."""
    run = runs.copy_of("tiny", folder)
    runs.put(run / name, text)
    images = runs.photographs(folder / "images")
    words = ["--images", images] if "features" in name else QUICK
    with runs.at_most(60):
        return call("search", "a cat", "--run", run, *words)


OTHER_REPORT = runs.checkpoint.run_folder("tiny-paper") / "report.json"
FEATURES = "images.features.safetensors"
SPOILT = {
    "report.json of another kind": ("report.json", "[]", "is damaged.*minalbef evaluate"),
    "a report's weight that is no number": (
        "report.json", '{"rerank_plus_weight": NaN}', "(damaged|has schema).*minalbef evaluate"),
    "report.json of other weights": (
        "report.json", OTHER_REPORT.read_text(encoding="utf-8"), "of other weights than the run"),
    "a deep config.json": ("config.json", DEEP, "config.json is damaged"),
    "words.json of another kind": ("words.json", "3", "words.json is damaged"),
    "a pipe in place of weights": ("model.safetensors", None, "damaged .*it is no file"),
    "features of another kind": (FEATURES, "{}", "features.safetensors is damaged .*; remove it"),
}
for title, (name, text, pattern) in SPOILT.items():
    @case(title, pattern)
    def spoilt_file(folder: Path, name: str = name, text: str | None = text) -> Outcome:
        return put_and_search(folder, name, text)


@case("trained_on.json of other weights", "trained_on.json is the record of other weights")
def other_record(folder: Path) -> Outcome:
    run = runs.copy_of("tiny", folder)
    record = {"pretrained": {}, "tuned": {}, "weights": "of others"}
    runs.put(run / "trained_on.json", json.dumps(record))
    return call("evaluate", run, "--data", prepare_captions(folder, CAPTIONS) / "train")


@case("a set whose name leads out of the run's folder",
      r"'../../../x' can't name a folder of results|'set'")
def set_elsewhere(folder: Path) -> Outcome:
    data = prepare_captions(folder, CAPTIONS)
    runs.change_json(data / "about.json", set="../../../x")
    outcome = call("evaluate", runs.copy_of("tiny", folder), "--data", data / "train")
    assert not list(folder.rglob("x-train"))
    return outcome


# --- rest

@case("a list flag without a value", "--data has no value")
def empty_list(folder: Path) -> Outcome:
    return call("pretrain", "--data", "--run", folder / "run")


@case("an option that doesn't exist", "no option 'bath' .did you mean 'batch'")
def unknown_option(folder: Path) -> Outcome:
    return call("pretrain", "bath=3", "--run", folder / "run")


@case("a file as the folder of an export", "is a file; name a folder")
def export_to_file(folder: Path) -> Outcome:
    (folder / "onnx").write_text("mine")
    return call("export", "tiny", "--onnx", folder / "onnx")


@case("boxes that aren't numbers", "not four finite numbers")
def infinite_box(folder: Path) -> Outcome:
    image = data_folder() / "tiny" / "example.png"
    return call("predict", "grounding", "--image", image, "--text", "a rocket", "--run", "tiny",
                "--boxes",
                0, 0, "inf", 3, "--out", folder / "a.png")


@case("a float TIFF whose white is unknown", "between -1 and 1, so that white is unknown")
def unknown_white(folder: Path) -> Outcome:
    Image.fromarray(np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)).save(folder / "a.tif")
    return call("predict", "retrieval", "--image", folder / "a.tif", "--text", "a rocket",
                "--run", "tiny", "--out", folder / "a.png")


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_silent(name, tmp_path):
    pattern, make = CASES[name]
    outcome = make(tmp_path)
    message = f"exit status {outcome.status}, and it said:\n{outcome.text}"
    assert re.search(pattern, outcome.text), message
