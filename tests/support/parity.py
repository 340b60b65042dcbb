"""Two commits side by side: do they train and evaluate to the same numbers? `make parity BASE=<commit>`.

Each side runs the same commands in a folder of its own: pretraining and every fine-tuning for a few steps, in one
process and in two, and evaluations on a tenth of the test set. Losses are compared to six digits, step by step, and
figures as printed. It relies on the command line and `train.fit` alone, so the sides may differ in their modules.
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
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
TASKS = ("retrieval", "entailment", "vqa", "nlvr2", "grounding")
SMALL = ["batch=16", "save_every=100000"]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TORCH_CPP_LOG_LEVEL": "ERROR"}
DIGITS = 6                            # of a loss; two processes sum in another order than one, but always in the same


def commands(steps: int, only: list[str]) -> list[tuple[str, int, list[str]]]:
    """-> (case, processes, arguments of the command line), in an order in which each finds what it reads."""
    cases = []
    for processes in (1, 2):
        end = f"-{processes}"
        cases.append((f"pretrain{end}", processes,
                      ["pretrain", *SMALL, f"epoch={16 * steps}", "warm_steps=20", "--run", f"pretrain{end}",
                       "--quiet"]))
        cases += [(f"{task}{end}", processes,
                   ["tune", task, *SMALL, "--from", "tiny", "--run", f"{task}{end}", "--quiet"])
                  for task in TASKS]
    cases.append(("evaluate-pretrain", 1, ["evaluate", "tiny", "--exam", "0.1"]))
    cases += [(f"evaluate-{task}", 1, ["evaluate", f"{task}-1", "--from", "tiny", "--exam", "0.1"]) for task in TASKS]
    return [case for case in cases if not only or any(name in case[0] for name in only)]


def run_side(code: Path, folder: Path, steps: int, only: list[str]) -> dict[str, dict]:
    """Run all commands with the code of a checkout, in an empty folder. -> by case, values by name

    Raises ValueError with its output for a command that fails.
    """
    folder.mkdir()
    shutil.copytree(code / "data" / "tiny", folder / "tiny")
    (folder / "tiny" / "report.json").unlink(missing_ok=True)
    found = {}
    for case, processes, arguments in commands(steps, only):
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        log = folder / f"{case}.jsonl"
        command = [sys.executable, *(torchrun if processes > 1 else []), str(Path(__file__).resolve()),
                   "--child", str(log), "--steps", str(steps), "--", *arguments]
        done = subprocess.run(command, cwd=folder, env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(code)},
                              capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"{case} failed with the code in {code}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        values = {}
        for line in log.read_text().splitlines() if log.exists() else ():
            title, step, losses = json.loads(line)
            values |= {f"{title} {name} step {step:04}": value for name, value in losses.items()}
        if arguments[0] == "evaluate":
            reports = (folder / arguments[1]).rglob("report*.json")
            values |= {name: value for path in reports for name, value in numbers(json.loads(path.read_text()))}
        found[case] = values
    return found


def numbers(tree, path: str = ""):
    """The figures of a report, nested by name: what depends on the clock, the machine or the settings is left out."""
    if isinstance(tree, dict):
        for name, inner in tree.items():
            if path or name not in ("seconds", "config", "versions", "schema", "seed"):
                yield from numbers(inner, f"{path} {name}".strip())
    elif isinstance(tree, list):
        for i, inner in enumerate(tree):
            yield from numbers(inner, f"{path} {i}")
    elif isinstance(tree, int | float):
        yield path, tree


def differences(base: dict[str, dict], head: dict[str, dict]) -> list[str]:
    """One line for each series of losses and each figure that differs, with the first step at which it does."""
    lines = []
    for case in base:
        ours, theirs, named = head[case], base[case], set()
        for name in sorted(theirs.keys() | ours.keys()):
            before, after = theirs.get(name), ours.get(name)
            same = (before is not None and after is not None
                    and math.isclose(before, after, rel_tol=0.5 * 10.0 ** -DIGITS))
            series = name.partition(" step ")[0]
            if not same and series not in named:
                named.add(series)
                lines.append(f"{case}: {name}: {before} became {after}")
    return lines


def child(log: Path, steps: int, arguments: list[str]) -> None:
    """One command, with every training cut to `steps` and its losses written to `log`, line by line."""
    from dataclasses import replace

    from minalbef import train
    from minalbef.__main__ import main as command_line  # where it is in every layout
    whole, logged = train.fit, train.Log.step

    def fit(task, batches, config, folder, *rest, **more):
        if config.steps > steps:
            config = replace(config, epochs=1.0, epoch=steps * config.batch)
        return whole(task, batches, config, folder, *rest, **more)

    def step(self, number, losses, norm, *rest, **more):
        if self.on:
            values = {name: float(f"{float(value):.{DIGITS}g}") for name, value in {**losses, "gradient": norm}.items()}
            with open(log, "a", encoding="utf-8") as file:
                file.write(json.dumps([self.folder.name, number, values]) + "\n")
        return logged(self, number, losses, norm, *rest, **more)

    train.fit, train.Log.step = fit, step
    sys.argv = ["minalbef", *arguments]
    command_line()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", nargs="?", default="HEAD", help="the commit to compare the working tree with")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--only", nargs="*", default=[], help="cases whose names contain one of these words")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    given = sys.argv[1:]
    cut = given.index("--") if "--" in given else len(given)
    options, arguments = parser.parse_args(given[:cut]), given[cut + 1:]
    if options.child:
        child(options.child, options.steps, arguments)
        return
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        base = place / "code"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(base), options.base], cwd=HERE, check=True)
        try:
            with ThreadPoolExecutor(2) as sides:         # side by side: one core each
                before, after = (sides.submit(run_side, code, place / name, options.steps, options.only)
                                 for code, name in ((base, "base"), (HERE, "head")))
                before, after = before.result(), after.result()
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(base)], cwd=HERE, check=True)
    lines = differences(before, after)
    count = sum(map(len, before.values()))
    print("\n".join(lines) or f"all {count} numbers of {len(before)} cases are the same as at {options.base}")
    raise SystemExit(bool(lines))


if __name__ == "__main__":
    main()
