"""Two commits side by side: do they train and evaluate to the same numbers? `make parity BASE=<commit>`.

Each side runs the same commands in a folder of its own: pretraining and every fine-tuning for a few
steps, in one process and in two, and evaluations on a tenth of the test set. Losses are compared to
six digits, step by step, and figures as printed. It relies on the command line and `train.fit`
alone, so the sides may differ in their modules. A side imports torch once, and forks for each
process of each command: starting anew would take a third of the time.
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
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TORCH_CPP_LOG_LEVEL": "ERROR",
}
SETTINGS = ("seconds", "config", "versions", "schema", "seed", "scenes_seed", "exam_seed")
DIGITS = 6  # of a loss; two processes sum in another order than one, but always in the same


def commands(steps: int, only: list[str]) -> list[tuple[str, int, list[str]]]:
    """-> (case, processes, arguments of the command line); each finds there what it reads."""
    cases = []
    pretrain = ["pretrain", *SMALL, f"epoch={16 * steps}", "warm_steps=20", "--quiet", "--run"]
    finetune = ["--no-evaluate", *SMALL, "--from", "tiny", "--quiet", "--run"]
    for processes in (1, 2):
        case = f"pretrain-{processes}"
        cases.append((case, processes, [*pretrain, case]))
        for task in TASKS:
            case = f"{task}-{processes}"
            cases.append((case, processes, ["finetune", task, *finetune, case]))
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
    command = [sys.executable, str(Path(__file__).resolve()), "--here", "--steps", str(steps)]
    process = subprocess.run(
        [*command, "--only", *only], cwd=folder, capture_output=True, text=True,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": python_path(code)},
    )
    if process.returncode:
        output = process.stdout[-6000:] + process.stderr[-4000:]
        raise ValueError(f"with the code in {code}: {output}")
    cases = {}
    for case, _, arguments in commands(steps, only):
        values = {}
        log = folder / f"{case}.jsonl"
        for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
            title, step, losses = json.loads(line)
            for name, value in losses.items():
                values[f"{title} {name} step {step:04}"] = value
        if arguments[0] == "evaluate":
            for path in (folder / arguments[1]).rglob("report*.json"):
                values |= dict(numbers(json.loads(path.read_text("utf-8"))))
        cases[case] = values
    return cases


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


def added(base: dict[str, dict], head: dict[str, dict]) -> list[str]:
    """Figures that the base's evaluations lack: there is nothing to compare them with."""
    names = []
    for case in base:
        if case.startswith("evaluate"):
            for name in sorted(head[case].keys() - base[case].keys()):
                names.append(f"{case}: {name}")
    return names


def differences(base: dict[str, dict], head: dict[str, dict]) -> list[str]:
    """A line for each series of losses and each figure that differs, with its first such step."""
    lines = []
    for case in base:
        listed = set()
        names = set(base[case])
        if not case.startswith("evaluate"):
            names |= head[case].keys()
        for name in sorted(names):
            before = base[case].get(name)
            after = head[case].get(name)
            series = name.partition(" step ")[0]
            if series not in listed and not agree(before, after):
                listed.add(series)
                lines.append(f"{case}: {name}: {before} became {after}")
    return lines


def agree(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return False
    return math.isclose(before, after, rel_tol=0.5 * 10.0**-DIGITS)


def run_here(steps: int, only: list[str]) -> None:
    """The commands of one side, in this folder, each in forks of this process.

    Every training is cut to `steps`. A case's losses are written to CASE.jsonl, line by line, and
    what it prints to CASE.txt. Raises SystemExit with the latter for a case that fails.
    """
    import torch._dynamo  # noqa: F401  an optimiser would import it, in every process

    from minalbef import train
    from minalbef.__main__ import main as command_line  # where it is in every layout
    from minalbef.recipes import finetune

    fit_all = train.fit
    log_step = train.Log.step
    log = Path()

    def fit(task, batches, config, folder, *rest, **more):
        if config.steps > steps:
            config = replace(config, epochs=1.0, epoch=steps * config.batch)
        return fit_all(task, batches, config, folder, *rest, **more)

    def step(self, number, losses, norm, *rest, **more):
        if os.environ.get("RANK", "0") == "0":
            values = {}
            for name, value in {**losses, "gradient": norm}.items():
                values[name] = float(f"{float(value):.{DIGITS}g}")
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps([self.folder.name, number, values]) + "\n")
        return log_step(self, number, losses, norm, *rest, **more)

    train.fit = fit
    train.Log.step = step
    older = hasattr(finetune, "tune_all")  # before 2026-12-02, its training was `minalbef tune`
    for case, processes, arguments in commands(steps, only):
        log = Path(f"{case}.jsonl").resolve()
        output = Path(f"{case}.txt")
        port = free_port()
        if older and arguments[0] == "finetune":
            arguments = ["tune", *(word for word in arguments[1:] if word != "--no-evaluate")]
        sys.argv = ["minalbef", *arguments]
        children = set()
        for rank in range(processes):
            children.add(fork(command_line, output, rank, processes, port))
        while children:
            process, status = os.wait()
            children.remove(process)
            if status:
                for child in children:  # it may wait for the one that failed
                    os.kill(child, signal.SIGKILL)
                raise SystemExit(f"{case} failed:\n{output.read_text('utf-8')}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def fork(command_line, output: Path, rank: int, processes: int, port: int) -> int:
    """One process of a command, as torchrun would start it: -> its id. It prints to `output`."""
    if process := os.fork():
        return process
    status = 1
    try:
        with output.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if processes > 1:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }
        command_line()
        status = 0
    except SystemExit as end:
        status = int(bool(end.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the parent's own way out is not for its children


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "base", nargs="?", default="HEAD", help="the commit to compare the working tree with"
    )
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument(
        "--only", nargs="*", default=[], help="cases whose names contain one of these words"
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run_here(options.steps, options.only)
        return
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        base = place / "code"
        worktree = ["git", "worktree"]
        add = [*worktree, "add", "--quiet", "--detach", str(base), options.base]
        subprocess.run(add, cwd=HERE, check=True)
        try:
            with ThreadPoolExecutor(2) as sides:  # side by side: one core each
                cut = options.steps, options.only
                base_side = sides.submit(run_side, base, place / "base", *cut)
                head_side = sides.submit(run_side, HERE, place / "head", *cut)
                before = base_side.result()
                after = head_side.result()
        finally:
            subprocess.run([*worktree, "remove", "--force", str(base)], cwd=HERE, check=True)
    lines = differences(before, after)
    count = sum(map(len, before.values()))
    figures = added(before, after)
    if figures:
        print(f"{len(figures)} figures are new, from {figures[0]} to {figures[-1]}")
    same = f"all {count} numbers of {len(before)} cases are the same as at {options.base}"
    print("\n".join(lines) or same)
    raise SystemExit(bool(lines))


if __name__ == "__main__":
    main()
