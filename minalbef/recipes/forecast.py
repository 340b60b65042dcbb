"""Forecast of a training run: steps, memory, time; warnings of too short a run, or an idle ITM."""
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from minalbef import distributed
from minalbef.config import Config
from minalbef.metrics import read_metrics
from minalbef.recipes.cost import memory_bytes
from minalbef.recipes.counting import count_work_once
from minalbef.recipes.machine import matmul_peak, peak_memory
from minalbef.tasks.table import TASKS

FEW = 1000                            # steps; `tiny` takes 1,900, and 1,250 for a task of scenes
WORDS = 30                            # where texts are cut, if text_length doesn't cut them before
GUESSING = -math.log(1 / 3) / 3 - 2 * math.log(2 / 3) / 3    # 0.637: ITM at 1 true pair in 3
MARGIN = 0.01                         # ITM has learnt something when its loss is lower by this
SHORT = 100                           # steps: ITM's loss of a shorter run says nothing
UTILISATION = 0.4                     # a step's assumed speed over that of a large product


def forecast(config: Config, task: str) -> str:
    """Steps and sizes of a run, and roughly the memory and time it takes.

    task: its name, or "pretraining", as people call it. One that can't run on tensors without data
        is forecast as if it pretrained
    """
    world = distributed.world()
    device = distributed.device_of(config.device)
    half = config.precision == "bf16"
    config = replace(config, text_length=min(config.text_length, WORDS))
    name = task if task in TASKS else "pretrain"
    rows = config.batch // world // config.accumulate
    options: dict[str, Any] = dict(
        device="cpu" if device.type == "cpu" else "cuda", precision="bf16" if half else "fp32",
        checkpointing=config.checkpointing, accumulates=config.accumulate > 1 or world > 1)
    try:
        work = count_work_once(config, rows, name, **options)
    except Exception:                            # of a task of yours: anything
        name = "pretrain"
        work = count_work_once(config, rows, name, **options)
    flops = work.flops * config.accumulate
    side = 4096 if device.type == "cuda" else 512
    gflops, _ = matmul_peak(str(device), side, 5, half)
    speed = UTILISATION * 1e9 * gflops
    memory = memory_bytes(config, rows, half, device.type == "cpu", world, config.accumulate,
                          config.checkpointing, name, work)["all"]
    if device.type == "cpu":
        memory += 1e6 * (peak_memory() or 0)             # of Python and torch
    minutes = math.ceil(flops * config.steps / speed / 60)
    time = f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} hours"
    each = f" in each of {world} processes" if world > 1 else ""
    lines = [f"{task}: {config.epoch:,} examples an epoch, epochs={config.epochs:g}, "
             f"{config.steps:,} steps of batch={config.batch}; image_size={config.image_size}, "
             f"lr={config.lr:g}; about {memory / 1e9:.1f} GB{each} and {time}"]
    if config.steps < FEW:
        lines.append(f"Warning: {config.steps:,} steps teach hardly anything; "
                     f"epochs={enough_epochs(config)} makes them at least {FEW:,}")
    return "\n".join(lines)


def enough_epochs(config: Config) -> int:
    """The epochs that make FEW steps."""
    return math.ceil(FEW * config.batch / config.epoch)


def still_guesses(folder: Path) -> str:
    """A warning where ITM's loss ended at chance level, in the last tenth of the steps; or ""."""
    try:
        rows = [row for row in read_metrics(folder) if row.get("itm")]
        losses = [float(row["itm"]) for row in rows]
    except ValueError:                           # damaged; the run itself is saved and whole
        return ""
    if not rows or int(rows[-1]["step"]) < SHORT:
        return ""
    last = losses[-max(1, len(losses) // 10):]
    mean = sum(last) / len(last)
    if mean < GUESSING - MARGIN:
        return ""
    return (f"ITM has learnt nothing yet: its loss ended at {mean:.3f}, and guessing has "
            f"{GUESSING:.3f}. match_probability tells nothing of this run; train longer "
            "(epochs=...), or rank by similarity alone")
