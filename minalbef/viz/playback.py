"""The explorer plays training back: a run's checkpoints, in a script beside its page."""
import base64
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minalbef import Run, load
from minalbef.system import checkpoint
from minalbef.system.settings import other_settings
from minalbef.system.writing import write_text

# Weights of checkpoints are whole multiples of this: differences of whole numbers add up exactly,
# and small ones compress well. Nine of tiny's ten checkpoints, all but the end, make a file of 9.2
# MB, and the match of 200 test scenes moves by up to .008. Twice the grid makes 7.9 MB and .018,
# and the page's own format in 11 bits, a scale a row and no differences, 14 MB (2026-12-01).
GRID = 2.0 ** -11
MOST = 2 ** 15                        # multiples in 16 bits, of which one is the sign


def checkpoints_of(run: Run) -> dict[int, Path]:
    """The checkpoints in a run's folder by step, without that of the end, which is the run itself.

    They are run folders: step_0190, step_0380 and so on.
    """
    found = {}
    for path in sorted(run.path.glob("step_*")):
        number = re.fullmatch(r"step_0*(\d+)", path.name)
        if number and int(number[1]) < run.config.steps:
            found[int(number[1])] = path
    return dict(sorted(found.items()))


def write_training(run: Run, weights: Mapping[str, Tensor], out: Path) -> dict[str, Any] | None:
    """Write a run's checkpoints into a script; -> what the page says of them, None without any.

    weights: those that the page has of the run, from which the differences start
    Raises ValueError for a checkpoint of another run, OSError if `out` can't be written.
    """
    checkpoints = checkpoints_of(run)
    if not checkpoints:
        return None
    later = on_grid(weights)
    differences = []
    for path in reversed(checkpoints.values()):
        numbers = on_grid(weights_of(path, run))
        differences.append(compress(numbers - later))
        later = numbers
    digest = checkpoint.digest_of(weights)
    values = {"digest": digest, "grid": GRID, "differences": differences[::-1]}
    text = f"receiveTraining({json.dumps(values, separators=(',', ':'))});\n"
    write_text(out, text)
    return {"file": out.name, "digest": digest, "bytes": len(text),
            "steps": [*checkpoints, run.config.steps]}


def weights_of(path: Path, run: Run) -> dict[str, Tensor]:
    """The weights of a run's checkpoint. Raises ValueError if it is another run's."""
    found = load(path)
    differences = other_settings(found.config.to_dict(), run.config)
    if differences:
        raise ValueError(f"{path} is no checkpoint of {run.path}: it has other settings "
                         f"({differences}); remove it, or make the checkpoints again")
    return found.model.state_dict()


def on_grid(weights: Mapping[str, Tensor]) -> Tensor:
    """All weights, one after the other, as multiples of GRID: (n,).

    A half is rounded up, as the page's JavaScript does it, and in fp64, as it computes.
    """
    flat = torch.cat([value.reshape(-1) for value in weights.values()]).double()
    return (flat / GRID + 0.5).floor().long()


def compress(numbers: Tensor) -> str:
    """Whole numbers, mostly small -> deflated, in base64.

    The sign becomes the lowest bit (0, -1, 1, -2: 0, 1, 2, 3), so that the high bytes, which come
    after all low ones, are nearly all 0.
    Raises ValueError for numbers that don't fit.
    """
    largest = int(numbers.abs().max())
    if largest >= MOST:
        raise ValueError(f"a weight changes by {largest * GRID:g} from one checkpoint to the next, "
                         f"and {MOST * GRID:g} is the limit; write more checkpoints")
    unsigned = torch.where(numbers < 0, -2 * numbers - 1, 2 * numbers)
    data = unsigned.numpy().astype("<u2").tobytes()
    return base64.b64encode(zlib.compress(data[0::2] + data[1::2], 9)).decode()
