"""What hard negatives from all processes cost. From the root, as root:

    bash tests/support/two_machines.sh notebooks/experiments/traffic.py

RATE=1gbit before it: over a cable of that bandwidth. `torchrun --nproc-per-node=2` for the script: on one machine.
Steps with negatives of the global batch and of the own process alone take turns, at SIZES.
Prints JSON: seconds a step by the clock and of the first process's processor, medians.
"""
import json
import os
import statistics
import time
from dataclasses import replace

import torch
from torch import nn

from minalbef.bench.step import WORDS, make_batch
from minalbef.fast import loop
from minalbef.fast.pretrain import FastPretrain
from minalbef.presets import preset
from minalbef.recipes.report import commit, describe_device, now
from minalbef.system import distributed
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.table import TASKS

KINDS = ("global", "local")           # hard negatives: of the global batch, or of the own process
ROUNDS = 24
WARM_UP = 4                           # steps that don't count
SIZES = dict(image_size=128, image_width=192, image_depth=6, image_heads=3,
             text_width=192, text_depth=3, text_heads=3, fusion_depth=3,
             vocab_size=2000, batch=32, queue_size=1024, text_length=25,
             hard_from=0.0, match_from=0.0)


def describe_launch() -> str:
    """How the processes were started, as a command."""
    if os.environ["LOCAL_WORLD_SIZE"] == str(distributed.world()):       # on one machine
        return "torchrun --nproc-per-node=2"
    rate = os.environ.get("RATE")
    launcher = "bash tests/support/two_machines.sh"
    return f"RATE={rate} {launcher}" if rate else launcher


def measure() -> dict[str, dict[str, float]]:
    """Median seconds of a step, by the clock and of this process's CPU, for each kind of negatives."""
    device = distributed.join()
    config = preset("paper-4m", **SIZES)
    task = FastPretrain(config).to(device)
    optimiser = torch.optim.AdamW(task.parameters(), lr=1e-4, fused=True)
    model = nn.parallel.DistributedDataParallel(task, find_unused_parameters=True)
    tokenizer = Tokenizer.train([" ".join(WORDS)], 512)
    batch = make_batch(TASKS["pretrain"], config, tokenizer, 0)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    cpu_seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for step in range(2 * ROUNDS):
        kind = KINDS[step % 2]
        task.config = replace(config, hard_negatives=kind)
        start = time.perf_counter()
        cpu_start = time.process_time()
        _, carry = loop.backward(model, task, batch, 0.4, task.draws(step), task.config, device)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        task.after_step(carry)
        if step >= WARM_UP:
            seconds[kind].append(time.perf_counter() - start)
            cpu_seconds[kind].append(time.process_time() - cpu_start)
    medians = {}
    for kind in KINDS:
        medians[kind] = {"seconds": round(statistics.median(seconds[kind]), 4),
                         "cpu_seconds": round(statistics.median(cpu_seconds[kind]), 4)}
    return medians


def main() -> None:
    """Measure, and print in the first process."""
    torch.set_num_threads(1)
    medians = measure()
    if distributed.rank() == 0:
        print(json.dumps({
            "command": f"{describe_launch()} notebooks/experiments/traffic.py",
            **medians,
            "date": now(),
            "commit": commit(),
            "device": describe_device(),
        }, indent=1))
    distributed.leave()


if __name__ == "__main__":
    main()
