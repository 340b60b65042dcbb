"""Part 9: does preset `small` reach what was forecast of it before anyone trained it?"""
import json
import os
import time
from pathlib import Path
from typing import Any

from minalbef.gpu_check.parts import FAIL, SKIPPED, Result, Setting, pass_or_fail
from minalbef.metrics import read_metrics
from minalbef.recipes.launch import ENVIRONMENT, LAUNCHED, start_worker
from minalbef.run import load
from minalbef.scenes.evaluation import evaluate_scenes

FORECAST = Path(__file__).parents[2] / "notebooks" / "experiments" / "forecast.json"
SEED, SIZE, SPLIT = 1500, 0.5, "validation"      # as notebooks/experiments/curve.py evaluates
FOR_EVALUATION = 0.2                             # share of the time
MOST_NAMES = 3                        # of figures below it, in the verdict's line
POLL = 1.0                            # seconds


def check(setting: Setting) -> Result:
    """Train `small` until the time is over, and compare with the forecast when it is trained.

    PASS if no figure's 95% interval lies below the forecast's lower bound. Where the time doesn't
    suffice, the same command goes on.
    """
    if not FORECAST.exists():
        return Result(SKIPPED, f"there is no {FORECAST}: run it in a checkout", finished=False)
    folder = setting.folder / "run"
    words = [f"{name}={value}" for name, value in setting.changes.items()]
    words = ["pretrain", *words, "--preset", "small", "--run", str(folder), "--quiet"]
    worker = start_worker(words, {**ENVIRONMENT, **os.environ, LAUNCHED: "yes"}, None)
    late = False
    while worker.poll() is None:
        late = setting.seconds_left() < FOR_EVALUATION * setting.seconds
        if late:
            worker.terminate()                   # it saves and ends
            worker.wait()
        print(progress_of(folder), flush=True)
        time.sleep(POLL)
    if not (folder / "model.safetensors").exists():
        if not late:
            raise RuntimeError(f"training ended with status {worker.returncode}")
        return Result(SKIPPED, f"not trained to its end: {progress_of(folder)}; the same command "
                               "goes on from there", finished=False)
    print("evaluating", flush=True)
    run = load(folder)
    run.model.to(setting.device)
    report = evaluate_scenes(run, SEED, SIZE, SPLIT)
    forecast = json.loads(FORECAST.read_text(encoding="utf-8"))["figures"]
    rows = [compare_figure(name, bounds, report) for name, bounds in forecast.items()]
    below = [row["figure"] for row in rows if row["verdict"] == FAIL]
    figure = f"{len(rows) - len(below)} of {len(rows)} figures reach the forecast's lower bound"
    if below:
        figure += f"; below it: {', '.join(below[:MOST_NAMES])}"
        if len(below) > MOST_NAMES:
            figure += " and others"
    seconds = float(read_metrics(folder)[-1]["seconds"])
    return Result(pass_or_fail(not below), f"{figure}; trained in {seconds / 60:.1f} min",
                  {"figures": rows, "seconds": seconds})


def progress_of(folder: Path) -> str:
    """How far a run is, in words."""
    for name, title in ((folder, "step"), (folder / "warm", "warm start, step")):
        rows = read_metrics(name)
        if rows:
            return f"{title} {rows[-1]['step']}"
    return "starting"


def compare_figure(name: str, bounds: dict[str, float], report: dict) -> dict[str, Any]:
    """A figure with its interval, and the forecast's bounds."""
    low, high = lookup(report["intervals"], name)
    return {"figure": name, "value": lookup(report, name), "interval_low": low,
            "interval_high": high, "forecast_low": bounds["low"], "forecast": bounds["mean"],
            "forecast_high": bounds["high"], "verdict": pass_or_fail(high >= bounds["low"])}


def lookup(figures: dict, name: str) -> Any:
    """A figure by its path: "plain.itc_i2t_r1"."""
    for part in name.split("."):
        figures = figures[part]
    return figures
