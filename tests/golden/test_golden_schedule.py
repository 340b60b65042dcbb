"""The original's staircase of learning rates, step by step,
against the recorded calls of its scheduler."""
from dataclasses import replace

import pytest

from golden_rule import wrong
from golden_schedule import EPOCH, run, schedules
from minalbef.presets import preset
from minalbef.recipes.finetune import TUNING
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.train import alpha_at, lr_at


def test_stairs_are_the_originals():
    assert wrong(schedules()) == {}


def test_stairs_without_a_warm_up_begin_at_the_top():
    assert lr_at(0, run("VQA", warmup_steps=0)) == 2e-5
    # an epoch of one step
    assert lr_at(1, run("VQA", epoch=1, warmup_steps=0)) == pytest.approx(1.92768556e-5)


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
