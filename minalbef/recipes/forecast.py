"""Forecast of a training run: steps, sizes, memory and time, with a warning where the steps are too few to learn."""
import math
from dataclasses import replace

import torch

from minalbef import distributed
from minalbef.config import Config
from minalbef.recipes.cost import matmul_peak, memory_bytes, peak_memory, step_flops

FEW = 1000                            # steps; `tiny` takes 2,400 to learn its scenes, and 1,250 for a task of them
WORDS = 30                            # at which texts are cut; recipes whose text_length is larger do not cut at pieces
SHARE = 0.4                           # of the speed of a large product, which a step is counted to reach


def forecast(config: Config, task: str) -> str:
    """Steps and sizes of a run, and about how much memory and time it takes here, counted as steps of pretraining."""
    world, device = distributed.world(), distributed.device_of(config.device)
    config = replace(config, text_length=min(config.text_length, WORDS))
    rows = config.batch // world // config.accumulate * (2 if task == "nlvr2" else 1)        # two pictures each
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
