"""bench step and data: what they print, FLOPs by hand, and that a step is the training's own."""
import copy
import json
import math
import sys
from dataclasses import replace

import pytest
from torch.testing import assert_close

from helpers import small
from minalbef import train
from minalbef.bench import step
from minalbef.bench.step import Steps, count_parts, find_recipe, measure_step
from minalbef.cli import bench
from minalbef.cli import main as command_line
from minalbef.presets import preset
from minalbef.scenes.pretrain import ScenePretrain

SIZES = dict(image_size=32, patch_size=8, image_width=24, image_depth=2, image_heads=2,
             text_width=24, text_depth=1, text_heads=2, fusion_depth=2, vocab_size=50, batch=4,
             queue_size=8, text_length=9, embed_dim=8, device="cpu")
CONFIG = preset("paper-4m", **SIZES)
CHANGES = [f"{name}={value}" for name, value in SIZES.items()]
FIGURES = ("hours_of_the_run", "samples_per_second", "seconds_per_step", "cpu_seconds_per_step",
           "peak_memory_gb", "gflop_per_sample", "tflop_per_second")
PARTS = {f"{model} {part}" for model in ("student", "teacher")
         for part in ("image_encoder", "text_encoder", "fusion", "image_proj", "text_proj",
                      "word_head")}


def run(monkeypatch, *words: str):
    monkeypatch.setattr(sys, "argv", ["minalbef", *words])
    command_line.main()


@pytest.mark.parametrize("name", ["paper-4m", "vqa", "nlvr2"])
def test_the_command_prints_every_figure_of_a_recipe(name, monkeypatch, capsys):
    run(monkeypatch, "bench", "step", name, *CHANGES, "--steps", "2")
    printed = json.loads(capsys.readouterr().out)
    assert all(printed[key] > 0 and math.isfinite(printed[key]) for key in FIGURES)
    assert printed["command"].startswith(f"minalbef bench step {name} image_size=32")
    assert printed["precision"] == "fp32" and printed["date"] and printed["commit"]
    assert printed["steps_of_the_run"] == preset(name, batch=4).steps
    expected = printed["steps_of_the_run"] * printed["seconds_per_step"] / 3600
    assert printed["hours_of_the_run"] == pytest.approx(expected, rel=0.01)
    parts = printed["gflop_by_part"]
    assert sum(parts.values()) / 4 == pytest.approx(printed["gflop_per_sample"], rel=0.01)
    assert "student fusion" in parts and "teacher image_encoder" in parts
    assert parts[step.REST] > sum(parts.values()) / 3, "a backward pass costs two forward ones"


def test_a_run_is_measured_with_its_own_settings():
    config, task = find_recipe("tiny-paper", ["batch=8"])
    assert task == "pretrain" and config.name == "tiny" and config.batch == 8
    assert config.siblings == 0 < find_recipe("tiny")[0].siblings
    assert find_recipe("vqa")[1] == "vqa"


def test_scenes_are_those_of_the_run():
    config = small(device="cpu", objects=12, siblings=0.5)
    work = Steps(config)
    assert isinstance(work.task, ScenePretrain) and work.batch(0).image.shape[-1] == 24
    work(0)


def test_timed_steps_are_spread_over_the_run(monkeypatch):
    numbers = []
    monkeypatch.setattr(step, "time_steps", lambda work, steps: numbers.extend(steps) or (2.0, 1.0))
    figures = measure_step(replace(CONFIG, epoch=400, epochs=1.0), steps=4)
    assert numbers == [12, 37, 62, 87] and figures["hours_of_the_run"] == 100 * 2 / 3600


def test_captions_have_cocos_lengths_unless_all_are_full():
    work = Steps(replace(CONFIG, text_length=25, batch=64, vocab_size=512))
    keep = work.batch(0).keep
    lengths = keep.sum(1)
    assert lengths.min() == 9 and lengths.float().mean() == pytest.approx(12, abs=1)
    assert keep.any(0).all(), "padded to the longest, and no more"
    assert Steps(CONFIG, full_texts=True).batch(0).keep.all()


def flops_of(**changes) -> dict[str, float]:
    work = Steps(replace(CONFIG, **changes), full_texts=True)
    return count_parts(work, [work.config.steps - 1])            # at 0 the teacher has no weight


def test_flops_of_the_image_encoder_are_those_counted_by_hand():
    stem = 2 * 4 * 16 * (3 * 8 * 8) * 24         # 4 images of 16 patches
    tokens = 4 * (16 + 1)
    layer = 4 * 2 * tokens * 24 * 24 + 2 * 2 * 4 * 17 * 17 * 24 + 2 * 2 * tokens * 24 * 96
    parts = flops_of()
    assert parts["student image_encoder"] == stem + 2 * layer
    assert PARTS | {"student match_head", step.REST} == parts.keys()
    again = flops_of(checkpointing=True, compile=True)
    assert again["student image_encoder"] == stem + 2 * layer, "each layer counts once"


@pytest.mark.parametrize("rate, hidden", [(0.0, 1), (1.0, 8)])
def test_flops_of_fusion_show_every_saving(rate, hidden):
    """By hand: 4 texts of 9 words, 4 images of 17 tokens, 2 layers; 12 pairs for ITM, 4 for MLM.

    hidden: words that MLM's last layer computes; with no word hidden still one
    """
    def self_attention(rows: int, queries: int) -> int:
        products = 2 * 2 * 9 * 24 * 24 + 2 * 2 * queries * 24 * 24
        return rows * (products + 2 * 2 * queries * 9 * 24)

    def cross_attention_and_mlp(rows: int, queries: int) -> int:
        return rows * queries * (2 * 2 * 24 * 24 + 2 * 2 * 17 * 24 + 2 * 2 * 24 * 96)

    keys_values = 2 * 2 * (2 * 68 * 24 * 24)     # once for each image and layer
    match = self_attention(4, 9) + cross_attention_and_mlp(12, 9)
    match += self_attention(12, 1) + cross_attention_and_mlp(12, 1)      # for [CLS] alone
    words = self_attention(4, 9) + cross_attention_and_mlp(4, 9)
    words += self_attention(4, hidden) + cross_attention_and_mlp(4, hidden)
    parts = flops_of(mask_rate=rate)
    assert parts["student fusion"] == keys_values + match + words
    head = 4 * 8 * (2 * 24 * 24 + 2 * 24 * 50) if rate else 0
    assert parts.get("student word_head", 0) == head, "of masked words alone"


def test_a_step_is_that_of_the_training_loop(tmp_path):
    still = dict(dropout=0.0, alpha=0.0, warmup_steps=0, lr_end=1e-4, lr=1e-4, epoch=4, epochs=1.0)
    work = Steps(replace(CONFIG, **still))
    other = copy.deepcopy(work.task)
    start = other.get_parameter("student.fusion.layers.0.mlp.fc1.weight").clone()
    work(0)
    train.fit(other, work.batch, work.config, tmp_path, quiet=True)
    ours, theirs = dict(work.task.named_parameters()), dict(other.named_parameters())
    assert_close(ours, theirs)
    assert not ours["student.fusion.layers.0.mlp.fc1.weight"].equal(start), "it trains"


@pytest.mark.parametrize(("words", "says"), [
    ("papr-4m", "'papr-4m' is neither a run folder nor a preset (did you mean 'paper-"),
    ("runs/none", "'runs/none' is neither a run folder nor a preset"),
    ("paper-4m batch=1", "batch=1: pretrain draws negatives"),
    ("paper-4m device=cuda", "device='cuda'"), ("paper-4m batch", "'batch' is no change"),
    ("paper-4m image_sise=32", "did you mean 'image_size'"), ("tiny --steps 0", "--steps 0 must")])
def test_what_cannot_be_measured_is_said(words, says, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "bench", "step", *words.split())
    assert stop.value.code == 2 and says in capsys.readouterr().err


def test_loading_is_measured(monkeypatch, capsys):
    run(monkeypatch, "bench", "data", "--sizes", "32", "--photo", "64", "--number", "20")
    printed = json.loads(capsys.readouterr().out)
    scenes = printed["scenes_per_second"]["32"]
    both = 1 / scenes["draw"] + 1 / scenes["paint"]
    assert 1 / scenes["both"] == pytest.approx(both, rel=0.01)
    photos = printed["photos_per_second"]
    assert photos.keys() == {"resized", "augmented"} and min(photos.values()) > 0


@pytest.mark.parametrize("wrong", [dict(number=0), dict(photo=0), dict(sizes=(48, 0))])
def test_loading_that_cannot_be_measured_is_said(wrong):
    with pytest.raises(ValueError, match="must lie between"):
        bench.data(**wrong)
