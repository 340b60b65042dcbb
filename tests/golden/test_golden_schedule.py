"""The original's staircase of learning rates, step by step,
against the recorded calls of its scheduler."""
import re
from dataclasses import replace

import pytest

from golden_rule import figures, off, wrong
from minalbef.config import Config
from minalbef.presets import preset
from minalbef.recipes.finetune import TUNING
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.train import alpha_at, lr_at

RUNS = ("Pretrain", "Retrieval_flickr", "VQA", "NLVR_pretrain")
EPOCH = 2_103  # steps; more than the longest warm-up, and no round number


def run(name: str, **changes) -> Config:
    """The settings of one of the original's runs."""
    scheduler = figures("schedule")[name]["schedular"]
    settings = dict(
        lr=scheduler["lr"], lr_start=scheduler["warmup_lr"], lr_end=scheduler["min_lr"],
        epochs=scheduler["epochs"], warmup_steps=100 * scheduler["warmup_epochs"],
        epoch=4 * EPOCH + 3, batch=4, schedule="stairs",
    )
    return Config(**settings | changes)


def begins(event: str) -> int:
    """The first step at the rate which the original's scheduler was given in this event."""
    epoch = re.search(r"epoch (\d+)", event)
    first = int(epoch[1]) * EPOCH if epoch else 0
    if event == "initial" or event.startswith("start"):
        return first
    iteration = re.search(r"iter (\d+)", event)
    return first + (int(iteration[1]) + 1 if iteration else EPOCH)


def schedules() -> dict[str, float]:
    """The rate between events, at the first, the middle and the last step.

    -> {run: worst difference over tolerance}
    """
    differences = {}
    for name in RUNS:
        config = run(name)
        events = figures("schedule")[name]["events"]
        starts = [begins(record["event"]) for record in events]
        # some runs end with an event
        ends = [*starts[1:], max(starts[-1] + 1, config.epochs * EPOCH)]
        differences[name] = 0.0
        for record, start, end in zip(events, starts, ends):
            for step in (start, (start + end) // 2, end - 1):
                difference = off(lr_at(step, config), record["lr"], 0, 1e-8)
                differences[name] = max(differences[name], difference)
    return differences


def test_stairs_are_the_originals():
    assert wrong(schedules()) == {}


def test_alpha_rises_with_every_step_of_the_first_epoch_alone():
    config = run("Pretrain", alpha=0.4, epoch=4 * EPOCH)
    for step in (0, 1, 7, EPOCH - 1, EPOCH, 3 * EPOCH):
        epoch, i = divmod(step, EPOCH)                           # as the original says it
        assert alpha_at(step, config) == pytest.approx(0.4 if epoch
                                                       else 0.4 * i / EPOCH, rel=1e-12)


def test_alpha_does_not_rise_in_entailment_alone():
    """In the original VE.yaml alone says warm_up: False; the other configs say True."""
    tasks = ("retrieval-coco", "retrieval-flickr", "entailment", "vqa", "nlvr2", "grounding")
    assert [alpha_at(0, preset(name)) for name in tasks] == [0, 0, 0.4, 0, 0, 0]
    for task, job in SCENE_TASKS.items():
        config = replace(preset("tiny"), **TUNING | job.settings)
        full_at_once = alpha_at(0, config) == config.alpha == 0.4
        assert full_at_once == (task == "entailment"), task
