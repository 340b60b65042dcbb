"""Two commits side by side: do they train and evaluate to the same numbers? `make parity BASE=<commit>`.

Each side runs the same commands in a folder of its own: pretraining and every fine-tuning for a few
steps, and evaluations on a tenth of the test set. Losses are compared to six digits, step by step,
and figures as printed. It relies on the command line, `train.fit` and `train.Log` alone, so the
sides may differ in their modules. That two processes train as one is tests/test_distributed.py's.
"""
import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from checkout import python_path

HERE = Path(__file__).resolve().parents[2]
TASKS = ("retrieval", "entailment", "vqa", "nlvr2", "grounding")
SMALL = ["batch=16", "save_every=100000"]
SETTINGS = ("seconds", "config", "versions", "schema", "seed", "scenes_seed", "exam_seed")
DIGITS = 6  # of a loss


def commands(steps: int) -> list[list[str]]:
    """Arguments of the command line; each command finds there what it reads."""
    pretrain = ["pretrain", *SMALL, f"epoch={16 * steps}", "warm_steps=20", "--quiet"]
    cases = [[*pretrain, "--run", "pretrain"], ["evaluate", "tiny", "--size", "0.1"]]
    for task in TASKS:
        finetune = ["finetune", task, "--no-evaluate", *SMALL, "--from", "tiny", "--quiet"]
        cases.append([*finetune, "--run", f"tuned/{task}"])
        cases.append(["evaluate", f"tuned/{task}", "--from", "tiny", "--size", "0.1"])
    return cases


def run_side(code: Path, folder: Path, steps: int) -> dict[str, float]:
    """Run all commands with the code of a checkout, in an empty folder: -> numbers by name.

    Raises ValueError with its output for a command that fails.
    """
    folder.mkdir()
    shutil.copytree(code / "data" / "tiny", folder / "tiny")
    (folder / "tiny" / "report.json").unlink(missing_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": python_path(code)}
    process = subprocess.run(
        [sys.executable, __file__, "--here", "--steps", str(steps)], cwd=folder, env=environment,
        capture_output=True, text=True,
    )
    if process.returncode:
        output = process.stdout[-6000:] + process.stderr[-4000:]
        raise ValueError(f"with the code in {code}: {output}")
    values = {}
    for line in (folder / "losses.jsonl").read_text(encoding="utf-8").splitlines():
        values |= json.loads(line)
    for path in folder.rglob("report*.json"):
        report = json.loads(path.read_text(encoding="utf-8"))
        for name, value in numbers(report):
            values[f"{path.relative_to(folder)}: {name}"] = value
    return values


def numbers(tree, path: str = ""):
    """The figures of a report, nested by name, but for those of clock, machine and settings."""
    if isinstance(tree, dict):
        for name, inner in tree.items():
            if path or name not in SETTINGS:
                yield from numbers(inner, f"{path} {name}".strip())
    elif isinstance(tree, list):
        for i, inner in enumerate(tree):
            yield from numbers(inner, f"{path} {i}")
    elif isinstance(tree, int | float):
        yield path, tree


def run_here(steps: int) -> None:
    """The commands of one side, in this folder. Losses are written to losses.jsonl, line by line."""
    from minalbef import train
    from minalbef.__main__ import main as command_line

    fit_all = train.fit
    log_step = train.Log.step

    def fit(task, batches, config, folder, *rest, **more):
        if config.steps > steps:
            config = replace(config, epochs=1.0, epoch=steps * config.batch)
        return fit_all(task, batches, config, folder, *rest, **more)

    def step(self, number, losses, norm, *rest, **more):
        values = {}
        for name, value in {**losses, "gradient": norm}.items():
            values[f"{self.folder.name} step {number:04} {name}"] = float(value)
        with open("losses.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        return log_step(self, number, losses, norm, *rest, **more)

    train.fit = fit
    train.Log.step = step
    for arguments in commands(steps):
        sys.argv = ["minalbef", *arguments]
        try:
            command_line()
        except SystemExit as end:
            if end.code:
                raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "base", nargs="?", default="HEAD", help="the commit to compare the working tree with"
    )
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run_here(options.steps)
        return
    with tempfile.TemporaryDirectory() as place:
        base = Path(place, "code")
        worktree = ["git", "worktree"]
        add = [*worktree, "add", "--quiet", "--detach", str(base), options.base]
        subprocess.run(add, cwd=HERE, check=True)
        try:
            with ThreadPoolExecutor(2) as sides:  # side by side: one core each
                base_side = sides.submit(run_side, base, Path(place, "base"), options.steps)
                head_side = sides.submit(run_side, HERE, Path(place, "head"), options.steps)
                before = base_side.result()
                after = head_side.result()
        finally:
            subprocess.run([*worktree, "remove", "--force", str(base)], cwd=HERE, check=True)
    differing = []
    for name in sorted(before):
        value = after.get(name, math.nan)
        if not math.isclose(before[name], value, rel_tol=0.5 * 10.0**-DIGITS):
            differing.append(f"{name}: {before[name]} became {value}")
    same = f"all {len(before)} numbers are the same as at {options.base}"
    print("\n".join(differing) or same)
    raise SystemExit(bool(differing))


if __name__ == "__main__":
    main()
