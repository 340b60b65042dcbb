"""Runs that are killed without a word, again and again, end with the weights of a run that nobody disturbed."""
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from helpers import same_state

ROOT = Path(__file__).parents[1]
EVERY = 4                             # steps between two saves
SOON = 20                             # seconds in which a job goes down; on two busy cores it took 4
SMALL = ["image_size=24", "image_width=32", "text_width=32", "image_heads=2", "text_heads=2", "embed_dim=16", "batch=16", "queue_size=64",
         f"save_every={EVERY}", "objects=12", "warm_steps=6", "match_from=0", "queue_from=0", "hard_from=0", "siblings_from=0"]
LAUNCHERS = {1: [sys.executable], 2: [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--"],
             "machines": ["bash", str(Path(__file__).with_name("two_machines.sh")), "--"]}         # a process on each of two
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
                            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
# the command, which writes down each step that it has done, before it may save it
NOTING = """
from minalbef import __main__, logs
plain = logs.Log.step
def step(self, number, *given):
    if self.on:
        with open(self.folder / "done.txt", "a") as file:
            file.write(f"{number + 1}\\n")
    plain(self, number, *given)
logs.Log.step = step
__main__.main()
"""


@pytest.fixture
def machines():
    """Skips where this machine cannot play two."""
    name = f"minalbef-{os.getpid()}"
    if not shutil.which("ip") or subprocess.run(["ip", "netns", "add", name], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("network namespaces want Linux, root and Debian's iproute2")
    subprocess.run(["ip", "netns", "del", name], check=True)


def start(run: Path, steps: int, processes: int | str, *changes: str) -> subprocess.Popen:
    script = run.with_suffix(".py")
    script.write_text(NOTING)
    words = [*LAUNCHERS[processes], str(script), "pretrain", *SMALL, *changes, f"epoch={16 * steps}", "--run", str(run), "--quiet"]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)


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


def running(pids: list[int]) -> list[int]:
    """Those that have not ended; one that has, and waits to be fetched, has no command line."""
    with contextlib.suppress(OSError):                           # it ended while we looked
        return [pid for pid in pids if (path := Path(f"/proc/{pid}/cmdline")).exists() and path.read_bytes()]
    return running(pids)


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


def done(run: Path) -> list[int]:
    """Steps that were done, of all lives one after the other."""
    path = run / "done.txt"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait(process: subprocess.Popen, happened, seconds: float = 120) -> None:
    """Until something happened, or the process ended."""
    end = time.monotonic() + seconds
    while not happened() and process.poll() is None:
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.002)


def finish(run: Path, steps: int, processes: int | str, *changes: str) -> dict:
    """What a run keeps at its end: weights, teacher, queue, the optimiser's state, the step; and its files of weights."""
    process = start(run, steps, processes, *changes)
    assert process.wait(600) == 0
    state = torch.load(run / "state.pt", weights_only=True)
    kinds = {name.split(".")[0] for name in state["task"]}
    assert kinds >= {"student", "teacher", "queue"} and state["optimiser"]["state"] and state["step"] == steps
    return state | {name: (run / f"{name}.safetensors").read_bytes() for name in ("model", "teacher")}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find a run's processes")
@pytest.mark.parametrize("processes, kills", [(1, 20), (2, 5)])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(tmp_path, processes, kills):
    steps, run, chance = 20 * kills, tmp_path / "run", random.Random(processes)
    whole = finish(tmp_path / "whole", steps, processes)
    caught, early = 0, 0
    for life in range(kills):
        before, known = saved(run), len(done(run))
        process = start(run, steps, processes)
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
        lived = done(run)[known:]
        assert lived == list(range(before + 1, before + 1 + len(lived))), "it did not go on where the last checkpoint was"
        last = lived[-1] if lived else before
        kept = {last // EVERY * EVERY} | ({last - EVERY} if lived and last % EVERY == 0 else set())      # before it was saved
        assert saved(run) in kept, f"step {last} was done, and the checkpoint is of step {saved(run)}"
    assert caught and early, "no kill fell into the writing of a checkpoint, or before the first"
    assert same_state(finish(run, steps, processes), whole)
    assert not list(run.glob(".*.tmp")), "what was half written is swept up"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find a run's processes")
@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_saves_a_checkpoint_and_ends_and_the_same_command_goes_on(tmp_path, processes):
    steps, run, rarely = 40, tmp_path / "run", "save_every=1000"
    whole, process = finish(tmp_path / "whole", steps, processes, rarely), start(run, steps, processes, rarely)
    wait(process, lambda: len(done(run)) > 5)
    others = family(process.pid)
    assert process.poll() is None and not (run / "state.pt").exists()
    process.terminate()
    status = process.wait(SOON)
    assert status == 130 if processes == 1 else status != 0      # torchrun has a status of its own
    assert not running(others)
    assert 5 < saved(run) == done(run)[-1] < steps, "the last step that was done is not the one that was saved"
    assert same_state(finish(run, steps, processes, rarely), whole) and done(run) == list(range(1, steps + 1))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find a run's processes")
def test_a_rank_that_dies_brings_the_job_down_and_relaunching_resumes(tmp_path):
    steps, run = 40, tmp_path / "run"
    whole, process = finish(tmp_path / "whole", steps, 2), start(run, steps, 2)
    wait(process, lambda: (run / "state.pt").exists())
    worker = next(pid for pid in family(process.pid)[1:] if b"pretrain" in Path(f"/proc/{pid}/cmdline").read_bytes())
    others = family(process.pid)
    os.kill(worker, signal.SIGKILL)
    assert process.wait(SOON) != 0, "the job goes down with it, and says so by its status"
    assert not running(others), "and leaves nobody behind"
    assert 0 < saved(run) < steps and same_state(finish(run, steps, 2), whole)


@pytest.mark.slow
def test_two_machines_train_as_one_and_either_that_dies_brings_the_other_down(tmp_path, machines):
    steps, run = 40, tmp_path / "run"
    whole = finish(tmp_path / "whole", steps, 2)
    for lost in range(2):
        before, process = saved(run), start(run, steps, "machines")
        wait(process, lambda: saved(run) > before)
        everyone = family(process.pid)
        machine = family(sorted(everyone[1:3])[lost])
        assert len(machine) > 1, "a machine is a torchrun and its process"
        for pid in machine:
            os.kill(pid, signal.SIGKILL)
        assert process.wait(SOON) != 0
        assert not running(everyone)
        assert before < saved(run) < steps
    assert same_state(finish(run, steps, "machines"), whole)


@pytest.mark.slow
def test_machines_whose_names_lead_nowhere_are_told_what_to_say(tmp_path, machines):
    words, told = [*LAUNCHERS["machines"][:-1], "-m", "--", "minalbef", "pretrain", *SMALL, "--run", str(tmp_path / "run")], tmp_path / "told"
    with told.open("w") as file:
        process = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file, env=ENVIRONMENT | {"INTERFACE": ""})
        wait(process, lambda: "minalbef: the processes do not reach each other" in told.read_text())
    process.terminate()                                          # one of them may wait for half an hour, torch's rule
    assert process.wait(SOON) != 0 and "GLOO_SOCKET_IFNAME=eth0" in told.read_text() and not (tmp_path / "run").exists()
