"""Part 1: card, driver, cores, shared memory, disk, and how fast they are."""
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from minalbef.datasets.loader import PREFETCH, SHARED_MEMORY
from minalbef.gpu_check.parts import Result, Setting, pass_or_fail
from minalbef.presets import preset
from minalbef.recipes.machine import matmul_peak
from minalbef.recipes.plan import gpu_named
from minalbef.recipes.report import describe_device

GB = 1e9
WORKERS = 8                           # of docs/scale.md's command for `base`
LEAST_DISK = 10                       # GB: two checkpoints of full size, and the run's weights
BLOCK = 64 * 2 ** 20                  # bytes of a copy
ROUNDS = 5                            # the fastest is nearest to a quiet machine


def check(setting: Setting) -> Result:
    """Describe and measure the machine; PASS if shared memory and disk hold what `base` needs."""
    config = preset("base", **setting.changes)
    batches = PREFETCH * WORKERS + 1             # and the one in use
    needed = batches * config.batch * 3 * config.image_size ** 2 / GB
    shared = shared_memory()
    disk = shutil.disk_usage(setting.folder).free / GB
    side = 8192 if setting.device.type == "cuda" else 512
    gflops, _ = matmul_peak(str(setting.device), side, half=True)
    details = {
        "machine": describe_device(),
        "cores": cores(),
        "shared_memory_gb": shared,
        "shared_memory_needed_gb": needed,
        "disk_free_gb": disk,
        "disk_write_gb_per_second": write_speed(setting.folder),
        "bf16_product_tflops": gflops / 1e3,
    }
    figure = f"{gflops / 1e3:.3g} TFLOP/s in bf16, {details['cores']} cores"
    if setting.device.type == "cuda":
        details |= describe_gpu(setting.device)
        figure = f"{details['card']} (driver {details['driver']}), {figure}"
    else:
        figure = f"no GPU, {figure}"
    problems = []
    if shared is not None:
        figure += f", {shared:.3g} GB of shared memory"
        if shared < needed:
            problems.append(f"/dev/shm is smaller than the {needed:.2g} GB that {WORKERS} workers "
                            "fill: start the container with --shm-size=8g")
    figure += f", {disk:.3g} GB of disk"
    if disk < LEAST_DISK:
        problems.append(f"the disk has less than {LEAST_DISK} GB free")
    return Result(pass_or_fail(not problems), "; ".join([figure, *problems]), details)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shared_memory() -> float | None:
    """GB of /dev/shm, through which a loader's batches go; None on a system without it."""
    if not SHARED_MEMORY.is_dir():
        return None
    return shutil.disk_usage(SHARED_MEMORY).total / GB


def write_speed(folder: Path) -> float:
    """GB a second that reach the disk."""
    path = folder / "block"
    block = os.urandom(BLOCK)
    start = time.perf_counter()
    with open(path, "wb") as file:
        for _ in range(4):
            file.write(block)
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return 4 * BLOCK / GB / seconds


def describe_gpu(device: torch.device) -> dict[str, Any]:
    """Card, driver, memory, and copies to and from it."""
    name = torch.cuda.get_device_name(device)
    card = gpu_named(name)
    pageable = torch.empty(BLOCK, dtype=torch.uint8)
    pinned = pageable.pin_memory()
    there = pinned.to(device)
    return {
        "card": name,
        "gpus": torch.cuda.device_count(),
        "driver": driver(),
        "cuda": torch.version.cuda,
        "memory_gb": torch.cuda.get_device_properties(device).total_memory / GB,
        "data_sheet_tflops": card.bf16 if card else None,
        "copy_pinned_gb_per_second": copy_speed(there, pinned),
        "copy_pageable_gb_per_second": copy_speed(there, pageable),
        "copy_back_gb_per_second": copy_speed(pinned, there),
    }


def driver() -> str:
    """The driver's version, or "unknown"."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    lines = result.stdout.split()
    return lines[0] if lines else "unknown"


def copy_speed(target: torch.Tensor, source: torch.Tensor) -> float:
    """GB a second of a copy between a GPU and the machine's memory."""
    best = float("inf")
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return source.numel() / GB / best
