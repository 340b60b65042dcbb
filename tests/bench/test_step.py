"""bench step and data: what they print, FLOPs by hand,
and that a step is the training's own."""
import copy
import json
import math
import sys
from dataclasses import replace

import pytest
from torch.testing import assert_close

from minalbef import train
from minalbef.bench import step
from minalbef.bench.step import Steps, count_parts
from minalbef.cli import main as command_line
from minalbef.presets import preset

SIZES = dict(image_size=32, patch_size=8, image_width=24, image_depth=2, image_heads=2,
             text_width=24, text_depth=1, text_heads=2, fusion_depth=2, vocab_size=50, batch=4,
             queue_size=8, text_length=9, embed_dim=8, device="cpu")
CONFIG = preset("paper-4m", **SIZES)
CHANGES = [f"{name}={value}" for name, value in SIZES.items()]
FIGURES = ("hours_of_the_run", "samples_per_second", "seconds_per_step", "cpu_seconds_per_step",
           "peak_memory_gb", "gflop_per_sample", "tflop_per_second")
PARTS = {f"{model} {part}" for model in ("student", "teacher")
         for part in ("image_encoder", "text_encoder", "fusion",
                      "image_proj", "text_proj", "word_head")}


def run(monkeypatch, *words: str):
    monkeypatch.setattr(sys, "argv", ["minalbef", *words])
    command_line.main()


@pytest.mark.parametrize("name", ["paper-4m", "vqa", "nlvr2"])
def test_the_command_prints_every_figure_of_a_recipe(name, monkeypatch, capsys):
    run(monkeypatch, "bench", "step", name, *CHANGES, "--steps", "2")
    printed = json.loads(capsys.readouterr().out)
    for key in FIGURES:
        assert printed[key] > 0 and math.isfinite(printed[key])
    assert printed["command"].startswith(f"minalbef bench step {name} image_size=32")
    assert printed["precision"] == "fp32"
    assert printed["date"] and printed["commit"]
    assert printed["steps_of_the_run"] == preset(name, batch=4).steps
    expected = printed["steps_of_the_run"] * printed["seconds_per_step"] / 3600
    assert printed["hours_of_the_run"] == pytest.approx(expected, rel=0.01)
    parts = printed["gflop_by_part"]
    assert sum(parts.values()) / 4 == pytest.approx(printed["gflop_per_sample"], rel=0.01)
    assert "student fusion" in parts
    assert "teacher image_encoder" in parts
    assert parts[step.REST] > sum(parts.values()) / 3, "a backward pass costs two forward ones"


def flops_of(**changes) -> dict[str, float]:
    work = Steps(replace(CONFIG, **changes), full_texts=True)
    # at 0 the teacher has no weight
    return count_parts(work, [work.config.steps - 1])


def test_flops_of_the_image_encoder_are_those_counted_by_hand():
    stem = 2 * 4 * 16 * (3 * 8 * 8) * 24         # 4 images of 16 patches
    tokens = 4 * (16 + 1)
    attention = 4 * 2 * tokens * 24 * 24 + 2 * 2 * 4 * 17 * 17 * 24
    layer = attention + 2 * 2 * tokens * 24 * 96
    parts = flops_of()
    assert parts["student image_encoder"] == stem + 2 * layer
    assert PARTS | {"student match_head", step.REST} == parts.keys()
    again = flops_of(checkpointing=True, compile=True)
    assert again["student image_encoder"] == stem + 2 * layer, "each layer counts once"


def test_a_step_is_that_of_the_training_loop(tmp_path):
    still = dict(dropout=0.0, alpha=0.0, warmup_steps=0,
                 lr_end=1e-4, lr=1e-4, epoch=4, epochs=1.0)
    work = Steps(replace(CONFIG, **still))
    twin = copy.deepcopy(work.task)
    name = "student.fusion.layers.0.mlp.fc1.weight"
    start = twin.get_parameter(name).clone()
    work(0)
    train.fit(twin, work.batch, work.config, tmp_path, quiet=True)
    weights = dict(work.task.named_parameters())
    expected = dict(twin.named_parameters())
    assert_close(weights, expected)
    assert not weights[name].equal(start), "it trains"


@pytest.mark.parametrize(("words", "says"), [
    ("papr-4m", "'papr-4m' is neither a run folder nor a preset (did you mean 'paper-"),
    ("runs/none", "'runs/none' is neither a run folder nor a preset"),
    ("paper-4m batch=1", "batch=1: pretrain draws negatives"),
    ("paper-4m device=cuda", "device='cuda'"), ("paper-4m batch", "'batch' is no change"),
    ("paper-4m image_sise=32", "did you mean 'image_size'"),
    ("tiny --steps 0", "--steps 0 must")])
def test_what_cannot_be_measured_is_said(words, says, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "bench", "step", *words.split())
    assert stop.value.code == 2
    assert says in capsys.readouterr().err


def test_loading_is_measured(monkeypatch, capsys):
    run(monkeypatch, "bench", "data", "--sizes", "32", "--photo", "64", "--number", "20")
    printed = json.loads(capsys.readouterr().out)
    scenes = printed["scenes_per_second"]["32"]
    both = 1 / scenes["draw"] + 1 / scenes["paint"]
    assert 1 / scenes["both"] == pytest.approx(both, rel=0.01)
    photos = printed["photos_per_second"]
    assert photos.keys() == {"resized", "augmented"}
    assert min(photos.values()) > 0
