"""An ablation: recipes that differ in one part, over seeds, side by side; results stay as they come.

`python notebooks/experiments/ablate.py paper`; stopped, the same command goes on. The recipes are
in ablate_rows.py; effects.py makes tables of the results.
"""
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import tyro

from ablate_records import RunKey, read_records, seconds_per_sample
from ablate_rows import BASES, ROWS, rows_of
from ablate_run import work
from minalbef import train
from minalbef.cli.main import run_script
from minalbef.recipes.launch import ENVIRONMENT, GRACE
from minalbef.system import writing
from minalbef.system.metrics import progress, read_metrics
from outcomes import DOWNSTREAM, TASK_STEPS

LOG = logging.getLogger("minalbef")
CPU_SECONDS = 0.0065                  # of a sample, on a core of an AMD EPYC, if none was measured
BATCH = 64


def missing_runs(names: Iterable[str], seeds: int, share: float, equal: bool, tasks: bool,
                 records: list[dict]) -> list[RunKey]:
    """The runs that have no record yet, seed by seed, so that a broken-off night has whole rows.

    names: rows or groups. share: of a row's samples
    equal: as many samples as take the CPU seconds of the row that the group is compared with
    tasks: each run is fine-tuned for the tasks, too
    Raises ValueError for an unknown name, and with equal where CPU seconds aren't known yet.
    """
    rows = rows_of(names)
    samples = {row: samples_of(row, share, equal, records) for row in rows}
    runs = []
    for seed in range(seeds):
        for row in rows:
            run = RunKey(row, seed, samples[row], equal, tasks)
            if not any(covers(record, run) for record in records):
                runs.append(run)
    return runs


def covers(record: dict, run: RunKey) -> bool:
    """Whether a record is the run's; of equal CPU seconds, any number of samples will do."""
    if (record["row"], record["seed"], record["equal"]) != (run.row, run.seed, run.equal):
        return False
    if run.with_tasks and "tasks" not in record:
        return False
    return run.equal or record["samples"] == run.samples


def samples_of(name: str, share: float, equal: bool, records: list[dict]) -> int:
    """How many samples a row sees, in whole batches. Arguments and errors as in `missing_runs`."""
    row = ROWS[name]
    samples = share * row.samples
    if equal:
        base = BASES[row.group]
        cost = seconds_per_sample(records, name)
        base_cost = seconds_per_sample(records, base)
        if cost is None or base_cost is None or share < 1:
            raise ValueError(f"--equal needs share 1, and CPU seconds of {name} and of {base}: "
                             "run both without it")
        samples = ROWS[base].samples * base_cost / cost
    batches = int(samples + 1e-6) // BATCH       # rounding may leave a whole number just below
    return max(1, batches) * BATCH


def describe_plan(runs: list[RunKey], records: list[dict], processes: int) -> str:
    """How long the missing runs will take, in their order."""
    lines = []
    total = 0.0
    for run in runs:
        seconds = run.samples * (seconds_per_sample(records, run.row) or CPU_SECONDS)
        total += seconds
        if run.with_tasks:            # each task twice, with distillation and without
            total += 2 * len(DOWNSTREAM) * TASK_STEPS * BATCH * CPU_SECONDS
        lines.append(f"{run.row:20} seed {run.seed} {run.samples:8,} samples {seconds:6.0f} CPU s "
                     f"of pretraining, done after {total / 3600 / processes:5.1f} h")
    lines.append(f"{len(runs)} runs, {total / 3600:.1f} CPU hours of training in "
                 f"{processes} processes")
    return "\n".join(lines)


def train_runs(runs: list[RunKey], folder: Path, out: Path, processes: int, quiet: bool = False,
               work: Callable[[RunKey, Path], None] = work) -> None:
    """Train runs side by side, each in a process of one thread; append each record to `out`.

    processes: how many at a time. work: what a process does
    Raises train.Stopped after Ctrl-C or SIGTERM: the runs are saved, and the same call goes on.
    Raises SystemExit where a run failed, once the others are finished. Raises ValueError where
    another process trains in the same folder.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    out.parent.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    waiting = list(runs)
    running: dict[multiprocessing.process.BaseProcess, RunKey] = {}
    samples = failures = 0
    total = sum(run.samples for run in runs)
    with (writing.lock(folder / ".night"), train.catch_signals() as stopped,
          progress(None, "ablation", quiet, total=total, unit="sample") as bar):
        try:
            while (waiting or running) and not stopped:
                while waiting and len(running) < processes:
                    run = waiting.pop(0)
                    process = spawn.Process(target=work, args=(run, folder / run.folder))
                    process.start()
                    running[process] = run
                time.sleep(0.5)
                for process in [process for process in running if not process.is_alive()]:
                    run = running.pop(process)
                    samples += run.samples
                    if not move_result(folder / run.folder, out) and not stopped:
                        failures += 1
                        LOG.error(f"{run.row}, seed {run.seed}, broke off with status "
                                  f"{process.exitcode}; others go on")
                in_progress = sum(samples_seen(folder / run.folder) for run in running.values())
                bar.update(samples + in_progress - bar.n)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.join(GRACE)
    with suppress(OSError):
        (folder / ".night").rmdir()
    if stopped:
        remaining = len(waiting) + len(running)
        raise train.Stopped(f"stopped with {remaining} runs left; the same command goes on")
    if failures:
        raise SystemExit(1)


def move_result(folder: Path, out: Path) -> bool:
    """Append a finished run's record to `out` and remove its folder; False without a record."""
    result = folder / "result.json"
    if not result.exists():
        return False
    with out.open("a", encoding="utf-8") as file:
        file.write(result.read_text(encoding="utf-8") + "\n")
    shutil.rmtree(folder)
    return True


def samples_seen(folder: Path) -> int:
    """How far a run is."""
    rows = read_metrics(folder)
    return int(rows[-1]["samples"]) if rows else 0


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main(rows: Annotated[tuple[str, ...], tyro.conf.Positional] = (), /, seeds: int = 8,
         share: float = 1.0, equal: bool = False, tasks: bool = False, plan: bool = False,
         processes: int | None = None, run: Path = Path("runs/ablate"),
         out: Path = Path("runs/ablation.jsonl")) -> None:
    """Train recipes that differ in one part, over seeds, side by side; repeat the command to go on.

    Args:
        rows: their names, or the groups paper, ours, noise, sweeps and after; by default all
        seeds: how many, from 0; every row is trained with one before the next begins
        share: of the samples that a row sees, for a quick look
        equal: as many samples as take the CPU seconds of the row that the group is compared with
        tasks: fine-tune each for four tasks, too, with and without distillation
        plan: train nothing; list the missing runs, in order, with the time that they'll take
        processes: how many train at once, one thread each; by default as many as there are cores
        run: the folder for the runs, which are removed when they're done
        out: the file of results, a line for each run
    """
    records = read_records(out)
    runs = missing_runs(rows, seeds, share, equal, tasks, records)
    processes = processes or count_cores()
    if plan:
        print(describe_plan(runs, records, processes))
    else:
        train_runs(runs, run, out, processes)


if __name__ == "__main__":
    run_script(main)
