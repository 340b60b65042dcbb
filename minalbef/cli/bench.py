"""`minalbef bench` on the command line: its flags, and what they call."""
import os
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from minalbef.bench import loading, step
from minalbef.cli.limits import checked
from minalbef.recipes.report import command

Changes = Annotated[tuple[str, ...], tyro.conf.Positional]
PROCESSES = (torch.cuda.device_count()                           # one a GPU; without any, a small CPU likes two
             or min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


@checked
def learn(changes: Changes = (), /, preset: str = "tiny", seeds: int = 3, run: Path = Path("runs/bench"),
          processes: int = PROCESSES, out: Path | None = None) -> None:
    """Train and evaluate several seeds; print the mean of every figure, and write them with hardware and command.

    Args:
        changes: options of the preset to change
        preset: where to start
        seeds: how many, from 0
        run: the folder for the runs
        processes: how many to train in
        out: where to write the result; by default learn.json in the folder for the runs
    """
    from minalbef.bench.seeds import learn as learn_seeds
    from minalbef.recipes.pretrain import settings
    settings(preset, changes)                            # refuse a wrong option before any process starts
    learn_seeds(preset, changes, seeds, run, processes, out or run / "learn.json", command())


def tasks(run: Path = Path("runs"), out: Path | None = None, page: Path | None = None) -> None:
    """Gather the reports of the five fine-tuned runs, and print their table.

    Args:
        run: the folder that holds the runs, by task
        out: where to write all reports in one file; by default tasks.json in that folder
        page: a Markdown file whose table of tasks to replace, such as docs/tasks.md
    """
    from minalbef.bench import seeds
    print(seeds.tasks(run, out or run / "tasks.json", page))


Benches = (Annotated[Any, tyro.conf.subcommand("learn", constructor=learn)]
           | Annotated[Any, tyro.conf.subcommand("tasks", constructor=tasks)]
           | Annotated[Any, tyro.conf.subcommand("step", constructor=checked(step.step))]
           | Annotated[Any, tyro.conf.subcommand("data", constructor=checked(loading.data))])


def bench(what: Annotated[Benches, tyro.conf.arg(name="")]) -> None:
    """Measure: what is learnt, and how fast."""
