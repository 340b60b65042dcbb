"""What will `small` reach? Written down before anyone trains it: `python notebooks/experiments/forecast.py`.

The last half of a learning curve is fitted by a line: a figure's logit against the logarithm of the samples. It is read
off where another run ends. How wrong that is, two runs tell: tiny's curve forecasts desk's end. What desk's curve says
of small gets an interval of twice a figure's own miss there, in logits, or of twice the median miss of all figures if
that is more. Reads curve_tiny.json and curve_desk.json, writes forecast.json beside itself. `python
notebooks/experiments/curve.py small` asks the same questions.
"""
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minalbef import preset
from minalbef.recipes.report import commit, now

HERE = Path(__file__).parent
EDGE = 0.002                          # nearer to 0 or 1 a few hundred questions can't tell


def logit(p: float | np.ndarray) -> np.ndarray:
    p = np.clip(p, EDGE, 1 - EDGE)
    return np.log(p / (1 - p))


def extend(rows: Sequence[dict], figure: str, samples: int) -> float:
    """The logit of a figure after so many samples, by the line through the curve's last half, within EDGE."""
    rows = rows[len(rows) // 2:]
    x, y = np.log([row["samples"] for row in rows]), logit(np.array([row[figure] for row in rows]))
    slope, intercept = np.polyfit(x, y, 1)
    return float(np.clip(intercept + slope * np.log(samples), logit(EDGE), logit(1 - EDGE)))


def forecast(before: Sequence[dict], run: Sequence[dict], samples: int) -> dict:
    """From two curves, of which the first forecasts the second's end: -> by figure what it tells.

    tested, found: what was forecast of that end, and what came. miss: between the two, in logits
    mean, low, high: of the forecast after so many samples
    """
    names = [name for name in run[-1] if name not in ("step", "samples", "seconds")]
    said = {name: extend(before, name, run[-1]["samples"]) for name in names}
    misses = {name: abs(said[name] - float(logit(run[-1][name]))) for name in names}

    def share(x: float) -> float:
        return round(1 / (1 + np.exp(-x)), 3)

    figures = {}
    for name in names:
        x, half = extend(run, name, samples), 2 * max(misses[name], statistics.median(misses.values()))
        figures[name] = {"tested": share(said[name]), "found": round(run[-1][name], 3), "miss": round(misses[name], 2),
                         "mean": share(x), "low": share(x - half), "high": share(x + half)}
    return figures


def curve(name: str) -> list[dict]:
    return json.loads((HERE / f"curve_{name}.json").read_text(encoding="utf-8"))["rows"]


if __name__ == "__main__":
    small = preset("small")
    found = {"command": "python notebooks/experiments/forecast.py", "date": now(), "commit": commit(),
             "config": small.to_dict(), "samples": small.steps * small.batch}
    found["figures"] = forecast(curve("tiny"), curve("desk"), found["samples"])
    (HERE / "forecast.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, one in found["figures"].items():
        print(f"{name:56}{one['mean']:.2f} ({one['low']:.2f} to {one['high']:.2f})")
