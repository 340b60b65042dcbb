"""Validation during training: a row of validation.csv per epoch, the best weights in RUN/best."""
import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from minalbef.config import Config
from minalbef.system import distributed
from minalbef.system.metrics import read_table, write_table
from minalbef.system.modes import evaluation_mode

LOG = logging.getLogger("minalbef")
TABLE = "validation.csv"                         # both in the run's folder
BEST = "best"
DIGITS = 5      # as in a report: a resumed run compares its figures with those of the table


def figures_of(run: Path) -> dict[str, float]:
    """The figures of a run's weights in validation, with their step and epoch; {}: not validated.

    run: a run folder, for its last validation; or RUN/best, for its best
    Raises ValueError for a damaged table.
    """
    run = Path(run)
    numbers = ("step", "best_step")
    rows = read_table(run / TABLE, numbers)
    if not rows and run.name == BEST:
        rows = read_table(run.parent / TABLE, numbers)
        best_step = rows[-1]["best_step"] if rows else ""
        rows = [row for row in rows if row["step"] == best_step]
    if not rows:
        return {}
    figures = {name: float(value) for name, value in rows[-1].items() if name != "best_step"}
    return figures | {"step": int(rows[-1]["step"])}


def deciding(row: Mapping[str, Any]) -> str:
    """The name of the figure that selects the best weights: a row's first, after step and epoch."""
    return list(row)[2]


def validation_line(figures: dict[str, float]) -> str:
    """A line for what `figures_of` returns: the figure that decides, and the loss."""
    name = deciding(figures)
    loss = f", loss {figures['loss']:.3f}" if "loss" in figures else ""
    return (f"validation after step {figures['step']}, epoch {figures['epoch']:g}: "
            f"{name} {figures[name]:.4f}{loss}")


class Validation:
    """Measures a task when an epoch ends, and keeps the weights with the highest figure.

    As the original does in fine-tuning. It doesn't change what is trained.
    """

    def __init__(self, measure: Callable[[Any], dict[str, float]],
                 keep: Callable[[Any, Path, Collection[str]], None], config: Config,
                 folder: Path):
        """measure(task): figures by name, of which the first decides; called in every process

        keep(task, folder, untrained): writes the task's weights into a folder; called in the first
            process. untrained: parts that no loss has reached, see train.untrained_parts
        config, folder: the run's; config.validate_every > 0
        """
        self.measure = measure
        self.keep = keep
        self.config = config
        self.folder = Path(folder)
        self.rows: list[dict[str, Any]] = []

    def resume(self, step: int) -> None:
        """Resume from a step: later rows are dropped, since their weights are lost.

        Raises ValueError for a damaged table.
        """
        rows = read_table(self.folder / TABLE, ("step", "best_step"))
        self.rows = [row for row in rows if int(row["step"]) <= step]

    def due(self, step: int) -> bool:
        """Whether to measure after this step: at the run's end, and every validate_every epochs.

        False for a step that is measured already. Called in all processes at once.
        """
        interval = self.config.validate_every * self.config.epoch / self.config.batch
        ends = int(step / interval + 1e-9) > int((step - 1) / interval + 1e-9)
        if step < 1 or not (ends or step == self.config.steps):
            return False
        missing = not self.rows or int(self.rows[-1]["step"]) < step
        return distributed.longest(int(missing)) > 0     # all processes take part, or none

    def __call__(self, task: nn.Module, step: int, untrained: Collection[str] = ()
                 ) -> dict[str, float]:
        """Measure the weights after so many steps, and keep them if they are the best so far.

        -> the figure that decides, and the loss if there is one, for the progress bar
        """
        clock = time.perf_counter()
        device = next(task.parameters()).device
        precision = self.config.precision if device.type == "cuda" else "fp32"
        with evaluation_mode(task), distributed.autocast(device, precision):
            measured = self.measure(task)
        figures = {name: round(float(value), DIGITS) for name, value in measured.items()}
        name, figure = next(iter(figures.items()))
        better = all(figure > float(row[name]) for row in self.rows)
        if better and distributed.rank() == 0:
            self.keep(task, self.folder / BEST, untrained)
        best_step = step if better else int(self.rows[-1]["best_step"])
        epoch = round(step * self.config.batch / self.config.epoch, 2)
        self.rows.append({"step": step, "epoch": epoch, **figures, "best_step": best_step})
        if distributed.rank() == 0:
            write_table(self.folder / TABLE, self.rows)
            place = "the best so far" if better else f"the best was after step {best_step}"
            loss = f", loss {figures['loss']:.3f}" if "loss" in figures else ""
            with tqdm.external_write_mode():             # above the progress bar
                LOG.info("validation after epoch %g, step %d: %s %.4f%s; %s (%.0f s)", epoch, step,
                         name, figure, loss, place, time.perf_counter() - clock)
        return {key: figures[key] for key in (name, "loss") if key in figures}

    def account(self) -> str:
        """Which weights are the best so far, and where; "" before the first validation."""
        if not self.rows:
            return ""
        step = int(self.rows[-1]["best_step"])
        best = next(row for row in self.rows if int(row["step"]) == step)
        name = deciding(best)
        return (f"the best {name} in validation is {float(best[name]):.4f}, after step {step} of "
                f"{self.config.steps}: those weights are in {self.folder / BEST}, the last step's "
                f"in {self.folder}")
