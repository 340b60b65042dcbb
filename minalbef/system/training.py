"""Around the loop: what it may train, and what no step has trained."""
import gc
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from minalbef.config import Config
from minalbef.ema import Trainable
from minalbef.system import checkpoint, distributed


class Validates(Protocol):
    """What `fit` calls of a validation; recipes use the one in evaluation.validation."""

    def resume(self, step: int) -> None: ...
    def due(self, step: int) -> bool: ...
    def __call__(self, task: nn.Module, step: int, untrained: Collection[str]
                 ) -> Mapping[str, float] | None: ...


def check_task(task: nn.Module, config: Config, title: str) -> None:
    """Raises TypeError for what `fit` can't train, ValueError for a batch that can't be shared."""
    if not isinstance(task, Trainable):
        raise TypeError(f"{type(task).__name__} is no minalbef.ema.Trainable; derive "
                        "it from that class, which has all but forward")
    world = distributed.world()
    more = {"several processes": world > 1, "accumulate": config.accumulate > 1,
            "checkpointing": config.checkpointing, "compile": config.compile}
    if not config.fast and any(more.values()):
        names = ", ".join(name for name, asked in more.items() if asked)
        raise ValueError(f"{title}: fast=false, the plain loop, has no {names}; take fast=true")
    if config.batch % (config.accumulate * world):
        times = f" times accumulate={config.accumulate}" if config.accumulate > 1 else ""
        raise ValueError(f"{title}: batch={config.batch} is not a multiple of {world} processes"
                         f"{times}; take one that is")
    if getattr(task, "world", world) != world:
        raise ValueError(f"{title}: {type(task).__name__} trains in one process, and these are "
                         f"{world}; take its quick form, minalbef.fast.pretrain.fast_form("
                         f"{type(task).__name__})")


def check_negatives(task: str, least_rows: int, config: Config) -> None:
    """Raises ValueError for a batch in which rows have fewer others than the task needs negatives.

    A pass of batch=1 has none: ITM would learn that every pair matches. Called after joining the
    other processes. least_rows: the task's, see tasks.base.Task
    """
    world = distributed.world()
    peers = len(distributed.peers(config.hard_negatives))
    rows = config.batch // config.accumulate // world * peers
    if rows < least_rows:
        least = math.ceil(least_rows / peers) * config.accumulate * world
        raise ValueError(f"batch={config.batch}: {task} draws negatives from the rows of a "
                         f"pass, and {rows} (accumulate={config.accumulate}, processes: {world}, "
                         f"hard_negatives={config.hard_negatives}) are too few; take at least "
                         f"batch={least}")


def check_start(start: int, folder: Path) -> None:
    """Raises ValueError where processes would resume from different steps."""
    least = -distributed.longest(-start)
    most = distributed.longest(start)
    if least != most:
        raise ValueError(f"a process would go on from step {least}, another from {most}: "
                         f"all machines must see the same {folder}")


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process. On the CPU: no GPU is waited for."""
    return distributed.longest(int(flag)) > 0


def untrained_parts(task: nn.Module, optimiser: torch.optim.Optimizer,
                    random: Collection[str] | None = None) -> tuple[str, ...]:
    """Parts of the task's student of which no weight has had a gradient in any step.

    A head without its loss is one. random: look at these parts alone, see `fit`
    """
    trained: dict[str, bool] = {}
    for name, p in getattr(task, "student", task).named_parameters():
        if p.requires_grad:                      # a frozen weight is meant to stay
            part = checkpoint.part_of(name)
            trained[part] = trained.get(part, False) or p in optimiser.state
    candidates = trained if random is None else random
    return tuple(part for part in trained if not trained[part] and part in candidates)


@contextmanager
def spare_old() -> Iterator[None]:
    """Meanwhile the garbage collector leaves alone what exists now, modules and libraries.

    It would look through all of it every few steps, which stalls one for .2 seconds.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
