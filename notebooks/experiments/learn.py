"""What a preset learns, over seeds: `python notebooks/experiments/learn.py --seeds 3`."""
import shlex
import statistics
import sys
from pathlib import Path

from minalbef.cli.main import run_script
from minalbef.cli.train import Changes
from minalbef.recipes import launch
from minalbef.recipes.evaluate import evaluate_run
from minalbef.recipes.pretrain import settings
from results import flatten, write_json


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
    write_json(out, result)
    for name, value in result["figures"].items():
        print(f"{name:48} {value['mean']:.3f}  ({value['low']:.3f} to {value['high']:.3f})")
    return result


def main(changes: Changes = (), /, preset: str = "tiny", seeds: int = 3,
         run: Path = Path("runs/bench"), processes: int | None = None, out: Path | None = None) -> None:
    """Train and evaluate several seeds; print the mean of every figure, and write them with hardware and command.

    Args:
        changes: options of the preset to change
        preset: where to start
        seeds: how many, from 0
        run: the folder for the runs
        processes: how many to train in; by default one a GPU, or two on a CPU
        out: where to write the result; by default learn.json in the folder for the runs
    """
    settings(preset, changes)                            # refuse a wrong option before any process starts
    command = shlex.join(["python", *sys.argv])
    learn(preset, changes, seeds, run, processes, out or run / "learn.json", command)


if __name__ == "__main__":
    run_script(main)
