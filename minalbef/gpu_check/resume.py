"""Part 7: is a run that was killed twice the same, at its end, as one that wasn't?"""
import math
import os
import shutil
import subprocess
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from minalbef.gpu_check.parts import Result, Setting, pass_or_fail
from minalbef.recipes.launch import ENVIRONMENT, LAUNCHED, start_worker

STEPS = 40
SAVE_EVERY = 10
# a model that trains in seconds
SMALL = ("image_size=24", "image_width=32", "text_width=32", "image_heads=2", "text_heads=2",
         "embed_dim=16", "batch=16", "queue_size=64", f"epoch={16 * STEPS}",
         f"save_every={SAVE_EVERY}", "objects=12", "warm_steps=6", "match_from=0", "queue_from=0",
         "hard_from=0", "siblings_from=0", "dropout=0.1")
NOISE = 10                            # a GPU's sums vary in order: so many times as far apart
FLOOR = 1e-5                          # also where these two happen to be equal
KILLS = 2


def check(setting: Setting) -> Result:
    """Train the same run undisturbed and killed twice, and compare their weights.

    On a CPU they must be equal bit for bit. On a GPU some backward passes add in an order of their
    own, so a second undisturbed run says how far apart two runs may be.
    """
    for name in ("whole", "killed", "again"):
        shutil.rmtree(setting.folder / name, ignore_errors=True)
    whole = finish(setting.folder / "whole")
    killed = setting.folder / "killed"
    steps = [kill_after_save(killed) for _ in range(KILLS)]
    difference = weights_apart(whole, finish(killed))
    allowed = 0.0
    if setting.device.type != "cpu":
        allowed = max(FLOOR, NOISE * weights_apart(whole, finish(setting.folder / "again")))
    details = {"killed_after_saving_step": steps, "steps": STEPS, "difference": difference,
               "allowed": allowed}
    how = "bit for bit" if not difference else f"within {difference:.1e} of the weights' norm"
    figure = (f"killed after it had saved steps {steps[0]} and {steps[1]} of {STEPS}: the same "
              f"weights {how} (allowed: {allowed:.1e})")
    passed = difference <= allowed and steps[0] < steps[1] < STEPS
    return Result(pass_or_fail(passed), figure, details)


def start(run: Path) -> subprocess.Popen:
    """A process that trains a run; it ends when this one does."""
    print(f"training {run.name}", flush=True)
    words = ["pretrain", *SMALL, "--run", str(run), "--quiet"]
    return start_worker(words, {**ENVIRONMENT, **os.environ, LAUNCHED: "yes"}, None)


def finish(run: Path) -> Path:
    """Train a run to its end. Raises RuntimeError if that fails."""
    status = start(run).wait()
    if status:
        raise RuntimeError(f"training {run} ended with status {status}")
    return run


def kill_after_save(run: Path) -> int:
    """Train until the next checkpoint is saved, and kill -9: -> the checkpoint's step."""
    state = run / "state.pt"
    before = state.stat().st_mtime_ns if state.exists() else 0
    process = start(run)
    while process.poll() is None:
        if state.exists() and state.stat().st_mtime_ns != before:
            break
        time.sleep(0.002)
    process.kill()
    process.wait()
    return torch.load(state, weights_only=True)["step"]


def weights_apart(one: Path, other: Path) -> float:
    """The distance of two runs' weights, as a share of their norm."""
    weights, others = (load_file(run / "model.safetensors") for run in (one, other))
    squares = sum(value.double().square().sum().item() for value in weights.values())
    distance = 0.0
    for name, value in weights.items():
        distance += (value.double() - others[name].double()).square().sum().item()
    return math.sqrt(distance / squares)
