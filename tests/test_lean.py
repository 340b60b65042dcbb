"""A step in passes, in bf16, with activation checkpointing or compiled:
losses and gradients stay; its costs."""
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from helpers import SMALL_PAPER, same_state
from minalbef.bench.step import WORDS, make_batch
from minalbef.fast import loop
from minalbef.fast.loop import recompute_and_compile
from minalbef.presets import preset
from minalbef.system.checkpoint import part_of
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.table import find_task_of_preset

CPU = torch.device("cpu")
PRESETS = ("paper-4m", "retrieval-coco", "entailment", "vqa", "nlvr2-assign", "nlvr2")
# losses that are means over examples
OF_ROWS = {"mlm", "entailment", "answer", "nlvr2"}


def set_up(name: str, **changes):
    """A task in small, its config, and a batch of 6: of noise,
    the student a step away from its teacher."""
    config = preset(name, **SMALL_PAPER
                    | dict(batch=6, dropout=0.0, device="cpu", epoch=60) | changes)
    plan = find_task_of_preset(name)
    torch.manual_seed(0)
    tokenizer = Tokenizer.train([" ".join(WORDS)], 256)
    task = plan.module(config)
    with torch.no_grad():
        for p in task.student.parameters():
            p += 0.02 * torch.randn_like(p)
    return task, config, make_batch(plan, config, tokenizer, 0).to("cpu")


def step(task, config, batch) -> tuple[dict, dict, tuple]:
    """-> losses, gradients, and the carry of a training step."""
    task.zero_grad()
    torch.manual_seed(1)                                         # of dropout
    with recompute_and_compile(task, config):
        losses, carry = loop.backward(task, task, batch, 0.4, task.draws(3), config, CPU)
    return losses, {name: p.grad.clone()
                    for name, p in task.named_parameters() if p.grad is not None}, carry


@pytest.mark.parametrize("alpha", (0.0, 0.4))
@pytest.mark.parametrize("name", PRESETS)
def test_a_step_trains_all_weights_but_those_of_the_parts_that_a_task_says_are_unused(
        name, alpha):
    task, config, batch = set_up(name)
    loop.backward(task, task, batch, alpha, task.draws(3), config, CPU)
    for weight, p in task.student.named_parameters():
        assert (p.grad is None) == (part_of(weight) in task.unused_parts), weight


def double(batch):
    return batch.map(lambda x: x.double() if x.is_floating_point() else x)


# passes

@pytest.mark.parametrize("name", PRESETS)
def test_passes_equal_the_whole_batch_where_a_loss_is_a_mean_over_examples(name):
    task, config, batch = set_up(name)
    task = task.double()
    batch = double(batch)
    full, gradients, carry = step(task, config, batch)
    parts, in_parts, carry_in_parts = step(task, replace(config, accumulate=3), batch)
    assert parts.keys() == full.keys() and gradients.keys() == in_parts.keys()
    for loss in full:
        # weights of draws and counts are fp32
        same = abs(parts[loss] - full[loss]) < 1e-6 * full[loss]
        assert same == (loss in OF_ROWS), (loss, parts[loss], full[loss])
    if full.keys() <= OF_ROWS:
        assert_close(in_parts, gradients, atol=1e-7, rtol=1e-6)
    if carry:
        assert_close(carry_in_parts, carry)                      # the queue is filled alike


# bf16

@pytest.mark.parametrize("name", PRESETS)
def test_bf16_is_near_fp32_and_its_losses_and_gradients_are_in_fp32(name):
    task, config, batch = set_up(name)
    losses, gradients, carry = step(task, config, batch)
    low, low_gradients, low_carry = step(task, replace(config, precision="bf16"), batch)
    for loss, value in losses.items():
        assert low[loss].dtype == torch.float32
        assert low[loss] == pytest.approx(value.item(), rel=0.02), loss
        assert low[loss] != value, "bf16 was not on"
    exact, rough = (torch.cat([g[key].flatten() for key in gradients])
                    for g in (gradients, low_gradients))
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(exact, rough, 0) > 0.95
    for x, y in zip(carry or (), low_carry or ()):
        assert x.dtype == y.dtype, "the queue's features are in fp32"


# layers again

@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_layers_computed_again_give_the_same_losses_and_gradients(name, dropout):
    task, config, batch = set_up(name, dropout=dropout)
    plain = step(task, config, batch)
    assert same_state(plain[:2], step(task, replace(config, checkpointing=True), batch)[:2])


# compiled


@pytest.mark.slow
@pytest.mark.parametrize("precision, checkpointing", [("fp32", True), ("bf16", False)])
def test_compiled_layers_give_the_same_losses_and_gradients(
        precision, checkpointing, monkeypatch):
    """Traced into graphs, forward and backward, and these run by torch:
    C++ would be made of them for minutes."""
    compiler = torch.compile
    graphs = []
    monkeypatch.setattr(torch, "compile",
                        lambda f: graphs.append(f) or compiler(f, backend="aot_eager"))
    torch._dynamo.reset()
    task, config, batch = set_up("paper-4m", precision=precision)
    plain = step(task, config, batch)
    compiled = step(task, replace(config, compile=True, checkpointing=checkpointing), batch)
    assert graphs
    if precision == "fp32":
        assert_close(compiled[:2], plain[:2], atol=1e-5, rtol=1e-4)
        return
    # compiled, fewer results are rounded
    assert_close(compiled[0], plain[0], atol=0, rtol=0.02)
    exact, rough = (torch.cat([gradients[key].flatten() for key in plain[1]])
                    for gradients in (plain[1], compiled[1]))
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(exact, rough, 0) > 0.95
    full, _, _ = step(task, replace(config, precision="fp32"), batch)
    assert compiled[0] != full, "bf16 was not on"
