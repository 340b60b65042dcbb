"""distributed: two processes are one process with the same global batch; on one device nothing happens."""
import os
import signal
import socket
import time
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.testing import assert_close

from helpers import Batches, pretrain, small
from minalbef import distributed
from minalbef import train as loop
from minalbef.distributed import fetch, gather, rank, total, world
from minalbef.tasks import pretrain as objective
from minalbef.train import Stopped, fit

# five steps: ITC alone, then all three, with queue and hard negatives from the third on
CONFIG = small(image_size=16, alpha=0.4, epoch=5 * 8, match_from=0.2, queue_from=0.4, hard_from=0.4, warmup_steps=2)
ROWS = torch.tensor([5, 0, 3, 2, 7, 7])


class Recorded(nn.Module):
    """A task that writes down its losses, and the gradients of its student."""

    def __init__(self, task: nn.Module):
        super().__init__()
        self.task, self.losses, self.gradients, self.negatives = task, [], [], []
        self.draws, self.prepare, self.hidden = task.draws, task.prepare, []

    def forward(self, batch, alpha, draws):
        self.hidden.append(len(draws.places))
        losses, carry = self.task(batch, alpha, draws)
        self.losses.append({name: loss.detach() for name, loss in losses.items()})
        return losses, carry

    def after_step(self, carry):
        self.task.after_step(carry)

    def note(self, optimiser):
        self.gradients.append({name: p.grad.clone() for name, p in self.task.student.named_parameters()
                               if p.grad is not None})


def train(folder, config=CONFIG, happens=None, dtype=torch.float32) -> dict:
    """Five steps of `fit`; another process may be stopped on the way, and all go on."""
    task = Recorded(pretrain(config).to(dtype))
    batches = Batches(config)
    def disturbed(step):
        if happens and step == 2:
            happens()
        return batches(step).map(lambda x: x.to(dtype) if x.is_floating_point() else x)
    step, draw = torch.optim.AdamW.step, objective.hard_negatives
    def spy(self, *args, **kwargs):
        task.note(self)
        return step(self, *args, **kwargs)
    def drawn(*args):
        task.negatives.append(draw(*args))
        return task.negatives[-1]
    torch.optim.AdamW.step, objective.hard_negatives = spy, drawn
    try:
        fit(task, disturbed, config, folder, quiet=True, log_every=1)
    finally:
        torch.optim.AdamW.step, objective.hard_negatives = step, draw
    return {"losses": task.losses, "gradients": task.gradients, "state": task.task.state_dict(), "negatives": task.negatives,
            "hidden": task.hidden}


def words_in_passes(passes: int) -> dict:
    """The loss of masked words and its gradients, of a step in so many passes."""
    config = replace(CONFIG, accumulate=passes)
    task = pretrain(config).double()
    whole = task.forward
    def forward(*args):
        losses, carry = whole(*args)
        return {"mlm": losses["mlm"]}, carry
    task.forward = forward
    model = nn.parallel.DistributedDataParallel(task, find_unused_parameters=True) if world() > 1 else task
    batch = Batches(config)(0).map(lambda x: x.double() if x.is_floating_point() else x)
    losses, carry = loop.backward(model, task, batch, 0.4, task.draws(3), config, torch.device("cpu"))
    return {"loss": losses["mlm"], "gradients": {name: p.grad for name, p in task.named_parameters() if p.grad is not None},
            "ids": carry[2]}


def pieces() -> dict:
    """gather, total and fetch on 4 rows of this process, and the gradient that comes back through fetch."""
    x = (torch.arange(12.0).reshape(4, 3) + 100 * rank()).requires_grad_()
    keep = torch.arange(4) % 2 == rank()
    pool, index = fetch(x, ROWS)
    weights = torch.arange(18.0).reshape(6, 3) + 1000 * rank()
    ((pool[index] * weights).sum() + (pool[:4] * 7).sum()).backward()
    pool_keep, index_keep = fetch(keep, ROWS)
    return {"gather": gather(x.detach()), "gather bool": gather(keep), "total": total(torch.tensor(rank() + 1.0)),
            "fetch": pool[index].detach(), "own": pool[:4].detach(), "fetch bool": pool_keep[index_keep],
            "grad": x.grad}


def worker(number: int, port: int, folder):
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.start("cpu")
    assert (rank(), world()) == (number, 2)
    result = {"pieces": pieces(), "global": train(folder / "global")}
    result |= {"exact": train(folder / "exact", dtype=torch.double), "words": words_in_passes(2)}
    result["local"] = train(folder / "local", replace(CONFIG, hard_negatives="local"))
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
        fit(pretrain(CONFIG), poison, replace(CONFIG, save_every=1), folder / "poisoned", quiet=True)
    except FloatingPointError as error:
        result["poisoned"] = str(error)
    torch.save(result, folder / f"{number}.pt")
    distributed.stop()
    assert world() == 1


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, end = mp.spawn(worker, (port, folder), nprocs=2, join=False), time.monotonic() + 300
    while not processes.join(timeout=5):
        if time.monotonic() > end:                               # one waits for the other, in vain
            for process in processes.processes:
                process.kill()
            pytest.fail("the two processes hang")
    return [torch.load(folder / f"{number}.pt") for number in (0, 1)], folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The same run in this process alone."""
    return train(tmp_path_factory.mktemp("one"))


def test_on_one_device_nothing_happens():
    x = torch.randn(4, 3, requires_grad=True)
    assert (rank(), world()) == (0, 1)
    assert gather(x) is x and total(x) is x
    pool, rows = fetch(x, ROWS[:3] % 4)
    assert pool is x and rows.equal(ROWS[:3] % 4)
    distributed.stop()


def test_gather_and_total_put_the_processes_together(two):
    whole = torch.cat([torch.arange(12.0).reshape(4, 3), torch.arange(12.0).reshape(4, 3) + 100])
    for found in (one["pieces"] for one in two[0]):
        assert found["gather"].equal(whole) and found["total"] == 3
        assert found["gather bool"].tolist() == [True, False] * 2 + [False, True] * 2
        assert found["fetch"].equal(whole[ROWS]) and found["fetch bool"].equal(found["gather bool"][ROWS])
    assert torch.cat([one["pieces"]["own"] for one in two[0]]).equal(whole)


def test_the_gradient_finds_its_way_to_the_process_that_owns_the_row(two):
    expected = torch.full((8, 3), 7.0)                           # each process's own rows stand in its pool
    for process in (0, 1):
        expected.index_add_(0, ROWS, torch.arange(18.0).reshape(6, 3) + 1000 * process)
    assert_close(torch.cat([one["pieces"]["grad"] for one in two[0]]), expected)


def test_the_processes_mask_unequal_numbers_of_words():
    words = Batches(CONFIG)(0).keep.sum(1)
    assert words[:4].sum() > 2 * words[4:].sum(), "or the next tests would not see a mean of means"


def test_two_processes_have_the_losses_of_one(two, one):
    first, second = (found["global"]["losses"] for found in two[0])
    assert [set(losses) for losses in first] == [{"itc"}] + [{"itc", "itm", "mlm"}] * 4
    for ours, a, b in zip(one["losses"], first, second, strict=True):
        for name in ours:
            assert_close((a[name] + b[name]) / 2, ours[name], atol=1e-5, rtol=1e-5)
    assert max(abs(first[-1][name] - second[-1][name]) for name in first[-1]) > 0.01, "each has its own rows"


def test_two_processes_have_the_gradients_of_one(two, one):
    for process in (0, 1):
        found = two[0][process]["global"]["gradients"]
        for step, (ours, theirs) in enumerate(zip(one["gradients"], found, strict=True)):
            assert ours.keys() == theirs.keys()
            for name in ours:
                assert_close(theirs[name], ours[name], atol=1e-5, rtol=1e-4, msg=lambda m: f"step {step}, {name}: {m}")


def test_two_processes_end_with_the_weights_teacher_and_queue_of_one(two, one):
    for found in two[0]:
        state = found["global"]["state"]
        assert state.keys() == one["state"].keys()
        for name, ours in one["state"].items():
            if name.endswith(".k.bias"):                         # softmax ignores it: Adam scales up mere noise
                continue
            if isinstance(ours, dict):
                assert state[name] == ours
            else:
                assert_close(state[name], ours, atol=1e-5, rtol=0, msg=lambda m: f"{name}: {m}")
    a, b = (found["global"]["state"] for found in two[0])
    assert all(a[name].equal(b[name]) for name in a if isinstance(a[name], torch.Tensor)), "the processes drifted apart"


EXACT = 1e-8


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """The same run in this process alone, in float64."""
    return train(tmp_path_factory.mktemp("exact"), dtype=torch.double)


def test_in_float64_two_processes_have_the_losses_gradients_and_negatives_of_one(two, exact):
    first, second = (found["exact"] for found in two[0])
    assert any(a > 1.5 * b for a, b in zip(first["hidden"], second["hidden"])), "as many words are masked in both"
    assert [a + b for a, b in zip(first["hidden"], second["hidden"])] == exact["hidden"]
    for ours, a, b in zip(exact["losses"], first["losses"], second["losses"], strict=True):
        assert_close({name: (a[name] + b[name]) / 2 for name in ours}, ours, atol=EXACT, rtol=0)
    for found in (first, second):
        assert_close(found["gradients"], exact["gradients"], atol=EXACT, rtol=0)
    assert len(exact["negatives"]) == 2 * 4, "of texts and pictures, in all steps but the first"
    for (index, valid), a, b in zip(exact["negatives"], first["negatives"], second["negatives"], strict=True):
        assert torch.cat([a[0], b[0]]).equal(index) and torch.cat([a[1], b[1]]).equal(valid)


def test_in_float64_two_processes_end_with_the_weights_teacher_and_queue_of_one(two, exact):
    for found in (one["exact"]["state"] for one in two[0]):
        for name, ours in exact["state"].items():
            if not name.endswith(".k.bias"):                     # softmax ignores it: Adam scales up mere noise
                assert_close(found[name], ours, atol=EXACT, rtol=0, msg=lambda m: f"{name}: {m}")


def test_masked_words_are_counted_over_all_passes_of_all_processes(two):
    whole = words_in_passes(1)
    a, b = (found["words"] for found in two[0])
    assert_close((a["loss"] + b["loss"]) / 2, whole["loss"])
    for found in (a, b):
        assert_close(found["gradients"], {name: whole["gradients"][name] for name in found["gradients"]}, atol=1e-7, rtol=1e-6)
        assert sorted(found["ids"].tolist()) == sorted(whole["ids"].tolist())
    assert a["ids"].equal(b["ids"]), "the queues would drift apart"


def test_local_negatives_are_another_run(two, one):
    local = two[0][0]["local"]["losses"], two[0][1]["local"]["losses"]
    itm = (local[0][-1]["itm"] + local[1][-1]["itm"]) / 2
    assert itm.isfinite() and abs(itm - one["losses"][-1]["itm"]) > 1e-4


def test_a_signal_to_one_process_stops_all_and_the_run_goes_on_to_the_same_weights(two):
    for found in two[0]:
        assert "after step 3 of 5" in found["stopped"]
        assert len(found["resumed"]["losses"]) == 2
        for name, value in found["global"]["state"].items():
            if isinstance(value, torch.Tensor):
                assert found["resumed"]["state"][name].equal(value), name


def test_nan_in_one_process_stops_all_at_the_same_step(two):
    found, folder = two
    assert all("step 3: the loss or its gradient" in one["poisoned"] for one in found)
    state = torch.load(folder / "poisoned" / "state.pt")
    assert state["step"] == 3
    assert all(value.isfinite().all() for value in state["task"].values() if isinstance(value, torch.Tensor))
