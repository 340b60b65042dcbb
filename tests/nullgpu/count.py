"""What a training step costs, counted on the null GPU.

    count.py PRESET[,PRESET...] [FIELD=VALUE ...]

    python tests/nullgpu/count.py paper-4m batch=64 precision=bf16

Prints JSON, of several presets by their names.
"""
import json
import os
import sys
from pathlib import Path

import torch

from minalbef.bench import step as bench
from minalbef.fast import loop
from minalbef.system import distributed

# steps that allocate and compile; DDP times its first ten, and waits for that
WARM_UP = 12


def main(names: str, *changes: str) -> None:
    """Print what a step costs."""
    steps = {name: count(name, changes) for name in names.split(",")}
    if distributed.rank() == 0:
        print(json.dumps(steps if len(steps) > 1 else steps[names], indent=1))
    # NCCL's barrier doesn't wait here, and gloo's does
    distributed.longest(0)
    distributed.leave()


def count(preset: str, changes: tuple[str, ...]) -> dict:
    """What a step of a preset costs in a run's middle, when the queue is full."""
    import gpu_counts

    config, name = bench.find_recipe(preset, ["device=cuda", "alpha_ramp=false", *changes])
    step = bench.Steps(config, name, full_texts=True)
    with loop.recompute_and_compile(step.task, config):
        for i in range(WARM_UP):
            step(i)
        torch.cuda.reset_peak_memory_stats()
        with gpu_counts.count() as counts:
            step(WARM_UP)
        counts["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
    return counts


def start_on_null_gpu() -> None:
    """Run this script again, on the null GPU."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
    import null_gpu

    lack = null_gpu.find_lack()
    if lack:
        raise SystemExit(lack)
    raise SystemExit(null_gpu.run(__file__, *sys.argv[1:]).returncode)


if __name__ == "__main__":
    if "NULLGPU" not in os.environ:
        start_on_null_gpu()
    main(*sys.argv[1:])
