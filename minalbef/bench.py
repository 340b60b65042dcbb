"""Measured, not promised: what a preset learns, over seeds."""
import json
import statistics
from pathlib import Path

from minalbef import checkpoint, pipeline


def learn(preset: str, changes: tuple[str, ...], seeds: int, folder: Path, processes: int, out: Path,
          command: str) -> dict:
    """Train and examine `seeds` runs, each on its own freshly drawn tests, and write the mean and spread of each figure.

    Runs that are finished are not trained again. -> what was written: by figure its mean, lowest and highest
    """
    reports = []
    for seed in range(seeds):
        run = folder / f"seed{seed}"
        arguments = [*changes, f"seed={seed}", "--preset", preset, "--run", str(run)]
        if status := pipeline.launch(arguments, processes):
            raise SystemExit(status)
        reports.append(pipeline.examine_run(run, 1.0, 1000 + seed, command))
    figures = [flatten(one) for one in reports]
    result = {"command": command, "date": reports[-1]["date"], "device": reports[-1]["device"],
              "commit": reports[-1]["commit"], "seeds": seeds, "config": reports[0]["config"],
              "figures": {name: {"mean": round(statistics.mean(values), 4), "low": min(values), "high": max(values)}
                          for name in figures[0] if (values := [one[name] for one in figures if name in one])}}
    checkpoint.write_atomically(out, lambda path: path.write_text(json.dumps(result, indent=1) + "\n"))
    for name, value in result["figures"].items():
        print(f"{name:48} {value['mean']:.3f}  ({value['low']:.3f} to {value['high']:.3f})")
    return result


def flatten(figures: dict, skip: tuple[str, ...] = ("config", "intervals", "versions", "counts")) -> dict[str, float]:
    """Nested figures as one level: {"plain": {"oracle_r1": .9}} -> {"plain.oracle_r1": .9}. Words are left out."""
    flat = {}
    for name, value in figures.items():
        if isinstance(value, dict) and name not in skip:
            flat |= {f"{name}.{inner}": x for inner, x in flatten(value, skip).items()}
        elif isinstance(value, float):
            flat[name] = value
    return flat
