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
import torch
from PIL import Image

import runs
from captions import CAPTIONS, SIZES, prepare_captions
from commands import Outcome, call
from minalbef import load
from minalbef.data import data_folder
from minalbef.pretrain import Pretrain
from minalbef.recipes import pretrain

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

# 33 words
LONG = " ".join(["and a hundred small blue boats", *(f"with {n} sails" for n in range(9))])


def boats(folder: Path) -> Path:
    """Forty images of two captions, which differ only after 33 words, prepared."""
    for split, count in (("train", 30), ("test", 10)):
        (folder / "own" / split).mkdir(parents=True)
        for i in range(count):
            noise = np.random.default_rng([i, count]).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).save(folder / "own" / split / f"{i}.png")
            (folder / "own" / split / f"{i}.txt").write_text(f"{LONG} number {i % 2}",
                                                             encoding="utf-8")
    outcome = call("prepare", "pairs", "--from", folder / "own", "--out", folder / "prepared")
    assert not outcome.failed, outcome.text
    return folder / "prepared" / "pairs"


CUT = r"100\.0% of the texts are cut, and \d+\.\d% of their words lost"
SMALL = ["image_size=16", "image_width=32", "text_width=32", "image_heads=2", "text_heads=2",
         "embed_dim=16", "batch=8", "device=cpu", "epochs=1", "validate_every=0", "--quiet"]


@case("captions that pretraining cuts", CUT)
def cut_in_pretraining(folder: Path) -> Outcome:
    return call("pretrain", *SMALL, "--data", boats(folder), "--run", folder / "run")


@case("captions that an evaluation cuts", CUT)
def cut_in_evaluation(folder: Path) -> Outcome:
    return call("evaluate", "tiny", "--data", boats(folder) / "test", "--out", folder / "report")


@case("captions that training cut, for the doctor", CUT)
def cut_for_the_doctor(folder: Path) -> Outcome:
    return call("doctor", "tiny", "--data", boats(folder))


@case("a batch of one, in which ITM has no negatives",
      "batch=1: pretrain draws negatives from the rows of a pass")
def batch_of_one(folder: Path) -> Outcome:
    outcome = call("pretrain", *SMALL, "batch=1", "--data", boats(folder), "--run", folder / "run")
    assert outcome.failed
    return outcome


@case("passes of one row, of a larger batch", "batch=4: .* take at least batch=8")
def passes_of_one(folder: Path) -> Outcome:
    outcome = call("pretrain", *SMALL, "batch=4", "accumulate=4", "--data", boats(folder),
                   "--run", folder / "run")
    assert outcome.failed
    return outcome


# --- manifest

def drawings(folder: Path, count: int = 12) -> Path:
    """Different images in a folder `own`, with captions in a table: -> the folder."""
    (folder / "own").mkdir(parents=True)
    rows = ["file,caption"]
    for i in range(count):
        noise = np.random.default_rng([i, 7]).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(noise).save(folder / "own" / f"{i}.png")
        rows.append(f"{i}.png,a drawing number {i}")
    (folder / "own" / "captions.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "own"


def prepare_own(folder: Path) -> Outcome:
    return call("prepare", "pairs", "--from", folder / "own", "--out", folder / "prepared")


def rotate_images(folder: Path, by: int = 1) -> None:
    """Each image's file gets the bytes of the next one."""
    paths = sorted(folder.glob("*.png"))
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents[by:] + contents[:by]):
        path.write_bytes(content)


CHANGED = r"has changed since the set was prepared.* minalbef prepare pairs"


@case("images that changed places after prepare, in training", CHANGED)
def changed_in_training(folder: Path) -> Outcome:
    drawings(folder)
    prepare_own(folder)
    rotate_images(folder / "own")
    outcome = call("pretrain", *SMALL, "batch=4", "--data", folder / "prepared" / "pairs",
                   "--run", folder / "run")
    assert outcome.failed
    return outcome


@case("images that changed places after prepare, in evaluation", CHANGED)
def changed_in_evaluation(folder: Path) -> Outcome:
    drawings(folder, 40)
    prepare_own(folder)
    rotate_images(folder / "own")
    outcome = call("evaluate", "tiny", "--data", folder / "prepared" / "pairs" / "train",
                   "--out", folder / "out")
    assert outcome.failed
    return outcome


@case("images that changed places after prepare, for the doctor", CHANGED)
def changed_for_the_doctor(folder: Path) -> Outcome:
    drawings(folder, 40)
    prepare_own(folder)
    rotate_images(folder / "own")
    outcome = call("doctor", "tiny", "--data", folder / "prepared" / "pairs")
    assert outcome.failed
    return outcome


# --- runs

DEEP = "[" * 100_000 + "]" * 100_000
QUICK = ("--scenes", "40")            # of a search


@case("config.json with four heads in place of three",
      "image_heads: 3 there, 4 here.*minalbef.save")
def other_heads(folder: Path) -> Outcome:
    run = runs.copy_of("tiny", folder)
    runs.change_json(run / "config.json", image_heads=4)
    return call("search", "a cat", "--run", run, *QUICK)


@case("images opened another way than in training", "upright: True there, False here")
def other_opening(folder: Path) -> Outcome:
    run = runs.copy_of("tiny", folder)
    runs.change_json(run / "config.json", upright=False)
    return call("search", "a cat", "--run", run, *QUICK)


@case("config.json and tokenizer.json of another run",
      "model.safetensors was trained with other .*tokenizer: ")
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


def search_with_report(folder: Path, text: str | None) -> Outcome:
    run = runs.copy_of("tiny", folder)
    runs.put(run / "report.json", text)
    return call("search", "a cat", "--run", run, *QUICK)


for text in ("{}", "[]", DEEP):
    @case(f"report.json is {text[:20]}", r"report.json (is damaged|has schema).*minalbef evaluate")
    def odd_report(folder: Path, text: str = text) -> Outcome:
        return search_with_report(folder, text)


for weight in (-5, float("nan"), "x"):
    @case(f"the search's weight is {weight!r}",
          "report.json is damaged.*rerank_plus_weight.*number.*minalbef evaluate")
    def odd_weight(folder: Path, weight: object = weight) -> Outcome:
        report = runs.checkpoint.run_folder("tiny") / "report.json"
        text = json.dumps(json.loads(report.read_text(encoding="utf-8"))
                          | {"rerank_plus_weight": weight})
        return search_with_report(folder, text)


@case("report.json of other weights",
      "report.json is of other weights than the run now has, and isn't used")
def other_report(folder: Path) -> Outcome:
    report = runs.checkpoint.run_folder("tiny-paper") / "report.json"
    return search_with_report(folder, report.read_text(encoding="utf-8"))


@case("a model card with figures of other weights",
      "report.json is of other weights than .*run now has")
def other_figures(folder: Path) -> Outcome:
    hub = pytest.importorskip("minalbef.recipes.hub")
    run = runs.copy_of("tiny", folder)
    shutil.copy(runs.checkpoint.run_folder("tiny-paper") / "report.json", run)
    return runs.outcome_of(lambda: hub.HubRun(load(run)).save_pretrained(folder / "out"))


def read_file(name: str, folder: Path, text: str | None) -> Outcome:
    """A file of a run with another text, None for a pipe: what a command says that reads it."""
    run = runs.copy_of("tiny", folder)
    runs.put(run / name, text)
    with runs.at_most(60):
        if name == "metrics.csv":
            return call("doctor", run)
        if name == "words.json":
            return call("search", "a cat", "--run", run, *QUICK)
        if name == "trained_on.json":
            return call("evaluate", run, "--data", prepare_captions(folder, CAPTIONS) / "train")
        return call("search", "a cat", "--run", run, *QUICK)


for name in ("config.json", "tokenizer.json", "model.safetensors", "metrics.csv", "trained_on.json",
             "words.json"):
    @case(f"a pipe in place of {name}", r"damaged .*it is no file, but a folder, device or pipe")
    def pipe(folder: Path, name: str = name) -> Outcome:
        return read_file(name, folder, None)


@case("a pipe in place of report.json", r"report.json is damaged .it is no file")
def pipe_for_report(folder: Path) -> Outcome:
    with runs.at_most(60):
        return search_with_report(folder, None)


for name, text in (("config.json", DEEP), ("config.json", "3"), ("words.json", DEEP),
                   ("words.json", "3"), ("words.json", "[1, 2]"), ("trained_on.json", DEEP),
                   ("trained_on.json", "[]")):
    @case(f"{name} is {text[:20]}", rf"{name} is damaged")
    def odd_file(folder: Path, name: str = name, text: str = text) -> Outcome:
        return read_file(name, folder, text)


@case("trained_on.json of other weights", "trained_on.json is the record of other weights")
def other_record(folder: Path) -> Outcome:
    record = {"pretrained": {}, "tuned": {}, "weights": "of others"}
    return read_file("trained_on.json", folder, json.dumps(record))


def search_folder(folder: Path, text: str | None) -> Outcome:
    """Search images where the file that keeps their features has another text, None for a pipe."""
    run = runs.copy_of("tiny", folder)
    images = runs.photographs(folder / "images")
    runs.put(run / "images.features.safetensors", text)
    with runs.at_most(60):
        return call("search", "a cat", "--run", run, "--images", images)


for text in (None, "{}", DEEP):
    @case(f"in place of features there is {text and text[:9]}",
          "features.safetensors is damaged .*; remove it")
    def odd_features(folder: Path, text: str | None = text) -> Outcome:
        return search_folder(folder, text)


@case("a set whose name leads out of the run's folder",
      r"'../../../x' can't name a folder of results|'set'")
def set_elsewhere(folder: Path) -> Outcome:
    data = prepare_captions(folder, CAPTIONS)
    runs.change_json(data / "about.json", set="../../../x")
    outcome = call("evaluate", runs.copy_of("tiny", folder), "--data", data / "train")
    assert not list(folder.rglob("x-train"))
    return outcome


def own_loss(sim, teacher_sim, alpha, positive):
    """A loss of somebody's own."""
    return -torch.log_softmax(sim, 1)[positive].mean()


class OwnLoss(Pretrain):
    """Pretraining with that loss."""

    itc_loss = staticmethod(own_loss)


def resume(folder: Path, first: object, second: object) -> Outcome:
    data = prepare_captions(folder, CAPTIONS)
    config = pretrain.settings("tiny", [*SIZES, "vocab_size=48", "match_from=0"], [data])
    pretrain.pretrain(config, folder / "run", [data], quiet=True, make=first)
    return runs.outcome_of(lambda: pretrain.pretrain(config, folder / "run", [data], quiet=True,
                                                     make=second))


@case("a run with a loss of one's own goes on without it",
      r"code of .*own_loss: \w+ there, none here")
def resumed_without(folder: Path) -> Outcome:
    return resume(folder, OwnLoss, None)


@case("a run goes on with a loss that it didn't begin with", r"code of .*own_loss: none there, \w+ here")
def resumed_with(folder: Path) -> Outcome:
    return resume(folder, None, OwnLoss)

# --- rest

@case("a list flag without a value", "--data has no value")
def empty_list(folder: Path) -> Outcome:
    return call("pretrain", "--data", "--run", folder / "run")


@case("two sets, of which the first doesn't exist", "no prepared set|nope1")
def first_of_two(folder: Path) -> Outcome:
    return call("pretrain", "--data", folder / "nope1", "--data", folder / "nope2",
                "--run", folder / "run")


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
