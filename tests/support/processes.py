"""A run in processes of its own: start it, look at what it has done and saved, and kill it; used to inject faults."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil  # comes with Jupyter's kernel
import pytest
import torch

from checkout import python_path
from commands import call
from minalbef.recipes import pretrain

ROOT = Path(__file__).parents[2]
EVERY = 4  # steps between two saves
SOON = 20  # seconds in which a job goes down; on two busy cores it took 4
SMALL = (
    "image_size=24 image_width=32 text_width=32 image_heads=2 text_heads=2 embed_dim=16 batch=16 "
    f"queue_size=64 save_every={EVERY} objects=12 warm_steps=6 match_from=0 queue_from=0 "
    "hard_from=0 siblings_from=0 device=cpu"
).split()
LAUNCHERS = {
    1: [sys.executable],
    2: [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--"],
}
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": python_path(ROOT),
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}
CAPTIONS = 300  # of which a run learns its word pieces: fewer than usual, to start sooner
# the command, which writes down each step that it has done, before it may save it
NOTING = f"""
from minalbef import __main__
from minalbef.system import metrics
from minalbef.recipes import pretrain
pretrain.CAPTIONS = {CAPTIONS}
plain = metrics.Log.step
def step(self, number, *given):
    if self.is_main:
        with open(self.folder / "done.txt", "a", encoding="utf-8") as file:
            file.write(f"{{number + 1}}\\n")
    plain(self, number, *given)
metrics.Log.step = step
__main__.main()
"""


def start(run: Path, steps: int, processes: int, *changes: str) -> subprocess.Popen:
    script = run.with_suffix(".py")
    script.write_text(NOTING, encoding="utf-8")
    words = [*LAUNCHERS[processes], str(script), "pretrain", *SMALL, *changes]
    words += [f"epoch={16 * steps}", "--run", str(run), "--quiet"]
    return subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )


def family(pid: int) -> list[int]:
    """A process and all that it started: torchrun's workers are no part of its group."""
    children = psutil.Process(pid).children(recursive=True)
    return [pid, *(child.pid for child in children)]


def running(pids: list[int]) -> list[int]:
    """Those that have not ended."""
    alive = []
    for pid in filter(psutil.pid_exists, pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                alive.append(pid)
    return alive


def kill(process: subprocess.Popen) -> None:
    for pid in family(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def saved(run: Path) -> int:
    """The step of the last checkpoint."""
    path = run / "state.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


def done(run: Path) -> list[int]:
    """Steps that were done, of all lives one after the other."""
    path = run / "done.txt"
    return list(map(int, path.read_text(encoding="utf-8").split())) if path.exists() else []


def wait(process: subprocess.Popen, happened, seconds: float = 120) -> None:
    """Until something happened, or the process ended."""
    end = time.monotonic() + seconds
    while not happened() and process.poll() is None:
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.002)


def finish(run: Path, steps: int, processes: int, *changes: str) -> dict:
    """A run's final state: weights, teacher, queue, the optimiser's state, the step; and its files of weights."""
    process = start(run, steps, processes, *changes)
    assert process.wait(600) == 0
    state = torch.load(run / "state.pt", weights_only=True)
    del state["config"]  # save_every may differ
    kinds = {name.split(".")[0] for name in state["task"]}
    assert kinds >= {"student", "teacher", "queue"}
    assert state["optimiser"]["state"]
    assert state["step"] == steps
    for name in ("model", "teacher"):
        state[name] = (run / f"{name}.safetensors").read_bytes()
    return state


class Refused(Exception):
    """minalbef's own paragraph."""


def command(*words: str | Path) -> str:
    """Run a command of minalbef's: -> what it printed. Raises Refused with what it says when it fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "CAPTIONS", CAPTIONS)
        outcome = call(*words)
    if outcome.failed:
        assert "minalbef: " in outcome.text, outcome.text
        raise Refused(outcome.text)
    return outcome.text
