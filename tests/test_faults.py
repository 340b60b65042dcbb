"""Runs that are killed without a word, again and again, end with the weights of a run that nobody disturbed."""
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
EVERY = 4                             # steps between two saves
SMALL = ["image_size=24", "image_width=32", "text_width=32", "image_heads=2", "text_heads=2", "embed_dim=16", "batch=16", "queue_size=64",
         f"save_every={EVERY}", "objects=12", "warm_steps=6", "match_from=0", "queue_from=0", "hard_from=0", "siblings_from=0"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--"]


def start(run: Path, steps: int, processes: int) -> subprocess.Popen:
    words = [*(TORCHRUN if processes > 1 else (sys.executable, "-m")), "minalbef", "pretrain", *SMALL, f"epoch={16 * steps}", "--run", str(run),
             "--quiet"]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})


def family(pid: int) -> list[int]:
    """A process and all that it started, by /proc: torchrun's workers are no part of its group."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:                                          # it has just ended
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def kill(process: subprocess.Popen) -> None:
    for pid in family(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def saved(run: Path) -> int:
    """The step of the last checkpoint."""
    path = run / "state.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


def wait(process: subprocess.Popen, happened, seconds: float = 120) -> None:
    """Until something happened, or the process ended."""
    end = time.monotonic() + seconds
    while not happened() and process.poll() is None:
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.002)


def finish(run: Path, steps: int, processes: int) -> bytes:
    process = start(run, steps, processes)
    assert process.wait(600) == 0
    return (run / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find a run's processes")
@pytest.mark.parametrize("processes, kills", [(1, 20), (2, 5)])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(tmp_path, processes, kills):
    steps, run, chance = 20 * kills, tmp_path / "run", random.Random(processes)
    whole = finish(tmp_path / "whole", steps, processes)
    caught, early = 0, 0
    for life in range(kills):
        before, process = saved(run), start(run, steps, processes)
        if life % 4 == 0:                                        # at any time, while it starts, too
            time.sleep(chance.uniform(0.5, 6 if life else 2))
        elif life % 4 == 1:                                      # in the middle of writing a checkpoint
            wait(process, lambda: any(run.glob(".state.pt.*.tmp")))
            caught += any(run.glob(".state.pt.*.tmp"))
        else:                                                    # a little after one
            stamp = os.stat(run / "state.pt").st_mtime_ns if before else 0
            wait(process, lambda: (run / "state.pt").exists() and os.stat(run / "state.pt").st_mtime_ns != stamp)
            time.sleep(chance.uniform(0, 0.3))
        assert process.poll() is None, "it ended before it could be killed: more steps are needed"
        kill(process)
        early += not (run / "state.pt").exists()
        rows = (run / "metrics.csv").read_text().splitlines()[1:] if (run / "metrics.csv").exists() else []
        assert saved(run) >= before, "a checkpoint was lost"
        assert not rows or saved(run) > int(rows[-1].split(",")[0]) - EVERY - 1, "more was lost than since the last save"
    assert caught and early, "no kill fell into the writing of a checkpoint, or before the first"
    assert finish(run, steps, processes) == whole
    assert not list(run.glob(".*.tmp")), "what was half written is swept up"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find a run's processes")
def test_a_rank_that_dies_brings_the_job_down_and_relaunching_resumes(tmp_path):
    steps, run = 40, tmp_path / "run"
    whole, process = finish(tmp_path / "whole", steps, 2), start(run, steps, 2)
    wait(process, lambda: (run / "state.pt").exists())
    worker = next(pid for pid in family(process.pid)[1:] if b"pretrain" in Path(f"/proc/{pid}/cmdline").read_bytes())
    others = family(process.pid)
    os.kill(worker, signal.SIGKILL)
    assert process.wait(60) != 0, "the job goes down with it, and says so by its status"
    assert not [pid for pid in others if Path(f"/proc/{pid}").exists()], "and leaves nobody behind"
    assert 0 < saved(run) < steps and finish(run, steps, 2) == whole
