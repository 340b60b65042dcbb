"""What will `small` reach, before anyone trains it? `python notebooks/experiments/forecast.py`.

The last half of a learning curve is fitted by a line: a figure's logit against the logarithm of the
samples. It is read off where another run ends. How wrong that is, two runs tell: tiny's curve
forecasts desk's end. What desk's curve says of small gets an interval of twice a figure's own miss
there, in logits, or of twice the median miss of all figures if that is more. Reads curve_tiny.json
and curve_desk.json, writes forecast.json beside itself. `python notebooks/experiments/curve.py
small` asks the same questions.
"""
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minalbef import preset
from minalbef.recipes.report import commit, now
from results import write_json

HERE = Path(__file__).parent
EDGE = 0.002                          # nearer to 0 or 1 a few hundred questions can't tell


def logit(p: float | np.ndarray) -> np.ndarray:
    """The logit of p, kept within EDGE of 0 and 1."""
    p = np.clip(p, EDGE, 1 - EDGE)
    return np.log(p / (1 - p))


def probability(x: float) -> float:
    """The inverse of `logit`, to three digits."""
    return round(1 / (1 + np.exp(-x)), 3)


def extend(rows: Sequence[dict], figure: str, samples: int) -> float:
    """The logit of a figure after so many samples, by the line through the curve's last half."""
    rows = rows[len(rows) // 2:]
    x = np.log([row["samples"] for row in rows])
    y = logit(np.array([row[figure] for row in rows]))
    slope, intercept = np.polyfit(x, y, 1)
    return float(np.clip(intercept + slope * np.log(samples), logit(EDGE), logit(1 - EDGE)))


def forecast(before: Sequence[dict], run: Sequence[dict], samples: int) -> dict:
    """From two curves, of which the first forecasts the second's end: -> by figure what it tells.

    tested, found: what was forecast of that end, and what came. miss: between the two, in logits
    mean, low, high: of the forecast after so many samples
    """
    last = run[-1]
    tested = {}
    misses = {}
    for name in last:
        if name in ("step", "samples", "seconds"):
            continue
        tested[name] = extend(before, name, last["samples"])
        misses[name] = abs(tested[name] - float(logit(last[name])))
    median = statistics.median(misses.values())
    figures = {}
    for name in tested:
        x = extend(run, name, samples)
        half = 2 * max(misses[name], median)
        figures[name] = {
            "tested": probability(tested[name]),
            "found": round(last[name], 3),
            "miss": round(misses[name], 2),
            "mean": probability(x),
            "low": probability(x - half),
            "high": probability(x + half),
        }
    return figures


def curve(name: str) -> list[dict]:
    """The rows that curve.py wrote."""
    return json.loads((HERE / f"curve_{name}.json").read_text(encoding="utf-8"))["rows"]


if __name__ == "__main__":
    small = preset("small")
    samples = small.steps * small.batch
    figures = forecast(curve("tiny"), curve("desk"), samples)
    write_json(HERE / "forecast.json", {
        "command": "python notebooks/experiments/forecast.py",
        "date": now(),
        "commit": commit(),
        "config": small.to_dict(),
        "samples": samples,
        "figures": figures,
    })
    for name, figure in figures.items():
        print(f"{name:56}{figure['mean']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})")
