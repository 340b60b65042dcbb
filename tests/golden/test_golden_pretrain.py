"""Pretraining against the original's recorded figures:
every value between a batch and its losses, and three steps."""
import copy
from dataclasses import replace
from unittest import mock

import pytest

from golden_encoders import CONFIG
from golden_pretrain import (
    batch_at,
    decay,
    draws_at,
    groups,
    task_at_start,
    training,
    without_teacher,
)
from golden_rule import wrong
from helpers import same_state
from minalbef import train
from minalbef.fast.pretrain import FastPretrain
from minalbef.pretrain import Pretrain


@pytest.mark.parametrize("kind", [Pretrain, FastPretrain])
def test_a_step_without_the_teacher_is_the_originals(kind):
    assert wrong(without_teacher(kind)) == {}


@pytest.mark.parametrize("kind", [Pretrain, FastPretrain])
def test_three_steps_of_training_are_the_originals(kind):
    assert wrong(training(task=task_at_start(kind=kind))) == {}


@pytest.mark.parametrize("kind", [Pretrain, FastPretrain])
def test_the_loop_takes_the_same_steps(tmp_path, kind):
    by_hand = task_at_start(kind=kind)
    by_loop = copy.deepcopy(by_hand)
    assert wrong(training(task=by_hand)) == {}
    fast = kind is FastPretrain
    config = replace(CONFIG, epochs=1.0, epoch=12, warmup_steps=0, lr_end=CONFIG.lr, fast=fast)
    by_loop.draws = lambda step: draws_at(step + 1)
    with mock.patch.object(train, "alpha_at", return_value=0.4):
        train.fit(by_loop, lambda step: batch_at(step + 1), config, tmp_path, quiet=True)
    assert same_state(by_loop.state_dict(), by_hand.state_dict())


def test_with_decay_all_the_originals_parameters_decay_and_by_default_three_fewer():
    assert wrong(groups()) == {}
    plain = decay(decay_all=False)
    every = decay(decay_all=True)
    assert dict(every.items() - plain.items()).keys() == {"temp", "visual_encoder.cls_token",
                                                          "visual_encoder.pos_embed"}
