"""What this machine holds and reaches: a process's memory, and the speed of a large product."""
import re
import sys
import time
from pathlib import Path

import torch

from minalbef.metrics import TICK


def peak_memory() -> float | None:
    """This process's peak memory in MB; None where the system doesn't report it."""
    status = Path("/proc/self/status")           # a child inherits its parent's getrusage
    if status.exists():
        peak = re.search(r"^VmHWM:\s*(\d+)", status.read_text(encoding="utf-8"), re.MULTILINE)
        if peak:
            return int(peak[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:                          # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def matmul_peak(device: str = "cpu", size: int = 2048, repeats: int = 10, half: bool = False
                ) -> tuple[float, float]:
    """The best GFLOP/s of some products of square matrices: by wall clock, by CPU time.

    The latter is by wall clock, too, where the CPU's clock is too coarse for a product.
    half: in bf16, or else in fp32 as torch has it: with TF32 where that is switched on
    """
    dtype = torch.bfloat16 if half else torch.float32
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    wall = cpu = float("inf")
    for _ in range(repeats):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        (a @ b)[0, 0].item()                     # .item() waits for the device
        wall = min(wall, time.perf_counter() - wall_start)
        seconds = time.process_time() - cpu_start
        cpu = min(cpu, seconds or cpu)           # 0: the clock is coarser than a product
    gflop = 2 * size ** 3 / 1e9
    wall = max(wall, TICK)
    if cpu == float("inf"):
        cpu = wall
    return gflop / wall, gflop / cpu
