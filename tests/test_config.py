"""config: every number has a name, a kind and a range; mistakes are answered with the way out."""
import dataclasses
import json

import pytest
import torch

from minalbef import config
from minalbef.albef import ALBEF
from minalbef.config import Config, preset
from minalbef.painting import all_names


@pytest.mark.parametrize("name", config.PRESETS)
def test_every_preset_builds_a_model_and_survives_json(name):
    c = preset(name)
    assert c.name == name
    assert config.from_dict(json.loads(json.dumps(c.to_dict()))) == c
    with torch.device("meta"):
        ALBEF(c)


def test_steps_and_grid_by_hand():
    c = preset("tiny", image_size=40, patch_size=8, epochs=1.5, epoch=100, batch=8)
    assert (c.grid, c.steps) == (5, 18)                          # 150 // 8
    assert preset("tiny", epochs=0.001, epoch=10).steps == 1


def test_changes_leave_the_preset_alone():
    assert preset("tiny", batch=32).batch == 32 and preset("tiny").batch == 64
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("tiny").batch = 1


@pytest.mark.parametrize("name, text, value", [
    ("lr", "2e-5", 2e-5), ("batch", "32", 32), ("epoch", "1e3", 1000), ("betas", "(0.9, 0.99)", (0.9, 0.99)),
    ("betas", [0.9, 0.95], (0.9, 0.95)), ("stem", "patch", "patch"), ("clip", 1, 1.0)])
def test_strings_are_read_as_the_fields_kind(name, text, value):
    read = getattr(preset("tiny", **{name: text}), name)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize("name, changes, says", [
    ("tinny", {}, "did you mean 'tiny'"),
    ("zzz", {}, "tiny, small, base, paper-4m"),
    ("tiny", {"bach": 3}, "no option 'bach' (did you mean 'batch'?)"),
    ("tiny", {"image_size": 50}, "image_size=50 is not a multiple of patch_size=8; the nearest that is: 48"),
    ("tiny", {"image_heads": 5}, "image_width=96 is not a multiple of image_heads=5; the nearest that is: 95"),
    ("tiny", {"text_heads": 0}, "text_heads=0"),
    ("tiny", {"stem": "cnov"}, "did you mean 'conv'"),
    ("tiny", {"patch_size": 12}, "power of two"),
    ("tiny", {"patch_size": 1}, "power of two"),
    ("tiny", {"hard_negatives": "globl"}, "did you mean 'global'"),
    ("tiny", {"schedule": "stair"}, "did you mean 'stairs'"),
    ("tiny", {"precision": "fp16"}, "precision='fp16' is none of fp32, bf16"),
    ("tiny", {"device": "gpu"}, "device='gpu' is none of auto, cpu, cuda"),
    ("tiny", {"accumulate": 3}, "accumulate=3 does not divide batch=64; take 2, or another batch"),
    ("tiny", {"accumulate": 0}, "accumulate=0 does not divide batch=64; take 1"),
    ("tiny", {"checkpointing": "yes"}, "checkpointing='yes' must be true or false"),
    ("tiny", {"batch": 0}, "batch=0 must be at least 1"),
    ("tiny", {"batch": 2.5}, "batch=2.5 must be a whole number, such as 64"),
    ("tiny", {"batch": "inf"}, "batch='inf' must be a whole number"),
    ("tiny", {"batch": "many"}, "batch='many' must be a whole number"),
    ("tiny", {"lr": None}, "lr=None must be a number"),
    ("tiny", {"mask_rate": 1.5}, "mask_rate=1.5 is a share"),
    ("tiny", {"alpha": float("nan")}, "alpha=nan is a share"),
    ("tiny", {"text_length": 40}, "raise positions"),
    ("tiny", {"temperature": 0.9}, "temperature=0.9 lies outside"),
    ("tiny", {"betas": "0.9;0.98"}, "betas="),
])
def test_a_mistake_is_named_with_the_way_out(name, changes, says):
    with pytest.raises(ValueError, match=f".*{''.join(c if c.isalnum() else chr(92) + c for c in says)}"):
        preset(name, **changes)


def test_the_ladder_rises():
    """What each rung sees, and how it is computed; tiny's results must not depend on the newer options."""
    tiny, small, base, paper = map(preset, ("tiny", "small", "base", "paper-4m"))
    assert (tiny.precision, tiny.accumulate, tiny.checkpointing, tiny.compile) == ("fp32", 1, False, False)
    assert small.objects == len(all_names()) and small.warm_objects == "same" and small.image_size == 128
    sizes = ("image_size", "image_width", "image_depth", "text_width", "text_depth", "fusion_depth", "vocab_size", "positions")
    assert all(getattr(base, size) == getattr(paper, size) for size in sizes), "DeiT and BERT would not fit"
    assert base.queue_size / base.batch == paper.queue_size / paper.batch
    assert tiny.epoch < small.epoch < base.steps * base.batch < paper.steps * paper.batch


def test_defaults_are_the_papers():
    c = Config()
    assert c == preset("paper-4m")
    assert (c.image_size, c.text_depth, c.fusion_depth, c.queue_size, c.alpha) == (256, 6, 6, 65_536, 0.4)
    assert max(c.match_from, c.queue_from, c.hard_from, c.siblings_from) == 0, "a departure is on by default"
