"""Forecast of a training run: steps, sizes, memory, time; warnings where it is too short, or ITM learnt nothing."""
import math
from dataclasses import replace
from pathlib import Path

import torch

from minalbef import distributed
from minalbef.config import Config
from minalbef.metrics import read_metrics
from minalbef.recipes.cost import matmul_peak, memory_bytes, peak_memory, step_flops
from minalbef.tasks.table import TASKS

FEW = 1000                            # steps; `tiny` takes 2,400 to learn its scenes, and 1,250 for a task of them
WORDS = 30                            # at which texts are cut; recipes whose text_length is larger do not cut at pieces
GUESSING = -math.log(1 / 3) / 3 - 2 * math.log(2 / 3) / 3        # 0.637: ITM's loss, where one pair of three is true
MARGIN = 0.01                         # below it by which something was learnt
SHORT = 100                           # steps: of a shorter run its loss says nothing
SHARE = 0.4                           # of the speed of a large product, which a step is counted to reach


def forecast(config: Config, task: str) -> str:
    """Steps and sizes of a run, and about how much memory and time it takes here, counted as steps of pretraining."""
    world, device = distributed.world(), distributed.device_of(config.device)
    config = replace(config, text_length=min(config.text_length, WORDS))
    images = TASKS[task].images if task in TASKS else 1      # "pretraining", as people call it
    rows = config.batch // world // config.accumulate * images
    flops = step_flops(config, rows, world, config.checkpointing) * config.accumulate
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        speed = SHARE * 1e9 * matmul_peak(str(device), 4096 if device.type == "cuda" else 512, 5)[0]
    memory = memory_bytes(config, rows, config.precision == "bf16", device.type == "cpu", world, config.accumulate,
                          config.checkpointing)["all"]
    if device.type == "cpu":
        memory += 1e6 * (peak_memory() or 0)             # what Python and torch hold
    minutes = math.ceil(flops * config.steps / speed / 60)
    time = f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} hours"
    each = f" in each of {world} processes" if world > 1 else ""
    lines = [f"{task}: {config.epoch:,} examples an epoch, epochs={config.epochs:g}, {config.steps:,} steps of "
             f"batch={config.batch}; image_size={config.image_size}, lr={config.lr:g}; "
             f"about {memory / 1e9:.1f} GB{each} and {time}"]
    if config.steps < FEW:
        lines.append(f"Warning: {config.steps:,} steps teach hardly anything; "
                     f"epochs={math.ceil(FEW * config.batch / config.epoch)} makes them at least {FEW:,}")
    return "\n".join(lines)


def still_guesses(folder: Path) -> str:
    """A warning where ITM's loss was at its guessing level in the last tenth of a run's metrics; else ""."""
    rows = [row for row in read_metrics(folder) if row.get("itm")]
    if not rows or int(rows[-1]["step"]) < SHORT:
        return ""
    losses = [float(row["itm"]) for row in rows]
    last = losses[-max(1, len(losses) // 10):]
    if (mean := sum(last) / len(last)) < GUESSING - MARGIN:
        return ""
    return (f"ITM has learnt nothing yet: its loss ended at {mean:.3f}, and guessing has {GUESSING:.3f}. "
            "match_probability tells nothing of this run; train longer (epochs=...), or rank by similarity alone")
