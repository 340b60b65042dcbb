"""The ten parts of `minalbef gpu-check`: their table, and what a part is given and returns."""
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from minalbef.config import nearest
from minalbef.recipes.report import commit, now
from minalbef.writing import write_atomically

PASS, FAIL, SKIPPED = "PASS", "FAIL", "SKIPPED"


class Result(NamedTuple):
    """What a part found."""

    verdict: str                      # PASS, FAIL or SKIPPED
    figure: str                       # one line; of a part that was skipped, the reason
    details: Mapping[str, Any] = {}   # every number; a list of dicts is a table of the page
    finished: bool = True             # False: the same command runs the part again
    date: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Setting:
    """What a part is given."""

    folder: Path                      # to write to; those of other parts are beside it
    seconds: float                    # after which it is killed
    device: torch.device
    changes: Mapping[str, Any] = field(default_factory=dict)     # of presets, to make them small
    price: float = 0.0                # of a GPU for an hour
    start: float = field(default_factory=time.monotonic)

    def seconds_left(self) -> float:
        """Until it is killed."""
        return self.seconds - (time.monotonic() - self.start)


class Part(NamedTuple):
    """One part: the function `check` in the module of this name."""

    name: str
    title: str
    minutes: float                    # its share of MINUTES
    needs_gpu: bool


PARTS = (
    Part("machine", "the machine", 0.5, False),
    Part("correctness", "the GPU computes what the CPU computes", 4, True),
    Part("waits", "no step waits for the GPU", 1, True),
    Part("speed", "speed", 4, True),
    Part("memory", "memory as planned", 1, True),
    Part("feed", "data come in time", 1, False),
    Part("resume", "resume after kill -9", 2, False),
    Part("processes", "several processes train as one", 1, True),
    Part("small", "preset small, as forecast", 10, True),
    Part("hours", "hours and price of base and paper-4m", 0.5, False),
)
MINUTES = 25.0                        # of all parts


def choose_parts(names: Sequence[str]) -> list[Part]:
    """The parts of these names, or all, in the table's order. Raises ValueError for others."""
    known = [part.name for part in PARTS]
    for name in names:
        if name not in known:
            raise ValueError(f"no part {name!r}{nearest(name, known)}; there are "
                             f"{', '.join(known)}")
    return [part for part in PARTS if part.name in names or not names]


def pass_or_fail(passed: bool) -> str:
    """PASS or FAIL."""
    return PASS if passed else FAIL


def tidy(value: Any) -> Any:
    """Numbers in four digits, in nested dictionaries and lists; JSON has no infinity and no NaN."""
    if isinstance(value, Mapping):
        return {key: tidy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)
    return value


def write_result(folder: Path, result: Result) -> None:
    """Write a part's result, with date and commit."""
    values = tidy(result._asdict() | {"date": now(), "commit": commit()})
    text = json.dumps(values, indent=1)
    write_atomically(folder / "result.json",
                     lambda path: path.write_text(text + "\n", encoding="utf-8"))


def read_result(folder: Path) -> Result | None:
    """A part's result, or None before it has one."""
    path = folder / "result.json"
    if not path.exists():
        return None
    return Result(**json.loads(path.read_text(encoding="utf-8")))
