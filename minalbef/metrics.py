"""Metrics of a run: metrics.csv, a progress bar, and TensorBoard on request."""
import csv
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from minalbef import distributed
from minalbef.config import Config
from minalbef.writing import explain, write_atomically


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's metrics.csv, none without the file. Raises ValueError for a damaged one."""
    return read_table(folder / "metrics.csv", ("step", "seconds"))


def read_table(path: Path, numbers: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table that `write_table` wrote, none without the file. numbers: columns that must hold numbers.

    Raises ValueError for a damaged file.
    """
    if not path.exists():
        return []
    with explain(f"{path} is damaged", "remove it, and training goes on without its rows",
                 csv.Error, KeyError, ValueError):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        if not rows:
            raise ValueError("it has no rows")
        for row in rows:
            if None in row or None in row.values():
                raise ValueError(f"a row of unequal length: {','.join(map(str, row.values()))[:80]}")
            for name in numbers:
                float(row[name])
            int(row["step"])
    return rows


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as a CSV file with a column for every name, atomically."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, restval="")
            writer.writeheader()
            writer.writerows(rows)
    write_atomically(path, write)


def progress(some: Iterable[Any] | None, title: str, quiet: bool, **options: Any) -> tqdm:
    """The same, with a bar in the first process; in a log file a line now and then. TQDM_DISABLE, too, hides it."""
    return tqdm(some, title, disable=quiet or distributed.rank() > 0 or "TQDM_DISABLE" in os.environ, file=sys.stderr,
                mininterval=0.2 if sys.stderr.isatty() else 15, dynamic_ncols=True, **options)


class Log:
    """Losses stay tensors, on their device, and are read every so many steps: in between no GPU is waited for."""

    def __init__(self, folder: Path, start: int, every: int, config: Config, quiet: bool, title: str):
        """Raises ValueError where TensorBoard is wanted and missing, and for a damaged metrics.csv."""
        self.folder, self.every, self.config, self.on = folder, every, config, distributed.rank() == 0
        self.unread: list[tuple[int, float, dict[str, Tensor], Tensor]] = []     # step, lr, losses, gradient's norm
        self.board: Any = None                   # TensorBoard's writer
        if config.tensorboard:                   # on all ranks: if one fails, none waits for it
            with explain("tensorboard=true wants TensorBoard, which is not there",
                         "pip install tensorboard, or leave it out: metrics.csv has the same figures", ImportError):
                from torch.utils.tensorboard import SummaryWriter
        # a crash may have logged beyond its save
        self.rows: list[dict[str, Any]] = [row for row in read_metrics(folder) if int(row["step"]) <= start]
        if not self.on:
            return
        self.seconds = float(self.rows[-1]["seconds"]) if self.rows else 0.0
        self.clock = self.last = time.perf_counter()
        self.bar = progress(None, title, quiet, total=config.steps, initial=start, unit="step")
        if config.tensorboard:
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def step(self, step: int, losses: dict[str, Tensor], norm: Tensor, lr: float, alpha: float,
             save: bool = False) -> None:
        """Note a step. save: its weights will be saved, so they must be finite; a resumed run counts from this row on.

        Raises FloatingPointError for the first losses or gradient that are not finite; it says of which step.
        """
        if self.on:
            self.bar.update()
        self.unread.append((step, lr, {name: value.detach() for name, value in losses.items()}, norm))
        if save or (step + 1) % self.every == 0:
            self.check()
            self.read(step, lr, alpha)

    def check(self) -> None:
        sums = torch.stack([reduce(torch.add, [*losses.values(), norm]) for _, _, losses, norm in self.unread])
        for (step, lr, losses, norm), fine in zip(self.unread, sums.isfinite().tolist()):
            if not fine:                         # the gradient's norm is that of all processes: they stop together
                values = losses | {"gradient": norm}
                raise FloatingPointError(
                    f"step {step}: the loss or its gradient is not finite ("
                    f"{', '.join(f'{name} {value:.3g}' for name, value in values.items())}); "
                    f"{self.folder} keeps the last good checkpoint; try a lower lr (now {lr:.2g}), or clip=1")

    def read(self, step: int, lr: float, alpha: float) -> None:
        values: dict[str, list[Tensor]] = {}
        for _, _, losses, _ in self.unread:
            for name, value in losses.items():
                values.setdefault(name, []).append(value)
        count, self.unread = len(self.unread), []
        local = torch.stack([torch.stack(some).mean() for some in values.values()])
        means = dict(zip(values, (distributed.total(local) / distributed.world()).tolist()))
        if not self.on:
            return
        now = time.perf_counter()
        rate = count * self.config.batch / (now - self.last)
        self.rows.append({"step": step + 1, "samples": (step + 1) * self.config.batch,
                          "seconds": round(self.seconds + now - self.clock, 2), "lr": f"{lr:.3g}",
                          "alpha": round(alpha, 4), "samples_per_second": round(rate, 1),
                          **{name: round(value, 4) for name, value in means.items()}})
        self.bar.set_postfix({**{k: f"{v:.2f}" for k, v in means.items()}, "lr": f"{lr:.1e}",
                              "samples/s": f"{rate:.0f}"}, refresh=False)
        if self.board:
            for name, value in (means | {"lr": lr, "alpha": alpha, "samples_per_second": rate}).items():
                self.board.add_scalar(name, value, step + 1)
            self.board.flush()                   # a stopped run shows all it did
        self.last = now
        write_table(self.folder / "metrics.csv", self.rows)

    def skip(self) -> None:
        """Leave the time since the last row out: it was no training."""
        if self.on:
            now = time.perf_counter()
            self.clock += now - self.last
            self.last = now

    def close(self) -> None:
        if self.on:
            self.bar.close()
        if self.board:
            self.board.close()
