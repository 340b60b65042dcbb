"""distributed: two processes are one process with the same global batch;
on one device nothing happens."""
import itertools
import os
import signal
import socket
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.testing import assert_close

from helpers import Batches, pretrain, small
from minalbef.ema import Trainable
from minalbef.fast.loop import backward
from minalbef.fast.pretrain import FastPretrain, MaskedDraws, fast_form
from minalbef.pretrain import Pretrain
from minalbef.scenes.pretrain import ScenePretrain
from minalbef.system import distributed
from minalbef.system.distributed import fetch, gather, rank, total, world
from minalbef.train import Stopped, fit

# five steps: ITC alone, then all three, with queue and hard negatives from the third on
CONFIG = small(image_size=16, alpha=0.4, epoch=5 * 8, match_from=0.2,
               queue_from=0.4, hard_from=0.4, warmup_steps=2,
               siblings=0.5)
ROWS = torch.tensor([5, 0, 3, 2, 7, 7])


class Recorded(Trainable):
    """A task that writes down its losses, and the gradients of its student."""

    def __init__(self, task: nn.Module):
        super().__init__()
        self.task = task
        self.losses = []
        self.gradients = []
        self.draws = task.draws
        self.hidden = []
        if isinstance(task, FastPretrain):
            self.prepare = task.prepare

    def forward(self, batch, alpha, draws):
        if isinstance(draws, MaskedDraws):
            self.hidden.append(len(draws.places))
        losses, carry = self.task(batch, alpha, draws)
        self.losses.append({name: loss.detach() for name, loss in losses.items()})
        return losses, carry

    def after_step(self, carry):
        self.task.after_step(carry)

    def note(self, optimiser):
        self.gradients.append({name: p.grad.clone()
                               for name, p in self.task.student.named_parameters()
                               if p.grad is not None})


def only(task: nn.Module, name: str) -> nn.Module:
    """The task with one of its losses alone."""
    run = task.forward
    def forward(*args):
        losses, carry = run(*args)
        return {name: losses[name]}, carry
    task.forward = forward
    return task


@contextmanager
def recorded_draws():
    """Meanwhile the negatives that are drawn are written down: rows, and whether they count."""
    negatives = []
    draw = Pretrain.hard_negatives
    def record(*args):
        negatives.append(draw(*args))
        return negatives[-1]
    Pretrain.hard_negatives = staticmethod(record)
    try:
        yield negatives
    finally:
        Pretrain.hard_negatives = staticmethod(draw)


def train(folder, config=CONFIG, happens=None,
          dtype=torch.float32, task=None, batches=None) -> dict:
    """All steps of `fit`; another process may be stopped on the way, and all go on."""
    task = Recorded((task or pretrain(config)).to(dtype))
    batches = batches or Batches(config)
    def disturbed(step):
        if happens and step == 2:
            happens()
        return batches(step).to("cpu").map(lambda x: x.to(dtype)
                                           if x.is_floating_point() else x)
    step = torch.optim.AdamW.step
    def spy(self, *args, **kwargs):
        task.note(self)
        return step(self, *args, **kwargs)
    torch.optim.AdamW.step = spy
    try:
        with recorded_draws() as negatives:
            fit(task, disturbed, config, folder, quiet=True, log_every=1)
    finally:
        torch.optim.AdamW.step = step
    return {"losses": task.losses, "gradients": task.gradients,
            "state": task.task.state_dict(), "negatives": negatives,
            "hidden": task.hidden}


def in_passes(name: str, passes: int, **changes) -> dict:
    """One loss and its gradients in so many passes."""
    config = replace(CONFIG, accumulate=passes, **changes)
    task = model = only(pretrain(config).double(), name)
    if world() > 1:
        model = nn.parallel.DistributedDataParallel(task, find_unused_parameters=True)
    batch = Batches(config)(0).map(lambda x: x.double() if x.is_floating_point() else x)
    with recorded_draws() as negatives:
        losses, carry = backward(model, task, batch, 0.4, task.draws(3),
                                 config, torch.device("cpu"))
    gradients = {name: p.grad for name, p in task.named_parameters() if p.grad is not None}
    return {"loss": losses[name], "gradients": gradients,
            "ids": carry[2], "negatives": negatives}


def worker(number: int, port: int, folder):
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number),
                   "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.join("cpu")
    assert (rank(), world()) == (number, 2)
    result = {"global": train(folder / "global")}
    result |= {"exact": train(folder / "exact", dtype=torch.double),
               "words": in_passes("mlm", 2)}
    result |= {"near": in_passes("itm", 1, hard_negatives="local")}
    def stop():                                                  # one process alone hears of it
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
    try:
        train(folder / "stopped", happens=stop)
    except Stopped as error:
        result["stopped"] = str(error)
    dist.barrier()                                               # the file is written by now
    result["resumed"] = train(folder / "stopped")
    def poison(step):
        batch = Batches(CONFIG)(step)
        batch.image[:] = batch.image * (torch.nan if step == 3 and number == 1 else 1)
        return batch
    try:
        fit(pretrain(CONFIG), poison, replace(CONFIG, save_every=1),
            folder / "poisoned", quiet=True)
    except FloatingPointError as error:
        result["poisoned"] = str(error)
    torch.save(result, folder / f"{number}.pt")
    distributed.leave()
    assert world() == 1


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = mp.spawn(worker, (port, folder), nprocs=2, join=False)
    end = time.monotonic() + 300
    while not processes.join(timeout=5):
        # one waits for the other, in vain
        if time.monotonic() > end:
            for process in processes.processes:
                process.kill()
            pytest.fail("the two processes hang")
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in (0, 1)], folder


def test_on_one_device_nothing_happens():
    x = torch.randn(4, 3, requires_grad=True)
    assert (rank(), world()) == (0, 1)
    assert gather(x) is x and total(x) is x
    pool, rows = fetch(x, ROWS[:3] % 4)
    assert pool is x and rows.equal(ROWS[:3] % 4)
    distributed.leave()


def test_processes_share_rows_in_order_and_none_twice():
    for count, processes in ((8, 1), (8, 2), (7, 3), (2, 4)):
        shares = [range(count)[distributed.rank_rows(count, number, processes)]
                  for number in range(processes)]
        assert list(itertools.chain(*shares)) == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert range(16, 24)[distributed.rank_rows(8, 1, 2)] == range(20, 24), (
        "of a later step, too")


EXACT = 1e-8


@pytest.fixture(scope="module", params=["fast", "plain"])
def exact(request, tmp_path_factory):
    """The same run in this process alone, in float64; also by the plain step and loop."""
    fast = request.param == "fast"
    kind = fast_form(ScenePretrain) if fast else ScenePretrain
    return train(tmp_path_factory.mktemp("exact"),
                 replace(CONFIG, fast=fast), dtype=torch.double,
                 task=pretrain(CONFIG, kind=kind))


def test_in_float64_two_processes_have_the_losses_gradients_and_negatives_of_one(two, exact):
    first = two[0][0]["exact"]
    second = two[0][1]["exact"]
    assert any(a > 1.5 * b for a, b in zip(first["hidden"], second["hidden"])), (
        "as many words are masked in both")
    if exact["hidden"]:
        assert [a + b for a, b in zip(first["hidden"], second["hidden"])] == exact["hidden"]
    for value, a, b in zip(exact["losses"], first["losses"], second["losses"], strict=True):
        for name in value:
            assert_close((a[name] + b[name]) / 2, value[name], atol=EXACT, rtol=0)
    for result in (first, second):
        assert_close(result["gradients"], exact["gradients"], atol=EXACT, rtol=0)
    assert len(exact["negatives"]) == 2 * 4, "of texts and pictures, in all steps but the first"
    for (index, valid), a, b in zip(exact["negatives"], first["negatives"],
                                    second["negatives"], strict=True):
        assert torch.cat([a[0], b[0]]).equal(index)
        assert torch.cat([a[1], b[1]]).equal(valid)


def test_in_float64_two_processes_end_with_the_weights_teacher_and_queue_of_one(two, exact):
    for process in two[0]:
        state = process["exact"]["state"]
        for name, value in exact["state"].items():
            # softmax ignores it: Adam scales up mere noise
            if not name.endswith(".k.bias"):
                assert_close(state[name], value, atol=EXACT,
                             rtol=0, msg=lambda m: f"{name}: {m}")


def test_masked_words_are_counted_over_all_passes_of_all_processes(two):
    full = in_passes("mlm", 1)
    a = two[0][0]["words"]
    b = two[0][1]["words"]
    assert_close((a["loss"] + b["loss"]) / 2, full["loss"])
    for result in (a, b):
        for name, gradient in result["gradients"].items():
            assert_close(gradient, full["gradients"][name], atol=1e-7, rtol=1e-6)
        assert sorted(result["ids"].tolist()) == sorted(full["ids"].tolist())
    assert a["ids"].equal(b["ids"]), "the queues would drift apart"


def test_local_negatives_on_two_processes_are_those_of_one_in_two_passes(two):
    """A pass draws its negatives from its own rows, and so is what a process is."""
    full = in_passes("itm", 2, hard_negatives="local")
    parts = [result["near"] for result in two[0]]
    assert len(full["negatives"]) == 4
    draws = parts[0]["negatives"] + parts[1]["negatives"]
    for i, ((index, valid), (rows, counts)) in enumerate(zip(full["negatives"], draws,
                                                             strict=True)):
        assert rows.equal(index + 4 * (i // 2)) and counts.equal(valid)
    assert_close((parts[0]["loss"] + parts[1]["loss"]) / 2, full["loss"])
    for result in parts:
        for name, gradient in result["gradients"].items():
            assert_close(gradient, full["gradients"][name], atol=1e-7, rtol=1e-6)
    assert abs(in_passes("itm", 1)["loss"] - full["loss"]) > 1e-3, (
        "it would be the same with global ones")


def machine_worker(number: int, port: int):
    """One of four processes, two on each of two machines:
    it fetches a row of each process of its machine."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number % 2),
                   "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.join("cpu")
    first = number // 2 * 2
    assert distributed.peers("machine") == range(first, first + 2)
    assert distributed.peers("global") == range(4)
    x = (torch.arange(6.0).reshape(3, 2) + 100 * number).requires_grad_()
    rows = torch.tensor([3 * first + 2, 3 * first + 3, 3 * first + 3])
    pool, index = fetch(x, rows, "machine")
    rows_of_one = torch.arange(6.0).reshape(3, 2)
    everything = torch.cat([rows_of_one + 100 * process for process in range(4)])
    assert pool[index].equal(everything[rows]) and pool[:3].equal(x)
    (pool[index] * (number + 1)).sum().backward()
    weight = 2.0 * first + 3                                     # of both processes' losses
    expected = torch.zeros(6, 2)
    expected[2] = weight
    expected[3] = 2 * weight
    assert x.grad.equal(expected[3 * (number - first):][:3])
    distributed.leave()


def test_rows_are_fetched_from_the_own_machine_of_two_and_gradients_go_back():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(machine_worker, (port,), nprocs=4)


def test_a_signal_to_one_process_stops_all_and_the_run_goes_on_to_the_same_weights(two):
    for result in two[0]:
        assert "after step 3 of 5" in result["stopped"]
        assert len(result["resumed"]["losses"]) == 2
        for name, value in result["global"]["state"].items():
            if isinstance(value, torch.Tensor):
                assert result["resumed"]["state"][name].equal(value), name


def test_nan_in_one_process_stops_all_at_the_same_step(two):
    result, folder = two
    for process in result:
        assert "step 3: the loss or its gradient" in process["poisoned"]
    state = torch.load(folder / "poisoned" / "state.pt", weights_only=True)
    assert state["step"] == 3
    for value in state["task"].values():
        if isinstance(value, torch.Tensor):
            assert value.isfinite().all()
