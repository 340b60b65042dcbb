"""What a training step costs, counted on the null GPU:
`count.py PRESET[,PRESET...] [FIELD=VALUE ...]`.

    python tests/nullgpu/count.py paper-4m batch=64 precision=bf16
    python tests/nullgpu/count.py paper-4m batch=64 precision=bf16 compile=true lengths=25,22,24

Besides the preset's fields there are:
lengths: of the longest text, in as many steps before the one that is counted, whose is the limit
top: how many kernels to name, of those that are launched most
backend: of torch.compile; "eager" only traces, in seconds instead of minutes

Prints JSON, of several presets by their names. Host times are process time: other processes make them longer.
"""
import json
import os
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from torch._dynamo.utils import counters

from minalbef.system import distributed

# steps that allocate and compile; DDP times its first ten, and waits for that
WARM_UP = ",".join(11 * ["0"])
TIMED = 5                             # steps


def main(names: str, *changes: str) -> None:
    """Print what a step costs."""
    settings = dict(change.split("=", 1) for change in changes)
    torch.compile = partial(torch.compile, backend=settings.pop("backend", "inductor"))
    steps = {name: count(name, dict(settings)) for name in names.split(",")}
    if distributed.rank() == 0:
        print(json.dumps(steps if len(steps) > 1 else steps[names], indent=1))
    # NCCL's barrier doesn't wait here, and gloo's does
    distributed.longest(0)
    distributed.leave()


def count(name: str, settings: dict[str, str]) -> dict:
    """What a step of a preset costs."""
    import gpu_counts
    from gpu_steps import Steps

    lengths = [int(length) for length in settings.pop("lengths", WARM_UP).split(",")]
    top = int(settings.pop("top", 0))
    step = Steps(name, settings)
    graphs = []
    with step.layers():
        for length in lengths:
            step.take(length)
            graphs.append(counters["stats"]["unique_graphs"])
        step.of_length(0)
        torch.cuda.reset_peak_memory_stats()
        gpu_counts.kernels()
        with gpu_counts.count() as counts:
            step.take()
        kernels = gpu_counts.kernels()
        counts["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
        counts["host_ms"] = [time_step(step) for _ in range(TIMED)]
    counts["cudnn_plans"] = gpu_counts.COUNTS.cudnn_plans         # of all steps
    if step.config.compile:
        counts["graphs"] = [*graphs, counters["stats"]["unique_graphs"]]
    if top:
        counts["top"] = name_kernels(kernels, top)
    return counts


def time_step(step) -> float:
    """Milliseconds of process time."""
    start = time.process_time()
    step.take()
    return round(1e3 * (time.process_time() - start), 1)


def name_kernels(kernels: Counter[str], top: int) -> dict[str, int]:
    """Launches of those that are launched most, by the beginning of their name in C++."""
    names = {}
    for name, launches in kernels.most_common(top):
        demangled = subprocess.run(["c++filt", name], capture_output=True, text=True).stdout
        names[demangled.strip()[:200]] = launches
    return names


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
