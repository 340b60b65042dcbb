"""fast: the same losses, gradients and weights as the plain step and the plain loop."""
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from helpers import Batches, disturb, pretrain, small
from minalbef.config import Config
from minalbef.fast.pretrain import FastPretrain, fast_form
from minalbef.presets import preset
from minalbef.pretrain import Pretrain, PretrainBatch
from minalbef.scenes.pretrain import ScenePretrain
from minalbef.system import distributed
from minalbef.system.training import check_task
from minalbef.tasks.retrieval import Retrieval
from minalbef.tasks.table import TASKS
from minalbef.train import fit

CLOSE = 1e-6                          # relative, of losses and of the whole gradient
WAYS = {
    "the paper's": {},
    "one stem": {"share_stem": True},
    "MLM of every second row": {"mlm_every": 2},
    "each row its own positive": {"equal_ids_match": False},
    "minimal pairs": {"siblings": 1.0},
    "minimal pairs alone": {"siblings": 1.0, "sibling_negatives": False},
    "ITC alone": {"match_from": 1.0},
    "without queue and hard negatives": {"queue_from": 1.0, "hard_from": 1.0},
}


def losses_and_gradient(task: Pretrain, batch: PretrainBatch, alpha: float, step: int = 15):
    """-> losses by name, the student's gradient as one vector, and the keys."""
    losses, keys = task(batch, alpha, task.draws(step))
    task.zero_grad()
    sum(losses.values()).backward()
    grads = [p.grad.flatten() for p in task.student.parameters() if p.grad is not None]
    return losses, torch.cat(grads), keys


def assert_equal_steps(plain: Pretrain, fast: Pretrain,
                       batch: PretrainBatch, alpha: float) -> None:
    losses, gradient, keys = losses_and_gradient(plain, batch, alpha)
    fast_losses, fast_gradient, fast_keys = losses_and_gradient(fast, batch, alpha)
    assert fast_losses.keys() == losses.keys()
    for name, loss in losses.items():
        assert_close(fast_losses[name], loss, atol=0, rtol=CLOSE)
    assert (fast_gradient - gradient).norm() <= CLOSE * gradient.norm()
    assert_close(fast_keys, keys, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("way", WAYS)
def test_a_step_is_the_plain_one(way, alpha):
    config = small(**WAYS[way])
    plain, fast = [pretrain(config, kind=kind)
                   for kind in (ScenePretrain, fast_form(ScenePretrain))]
    if config.share_stem:
        plain.share_stem()
    assert_equal_steps(plain, fast, Batches(config)(0), alpha)


def random_batch(config: Config) -> PretrainBatch:
    dice = torch.Generator().manual_seed(1)
    rows = config.batch
    length = min(config.text_length, 25)
    tokens = torch.randint(5, config.vocab_size, (rows, length), generator=dice)
    tokens[:, 0] = 2
    keep = torch.ones(rows, length, dtype=torch.bool)
    keep[::2, -3:] = False
    image = torch.randn(rows, 3, config.image_size, config.image_size, generator=dice)
    return PretrainBatch(image, tokens * keep, keep, torch.arange(rows))


def preset_task(kind: type[Pretrain], config: Config) -> Pretrain:
    torch.manual_seed(0)
    task = kind(config)
    disturb(task.student, 0.01)
    return task.double()


@pytest.mark.slow(minutes=0.5)
@pytest.mark.parametrize("name, rows", [("tiny", 16), ("paper-4m", 2)])
def test_a_step_of_a_presets_size_is_the_plain_one(name, rows):
    """In float64, one after the other: the paper's model has 200 million weights."""
    config = preset(name, batch=rows, queue_size=64,
                    dropout=0.0, share_stem=False, match_from=0,
                    queue_from=0, hard_from=0, device="cpu")
    batch = random_batch(config).map(lambda x: x.double() if x.is_floating_point() else x)
    losses, gradient, _ = losses_and_gradient(preset_task(Pretrain, config), batch, 0.4)
    fast_losses, fast_gradient, _ = losses_and_gradient(preset_task(FastPretrain, config),
                                                        batch, 0.4)
    for loss_name, loss in losses.items():
        assert_close(fast_losses[loss_name], loss, atol=0, rtol=CLOSE)
    assert (fast_gradient - gradient).norm() <= CLOSE * gradient.norm()


def test_validation_is_the_plain_one():
    config = small()
    batch = Batches(config)(0)
    results = []
    for kind in (ScenePretrain, fast_form(ScenePretrain)):
        task = pretrain(config, kind=kind)
        results.append(task.validate(batch, task.draws(0)))
    (losses, keys), (fast_losses, fast_keys) = results
    assert_close(fast_losses, losses, atol=0, rtol=CLOSE)
    assert_close(fast_keys, keys, atol=1e-6, rtol=1e-6)


class PowerCut(Exception):
    """What ends a run in a test."""


def trained(folder, fast: bool, **changes) -> tuple[list[dict[str, float]], dict]:
    """Twelve steps, cut off in the tenth, of which the last save is that of step 6."""
    config = small(epoch=12 * 8, alpha=0.4, save_every=6, fast=fast, **changes)
    batches = Batches(config)
    kind = fast_form(ScenePretrain) if fast else ScenePretrain
    losses: list[dict[str, float]] = []

    class Watched(kind):
        def after_step(self, keys):
            super().after_step(keys)
            losses.append({name: loss.item() for name, loss in self.last.items()})

        def forward(self, *arguments):
            self.last, keys = super().forward(*arguments)
            return self.last, keys

    def cut(step: int):
        if step == 9:
            raise PowerCut
        return batches(step)

    def task() -> Pretrain:
        return pretrain(config, kind=Watched)

    with pytest.raises(PowerCut):
        fit(task(), cut, config, folder, quiet=True)
    del losses[6:]
    last = task()
    fit(last, batches, config, folder, quiet=True)
    return losses, last.state_dict()


@pytest.mark.parametrize("changes", [{}, {"muon_lr": 1.6}])
def test_twelve_steps_with_a_kill_are_the_plain_ones(tmp_path, changes):
    runs = [trained(tmp_path / name, name == "fast", **changes) for name in ("plain", "fast")]
    (losses, weights), (fast_losses, fast_weights) = runs
    assert len(losses) == len(fast_losses) == 12
    for plain, fast in zip(losses, fast_losses):
        assert_close(fast, plain, atol=0, rtol=2e-5)
    for name, value in weights.items():
        # noise, for Adam
        if isinstance(value, torch.Tensor) and not name.endswith(".k.bias"):
            scale = max(value.float().norm(), 1)
            assert (fast_weights[name].float() - value.float()).norm() <= 1e-4 * scale, name


def test_retrieval_is_fine_tuned_by_the_plain_step_too():
    config = small()
    plain = Retrieval(config)
    fast = fast_form(Retrieval)(config)
    for task in (plain, fast):
        task.load_state_dict(pretrain(config).state_dict())
    assert_equal_steps(plain, fast, Batches(config)(0), 0.4)


@pytest.mark.parametrize("change", ["accumulate=2", "checkpointing=true", "compile=true"])
def test_the_plain_loop_says_what_it_has_not(tmp_path, change):
    name, value = change.split("=")
    config = replace(small(fast=False), **{name: int(value) if value.isdigit() else True})
    with pytest.raises(ValueError,
                       match=f"fast=false, the plain loop, has no {name}; take fast=true"):
        fit(pretrain(config, kind=ScenePretrain), Batches(config), config, tmp_path, quiet=True)


@pytest.mark.parametrize("name", TASKS)
def test_tasks_have_the_form_that_the_config_asks_for(name):
    for fast in (True, False):
        task = TASKS[name].module(small(fast=fast))
        if isinstance(task, Pretrain):
            assert isinstance(task, FastPretrain) == fast


def test_the_plain_step_is_refused_in_several_processes(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 2)
    config = small()
    with pytest.raises(ValueError, match="Retrieval trains in one process, and these are 2"):
        check_task(Retrieval(config), config, "train")
    check_task(fast_form(Retrieval)(config), config, "train")
