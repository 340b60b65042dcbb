"""What a preset learns, over seeds: `python notebooks/experiments/learn.py --seeds 3`."""
import shlex
import statistics
import sys
from pathlib import Path

from minalbef.cli.main import run_script
from minalbef.cli.train import Changes
from minalbef.recipes import launch
from minalbef.recipes.evaluate import evaluate
from minalbef.recipes.pretrain import settings
from results import flatten, write_json


def learn(preset: str, changes: tuple[str, ...], seeds: int, folder: Path, processes: int | None,
          command: str) -> dict:
    """Train and evaluate runs of several seeds, each on a freshly drawn test set.

    folder: where the runs are; finished ones are not trained again. command: as the user typed it
    -> the results: settings, and by figure its mean, lowest and highest
    """
    reports = []
    for seed in range(seeds):
        run = folder / f"seed{seed}"
        words = ["pretrain", *changes, f"seed={seed}", "--preset", preset, "--run", str(run)]
        status = launch.launch(words, processes)
        if status:
            raise SystemExit(status)
        reports.append(evaluate(run, None, run, command, seed=1000 + seed))
    return {
        "command": command,
        "date": reports[-1]["date"],
        "device": reports[-1]["device"],
        "commit": reports[-1]["commit"],
        "seeds": seeds,
        "config": reports[0]["config"],
        "figures": summarise([flatten(report) for report in reports]),
    }


def summarise(reports: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, lowest and highest of every figure that the first report has."""
    figures = {}
    for name in reports[0]:
        values = [report[name] for report in reports if name in report]
        mean = round(statistics.mean(values), 4)
        figures[name] = {"mean": mean, "low": min(values), "high": max(values)}
    return figures


def main(changes: Changes = (), /, preset: str = "tiny", seeds: int = 3,
         run: Path = Path("runs/bench"), processes: int | None = None,
         out: Path | None = None) -> None:
    """Train and evaluate several seeds; print every figure's mean, and write them with the command.

    Args:
        changes: options of the preset to change
        preset: where to start
        seeds: how many, from 0
        run: the folder for the runs
        processes: how many to train in; by default one a GPU, or two on a CPU
        out: where to write the result; by default learn.json in the folder for the runs
    """
    settings(preset, changes)         # refuse a wrong option before any process starts
    command = shlex.join(["python", *sys.argv])
    results = learn(preset, changes, seeds, run, processes, command)
    write_json(out or run / "learn.json", results)
    for name, value in results["figures"].items():
        print(f"{name:48} {value['mean']:.3f}  ({value['low']:.3f} to {value['high']:.3f})")


if __name__ == "__main__":
    run_script(main)
