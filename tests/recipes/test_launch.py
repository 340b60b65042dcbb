"""Training in several processes: they end with the command and say why in one line."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minalbef.recipes import launch
from processes import ENVIRONMENT, ROOT, SMALL, SOON, family, running, saved, wait

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")]
COMMANDS = {"demo": ["demo"],
            "finetune": ["finetune", "entailment", "--from", str(ROOT / "data" / "tiny")]}
CHANGES = {"demo": [*SMALL, "epoch=960"],
           "finetune": ["image_size=48", "batch=16", "epoch=640", "epochs=1", "save_every=4"]}


@pytest.fixture
def start():
    """start(command, run, processes, log) -> the process; what a failed test leaves is killed."""
    began = []

    def begin(*args):
        began.append(begun(*args))
        return began[-1]
    yield begin
    for process in began:
        process.kill()                           # and its training follows


def begun(command: str, run: Path, processes: int, log) -> subprocess.Popen:
    words = [sys.executable, "-m", "minalbef", *COMMANDS[command], *CHANGES[command], "--run",
             str(run), "--processes", str(processes), "--size", "0.01", "--quiet"]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log,
                            env=ENVIRONMENT)


def gone(pids: list[int]) -> bool:
    end = time.monotonic() + SOON
    while running(pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not running(pids)


# with SIGTERM each ends its second life
@pytest.mark.parametrize("command, processes, number", [
    ("demo", 2, signal.SIGKILL), ("finetune", 2, signal.SIGTERM)])
def test_training_ends_with_the_command_and_the_same_command_goes_on(
        tmp_path, start, command, processes, number):
    run = tmp_path / "run"
    log = tmp_path / "log"
    with log.open("w") as file:
        process = start(command, run, processes, file)
        wait(process, lambda: (run / "state.pt").exists(), 600)
        everyone = family(process.pid)
        assert len(everyone) >= 1 + processes
        os.kill(process.pid, number)
        assert process.wait(SOON) == (-number if number == signal.SIGKILL else 130)
        assert gone(everyone), "somebody trains on"
    step = saved(run)
    lines = [*filter(None, log.read_text().splitlines())]
    assert lines[-1].startswith(f"minalbef: stopped after step {step} of "), lines
    assert len(lines) <= 2, lines
    for line in lines[:-1]:
        assert line.startswith("stopping when this step is done"), lines
    with log.open("w") as file:
        process = start(command, run, processes, file)
        wait(process, lambda: saved(run) > step, 600)
        everyone = family(process.pid)
        process.terminate()
        assert process.wait(SOON) == 130 and gone(everyone)
    assert saved(run) > step, log.read_text()


def test_the_failure_of_any_process_ends_all_and_is_said_once(tmp_path, capfd):
    assert launch.launch(["pretrain", *SMALL, "batch=15", "--run", str(tmp_path / "run"),
                          "--quiet"], 2) == 2
    line, = capfd.readouterr().err.splitlines()
    assert line.startswith("minalbef: batch=15 is not a multiple of ")
    assert not (tmp_path / "run" / "start").exists(), "a warm start was trained for nothing"
