"""Dry run of a full-size preset on a CPU, with random weights and data.

Does it run, how fast, and in how much memory?
"""
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from minalbef import train
from minalbef.config import Config
from minalbef.presets import preset
from minalbef.recipes.machine import peak_memory
from minalbef.tasks.base import Task
from minalbef.tasks.table import TASKS, find_task_of_preset
from minalbef.tokenizer import Tokenizer

WORDS = ("a bird sits on the red roof of an old house while two men in green coats walk their dogs "
         "along a wide river").split()


def rehearsals() -> list[str]:
    """The presets with a dry run: the paper's recipes, for pretraining and for each task."""
    return [name for task in TASKS.values() for name in task.presets]


def dry_run(name: str, steps: int = 2, say: Callable[[str], None] = print, /, **changes: Any
            ) -> list[dict]:
    """Train a preset for a few steps on noise, in fp32: -> a row of figures for each step.

    A row has the losses, the gradient norm, seconds, and the process's peak memory so far in GB,
    which is None where the system doesn't report it.
    say: prints a line
    changes: settings to change, to make the preset smaller; without `batch`, a batch has as few
        rows as the task needs
    Raises ValueError for another preset, FloatingPointError for a loss that is not finite.
    """
    task = find_task_of_preset(name)
    if task is None:
        raise ValueError(f"no rehearsal of {name!r}; there are {', '.join(rehearsals())}")
    config = preset(name, **{"batch": max(2, task.least_rows)} | changes)
    rows_per_batch = max(config.batch, task.least_rows)
    config = replace(config, batch=rows_per_batch, precision="fp32", accumulate=1)
    torch.manual_seed(config.seed)
    tokenizer = Tokenizer.train([" ".join(WORDS)], min(config.vocab_size, 512))
    module = task.module(config)
    groups = train.parameter_groups(module, config)
    optimiser = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    say(f"{name}: {count / 1e6:.1f}M parameters to train, {config.image_size} x "
        f"{config.image_size} pixels, random weights, noise for images; batch {config.batch} "
        f"in place of {preset(name).batch}")
    rows = []
    for step in range(steps):
        batch = make_batch(task, config, tokenizer, step)
        row = measure_step(module, optimiser, batch, step, config)
        figures = [f"{key} {value:.4g}" for key, value in row.items() if value is not None]
        say("  " + ", ".join(figures))
        rows.append(row)
    return rows


def measure_step(module: Any, optimiser: torch.optim.Optimizer, batch: Any, step: int,
                 config: Config) -> dict:
    """One step of training: -> a row of figures. Raises FloatingPointError, see `dry_run`."""
    clock = time.perf_counter()
    losses, norm = train.train_step(module, module, optimiser, batch, step, config,
                                    torch.device("cpu"))
    loss = sum(losses.values(), torch.tensor(0.0))
    if not torch.isfinite(loss + norm):
        raise FloatingPointError(f"{config.name}, step {step}: loss {loss:.3g} and gradient "
                                 f"{norm:.3g} must be finite")
    parts = {name: value.item() for name, value in losses.items()}
    memory = peak_memory()
    return {
        "step": step,
        **parts,
        "loss": loss.item(),
        "gradient": norm.item(),
        "lr": train.lr_at(step, config),
        "alpha": train.alpha_at(step, config),
        "seconds": time.perf_counter() - clock,
        "memory_gb": memory / 1e3 if memory else None,
    }


def make_batch(task: Task, config: Config, tokenizer: Tokenizer, step: int) -> Any:
    """A batch of noise images and random texts longer than the limit, fixed by (seed, step).

    The collate function resizes the images to the preset's side.
    """
    rng = np.random.default_rng([config.seed, step])
    records = []
    for i in range(config.batch):
        image, second_image = rng.integers(0, 256, (2, 48, 64, 3), np.uint8)
        text = " ".join(rng.choice(WORDS, config.text_length))
        record_id = config.batch * step + i
        records.append(task.dry_run_record(image, second_image, text, record_id))
    return task.collate(records, tokenizer, config.image_size, config.text_length)
