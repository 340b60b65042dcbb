"""A step in passes, in bf16, with activation checkpointing or compiled: losses and gradients stay; its costs."""
import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import SMALL_PAPER, Batches, pretrain, same_state, small
from minalbef import train
from minalbef.albef import ALBEF
from minalbef.bench.step import WORDS, make_batch
from minalbef.fast import loop
from minalbef.fast.loop import Recomputed, recompute_and_compile
from minalbef.fast.pretrain import FastPretrain
from minalbef.fusion import FusionLayer
from minalbef.layers import Layer
from minalbef.presets import preset
from minalbef.scenes.warm_start import LabelBatch, WarmStart
from minalbef.system.checkpoint import part_of
from minalbef.system.modes import evaluation_mode
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.table import find_task_of_preset
from minalbef.vision import ViT

CPU = torch.device("cpu")
PRESETS = ("paper-4m", "retrieval-coco", "entailment", "vqa", "nlvr2-assign", "nlvr2")
OF_ROWS = {"mlm", "entailment", "answer", "nlvr2"}               # losses that are means over examples


def made(name: str, **changes):
    """A task in small, its config, and a batch of 6: of noise, the student a step away from its teacher."""
    config = preset(name, **SMALL_PAPER | dict(batch=6, dropout=0.0, device="cpu", epoch=60) | changes)
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
    return losses, {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}, carry


@pytest.mark.parametrize("alpha", (0.0, 0.4))
@pytest.mark.parametrize("name", PRESETS)
def test_a_step_trains_all_weights_but_those_of_the_parts_that_a_task_says_are_unused(name, alpha):
    task, config, batch = made(name)
    loop.backward(task, task, batch, alpha, task.draws(3), config, CPU)
    for weight, p in task.student.named_parameters():
        assert (p.grad is None) == (part_of(weight) in task.unused_parts), weight


def test_a_task_whose_losses_begin_later_or_whose_student_is_custom_names_no_unused_parts():
    assert pretrain(small(match_from=0.5)).unused_parts is None
    assert FastPretrain(small(), student=ALBEF(small())).unused_parts is None
    assert FastPretrain(small(), without=("itm", "mlm")).unused_parts == ("match_head", "word_head", "fusion")


def double(batch):
    return batch.map(lambda x: x.double() if x.is_floating_point() else x)


# passes

@pytest.mark.parametrize("name", PRESETS)
def test_passes_equal_the_whole_batch_where_a_loss_is_a_mean_over_examples(name):
    task, config, batch = made(name)
    task, batch = task.double(), double(batch)
    whole, gradients, carry = step(task, config, batch)
    parts, in_parts, carry_in_parts = step(task, replace(config, accumulate=3), batch)
    assert parts.keys() == whole.keys() and gradients.keys() == in_parts.keys()
    for loss in whole:
        same = abs(parts[loss] - whole[loss]) < 1e-6 * whole[loss]   # weights of draws and counts are fp32
        assert same == (loss in OF_ROWS), (loss, parts[loss], whole[loss])
    if whole.keys() <= OF_ROWS:
        assert_close(in_parts, gradients, atol=1e-7, rtol=1e-6)
    if carry:
        assert_close(carry_in_parts, carry)                      # the queue is filled alike


def only_words(task):
    """The task with the loss of masked words alone."""
    whole = task.forward
    def forward(batch, alpha, draws):
        losses, carry = whole(batch, alpha, draws)
        return {"mlm": losses["mlm"]}, carry
    task.forward = forward
    return task


def test_masked_words_are_counted_over_all_passes():
    config = small(image_size=16)
    task = only_words(pretrain(config).double())
    batch = double(Batches(config)(0))
    hidden = [len(draws.places) for _, draws in task.prepare([
        (batch.part(i, 2, 8), task.draws(3).part(i, 2, 8)) for i in range(2)])]
    assert hidden[0] > 1.5 * hidden[1], "a mean of the passes' means would be the same"
    whole, gradients, _ = step(task, config, batch)
    parts, in_parts, _ = step(task, replace(config, accumulate=2), batch)
    assert_close(parts, whole)
    assert_close(in_parts, gradients)


def test_negatives_and_truths_of_a_pass_are_those_of_its_rows_in_every_process():
    config = small(batch=8)
    whole, draws = Batches(config).whole(0), pretrain(config).draws(0)
    mine = whole.part(0, 2, 4), draws.part(0, 2, 4)   # as the first of two processes, of 4 rows each, cuts it
    far = [0, 1, 4, 5]
    assert mine[0].match.equal(whole.match[far][:, far])
    assert mine[1].negative_text.equal(draws.negative_text[far][:, far])
    assert whole.part(1, 2, 8).ids.equal(whole.ids[4:]) and whole.part(1, 2, 8).match.equal(whole.match[4:, 4:])


def test_accumulated_training_fills_the_queue_and_goes_on_after_a_stop(tmp_path):
    config = small(image_size=16, accumulate=2, epoch=6 * 8)
    whole = pretrain(config)
    train.fit(whole, Batches(config), config, tmp_path / "whole", quiet=True)
    newest = torch.cat([Batches(config)(step).ids for step in (3, 4, 5)])[-20:]    # a queue of 20
    oldest_first = whole.queue.ids.roll(-whole.queue.pointer)
    assert oldest_first.equal(newest), "each step pushes its rows once, in their order"
    def broken(step):
        if step == 4:
            raise RuntimeError("the power went off")
        return Batches(config)(step)
    with pytest.raises(RuntimeError):
        train.fit(pretrain(config), broken, replace(config, save_every=3), tmp_path / "cut", quiet=True)
    again = pretrain(config, seed=5)
    train.fit(again, Batches(config), replace(config, save_every=3), tmp_path / "cut", quiet=True)
    assert same_state(again.state_dict(), whole.state_dict())


# bf16

@pytest.mark.parametrize("name", PRESETS)
def test_bf16_is_near_fp32_and_its_losses_and_gradients_are_in_fp32(name):
    task, config, batch = made(name)
    losses, gradients, carry = step(task, config, batch)
    low, low_gradients, low_carry = step(task, replace(config, precision="bf16"), batch)
    for loss, value in losses.items():
        assert low[loss].dtype == torch.float32 and low[loss] == pytest.approx(value.item(), rel=0.02), loss
        assert low[loss] != value, "bf16 was not on"
    ours, theirs = (torch.cat([g[key].flatten() for key in gradients]) for g in (gradients, low_gradients))
    assert theirs.dtype == torch.float32
    assert torch.cosine_similarity(ours, theirs, 0) > 0.95
    for x, y in zip(carry or (), low_carry or ()):
        assert x.dtype == y.dtype, "the queue's features are in fp32"


def test_the_warm_start_runs_in_bf16():
    config = small(precision="bf16", batch=6)
    torch.manual_seed(0)
    task = WarmStart(config, 5)
    batch = LabelBatch(torch.randn(6, 3, 24, 24), torch.eye(6, 5) + torch.eye(6, 5).roll(1))
    fine, _ = loop.backward(task, task, batch, 0.0, None, replace(config, precision="fp32"), CPU)
    low, _ = loop.backward(task, task, batch, 0.0, None, config, CPU)
    for name, value in fine.items():
        assert low[name].dtype == torch.float32 and low[name] != value
        assert low[name] == pytest.approx(value.item(), rel=0.02)


def test_similarities_are_compared_in_fp32():
    """At a temperature of .02 a step of bf16 in a similarity near 50 is .25; the loss would be off by as much."""
    config = small(image_size=16)
    task, batch, sims = pretrain(config), Batches(config)(0), []
    loss_of = task.itc_loss

    def spy(sim, *rest):
        sims.append(sim)
        return loss_of(sim, *rest)
    task.itc_loss = spy
    losses, *_ = step(task, replace(config, precision="bf16"), batch)
    loss = losses["itc"]
    assert all(sim.dtype == torch.float32 for sim in sims) and loss.dtype == torch.float32
    assert any((sim.bfloat16().float() != sim).any() for sim in sims), "they were rounded on the way"


# a step asks for no number


class Spy(TorchDispatchMode):
    """Notes what would make a GPU's caller wait: a number that is asked for, or a shape that hangs on the data."""

    asks = {"_local_scalar_dense", "item", "nonzero", "nonzero_static", "masked_select", "unique_dim",
            "_unique", "_unique2", "unique_consecutive", "bincount", "equal", "is_nonzero", "repeat_interleave"}

    def __init__(self):
        super().__init__()
        self.seen, self.ran, self.watching = [], set(), True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        by_bool = name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index") and any(
            rows is not None and rows.dtype in (torch.bool, torch.uint8) for rows in args[1])
        sized = "output_size" in (kwargs or {})                  # repeat_interleave then knows its shape
        self.seen += [f"{name}[bool]" if by_bool
                      else name] * (self.watching and (by_bool or name in self.asks and not sized))
        self.ran.add(name)
        return function(*args, **(kwargs or {}))

    def unwatched(self, run):
        def call(*args):
            self.watching = False
            found = run(*args)
            self.watching = True
            return found
        return call


@pytest.mark.parametrize("ask", [
    lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: float(x[0]), lambda x: x[x > 0], lambda x: x.nonzero(),
    lambda x: x.masked_select(x > 0), lambda x: x.unique(), lambda x: torch.where(x > 0), lambda x: x.equal(x),
    lambda x: x.clone().__setitem__(x > 0, x[:2]), lambda x: x.repeat_interleave(x.long()),
    lambda x: x.long().bincount(), lambda x: torch.zeros(9)[int(x.argmax()):]])
def test_the_spy_sees_whatever_makes_a_gpu_wait(ask):
    x = torch.tensor([1.0, 0.0, 2.0])
    with Spy() as spy:
        x.index_select(0, torch.tensor([0, 1])), x[torch.tensor([2, 0])]
        x.masked_fill(x > 0, 1), x.repeat_interleave(2)
        torch.where(x > 0, x, 0.0), x.clone().index_add_(0, torch.tensor([0]), x[:1])
        assert not spy.seen and spy.ran, "it cries wolf"
        ask(x)
    assert spy.seen


# not VQA, which has answers of unequal number, and waits; nor text assignment, whose one_hot asks on a CPU alone
@pytest.mark.parametrize("name, passes", [
    ("paper-4m", 1), ("paper-4m", 2), ("retrieval-coco", 1), ("entailment", 2), ("nlvr2", 1)])
def test_a_step_asks_a_gpu_for_no_number(name, passes):
    """Forward, backward, optimiser and what follows."""
    task, config, batch = made(name, dropout=0.1, accumulate=passes)
    optimiser, spy = torch.optim.AdamW(train.parameter_groups(task, config), fused=True), Spy()
    if hasattr(task, "prepare"):
        task.prepare = spy.unwatched(task.prepare)               # words are hidden before, on the CPU
    for number in (20, 21):                                      # in the second the optimiser's state is there
        draws = task.draws(number)
        with spy:
            _, carry = loop.backward(task, task, batch, 0.4, draws, config, CPU)
            nn.utils.clip_grad_norm_(task.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            task.after_step(carry)
    ran = {"native_layer_norm", "native_layer_norm_backward", "_fused_adamw_", "linalg_vector_norm"}
    assert spy.ran >= ran | ({"_foreach_lerp_"} if task.teacher else set()), "it looked away"
    assert not spy.seen


# layers again

@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_layers_computed_again_give_the_same_losses_and_gradients(name, dropout):
    task, config, batch = made(name, dropout=dropout)
    plain = step(task, config, batch)
    assert same_state(plain[:2], step(task, replace(config, checkpointing=True), batch)[:2])


def kept(task, config, batch) -> int:
    """Numbers that a step keeps for the way back, weights aside, each block of memory once."""
    own, seen = {p.untyped_storage().data_ptr() for p in task.parameters()}, {}
    def note(x):
        if x.untyped_storage().data_ptr() not in own:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes() // x.element_size(), x
        return x
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x), recompute_and_compile(task, config):
        task(batch, 0.4, task.draws(3))
    return sum(count for count, _ in seen.values())


def test_layers_computed_again_keep_what_they_read_alone():
    task, config, batch = made("paper-4m", image_depth=4, image_size=64)
    assert kept(task, replace(config, checkpointing=True), batch) < 0.5 * kept(task, config, batch)


def test_only_the_student_computes_again_and_all_is_as_before_afterwards(tmp_path):
    config = small(image_size=16, checkpointing=True, epoch=8)
    task = pretrain(config)
    with recompute_and_compile(task, config):
        changed = {name for name, module in task.named_modules() if isinstance(module, Recomputed)}
    layers = {name for name, module in task.named_modules() if isinstance(module, Layer)}
    assert changed == {name for name in layers if name.startswith("student")}
    assert any("fusion" in name for name in changed)
    train.fit(task, Batches(config), config, tmp_path, quiet=True)
    assert not any(isinstance(module, Recomputed) for module in task.modules())
    assert copy.deepcopy(task).state_dict().keys() == task.state_dict().keys()


# compiled

def test_compiling_reaches_the_layers_of_student_and_teacher(monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda f: seen.append(f.__self__) or f)
    task, config, _ = made("paper-4m")
    with recompute_and_compile(task, replace(config, compile=True)):
        pass
    assert set(seen) == {module for module in task.modules() if isinstance(module, Layer)}
    assert any(isinstance(layer, FusionLayer) for layer in seen)


@pytest.mark.slow
def test_evaluation_runs_no_compiled_layer(monkeypatch):
    """Its shapes would fill the compiled layers' cache."""
    compiler, runs = torch.compile, []

    def backend(graph, example):
        return lambda *args: runs.append(1) or graph(*args)
    monkeypatch.setattr(torch, "compile", lambda f: compiler(f, backend=backend))
    torch._dynamo.reset()
    config = small(image_size=16, compile=True)
    encoder, image = ViT(config).train(), torch.randn(2, 3, 16, 16)
    with recompute_and_compile(encoder, config):
        with evaluation_mode(encoder):
            assert not encoder.training and encoder(image).shape == (2, 5, 32) and not runs
        compiled = encoder(image)
    assert encoder.training and len(runs) == config.image_depth
    with torch.compiler.set_stance("force_eager"):
        assert_close(compiled, encoder(image))
    assert encoder.state_dict().keys() == ViT(config).state_dict().keys()


@pytest.mark.slow
def test_compiled_layers_stay_compiled_when_captions_differ_in_length(monkeypatch):
    compiler, calls = torch.compile, []

    def backend(graph, inputs):
        def call(*values):
            calls.append(graph)
            return graph(*values)
        return call
    monkeypatch.setattr(torch, "compile", lambda f: compiler(f, backend=backend))
    torch._dynamo.reset()
    task, config, batch = made("paper-4m", compile=True)
    task.train()
    counts, graphs = [], set()
    with recompute_and_compile(task, config):
        for i, length in enumerate((9, 9, 8, 6, 7, 5)):
            calls.clear()
            short = replace(batch, tokens=batch.tokens[:, :length], keep=batch.keep[:, :length])
            loop.backward(task, task, short, 0.4, task.draws(i), config, CPU)
            counts.append(len(calls))
            new = set(map(id, calls)) - graphs
            graphs |= new
            assert i < 3 or not new, "a length is compiled anew"
    assert len(set(counts)) == 1, "a layer is no longer compiled"


@pytest.mark.slow
@pytest.mark.parametrize("precision, checkpointing", [("fp32", True), ("bf16", False)])
def test_compiled_layers_give_the_same_losses_and_gradients(precision, checkpointing, monkeypatch):
    """Traced into graphs, forward and backward, and these run by torch: C++ would be made of them for minutes."""
    compiler, graphs = torch.compile, []
    monkeypatch.setattr(torch, "compile", lambda f: graphs.append(f) or compiler(f, backend="aot_eager"))
    torch._dynamo.reset()
    task, config, batch = made("paper-4m", precision=precision)
    plain = step(task, config, batch)
    compiled = step(task, replace(config, compile=True, checkpointing=checkpointing), batch)
    assert graphs
    if precision == "fp32":
        assert_close(compiled[:2], plain[:2], atol=1e-5, rtol=1e-4)
        return
    assert_close(compiled[0], plain[0], atol=0, rtol=0.02)       # compiled, fewer results are rounded
    ours, theirs = (torch.cat([gradients[key].flatten() for key in plain[1]]) for gradients in (plain[1], compiled[1]))
    assert theirs.dtype == torch.float32 and torch.cosine_similarity(ours, theirs, 0) > 0.95
    full, _, _ = step(task, replace(config, precision="fp32"), batch)
    assert compiled[0] != full, "bf16 was not on"
