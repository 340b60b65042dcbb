"""`minalbef ablate` on the command line."""
import os
from pathlib import Path
from typing import Annotated

import tyro


def ablate(rows: Annotated[tuple[str, ...], tyro.conf.Positional] = (), /, seeds: int = 8, share: float = 1.0,
           equal: bool = False, tasks: bool = False, plan: bool = False, processes: int | None = None,
           run: Path = Path("runs/ablate"), out: Path = Path("runs/ablation.jsonl")) -> None:
    """Train recipes that differ in one part, over seeds, side by side; repeat the command to go on.

    Args:
        rows: their names, or the groups paper, ours, noise, sweeps and after; by default all
        seeds: how many, from 0; every row is trained with one before the next begins
        share: of the samples that a row sees, for a quick look
        equal: as many samples as take the CPU seconds of the row that the group is compared with
        tasks: fine-tune each for entailment, VQA, NLVR2 and grounding, too, with and without distillation
        plan: train nothing; list the runs that are missing, in order, with the time that they'll take
        processes: how many train at once, one thread each; by default as many as there are cores
        run: the folder for the runs, which are removed when they're done
        out: the file of results, a line for each run
    """
    from minalbef.bench import ablate as bench
    records = bench.read(out)
    runs = bench.todo(rows, seeds, share, equal, tasks, records)
    processes = processes or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if plan:
        return print(bench.plan(runs, records, processes))
    bench.ablate(runs, run, out, processes)
