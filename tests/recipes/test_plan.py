"""plan and cost: what they count is what torch counts and what a process holds; and what they say to do about it."""
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from minalbef.cli import main as command_line
from minalbef.presets import preset
from minalbef.recipes import plan as planner
from minalbef.recipes.cost import count_parameters, forward_flops, kept_bytes, memory_bytes, step_flops
from minalbef.recipes.plan import GPUS, describe, gpu_named, plan
from minalbef.tasks.pretrain import Pretrain

ROOT = Path(__file__).parents[2]
NEAR = 0.15
SIZES = dict(image_size=96, image_width=192, image_depth=4, image_heads=3, text_width=192, text_depth=2, text_heads=3,
             fusion_depth=3, vocab_size=2000, batch=16, queue_size=1024)
# name, preset, changes: each is ruled by something else
RUNS = [("pictures", "paper-4m", SIZES | dict(image_size=128, batch=8)),
        ("weights", "paper-4m", SIZES
         | dict(image_width=384, text_width=384, image_heads=6, text_heads=6, image_depth=2,
                text_depth=1, fusion_depth=2, vocab_size=20_000, image_size=64, batch=2)),
        ("words and queue", "paper-4m",
         SIZES | dict(text_length=60, queue_size=30_000, image_depth=2, batch=8, mask_rate=0.4)),
        ("two widths, no dropout, no teacher for words", "paper-4m",
         SIZES | dict(image_width=96, text_width=256, text_heads=4, image_depth=3, dropout=0.0, alpha=0.0,
                      fuse_cls=False))]
SLOW = [("tiny", "tiny", dict(batch=128, match_from=0, queue_from=0, text_length=30)),
        ("as bench step has it", "paper-4m", SIZES | dict(image_size=128, image_depth=6, text_depth=3))]

# A step at another size first loads what any model needs. Blocks go back to the system when they are freed.
CHILD = """
import json, sys, torch
from minalbef.bench.step import Steps, count_flops
from minalbef.presets import preset
from minalbef.recipes.cost import peak_memory
torch.set_num_threads(1)
name, changes, small = json.loads(sys.argv[1])
Steps(preset(name, **changes | small))()
before, work = peak_memory(), Steps(preset(name, **changes))
for _ in range(2):
    work()
peak = peak_memory()
with count_flops() as counter:
    work()
print(json.dumps([(peak - before) * 1e6, counter.get_total_flops()]))
"""
SMALL = dict(image_size=32, image_width=48, text_width=48, image_heads=3, text_heads=3, vocab_size=200,
             queue_size=8, batch=2)
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}


def check(name: str, changes: dict):
    run = subprocess.run([sys.executable, "-c", CHILD, json.dumps([name, changes, SMALL])], cwd=ROOT, text=True,
                         capture_output=True, env={**os.environ, **GIVE_BACK})
    assert run.returncode == 0, run.stderr
    held, counted = json.loads(run.stdout)
    config = preset(name, **changes)
    assert step_flops(config, config.batch) == pytest.approx(counted, rel=0.03)
    assert step_flops(replace(config, text_depth=config.text_depth + 1),
                      config.batch) > 1.03 * counted, "the check is blind"
    if Path("/proc/self/status").exists():
        needed = memory_bytes(config, config.batch, half=False, plain=True)["all"]
        assert needed == pytest.approx(held, rel=NEAR)


@pytest.mark.parametrize(("name", "changes"), [run[1:] for run in RUNS], ids=[run[0] for run in RUNS])
def test_flops_and_memory_are_those_of_a_process(name, changes):
    check(name, changes)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes"), [run[1:] for run in SLOW], ids=[run[0] for run in SLOW])
def test_flops_and_memory_are_those_of_a_longer_process(name, changes):
    check(name, changes)


def test_parameters_are_the_students():
    config = preset("tiny")
    model = Pretrain(config).student
    assert count_parameters(config) == tuple(sum(p.numel() for p in part.parameters())
                                             for part in (model, model.image_encoder))
    assert 209e6 < count_parameters(preset("paper-4m"))[0] < 211e6


def test_checkpointing_saves_memory_and_costs_a_forward():
    config = preset("paper-4m")
    assert sum(kept_bytes(config, 64, True, False, checkpointing=True)) < 0.3 * sum(kept_bytes(config, 64, True, False))
    assert 1.15 < step_flops(config, 64, checkpointing=True) / step_flops(config, 64) < 1.33


def test_negatives_of_other_processes_cost_keys_and_values_of_their_pictures():
    config = preset("paper-4m", hard_negatives="global")
    local = replace(config, hard_negatives="local")
    assert step_flops(config, 64, gpus=1) == step_flops(local, 64, gpus=1)
    assert step_flops(config, 64, gpus=8) > 1.03 * step_flops(local, 64, gpus=8)
    assert sum(kept_bytes(config, 64, True, False, 8)) > sum(kept_bytes(local, 64, True, False, 8))


def test_the_last_layer_of_a_match_asks_once():
    """Of its 25 words' queries it needs one; keys and values of all words stay."""
    row = forward_flops(preset("paper-4m", fusion_depth=1))
    assert row.match < 0.1 * 3 * row.predict
    row = forward_flops(preset("paper-4m", fusion_depth=6))
    assert row.match > 0.7 * 3 * row.predict, "the other layers need all queries"


def test_a_plan_that_fits_says_how_many_rows_would():
    made = plan("paper-4m", gpus=8, gpu="A100-80")
    assert made.fits and made.rows == 64 and made.most_rows() > 64
    assert memory_bytes(made.config, made.most_rows(), gpus=8)["all"] <= made.room
    assert memory_bytes(made.config, made.most_rows() + 1, gpus=8)["all"] > made.room
    text = describe(made)
    assert "209.9M" in text and "298,828 steps" in text and f"{made.hours:.3g} hours" in text and "It fits" in text


def test_time_follows_from_work_peak_and_utilisation():
    made = plan("paper-4m", gpus=8, gpu="A100-80", utilisation=0.4)
    assert made.hours == pytest.approx(made.config.steps * made.flops / (8 * 312e12 * 0.4) / 3600)
    assert plan("paper-4m", gpus=8, gpu="A100-80", utilisation=0.2).hours == pytest.approx(2 * made.hours)
    slower = plan("paper-4m", gpus=8, gpu="A100-80", checkpointing=True)
    assert slower.flops == made.flops and 1.15 < slower.hours / made.hours < 1.33


def test_each_way_out_of_too_little_memory_works():
    made = plan("paper-4m", gpus=1, gpu="RTX-4090")
    assert not made.fits
    ways = made.ways_out()
    text = describe(made)
    assert "It does not fit" in text and all(way in text for way in ways) and len(ways) > 2
    passes = int(next(way for way in ways if "--accumulate" in way).split("--accumulate ")[1].split()[0])
    assert plan("paper-4m", gpu="RTX-4090", accumulate=passes).fits
    assert not plan("paper-4m", gpu="RTX-4090", accumulate=passes // 2).fits
    cards = int(next(way for way in ways if "--gpus" in way).split("--gpus ")[1])
    assert plan("paper-4m", gpus=cards, gpu="RTX-4090").fits
    assert not plan("paper-4m", gpus=cards // 2, gpu="RTX-4090").fits
    larger = next(way for way in ways if "larger" in way).split(": ")[1].split(", ")
    assert larger and all(plan("paper-4m", gpu=name).fits for name in larger)


def test_what_no_card_holds_is_said(monkeypatch):
    monkeypatch.setattr(planner, "GPUS", {"RTX-3090": GPUS["RTX-3090"]})
    made = plan("paper-4m", ("image_width=12288", "text_width=12288", "batch=1"), gpu="RTX-3090")
    assert made.most_rows() == 0 and "no card of the table" in describe(made)


@pytest.mark.parametrize(("wrong", "words"), [
    (dict(gpu="H100-SXM"), "did you mean 'H100"), (dict(gpu="A100"), "did you mean 'A100-80'"),
    (dict(gpus=7), "batch=512 is not a multiple of gpus=7"),
    (dict(utilisation=40), "is a share"), (dict(preset_name="vqa"), "give its preset, such as paper-4m"),
    (dict(accumulate=0), "accumulate=0"), (dict(preset_name="paper"), "did you mean 'paper-"),
    (dict(changes=("batch",)), "batch=32")])
def test_wrong_wishes_name_the_way_out(wrong, words):
    with pytest.raises(ValueError, match=words):
        plan(**{"preset_name": "paper-4m"} | wrong)


def test_the_command_prints_the_plan(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv",
                        "minalbef plan paper-4m batch=256 --gpus 2 --gpu A100-80 --utilisation 0.3".split())
    command_line.main()
    assert capsys.readouterr().out == describe(plan("paper-4m", ("batch=256",), 2, "A100-80", 0.3)) + "\n"
    monkeypatch.setattr(sys, "argv", "minalbef plan paper-4m --gpus 7".split())
    with pytest.raises(SystemExit):
        command_line.main()
    assert "batch=512 is not a multiple of gpus=7" in capsys.readouterr().err


def test_cards_are_known_by_the_names_that_torch_gives():
    names = {"NVIDIA H100 80GB HBM3": "H100", "NVIDIA H100 PCIe": "H100-PCIe", "NVIDIA A100-SXM4-40GB": "A100-40",
             "NVIDIA A100-SXM4-80GB": "A100-80", "NVIDIA H200": "H200", "NVIDIA GeForce RTX 4090": "RTX-4090",
             "NVIDIA L4": "L4", "NVIDIA RTX A6000": "A6000"}
    assert all(gpu_named(name) == GPUS[card] for name, card in names.items()) and gpu_named("Tesla T4") is None


@pytest.mark.parametrize("seconds, said", [
    (0.1304, "0.13 seconds"), (59, "59 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7199, "120 minutes"),
    (7200, "2 hours"), (3600 * 160.2, "160 hours"), (3600 * 12345, "12,345 hours")])
def test_a_time_is_said_in_the_unit_that_suits_it(seconds, said):
    assert planner.duration(seconds) == said


def test_the_smallest_preset_takes_no_fraction_of_an_hour():
    assert re.search(r"2,400 steps in 0\.\d+ seconds", describe(plan("tiny")))
