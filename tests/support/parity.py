"""Two commits side by side: do they train and evaluate to the same numbers? `make parity BASE=<commit>`.

Each side runs the same commands in a folder of its own: pretraining and every fine-tuning for a few steps, in one
process and in two, and evaluations on a tenth of the test set. Losses are compared to six digits, step by step, and
figures as printed. It relies on the command line and `train.fit` alone, so the sides may differ in their modules.
A side imports torch once, and forks for each process of each command: starting anew would take a third of the time.
"""
import argparse
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from checkout import python_path

HERE = Path(__file__).resolve().parents[2]
TASKS = ("retrieval", "entailment", "vqa", "nlvr2", "grounding")
SMALL = ["batch=16", "save_every=100000"]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TORCH_CPP_LOG_LEVEL": "ERROR"}
SETTINGS = ("seconds", "config", "versions", "schema", "seed", "scenes_seed", "exam_seed")
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
                   ["finetune", task, "--no-evaluate", *SMALL, "--from", "tiny", "--run", f"{task}{end}", "--quiet"])
                  for task in TASKS]
    part = ["--size", "0.1"]
    cases.append(("evaluate-pretrain", 1, ["evaluate", "tiny", *part]))
    for task in TASKS:
        cases.append((f"evaluate-{task}", 1, ["evaluate", f"{task}-1", "--from", "tiny", *part]))
    return [case for case in cases if not only or any(name in case[0] for name in only)]


def run_side(code: Path, folder: Path, steps: int, only: list[str]) -> dict[str, dict]:
    """Run all commands with the code of a checkout, in an empty folder. -> by case, values by name

    Raises ValueError with its output for a command that fails.
    """
    folder.mkdir()
    shutil.copytree(code / "data" / "tiny", folder / "tiny")
    (folder / "tiny" / "report.json").unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--here", "--steps", str(steps), "--only", *only]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **ENVIRONMENT, "PYTHONPATH": python_path(code)},
                          capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"with the code in {code}: {done.stdout[-6000:]}{done.stderr[-4000:]}")
    found = {}
    for case, _, arguments in commands(steps, only):
        values, log = {}, folder / f"{case}.jsonl"
        for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
            title, step, losses = json.loads(line)
            values |= {f"{title} {name} step {step:04}": value for name, value in losses.items()}
        if arguments[0] == "evaluate":
            reports = (folder / arguments[1]).rglob("report*.json")
            values |= {name: value for path in reports for name, value in numbers(json.loads(path.read_text("utf-8")))}
        found[case] = values
    return found


def numbers(tree, path: str = ""):
    """The figures of a report, nested by name: what depends on the clock, the machine or the settings is left out."""
    if isinstance(tree, dict):
        for name, inner in tree.items():
            if path or name not in SETTINGS:
                yield from numbers(inner, f"{path} {name}".strip())
    elif isinstance(tree, list):
        for i, inner in enumerate(tree):
            yield from numbers(inner, f"{path} {i}")
    elif isinstance(tree, int | float):
        yield path, tree


def added(base: dict[str, dict], head: dict[str, dict]) -> list[str]:
    """Figures that the base's evaluations lack: there is nothing to compare them with."""
    return [f"{case}: {name}" for case in base if case.startswith("evaluate")
            for name in sorted(head[case].keys() - base[case].keys())]


def differences(base: dict[str, dict], head: dict[str, dict]) -> list[str]:
    """One line for each series of losses and each figure that differs, with the first step at which it does."""
    lines = []
    for case in base:
        ours, theirs, named = head[case], base[case], set()
        for name in sorted(theirs if case.startswith("evaluate") else theirs.keys() | ours.keys()):
            before, after = theirs.get(name), ours.get(name)
            same = (before is not None and after is not None
                    and math.isclose(before, after, rel_tol=0.5 * 10.0 ** -DIGITS))
            series = name.partition(" step ")[0]
            if not same and series not in named:
                named.add(series)
                lines.append(f"{case}: {name}: {before} became {after}")
    return lines


def run_here(steps: int, only: list[str]) -> None:
    """The commands of one side, in this folder, each in forks of this process; every training is cut to `steps`.

    A case's losses are written to CASE.jsonl, line by line, and what it prints to CASE.txt. Raises SystemExit with the
    latter for a case that fails.
    """
    import torch._dynamo  # noqa: F401  an optimiser would import it, in every process

    from minalbef import train
    from minalbef.__main__ import main as command_line  # where it is in every layout
    from minalbef.recipes import finetune
    whole, logged, log = train.fit, train.Log.step, None

    def fit(task, batches, config, folder, *rest, **more):
        if config.steps > steps:
            config = replace(config, epochs=1.0, epoch=steps * config.batch)
        return whole(task, batches, config, folder, *rest, **more)

    def step(self, number, losses, norm, *rest, **more):
        if os.environ.get("RANK", "0") == "0":
            values = {name: float(f"{float(value):.{DIGITS}g}") for name, value in {**losses, "gradient": norm}.items()}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps([self.folder.name, number, values]) + "\n")
        return logged(self, number, losses, norm, *rest, **more)

    train.fit, train.Log.step = fit, step
    older = hasattr(finetune, "tune_all")        # before 2026-12-02, its training was `minalbef tune`
    for case, processes, arguments in commands(steps, only):
        log, said, port = Path(f"{case}.jsonl").resolve(), Path(f"{case}.txt"), free_port()
        if older and arguments[0] == "finetune":
            arguments = ["tune", *(word for word in arguments[1:] if word != "--no-evaluate")]
        sys.argv = ["minalbef", *arguments]
        children = {fork(command_line, said, rank, processes, port) for rank in range(processes)}
        while children:
            process, status = os.wait()
            children.remove(process)
            if status:
                for other in children:                   # it may wait for the one that failed
                    os.kill(other, signal.SIGKILL)
                raise SystemExit(f"{case} failed:\n{said.read_text('utf-8')}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def fork(command_line, said: Path, rank: int, processes: int, port: int) -> int:
    """One process of a command, as torchrun would start it: -> its id. What it prints goes to `said`."""
    if process := os.fork():
        return process
    status = 1
    try:
        with said.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if processes > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
                           "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command_line()
        status = 0
    except SystemExit as end:
        status = int(bool(end.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)                                 # the parent's own way out is not for its children


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", nargs="?", default="HEAD", help="the commit to compare the working tree with")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--only", nargs="*", default=[], help="cases whose names contain one of these words")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run_here(options.steps, options.only)
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
    figures = added(before, after)
    if figures:
        print(f"{len(figures)} figures are new, from {figures[0]} to {figures[-1]}")
    print("\n".join(lines) or f"all {count} numbers of {len(before)} cases are the same as at {options.base}")
    raise SystemExit(bool(lines))


if __name__ == "__main__":
    main()
