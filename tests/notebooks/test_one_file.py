"""notebooks/albef.py, the paper in one file: it computes what the package computes."""
import runpy
from dataclasses import fields
from pathlib import Path

import torch
from torch.testing import assert_close

from helpers import SMALL_PAPER, texts
from minalbef import train
from minalbef.presets import preset
from minalbef.pretrain import Pretrain, PretrainBatch, make_draws

FILE = Path(__file__).parents[2] / "notebooks" / "albef.py"
STEPS = 5
SETTINGS = SMALL_PAPER | dict(batch=6, dropout=0.0, device="cpu", epoch=6 * 10, epochs=2.0,
                              warmup_steps=3, lr=1e-3, fast=False)
LENGTH = 9


def batch_at(step: int) -> PretrainBatch:
    tokens, keep = texts(6, LENGTH, 256, seed=step)
    dice = torch.Generator().manual_seed(step)
    return PretrainBatch(torch.randn(6, 3, 32, 32, generator=dice), tokens, keep,
                         6 * step + torch.arange(6))


def steps_of_the_package(task: Pretrain) -> list[dict[str, float]]:
    optimiser = train.choose_optimiser(task, task.config)
    rows = []
    for step in range(STEPS):
        losses, _ = train.train_step(task, task, optimiser, batch_at(step), step, task.config,
                                     torch.device("cpu"))
        rows.append({name: loss.item() for name, loss in losses.items()})
    return rows


def test_five_steps_are_the_packages():
    one_file = runpy.run_path(str(FILE))
    assert len(FILE.read_text(encoding="utf-8").splitlines()) <= 450
    config = preset("paper-4m", **SETTINGS)
    torch.manual_seed(0)
    task = Pretrain(config)

    names = {field.name for field in fields(one_file["Config"])}
    shared = {name: value for name, value in vars(config).items() if name in names}
    small = one_file["Config"](**shared | {"steps": config.steps, "epoch_steps": 10})
    copied = one_file["Pretrain"](small)
    for part in ("student", "teacher"):
        getattr(copied, part).load_state_dict(getattr(task, part).state_dict())

    def draw(_, generator, rows, length):
        draws = make_draws(steps.pop(0), config)
        return {"choose": draws.choose[:, :length], "kind": draws.kind[:, :length],
                "words": draws.words[:, :length],
                "image": draws.negative_image, "text": draws.negative_text}

    steps = list(range(STEPS))
    one_file["Pretrain"].forward.__globals__["draw"] = draw
    training = one_file["train"](copied, lambda step: list(vars(batch_at(step)).values())[:4], small)
    losses = [next(training) for _ in range(STEPS)]
    expected = steps_of_the_package(task)
    assert_close(losses, expected, atol=1e-5, rtol=1e-5)
    assert expected[0] != expected[-1]
