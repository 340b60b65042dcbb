"""train: schedules by hand; the same run again, resumed, stopped, broken off:
nothing is lost and nothing differs."""
import contextlib
import csv
import math
import os
import shutil
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torch import nn

from full_disk import files_end_at
from helpers import Batches, same_state, small
from minalbef.albef import ALBEF
from minalbef.ema import Trainable
from minalbef.fast.muon import Muon
from minalbef.presets import preset
from minalbef.pretrain import Pretrain
from minalbef.recipes.report import train_seconds
from minalbef.system import distributed
from minalbef.train import Stopped, alpha_at, fit, lr_at, parameter_groups

CONFIG = small(image_size=16, text_width=32, alpha=0.4,
               match_from=0.2, queue_from=0.3, hard_from=0.6)


def run(folder, batches=None, config=CONFIG, seed=0, **options):
    """Train, from the folder's checkpoint if it has one -> the task's state."""
    torch.manual_seed(seed)
    task = Pretrain(config)
    fit(task, batches or Batches(config), config, folder, quiet=True, **options)
    return task.state_dict()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 20 steps that nothing disturbed: its folder and its last state."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, run(folder)


class Disturbed(Batches):
    """The batches of a run, and something that happens before one of them."""

    def __init__(self, step: int, happens):
        super().__init__(CONFIG)
        self.when = step
        self.happens = happens

    def __call__(self, step: int):
        if step == self.when:
            self.happens()
        return super().__call__(step)


def saved(folder) -> dict:
    return torch.load(folder / "state.pt", weights_only=True)


# schedules and groups

def test_lr_by_hand():
    c = preset("tiny", lr=1.0, lr_start=0.2, lr_end=0.1, warmup_steps=4, epoch=20, batch=1)
    assert [round(lr_at(step, c), 6) for step in (0, 1, 2, 3, 4)] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert math.isclose(lr_at(12, c), 0.55)
    assert math.isclose(lr_at(8, c), 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert math.isclose(lr_at(20, c), 0.1) and math.isclose(lr_at(99, c), 0.1)
    for step in range(4, 20):
        assert lr_at(step, c) > lr_at(step + 1, c)
    assert lr_at(0, preset("tiny", warmup_steps=0)) == 2e-3


def test_alpha_by_hand():
    c = preset("tiny", alpha=0.4, epoch=80, batch=8)
    assert [round(alpha_at(step, c), 6)
            for step in (0, 1, 5, 10, 11, 99)] == [0, 0.04, 0.2, 0.4, 0.4, 0.4]


def test_parameter_groups_decay_matrices_alone_and_slow_temperature_and_stem():
    task = Pretrain(CONFIG)
    names = {id(p): name.removeprefix("student.") for name, p in task.named_parameters()}
    treated = {}
    for group in parameter_groups(task, CONFIG):
        for p in group["params"]:
            treated[names[id(p)]] = (group["weight_decay"], group["lr_scale"])
    assert treated.keys() == dict(task.student.named_parameters()).keys(), (
        "all of the student, none of the teacher")
    assert treated["temperature"] == (0, 0.03)
    assert treated["image_encoder.patch_embed.down.0.0.weight"] == (0.02, 0.2)
    for name in ("image_encoder.cls_token", "image_encoder.pos_embed", "word_head.bias",
                 "fusion.layers.0.norm1.weight"):
        assert treated[name] == (0, 1), name
    for name in ("fusion.layers.0.cross.q.weight",
                 "text_encoder.embeddings.word_embed.weight", "match_head.weight"):
        assert treated[name] == (0.02, 1), name
    for name, (decay, _) in treated.items():
        if name.endswith("bias") or "norm" in name:
            assert not decay


class Toy(Trainable):
    """Two weights and no draws: cost(weight, batch) is the loss."""

    def __init__(self, cost):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.temperature = nn.Parameter(torch.ones(()))
        self.cost = cost

    def draws(self, step):
        return step

    def forward(self, batch, alpha, draws):
        return {"cost": self.cost(self.weight, self.temperature, batch)}, None

    def after_step(self, carry):
        pass


def test_the_optimiser_steps_at_the_schedules_rate(tmp_path):
    toy = Toy(lambda weight, temperature, batch: weight.sum() + temperature)
    config = preset("tiny", epoch=3, batch=1, lr=0.1, lr_start=0.1,
                    lr_end=0.1, clip=0, temperature_lr=0.5,
                    betas=(0, 0))
    fit(toy, lambda step: step, config, tmp_path, quiet=True)
    # Adam's step is the rate
    torch.testing.assert_close(toy.weight.detach(), torch.full((2,), 0.7))
    torch.testing.assert_close(toy.temperature.detach(), torch.tensor(0.85))


# Muon

def test_muon_moves_a_matrix_along_all_its_directions_alike():
    torch.manual_seed(0)
    weights = {"wide": torch.randn(6, 10), "tall": torch.randn(10, 6),
               "conv": torch.randn(4, 5, 3, 3)}
    groups = [{"params": [nn.Parameter(weight.clone())], "muon": True}
              for weight in weights.values()]
    optimiser = Muon(groups, lr=0.1, weight_decay=0.5, fused=True)
    gradients = {name: torch.randn_like(weight) for name, weight in weights.items()}
    for group, gradient in zip(groups, gradients.values()):
        group["params"][0].grad = gradient.clone()
    optimiser.step()
    for (name, weight), group in zip(weights.items(), groups):
        moved = (weight * (1 - 0.1 * 0.5) - group["params"][0].detach()).flatten(1)
        u, _, vt = torch.linalg.svd(gradients[name].flatten(1), full_matrices=False)
        size = 0.1 * 0.2 * max(moved.shape) ** 0.5
        torch.testing.assert_close(moved / size, u @ vt, atol=0.1, rtol=0)
        assert 0.9 * size < torch.linalg.svdvals(
            moved).min() < torch.linalg.svdvals(moved).max() < 1.15 * size


# the same run again


def test_what_was_loaded_for_evaluation_is_trained_with_dropout(tmp_path):
    task = Pretrain(CONFIG, student=ALBEF(CONFIG).eval())
    fit(task, Batches(CONFIG), CONFIG, tmp_path, quiet=True)
    assert task.student.training and not task.teacher.training


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_is_saved_and_goes_on_to_the_same_weights(finished, tmp_path, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Stopped, match="after step 10 of 20; the same command goes on"):
        run(tmp_path, Disturbed(9, lambda: os.kill(os.getpid(), number)))
    assert saved(tmp_path)["step"] == 10
    assert same_state(run(tmp_path, seed=5), finished[1]), (
        "what the seed drew is overwritten by the checkpoint")
    assert same_state(saved(tmp_path)["optimiser"], saved(finished[0])["optimiser"])
    assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]


def test_a_second_ctrl_c_kills_as_usual(tmp_path, request):
    # a shell's background jobs start without it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Disturbed(3, twice))
    assert not (tmp_path / "state.pt").exists()


def broken():
    raise RuntimeError("the power went off")


@pytest.mark.parametrize("how", [{}, {"accumulate": 2, "checkpointing": True}])
def test_a_run_with_dropout_that_is_broken_off_ends_with_the_same_weights(tmp_path, how):
    config = replace(CONFIG, dropout=0.1, epoch=80, save_every=4, **how)         # ten steps
    full = run(tmp_path / "whole", config=config)
    with pytest.raises(RuntimeError, match="power"):
        run(tmp_path / "cut", Disturbed(6, broken), config)
    assert same_state(run(tmp_path / "cut", config=config, seed=5), full)
    assert not same_state(run(tmp_path / "without",
                              config=replace(config, dropout=0.0)), full), (
        "nothing was dropped")


def test_no_two_steps_passes_processes_or_seeds_drop_the_same_units_and_a_resumed_run_does(
        tmp_path, monkeypatch):
    def masks(folder, steps: int, rank: int = 0, seed: int = 0) -> list[bytes]:
        """What a process drops, pass after pass, in a run up to so many of six steps."""
        calls = []
        monkey = monkeypatch.setattr
        def cost(weight, temperature, batch):
            calls.append(nn.functional.dropout(torch.ones(64), 0.5).numpy().tobytes())
            return weight.sum() + temperature
        def batches(step):
            return broken() if step == steps else SimpleNamespace()
        monkey(distributed, "rank", lambda: rank)
        config = preset("tiny", epoch=12, batch=2, dropout=0.1,
                        accumulate=2, save_every=1, seed=seed)
        with contextlib.suppress(RuntimeError):
            fit(Toy(cost), batches, config, tmp_path / folder, quiet=True)
        return calls
    full = masks("whole", 6)
    assert len({*full, *masks("rank 1", 6, rank=1), *masks("seed 1", 6, seed=1)}) == 3 * 6 * 2
    assert masks("cut", 4) + masks("cut", 6) == full


def test_metrics_have_a_row_every_ten_steps(finished):
    rows = list(csv.DictReader((finished[0] / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == [10, 20]
    assert list(rows[0]) == ["step", "samples", "seconds", "lr", "alpha",
                             "samples_per_second", "itc", "itm", "mlm"]
    assert rows[1]["samples"] == "160" and float(rows[1]["alpha"]) == 0.38
    assert 0 < float(rows[0]["seconds"]) <= float(
        rows[1]["seconds"]) == train_seconds(finished[0])
    assert train_seconds(finished[0] / "nothing") == 0
    for row in rows:
        for value in row.values():
            assert math.isfinite(float(value))


# what breaks

class Poisoned(Batches):
    """A picture of step 7 has NaN in it."""

    def __call__(self, step):
        batch = super().__call__(step)
        if step == 7:
            batch.image[0, 0, 0, 0] = torch.nan
        return batch


def test_nan_in_the_loss_stops_and_keeps_the_last_good_checkpoint(finished, tmp_path):
    config = replace(CONFIG, save_every=5)
    with pytest.raises(FloatingPointError,
                       match=r"step 7: .*itc nan.*keeps the last good.*a lower lr") as e:
        run(tmp_path, Poisoned(config), config)
    assert str(tmp_path) in str(e.value)
    state = saved(tmp_path)
    assert state["step"] == 5
    for v in state["task"].values():
        if isinstance(v, torch.Tensor):
            assert torch.as_tensor(v).isfinite().all()
    assert same_state(run(tmp_path, config=config), finished[1])


@pytest.mark.parametrize("clip", [0, 1.0])
def test_a_gradient_that_is_not_finite_is_no_step(tmp_path, clip):
    # the root of 0 is 0, its slope is not finite
    def cost(weight, temperature, batch):
        return (weight.sum() if batch < 2
                else (0 * weight).abs().sqrt().sum()) + 0 * temperature
    toy = Toy(cost)
    config = preset("tiny", epoch=4, batch=1, clip=clip, save_every=1)
    with pytest.raises(FloatingPointError, match="step 2"):
        fit(toy, lambda step: step, config, tmp_path, quiet=True)
    assert saved(tmp_path)["step"] == 2
    assert saved(tmp_path)["task"]["weight"].isfinite().all()


def test_a_full_disk_leaves_the_old_checkpoint(finished, tmp_path):
    config = replace(CONFIG, save_every=10)
    with contextlib.ExitStack() as full, pytest.raises(
            OSError, match="could not write .*state.pt.*free some space"):
        run(tmp_path, Disturbed(15, lambda: full.enter_context(files_end_at(20_000))), config)
    assert saved(tmp_path)["step"] == 10
    assert {path.name for path in tmp_path.iterdir()} == {"state.pt", "metrics.csv"}, (
        "no part of a file is left")
    assert same_state(run(tmp_path, config=config), finished[1])


def test_a_run_goes_on_with_other_means_and_not_with_another_precision(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    assert same_state(run(tmp_path / "run",
                          config=replace(CONFIG, device="auto", checkpointing=True)),
                      finished[1])
    with pytest.raises(ValueError, match="precision: fp32 there, bf16 here"):
        run(tmp_path / "run", config=replace(CONFIG, precision="bf16"))


def test_tensorboard_has_the_figures_of_the_metrics(tmp_path, monkeypatch):
    calls = []
    config = replace(CONFIG, tensorboard=True)
    class Writer(SimpleNamespace):
        def __init__(self, folder, purge_step):
            calls.append((folder, purge_step))
            super().__init__(add_scalar=lambda *what: calls.append(what),
                             flush=lambda: None, close=lambda: None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard",
                        SimpleNamespace(SummaryWriter=Writer))
    validation = mock.Mock(return_value={"r_mean": 0.25}, due=lambda step: step == 10)
    run(tmp_path, config=config, validation=validation)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert calls[0] == (str(tmp_path / "tensorboard"), 1)
    scalars = {(name, step): value for name, value, step in calls[1:]}
    assert scalars.pop(("val r_mean", 10)) == 0.25
    assert scalars.keys() == {(name, step) for name in ("itc", "itm", "mlm", "lr",
                                                        "alpha", "samples_per_second")
                              for step in (10, 20)}
    for name in ("itc", "mlm"):
        for step, row in zip((10, 20), rows):
            assert round(scalars[name, step], 4) == float(row[name])


def test_a_device_that_is_not_there_is_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert distributed.device_of("auto") == distributed.device_of("cpu") == torch.device("cpu")
    with pytest.raises(ValueError,
                       match="device='cuda': process 0 of this machine has no GPU, of which there are 0.*device=cpu"):
        run(tmp_path, config=replace(CONFIG, device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.device_of() == torch.device("cuda", 1)
    assert distributed.device_of("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError,
                       match="process 2 of this machine has no GPU, of which there are 2"):
        distributed.device_of()


def test_a_batch_that_the_processes_cannot_share_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 3)
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    with pytest.raises(ValueError,
                       match="batch=8 is not a multiple of 3 processes; take one that is"):
        run(tmp_path)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(ValueError,
                       match="batch=8 is not a multiple of 2 processes times accumulate=8; take one that is"):
        run(tmp_path, config=replace(CONFIG, accumulate=8))


def test_processes_that_see_different_folders_are_told(tmp_path, monkeypatch):
    steps = iter((-7, 7))                                       # another has got to step 7
    monkeypatch.setattr(distributed, "longest", lambda n: max(n, next(steps)))
    with pytest.raises(ValueError,
                       match="from step 0, another from 7: all machines must see the same"):
        run(tmp_path)


def test_a_run_with_muon_that_was_stopped_goes_on_to_the_same_weights(tmp_path):
    config = replace(CONFIG, muon_lr=1.6)
    full = run(tmp_path / "whole", config=config)
    with pytest.raises(Stopped):
        run(tmp_path / "stopped",
            Disturbed(9, lambda: os.kill(os.getpid(), signal.SIGTERM)), config)
    assert same_state(run(tmp_path / "stopped", config=config), full)
    assert not same_state(run(tmp_path / "adamw"), full)


@pytest.mark.parametrize("damage", [
    lambda data: data[:-30], lambda data: data.replace(b"20,160", b"twenty,160")])
def test_damaged_metrics_are_named_with_the_way_out(finished, tmp_path, damage):
    shutil.copytree(finished[0], tmp_path / "run")
    path = tmp_path / "run" / "metrics.csv"
    path.write_bytes(damage(path.read_bytes()))
    for action in (run, train_seconds):
        with pytest.raises(ValueError, match=f"{path} is damaged .*remove it"):
            action(tmp_path / "run")
    path.unlink()
    assert same_state(run(tmp_path / "run"), finished[1])
