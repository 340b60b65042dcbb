"""What a training step costs, counted on the null GPU: `count.py PRESET [FIELD=VALUE ...]`.

    python tests/nullgpu/count.py paper-4m batch=64 precision=bf16
    python tests/nullgpu/count.py paper-4m batch=64 precision=bf16 compile=true lengths=25,22,24

lengths: of the longest caption, in as many steps before those that are counted, whose are full
kernels=20: name the 20 kernels that are launched most
Host times are process time: other processes make them longer.
"""
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from torch._dynamo.utils import counters

WARM_UP = "0,0,0"                     # steps that allocate and compile, of full length
TIMED = 5                             # steps


def main(name: str, *changes: str) -> None:
    """Print what a step costs, after those of `lengths`."""
    import gpu_counts
    from gpu_steps import Steps

    settings = dict(change.split("=", 1) for change in changes)
    lengths = [int(length) for length in settings.pop("lengths", WARM_UP).split(",")]
    top = int(settings.pop("kernels", 0))
    work = Steps(name, settings, torch.device("cuda", 0))
    with work.layers():
        for step, length in enumerate(lengths):
            batch = work.batch(step, length)
            start = time.perf_counter()
            work(step, batch)
            seconds = time.perf_counter() - start
            graphs = counters["stats"]["unique_graphs"]
            print(f"step {step}: {seconds:.1f} s, {graphs} graphs so far", flush=True)
        step = len(lengths)
        batch = work.batch(step)
        torch.cuda.reset_peak_memory_stats()
        gpu_counts.kernels()
        with gpu_counts.count() as counts:
            work(step, batch)
        print_kernels(gpu_counts.kernels(), top)
        peak = torch.cuda.max_memory_allocated() / 1e9
        milliseconds = []
        for i in range(TIMED):
            start = time.process_time()
            work(step + 1 + i, batch)
            milliseconds.append(1e3 * (time.process_time() - start))
    for field, value in counts.items():
        print(f"{field:16} {value}")
    print(f"{'peak GB':16} {peak:.2f}")
    print(f"{'host CPU ms':16} {min(milliseconds):.1f} to {max(milliseconds):.1f}")


def print_kernels(kernels: Counter[str], top: int) -> None:
    """The kernels that are launched most, with their names in C++."""
    for name, launches in kernels.most_common(top):
        filt = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True)
        print(f"{launches:6} {filt.stdout[:150].strip()}")


def start_on_null_gpu() -> int:
    """Run this script again, on the null GPU."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
    import null_gpu

    lack = null_gpu.find_lack()
    if lack:
        raise SystemExit(lack)
    return null_gpu.run(__file__, *sys.argv[1:]).returncode


if __name__ == "__main__":
    if "NULLGPU" not in os.environ:
        raise SystemExit(start_on_null_gpu())
    main(*sys.argv[1:])
