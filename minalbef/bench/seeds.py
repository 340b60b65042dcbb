"""Measured, not promised: what a preset learns, over seeds, and what five tasks make of it."""
import json
import statistics
from pathlib import Path

from minalbef import checkpoint
from minalbef.bench.effects import write_tables
from minalbef.recipes import launch, report
from minalbef.recipes.evaluate import evaluate_run
from minalbef.scenes import tables
from minalbef.scenes.jobs import JOBS


def learn(preset: str, changes: tuple[str, ...], seeds: int, folder: Path, processes: int | None, out: Path,
          command: str) -> dict:
    """Train and evaluate `seeds` runs, each on a freshly drawn test set; write the mean and range of each figure.

    Runs that are finished are not trained again. -> what was written: by figure its mean, lowest and highest
    """
    reports = []
    for seed in range(seeds):
        run = folder / f"seed{seed}"
        arguments = ["pretrain", *changes, f"seed={seed}", "--preset", preset, "--run", str(run)]
        if status := launch.launch(arguments, processes):
            raise SystemExit(status)
        reports.append(evaluate_run(run, command, seed=1000 + seed))
    figures = [flatten(one) for one in reports]
    result = {"command": command, "date": reports[-1]["date"], "device": reports[-1]["device"],
              "commit": reports[-1]["commit"], "seeds": seeds, "config": reports[0]["config"],
              "figures": {name: {"mean": round(statistics.mean(values), 4), "low": min(values), "high": max(values)}
                          for name in figures[0] if (values := [one[name] for one in figures if name in one])}}
    checkpoint.write_atomically(out, lambda path: path.write_text(json.dumps(result, indent=1) + "\n", "utf-8"))
    for name, value in result["figures"].items():
        print(f"{name:48} {value['mean']:.3f}  ({value['low']:.3f} to {value['high']:.3f})")
    return result


def tasks(folder: Path, out: Path, page: Path | None = None) -> str:
    """Gather the reports of fine-tuned runs, folder/TASK/report.json, in one file. -> their table, put into page too

    Runs of further seeds are folder/TASK-seed1 and so on; folder/TASK/fresh has figures of a fresh test set. Figures
    of a task or seed that did not run here stay in `out`; the table names the commit of each task.
    Raises ValueError if there is no report, or if the page lacks the two lines that enclose the table.
    """
    held = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    reports = []
    for task in JOBS:
        ran = [path.parent for name in (task, f"{task}-seed*") for path in sorted(folder.glob(f"{name}/report.json"))]
        old = [one for one in held if one["task"] == task]
        by_seed = {one["seed"]: one for one in [*old, *map(with_fresh, ran)]}
        reports += by_seed.values()
    if not reports:
        raise ValueError(f"{folder} has no report of a task, such as {folder / next(iter(JOBS))}/report.json; "
                         "`minalbef finetune TASK` writes one")
    table = tables.task_table(reports)
    if page:
        write_tables(page, tasks=table)
    checkpoint.write_atomically(out, lambda path: path.write_text(json.dumps(reports, indent=1) + "\n", "utf-8"))
    return table


def with_fresh(run: Path) -> dict:
    """A run's report, and that of its fresh test set as "fresh"."""
    found = report.read_report(run)
    if (run / "fresh" / "report.json").exists():
        found["fresh"] = {part: value for part, value in report.read_report(run / "fresh").items() if part != "config"}
    return found


def flatten(figures: dict, skip: tuple[str, ...] = ("config", "intervals", "versions", "counts")) -> dict[str, float]:
    """Nested figures as one level: {"plain": {"oracle_r1": .9}} -> {"plain.oracle_r1": .9}. Words are left out."""
    flat = {}
    for name, value in figures.items():
        if isinstance(value, dict) and name not in skip:
            flat |= {f"{name}.{inner}": x for inner, x in flatten(value, skip).items()}
        elif isinstance(value, float):
            flat[name] = value
    return flat
