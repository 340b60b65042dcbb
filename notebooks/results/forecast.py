"""What will `small` reach? Written down before anyone trains it: `python notebooks/results/forecast.py`.

The last half of a learning curve is fitted by a line: a figure's logit against the logarithm of the samples. It is read
off where another run ends. How wrong that is, two runs tell: tiny's curve forecasts desk's end. Twice the root mean
square of these misses, in logits, is the interval about what desk's curve says of small. Reads curve_tiny.json and
curve_desk.json, writes forecast.json beside itself. `python notebooks/results/curve.py small` asks the same questions.
"""
import json
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
    """The logit of a figure after so many samples, by the line through the curve's last half."""
    rows = rows[len(rows) // 2:]
    slope, intercept = np.polyfit(np.log([row["samples"] for row in rows]), logit(np.array([row[figure]
                                                                                           for row in rows])), 1)
    return float(intercept + slope * np.log(samples))


def forecast(before: Sequence[dict], run: Sequence[dict], samples: int) -> dict:
    """From two curves, of which the first forecasts the second's end: -> tested, miss, and each figure's forecast.

    tested: by figure what was forecast and what came. miss: root mean square, in logits
    figures: mean, low and high after so many samples
    """
    names = [name for name in run[-1] if name not in ("step", "samples", "seconds")]
    said = {name: extend(before, name, run[-1]["samples"]) for name in names}
    miss = float(np.mean([(said[name] - logit(run[-1][name])) ** 2 for name in names]) ** 0.5)

    def share(x: float) -> float:
        return round(1 / (1 + np.exp(-x)), 3)

    return {"tested": {name: {"forecast": share(said[name]), "found": round(run[-1][name], 3)} for name in names},
            "miss": round(miss, 3),
            "figures": {name: {"mean": share(x), "low": share(x - 2 * miss), "high": share(x + 2 * miss)}
                        for name in names for x in [extend(run, name, samples)]}}


def curve(name: str) -> list[dict]:
    return json.loads((HERE / f"curve_{name}.json").read_text(encoding="utf-8"))["rows"]


if __name__ == "__main__":
    small = preset("small")
    found = {"command": "python notebooks/results/forecast.py", "date": now(), "commit": commit(),
             "config": small.to_dict(), "samples": small.steps * small.batch}
    found |= forecast(curve("tiny"), curve("desk"), found["samples"])
    (HERE / "forecast.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, one in found["figures"].items():
        print(f"{name:56}{one['mean']:.2f} ({one['low']:.2f} to {one['high']:.2f})")
