"""rehearse: every preset of the paper takes two steps, here in small, and says what they cost."""
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from helpers import SMALL_PAPER
from minalbef.presets import PRESETS, preset
from minalbef.recipes.rehearse import dry_run, rehearsals
from minalbef.tasks.table import TASKS

PARTS = {"paper-4m": {"itc", "itm", "mlm"}, "paper-14m": {"itc", "itm", "mlm"}, "base": {"itc", "itm", "mlm"},
         "retrieval-coco": {"itc", "itm"}, "retrieval-flickr": {"itc", "itm"}, "grounding": {"itc", "itm"},
         "entailment": {"entailment"}, "vqa": {"answer"},
         "nlvr2-assign": {"assign"}, "nlvr2": {"nlvr2"}}


@pytest.mark.parametrize("name", PARTS)
def test_a_preset_takes_two_steps_in_small(name):
    said = []
    rows = dry_run(name, 2, said.append, **SMALL_PAPER)
    assert [row["step"] for row in rows] == [0, 1] and len(said) == 3
    assert f"in place of {preset(name).batch}" in said[0]
    for row in rows:
        parts = {key: value for key, value in row.items() if key in set.union(*PARTS.values())}
        assert parts.keys() == PARTS[name] and math.isclose(sum(parts.values()), row["loss"], rel_tol=1e-5)
        assert row["gradient"] > 0 and row["seconds"] > 0 and 0.05 < row["memory_gb"] < 100
    assert rows[0]["alpha"] == (0.4 if name == "entailment" else 0), "the original's entailment alone has no ramp"
    assert (rows[1]["alpha"] > 0) == (name != "nlvr2-assign"), "the teacher's path is not rehearsed"


@pytest.mark.parametrize("name, recipe", [
    ("retrieval-coco", (384, 0.5, 5, 1e-5, 256, 0.4, 256)), ("retrieval-flickr", (384, 0.5, 10, 1e-5, 256, 0.4, 128)),
    ("entailment", (384, 0.5, 5, 2e-5, 256, 0.4, 128)), ("vqa", (384, 0.5, 8, 2e-5, 256, 0.4, 128)),
    ("nlvr2-assign", (256, 0.2, 1, 2e-5, 512, 0, 128)), ("nlvr2", (384, 0.5, 10, 2e-5, 128, 0.4, 128)),
    ("grounding", (384, 1.0, 5, 1e-5, 256, 0.4, 128))])
def test_presets_are_the_papers_recipes(name, recipe):
    c = preset(name)
    assert (c.image_size, c.crop, c.epochs, c.lr, c.batch, c.alpha, c.top) == recipe
    assert c.weight_decay == 0.02 and c.lr_start == 1e-5 <= c.lr
    assert c.lr_end == (1e-5 if name == "nlvr2-assign" else 1e-6)
    assert c.image_depth == 12 and c.queue_size == 65_536 and c.warmup_steps < c.steps


def test_memory_is_that_of_the_process_and_not_of_the_one_that_started_it():
    """getrusage's figure is inherited: a child of a process that held 1 GB would seem to have held as much."""
    code = ("import os, sys; from minalbef.recipes.rehearse import dry_run; "
            "print(dry_run('vqa', 1, str, **eval(sys.argv[1]))[0]['memory_gb'])")
    parent = ("import subprocess, sys; block = b'x' * 1_500_000_000; del block; "
              "print(subprocess.run([sys.executable, '-c', *sys.argv[1:]], capture_output=True, text=True).stdout)")
    run = subprocess.run([sys.executable, "-c", parent, code, str(SMALL_PAPER)], capture_output=True, text=True,
                         check=True)
    assert 0.1 < float(run.stdout) < 1.2


def test_every_preset_of_the_paper_is_rehearsed():
    assert set(rehearsals()) == PARTS.keys() == PRESETS.keys() & PARTS.keys()
    assert {name for name in PRESETS if preset(name).image_width == 768} <= set(rehearsals())


def test_rehearsals_repeat_themselves_and_learn():
    first, again = (dry_run("entailment", 2, str, lr=0.01, lr_start=0.01, **SMALL_PAPER)
                    for _ in range(2))
    assert [row["loss"] for row in first] == [row["loss"] for row in again]
    still = dry_run("entailment", 2, str, lr=0.0, lr_start=0.0, lr_end=0.0, **SMALL_PAPER)
    assert still[0]["loss"] == first[0]["loss"] and still[1]["loss"] != first[1]["loss"], "the optimiser does nothing"


def test_a_preset_that_is_not_rehearsed_and_a_wrong_change_are_named():
    with pytest.raises(ValueError, match="no rehearsal of 'tiny'; there are paper-4m"):
        dry_run("tiny")
    with pytest.raises(ValueError, match="did you mean 'image_size'"):
        dry_run("vqa", image_sise=32)


def test_a_loss_that_is_not_finite_stops_it(monkeypatch):
    class Broken(torch.nn.Linear):
        def forward(self, batch, alpha, draws):
            return {"entailment": self.weight.sum() * torch.nan}, None

        def draws(self, step):
            return None

        def after_step(self, carry):
            pass
    monkeypatch.setitem(TASKS, "entailment", replace(TASKS["entailment"], module=lambda config: Broken(1, 1)))
    with pytest.raises(FloatingPointError, match="entailment, step 0: loss nan"):
        dry_run("entailment", 2, str, **SMALL_PAPER)
