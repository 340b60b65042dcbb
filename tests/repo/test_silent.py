"""Nothing is silent: with wrong input a command fails, or it names the cause in what it prints."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runs
from captions import CAPTIONS, prepare_captions
from commands import Outcome, call
from minalbef.system.checkpoint import run_folder

TINY = run_folder("tiny")
OTHER = run_folder("tiny-paper")
SMALL = (
    "image_size=16 image_width=32 text_width=32 image_heads=2 text_heads=2 embed_dim=16 device=cpu "
    "epochs=1 validate_every=0 --quiet --run {folder}/run --data {folder}/out/coco"
)


def check(outcome: Outcome, pattern: str) -> None:
    assert re.search(pattern, outcome.text), f"status {outcome.status}, and it said: {outcome.text}"


# of a folder with an image a.tif, whose white is unknown, and a prepared set
WORDS = {
    "prepare nope --from {folder}": "no set 'nope'",
    "pretrain --data --run {folder}/run": "--data has no value",
    "pretrain bath=3 --run {folder}/run": "no option 'bath' .did you mean 'batch'",
    "export tiny --onnx {folder}/a.tif": "is a file; name a folder",
    f"predict grounding --image {TINY}/example.png --text cat --run tiny --boxes 0 0 inf 3":
        "not four finite numbers",
    "predict retrieval --image {folder}/a.tif --text cat --run tiny":
        "between -1 and 1, so that white is unknown",
    f"pretrain batch=1 {SMALL}": "batch=1: pretrain draws negatives from the rows of a pass",
    f"pretrain batch=4 text_length=3 {SMALL}":
        r"[\d.]+% of the texts are cut, and \d+\.\d% of their words lost",
}


@pytest.mark.parametrize("words", WORDS)
def test_a_wrong_command_is_told(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_captions(tmp_path, CAPTIONS)
    Image.fromarray(np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)).save("a.tif")
    check(call(*words.format(folder=tmp_path).split()), WORDS[words])


def test_a_set_whose_images_changed_places_is_not_trained_on(tmp_path):
    prepare_captions(tmp_path, CAPTIONS)
    images = tmp_path / "in-coco" / "train2014"
    shutil.copy(images / "1.png", images / "0.png")
    outcome = call("pretrain", "batch=4", *SMALL.format(folder=tmp_path).split())
    assert outcome.failed
    check(outcome, r"has changed since the set was prepared.* minalbef prepare coco")


def test_a_sets_name_does_not_lead_out_of_a_runs_folder(tmp_path):
    data = prepare_captions(tmp_path, CAPTIONS)
    runs.change_json(data / "about.json", set="../../../x")
    outcome = call("evaluate", runs.copy_of("tiny", tmp_path), "--data", data / "train")
    check(outcome, r"'../../../x' can't name a folder of results|'set'")
    assert not list(tmp_path.rglob("x-train"))


# a file of a run, what is put in its place, None for a pipe, and what is said of it
DEEP = "[" * 100_000 + "]" * 100_000
FEATURES = "images.features.safetensors"
SPOILT = [
    ("report.json", "[]", "is damaged.*minalbef evaluate"),
    ("report.json", '{"rerank_plus_weight": NaN}', "(damaged|has schema).*minalbef evaluate"),
    ("report.json", OTHER / "report.json", "is of other weights than the run now has"),
    ("config.json", DEEP, "config.json is damaged"),
    ("tokenizer.json", OTHER / "tokenizer.json", "was trained with other settings .*tokenizer: "),
    ("words.json", "3", "words.json is damaged"),
    ("model.safetensors", None, "damaged .*it is no file"),
    (FEATURES, "{}", "features.safetensors is damaged .*; remove it"),
]


@pytest.mark.parametrize("name, text, pattern", SPOILT)
def test_a_spoilt_file_of_a_run_is_named(name, text, pattern, tmp_path):
    run = runs.copy_of("tiny", tmp_path)
    runs.put(run / name, text.read_text(encoding="utf-8") if isinstance(text, Path) else text)
    images = runs.photographs(tmp_path / "images")
    words = ["--images", images] if name == FEATURES else ["--scenes", 40]
    with runs.at_most(60):
        check(call("search", "a cat", "--run", run, *words), pattern)


def test_settings_that_are_not_those_of_the_weights_are_named(tmp_path):
    run = runs.copy_of("tiny", tmp_path)
    runs.change_json(run / "config.json", image_heads=4)
    outcome = call("search", "a cat", "--run", run)
    check(outcome, "image_heads: 3 there, 4 here.*minalbef.save")
    weights = run / "model.safetensors"
    runs.save_file(runs.load_file(weights), weights)
    outcome = call("search", "a cat", "--run", run)
    check(outcome, "doesn't say with which settings it was trained")
    shutil.copy(TINY / "model.safetensors", run)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(OTHER / name, run)
    outcome = call("search", "a cat", "--run", run)
    check(outcome, "model.safetensors was trained with other .*tokenizer: ")


def test_a_record_of_other_weights_is_named(tmp_path):
    run = runs.copy_of("tiny", tmp_path)
    record = {"pretrained": {}, "tuned": {}, "weights": "of others"}
    runs.put(run / "trained_on.json", json.dumps(record))
    outcome = call("evaluate", run, "--data", prepare_captions(tmp_path, CAPTIONS) / "train")
    check(outcome, "trained_on.json is the record of other weights")
