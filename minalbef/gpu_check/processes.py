"""Part 8: NCCL and DDP, with one GPU and with two: do they train as one process does?"""
import os
import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from minalbef import distributed, train
from minalbef.fast import loop
from minalbef.gpu_check.parts import PASS, Result, Setting, pass_or_fail
from minalbef.gpu_check.small_steps import fp32_products, make_recipe

PRESET = "paper-4m"
STEPS = 3
CLOSE = 1e-4                          # largest difference of a loss, or of 1 where it is smaller


def check(setting: Setting) -> Result:
    """Train without a process group, in a group of one, and in one of two if there are two GPUs.

    PASS if the losses of all steps agree.
    """
    alone = run(0, setting)
    rows: list[dict[str, Any]] = []
    worlds = [1, 2] if torch.cuda.device_count() > 1 or setting.device.type == "cpu" else [1]
    for world in worlds:
        print(f"a group of {world}", flush=True)
        together = run(world, setting)
        difference = max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(alone, together))
        rows.append({"processes": world, "difference": difference,
                     "verdict": pass_or_fail(difference <= CLOSE)})
    names = {1: "one process under DDP", 2: "two processes"}
    figures = [f"{names[row['processes']]}: losses within {row['difference']:.1e}" for row in rows]
    if len(worlds) == 1:
        figures.append("there is one GPU, so two processes weren't compared")
    passed = all(row["verdict"] == PASS for row in rows)
    return Result(pass_or_fail(passed), "; ".join(figures), {"groups": rows, "losses": alone})


def run(world: int, setting: Setting) -> list[float]:
    """The losses of all steps, one after the other, of so many processes; 0: without a group."""
    path = setting.folder / f"losses-{world}.pt"
    path.unlink(missing_ok=True)
    arguments = (world, free_port(), setting.device.type, dict(setting.changes), path)
    torch.multiprocessing.spawn(train_share, arguments, max(1, world))
    return torch.load(path)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train_share(rank: int, world: int, port: int, device_name: str, changes: dict[str, Any],
                path: Path) -> None:
    """One process's share of each step; the first writes the losses, averaged over processes."""
    device = distributed.device_of(device_name)
    if world:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
                       "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        device = distributed.join(device_name)
    recipe = make_recipe(PRESET, {**changes, "precision": "fp32", "dropout": 0.0}, device)
    model = recipe.module
    if world:
        devices = [device] if device.type == "cuda" else None
        model = loop.in_ddp(recipe.module, devices, None)
    rows = distributed.rank_rows(recipe.config.batch, rank, max(1, world))
    losses = []
    with fp32_products(tf32=False):
        for step in range(STEPS):
            batch = recipe.batch(step).map(lambda x: x[rows])
            values, _ = train.train_step(model, recipe.module, recipe.optimiser, batch, step,
                                         recipe.config, device)
            means = torch.stack(list(values.values()))
            if world:
                dist.all_reduce(means)
                means /= world
            losses += means.tolist()
    if rank == 0:
        torch.save(losses, path)
    distributed.leave()
