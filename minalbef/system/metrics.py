"""Metrics of a run: metrics.csv, a progress bar, and TensorBoard on request."""
import csv
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from minalbef.config import Config
from minalbef.system import distributed
from minalbef.system.writing import require_file, restate, write_atomically

TICK = 1e-6                           # seconds, at least: a coarse clock may show no time passing


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's metrics.csv; none without the file. Raises ValueError if damaged."""
    return read_table(folder / "metrics.csv", ("step", "seconds"))


def read_numbers(path: Path) -> list[dict[str, float]]:
    """`read_table` as numbers, without empty cells."""
    numbers = []
    for row in read_table(path, ()):
        numbers.append({name: float(value) for name, value in row.items() if value})
    return numbers


def read_table(path: Path, needs: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a file from `write_table`; none without the file.

    All cells are numbers or empty. needs: columns that must be full, besides "step"
    Raises ValueError for a damaged file.
    """
    if not path.exists():
        return []
    way_out = "remove it, and training goes on without its rows"
    with restate(f"{path} is damaged", way_out, csv.Error, KeyError, ValueError):
        require_file(path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        if not rows:
            raise ValueError("it has no rows")
        for row in rows:
            if None in row or None in row.values():
                text = ",".join(map(str, row.values()))
                raise ValueError(f"a row of unequal length: {text[:80]}")
            for value in [*filter(None, row.values()), *(row[name] for name in needs)]:
                float(value)
            int(row["step"])
    return rows


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a CSV file, with a column for each name, atomically."""
    names: dict[str, None] = {}                  # in the order of their first row
    for row in rows:
        names |= dict.fromkeys(row)

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(names), restval="")
            writer.writeheader()
            writer.writerows(rows)
    write_atomically(path, write)


def progress(iterable: Iterable[Any] | None, title: str, quiet: bool, **options: Any) -> tqdm:
    """The iterable with a progress bar, on rank 0; in a log file a line every 15 seconds.

    quiet: no bar, as with TQDM_DISABLE in the environment. options: tqdm's
    """
    disable = quiet or distributed.rank() > 0 or "TQDM_DISABLE" in os.environ
    interval = 0.2 if sys.stderr.isatty() else 15
    return tqdm(iterable, title, disable=disable, file=sys.stderr, mininterval=interval,
                dynamic_ncols=True, **options)


class LoggedStep(NamedTuple):
    """A step whose losses are still on the device; norm: of the gradient."""

    step: int
    lr: float
    losses: dict[str, Tensor]
    norm: Tensor


class Log:
    """Writes metrics.csv. Losses stay on the device for `every` steps: none in between syncs."""

    def __init__(self, folder: Path, start: int, every: int, config: Config, quiet: bool,
                 title: str):
        """Raises ValueError if metrics.csv is damaged, or config wants TensorBoard without one."""
        self.folder = folder
        self.every = every
        self.config = config
        self.is_main = distributed.rank() == 0
        self.steps: list[LoggedStep] = []        # since the last row
        self.validation: dict[str, str] = {}     # the last one's figures
        self.board: Any = None                   # TensorBoard's writer
        if config.tensorboard:                   # on all ranks: if one fails, none waits for it
            problem = "tensorboard=true needs TensorBoard, which isn't installed"
            way_out = "pip install tensorboard, or leave it out: metrics.csv has the same figures"
            with restate(problem, way_out, ImportError):
                from torch.utils.tensorboard import SummaryWriter
        self.rows: list[dict[str, Any]] = []
        for row in read_metrics(folder):
            if int(row["step"]) <= start:        # a crash may have logged beyond its save
                self.rows.append(row)
        if not self.is_main:
            return
        self.seconds = float(self.rows[-1]["seconds"]) if self.rows else 0.0
        self.clock = time.perf_counter()
        self.last = self.clock
        self.bar = progress(None, title, quiet, total=config.steps, initial=start, unit="step")
        if config.tensorboard:
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def step(self, step: int, losses: dict[str, Tensor], norm: Tensor, lr: float, alpha: float,
             save: bool = False) -> None:
        """Log a step.

        save: its weights will be saved: they are checked, and a row is written to resume from
        Raises FloatingPointError, naming the step, if losses or the gradient are not finite.
        """
        if self.is_main:
            self.bar.update()
        losses = {name: value.detach() for name, value in losses.items()}
        self.steps.append(LoggedStep(step, lr, losses, norm))
        if save or (step + 1) % self.every == 0:
            self.check()
            self.write(step, lr, alpha)

    def check(self) -> None:
        """Raises FloatingPointError for the first step with values that are not finite."""
        sums = [reduce(torch.add, [*entry.losses.values(), entry.norm]) for entry in self.steps]
        for entry, finite in zip(self.steps, torch.stack(sums).isfinite().tolist()):
            if not finite:                       # the norm is of all ranks: they stop together
                values = entry.losses | {"gradient": entry.norm}
                listing = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
                raise FloatingPointError(
                    f"step {entry.step}: the loss or its gradient is not finite ({listing}); "
                    f"{self.folder} keeps the last good checkpoint; try a lower lr "
                    f"(now {entry.lr:.2g}), or clip=1")

    def write(self, step: int, lr: float, alpha: float) -> None:
        """Write a row with the means over the steps since the last row, and over all ranks."""
        means = self._means()
        count = len(self.steps)
        self.steps = []
        if not self.is_main:
            return
        now = time.perf_counter()
        rate = count * self.config.batch / max(now - self.last, TICK)
        seconds = self.seconds + now - self.clock
        self.last = now
        row = {
            "step": step + 1,
            "samples": (step + 1) * self.config.batch,
            "seconds": round(seconds, 2),
            "lr": f"{lr:.3g}",
            "alpha": round(alpha, 4),
            "samples_per_second": round(rate, 1),
        }
        row |= {name: round(value, 4) for name, value in means.items()}
        self.rows.append(row)
        postfix = {name: f"{value:.2f}" for name, value in means.items()}
        postfix |= self.validation | {"lr": f"{lr:.1e}", "samples/s": f"{rate:.0f}"}
        self.bar.set_postfix(postfix, refresh=False)
        if self.board:
            figures = means | {"lr": lr, "alpha": alpha, "samples_per_second": rate}
            for name, value in figures.items():
                self.board.add_scalar(name, value, step + 1)
            self.board.flush()                   # so that a stopped run shows all its steps
        write_table(self.folder / "metrics.csv", self.rows)

    def _means(self) -> dict[str, float]:
        values: dict[str, list[Tensor]] = {}
        for entry in self.steps:
            for name, value in entry.losses.items():
                values.setdefault(name, []).append(value)
        local = torch.stack([torch.stack(losses).mean() for losses in values.values()])
        means = distributed.total(local) / distributed.world()
        return dict(zip(values, means.tolist()))

    def validated(self, figures: Mapping[str, float] | None) -> None:
        """Show a validation's figures on the bar and in TensorBoard; its time is no training.

        figures: by name, of the step of the last row; None shows none
        """
        figures = {f"val {name}": value for name, value in (figures or {}).items()}
        self.validation = {name: f"{value:.3f}" for name, value in figures.items()}
        if self.is_main:
            now = time.perf_counter()
            self.clock += now - self.last
            self.last = now
        if self.board and self.rows:             # none: a resumed run's metrics.csv is gone
            for name, value in figures.items():
                self.board.add_scalar(name, value, int(self.rows[-1]["step"]))

    def close(self) -> None:
        """End the progress bar and TensorBoard's file."""
        if self.is_main:
            self.bar.close()
        if self.board:
            self.board.close()
