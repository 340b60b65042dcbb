"""distributed: two processes are one process with the same global batch; on one device nothing happens."""
import os
import signal
import socket
import time
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.testing import assert_close

from helpers import Batches, pretrain, same_state, small
from minalbef import train as loop
from minalbef.datasets.loader import RecordBatches
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import open_records
from minalbef.fast.loop import backward, in_ddp
from minalbef.fast.pretrain import FastPretrain, MaskedDraws, fast_form
from minalbef.pretrain import Pretrain
from minalbef.recipes.pretrain import begin, settings
from minalbef.scenes.pretrain import ScenePretrain
from minalbef.system import distributed
from minalbef.system.distributed import fetch, gather, rank, total, world
from minalbef.tasks import retrieval
from minalbef.train import Stopped, fit
from miniature_sets import SIZES, img2dataset
from miniature_sets import SMALL as OF_RECORDS

# five steps: ITC alone, then all three, with queue and hard negatives from the third on
CONFIG = small(image_size=16, alpha=0.4, epoch=5 * 8, match_from=0.2, queue_from=0.4, hard_from=0.4, warmup_steps=2,
               siblings=0.5)
ROWS = torch.tensor([5, 0, 3, 2, 7, 7])
gather_all = dist.all_gather


class Recorded(nn.Module):
    """A task that writes down its losses, and the gradients of its student."""

    def __init__(self, task: nn.Module):
        super().__init__()
        self.task, self.losses, self.gradients = task, [], []
        self.draws, self.hidden = task.draws, []
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
        self.gradients.append({name: p.grad.clone() for name, p in self.task.student.named_parameters()
                               if p.grad is not None})


def only(task: nn.Module, name: str) -> nn.Module:
    """The task with one of its losses alone."""
    whole = task.forward
    def forward(*args):
        losses, carry = whole(*args)
        return {name: losses[name]}, carry
    task.forward = forward
    return task


@contextmanager
def recorded_draws():
    """Meanwhile the negatives that are drawn are written down: rows, and whether they count."""
    found, draw = [], Pretrain.hard_negatives
    def drawn(*args):
        found.append(draw(*args))
        return found[-1]
    Pretrain.hard_negatives = staticmethod(drawn)
    try:
        yield found
    finally:
        Pretrain.hard_negatives = staticmethod(draw)


def train(folder, config=CONFIG, happens=None, dtype=torch.float32, task=None, batches=None) -> dict:
    """All steps of `fit`; another process may be stopped on the way, and all go on."""
    task = Recorded((task or pretrain(config)).to(dtype))
    batches = batches or Batches(config)
    def disturbed(step):
        if happens and step == 2:
            happens()
        return batches(step).to("cpu").map(lambda x: x.to(dtype) if x.is_floating_point() else x)
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
    return {"losses": task.losses, "gradients": task.gradients, "state": task.task.state_dict(), "negatives": negatives,
            "hidden": task.hidden}


def in_passes(name: str, passes: int, **changes) -> dict:
    """One loss and its gradients in so many passes; how often the gradients were reduced, and what was gathered."""
    config, reduced, gathered = replace(CONFIG, accumulate=passes, **changes), [], []
    def noted(parts, x, group=None):
        gathered.append(x.shape)
        return gather_all(parts, x, group)
    task = model = only(pretrain(config).double(), name)
    def counted(group, bucket):
        reduced.append(bucket.index())
        return allreduce_hook(group, bucket)
    if world() > 1:
        model = nn.parallel.DistributedDataParallel(task, find_unused_parameters=True)
        model.register_comm_hook(dist.group.WORLD, counted)
    batch = Batches(config)(0).map(lambda x: x.double() if x.is_floating_point() else x)
    with recorded_draws() as negatives, mock.patch.object(dist, "all_gather", noted):
        losses, carry = backward(model, task, batch, 0.4, task.draws(3), config, torch.device("cpu"))
    gradients = {name: p.grad for name, p in task.named_parameters() if p.grad is not None}
    return {"loss": losses[name], "gradients": gradients, "ids": carry[2], "reduced": reduced, "negatives": negatives,
            "gathered": gathered}


def on_machines(of: int) -> dict:
    """ITM with negatives from the machine, if each has so many processes."""
    with mock.patch.dict(os.environ, {"LOCAL_WORLD_SIZE": str(of)}):
        return in_passes("itm", 1, hard_negatives="machine")


def sent_in_bf16() -> set:
    """What a step in bf16 sends of tokens and features: dimensions and types."""
    config, kinds = replace(CONFIG, precision="bf16", match_from=0.0), set()
    def noted(parts, x, group=None):
        kinds.add((x.dim(), x.dtype))
        return gather_all(parts, x, group)
    task = pretrain(config)
    model = nn.parallel.DistributedDataParallel(task, find_unused_parameters=True)
    with mock.patch.object(dist, "all_gather", noted):
        backward(model, task, Batches(config)(3), 0.4, task.draws(3), config, torch.device("cpu"))
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)
    return kinds


def three_steps(searches: bool) -> dict:
    """The weights after steps of ITC and ITM in two passes; whether DDP searches for weights without a gradient."""
    config = replace(CONFIG, match_from=0.0, accumulate=2, batch=16)
    torch.manual_seed(0)
    task = FastPretrain(config, without=("mlm",)).train()
    optimiser = torch.optim.AdamW(loop.parameter_groups(task, config), lr=config.lr)
    model = in_ddp(task, None, None if searches else task.unused_parts)
    for step in range(3):
        loop.train_step(model, task, optimiser, Batches(config)(step), step, config, torch.device("cpu"))
    return task.state_dict()


def words_trained(folder, passes: int) -> dict:
    """The whole of `fit` with the loss of masked words alone, in so many passes a step."""
    config = replace(CONFIG, accumulate=passes, match_from=0.0)
    return train(folder, config, dtype=torch.double, task=only(pretrain(config), "mlm"))


def train_on_records(folder, prepared) -> dict:
    """Pretraining on a prepared set, of which few words are masked: of some batches one, or none."""
    changes = [*OF_RECORDS, "mask_rate=0.06", "mask_power=0", "mlm_every=1", "alpha=0.4"]
    task, tokenizer, config = begin(settings("tiny", changes, [prepared]), [prepared])
    records = open_records("retrieval", [prepared])
    batches = RecordBatches(records, retrieval.collate, config, tokenizer)
    return train(folder, config, dtype=torch.double, task=task, batches=batches)


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
    distributed.join("cpu")
    assert (rank(), world()) == (number, 2)
    result = {"pieces": pieces(), "global": train(folder / "global")}
    result |= {"exact": train(folder / "exact", dtype=torch.double), "words": in_passes("mlm", 2)}
    result |= {"trained words": words_trained(folder / "words", 2), "whole words": in_passes("mlm", 1)}
    result |= {"near": in_passes("itm", 1, hard_negatives="local")}
    result |= {"searched": three_steps(True), "named": three_steps(False)}
    result |= {"one machine": on_machines(2), "two machines": on_machines(1), "whole itm": in_passes("itm", 1)}
    result["bf16"] = sent_in_bf16()
    result["records"] = train_on_records(folder / "records", folder / "prepared" / "shards")
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
    distributed.leave()
    assert world() == 1


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("two")
    img2dataset(folder / "shards", *SIZES)
    prepare("shards", folder / "shards", folder / "prepared")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, end = mp.spawn(worker, (port, folder), nprocs=2, join=False), time.monotonic() + 300
    while not processes.join(timeout=5):
        if time.monotonic() > end:                               # one waits for the other, in vain
            for process in processes.processes:
                process.kill()
            pytest.fail("the two processes hang")
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in (0, 1)], folder


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
    distributed.leave()


def test_processes_share_rows_in_order_and_none_twice():
    for count, processes in ((8, 1), (8, 2), (7, 3), (2, 4)):
        shares = [range(count)[distributed.rank_rows(count, number, processes)] for number in range(processes)]
        assert [row for share in shares for row in share] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert range(16, 24)[distributed.rank_rows(8, 1, 2)] == range(20, 24), "of a later step, too"


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
    assert [set(losses) for losses in first] == [{"itc"}] + [{"itc", "itm", "siblings", "mlm"}] * 4
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
            else:                                                # the float64 run compares every element
                difference = (state[name].double() - ours.double()).norm()
                assert difference <= 1e-5 * max(ours.double().norm(), 1), f"{name}: {difference}"
    a, b = (found["global"]["state"] for found in two[0])
    assert all(a[name].equal(b[name]) for name in a if isinstance(a[name], torch.Tensor)), "the processes drifted apart"


EXACT = 1e-8


@pytest.fixture(scope="module", params=["fast", "plain"])
def exact(request, tmp_path_factory):
    """The same run in this process alone, in float64; also by the plain step and loop."""
    fast = request.param == "fast"
    kind = fast_form(ScenePretrain) if fast else ScenePretrain
    return train(tmp_path_factory.mktemp("exact"), replace(CONFIG, fast=fast), dtype=torch.double,
                 task=pretrain(CONFIG, kind=kind))


def test_in_float64_two_processes_have_the_losses_gradients_and_negatives_of_one(two, exact):
    first, second = (found["exact"] for found in two[0])
    assert any(a > 1.5 * b for a, b in zip(first["hidden"], second["hidden"])), "as many words are masked in both"
    if exact["hidden"]:
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
    whole = in_passes("mlm", 1)
    a, b = (found["words"] for found in two[0])
    assert_close((a["loss"] + b["loss"]) / 2, whole["loss"])
    for found in (a, b):
        assert_close(found["gradients"], {name: whole["gradients"][name] for name in found["gradients"]},
                     atol=1e-7, rtol=1e-6)
        assert sorted(found["ids"].tolist()) == sorted(whole["ids"].tolist())
    assert a["ids"].equal(b["ids"]), "the queues would drift apart"


def test_gradients_are_added_up_over_the_processes_once_a_step_however_many_passes(two):
    for found in two[0]:
        assert found["words"]["reduced"] == found["whole words"]["reduced"] != [], "once a bucket"


def test_ddp_need_not_search_where_a_task_names_its_unused_parts(two):
    for found in two[0]:
        assert same_state(found["searched"], found["named"])


def test_training_in_two_passes_on_two_processes_ends_with_the_weights_of_one_pass_on_one(two, tmp_path):
    whole = words_trained(tmp_path, 1)
    assert len(whole["losses"]) == 5 and all(losses.keys() == {"mlm"} for losses in whole["losses"])
    for found in (one["trained words"] for one in two[0]):
        assert len(found["losses"]) == 2 * 5 and same_weights(found["state"], whole["state"])


def same_weights(a: dict, b: dict) -> bool:
    """Of student and teacher, but for what softmax ignores."""
    names = [name for name in b if name.startswith(("student", "teacher")) and not name.endswith(".k.bias")]
    assert_close({name: a[name] for name in names}, {name: b[name] for name in names}, atol=EXACT, rtol=0)
    return a.keys() == b.keys()


def test_two_processes_on_prepared_records_equal_one_however_few_words_are_masked(two, tmp_path):
    whole = train_on_records(tmp_path, two[1] / "prepared" / "shards")
    first, second = (found["records"] for found in two[0])
    assert [a + b for a, b in zip(first["hidden"], second["hidden"])] == whole["hidden"]
    assert {0, 1} < set(whole["hidden"]), "a batch of no word, one of fewer than there are processes, and others"
    for ours, a, b in zip(whole["losses"], first["losses"], second["losses"], strict=True):
        assert_close({name: (a[name] + b[name]) / 2 for name in ours}, ours, atol=EXACT, rtol=0)
    for found in (first, second):
        assert_close(found["gradients"], whole["gradients"], atol=EXACT, rtol=0)
        assert same_weights(found["state"], whole["state"])


def test_local_negatives_are_of_the_own_process_and_global_ones_are_not(two):
    def own(name):
        return [(index[valid] // 4 == number).all().item()       # 4 rows of 8 are a process's
                for number, found in enumerate(two[0]) for index, valid in found[name]["negatives"]]
    assert len(own("local")) == 2 * 2 * 4 and all(own("local")), "two processes, texts and pictures, from step 1 on"
    assert not all(own("global")), "the check is blind"


def test_local_negatives_on_two_processes_are_those_of_one_in_two_passes(two):
    """A pass draws its negatives from its own rows, and so is what a process is."""
    whole, parts = in_passes("itm", 2, hard_negatives="local"), [found["near"] for found in two[0]]
    drawn = [(index + 4 * number, valid) for number in (0, 1) for index, valid in whole["negatives"][2 * number:][:2]]
    for (index, valid), (near, counts) in zip(drawn, parts[0]["negatives"] + parts[1]["negatives"], strict=True):
        assert near.equal(index) and counts.equal(valid)
    assert_close((parts[0]["loss"] + parts[1]["loss"]) / 2, whole["loss"])
    for found in parts:
        assert_close(found["gradients"], {name: whole["gradients"][name] for name in found["gradients"]},
                     atol=1e-7, rtol=1e-6)
    assert abs(in_passes("itm", 1)["loss"] - whole["loss"]) > 1e-3, "it would be the same with global ones"


def test_local_negatives_send_features_alone_and_no_hidden_states(two):
    def ways(name):
        return {len(shape) for found in two[0] for shape in found[name]["gathered"]}
    assert ways("near") == {1, 2}, "ids (b,) and features (b, e)"
    assert ways("words") == {1, 2, 3}, "the check is blind: global ones send (b, n, d)"


def test_negatives_from_the_machine_are_global_on_one_and_local_where_each_process_has_its_own(two):
    for found in two[0]:
        for name, same in (("one machine", "whole itm"), ("two machines", "near")):
            assert found[name]["loss"].equal(found[same]["loss"])
            assert same_state(found[name]["gradients"], found[same]["gradients"])


def test_in_bf16_tokens_are_sent_so_and_what_is_compared_in_full(two):
    for found in two[0]:
        kinds = {dtype for dimensions, dtype in found["bf16"] if dimensions == 3}
        assert kinds == {torch.bfloat16}, "image and text tokens"
        assert (2, torch.float32) in found["bf16"] and (2, torch.bfloat16) not in found["bf16"], "features"


def machine_worker(number: int, port: int):
    """One of four processes, two on each of two machines: it fetches a row of each process of its machine."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number % 2), "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.join("cpu")
    first = number // 2 * 2
    assert distributed.peers("machine") == range(first, first + 2) and distributed.peers("global") == range(4)
    x = (torch.arange(6.0).reshape(3, 2) + 100 * number).requires_grad_()
    rows = torch.tensor([3 * first + 2, 3 * first + 3, 3 * first + 3])
    pool, index = fetch(x, rows, "machine")
    everything = torch.cat([torch.arange(6.0).reshape(3, 2) + 100 * process for process in range(4)])
    assert pool[index].equal(everything[rows]) and pool[:3].equal(x)
    (pool[index] * (number + 1)).sum().backward()
    weight = 2.0 * first + 3                                     # of both processes' losses
    expected = torch.zeros(6, 2)
    expected[2], expected[3] = weight, 2 * weight
    assert x.grad.equal(expected[3 * (number - first):][:3])
    distributed.leave()


def test_rows_are_fetched_from_the_own_machine_of_two_and_gradients_go_back():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(machine_worker, (port,), nprocs=4)


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
    state = torch.load(folder / "poisoned" / "state.pt", weights_only=True)
    assert state["step"] == 3
    assert all(value.isfinite().all() for value in state["task"].values() if isinstance(value, torch.Tensor))


@pytest.fixture
def apple(monkeypatch, caplog):
    """Apple's GPU is there; `apple(figures)` -> the device that is taken if it computes these, and what is said."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    cpu = distributed.golden_figures("cpu")

    def take(compute, name="auto"):
        distributed.computes_as_cpu.cache_clear()
        caplog.clear()
        monkeypatch.setattr(distributed, "golden_figures",
                            lambda device: compute(cpu.clone()) if device == "mps" else cpu)
        taken = {distributed.device_of(name).type for _ in range(3)}
        return taken, caplog.messages
    yield take
    distributed.computes_as_cpu.cache_clear()


def one_wrong(figures):
    figures[7] += 0.01
    return figures


def missing(_):
    raise NotImplementedError("The operator 'aten::x' is not currently implemented\nfor MPS")


def test_auto_takes_apples_gpu_if_it_computes_as_the_cpu(apple):
    assert apple(lambda figures: figures + 1e-5) == ({"mps"}, [])


@pytest.mark.parametrize("compute, why", [(one_wrong, "differ from the CPU's by 0.01"), (missing, "'aten::x' is not"),
                                          (lambda figures: figures * float("nan"), "by nan")])
def test_auto_takes_the_cpu_where_apples_gpu_computes_wrongly_and_says_so_once(apple, compute, why):
    taken, (said,) = apple(compute)
    assert "mps" not in taken and said.startswith("device=cpu, because mps computes wrongly here: ") and why in said
    assert apple(compute, "mps") == ({"mps"}, []), "who insists gets it"


def test_golden_figures_are_the_same_each_time_and_leave_the_random_state():
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    with torch.no_grad():
        figures = distributed.golden_figures("cpu")
    assert torch.equal(torch.rand(3), wanted) and torch.equal(figures, distributed.golden_figures("cpu"))
    assert figures.isfinite().all() and figures[0] > 0.5 and (figures.abs() > 1e-2).sum() > 1000
