"""Killed, stopped and started twice: a run goes on from its last checkpoint and ends with the same bits."""
import os
import random
import shutil
import signal
import subprocess
import time
from functools import cache
from pathlib import Path

import pytest

from helpers import same_state
from processes import (
    ENVIRONMENT,
    EVERY,
    LAUNCHERS,
    ROOT,
    SMALL,
    SOON,
    Refused,
    command,
    done,
    family,
    finish,
    kill,
    running,
    saved,
    start,
    wait,
)

pytestmark = pytest.mark.slow(minutes=1)
proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find a run's processes")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(steps, processes, changes) -> what an undisturbed run keeps at its end."""
    return cache(lambda *how: finish(tmp_path_factory.mktemp("whole") / "run", *how))


@pytest.fixture
def machines():
    """Skips where this machine cannot play two."""
    name = f"minalbef-{os.getpid()}"
    if not shutil.which("ip") or subprocess.run(["ip", "netns", "add", name], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("network namespaces want Linux, root and Debian's iproute2")
    subprocess.run(["ip", "netns", "del", name], check=True)


@proc
@pytest.mark.parametrize("processes, kills", [(1, 4), (2, 4)])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(tmp_path, whole, note, processes, kills):
    steps, run, chance, changed = 15 * kills, tmp_path / "run", random.Random(processes), "dropout=0.1"
    caught, early = 0, 0
    for life in range(kills):
        before, known = saved(run), len(done(run))
        process = start(run, steps, processes, changed)
        if life % 4 == 0:                                        # at any time, while it starts, too
            time.sleep(chance.uniform(0.5, 4) if life else 1)
        elif life % 4 == 1:                                      # in the middle of writing a checkpoint
            wait(process, lambda: any(run.glob(".state.pt.*.tmp")))
            caught += any(run.glob(".state.pt.*.tmp"))
        else:                                                    # a little after one
            stamp = os.stat(run / "state.pt").st_mtime_ns if before else 0
            wait(process, lambda: (run / "state.pt").exists() and os.stat(run / "state.pt").st_mtime_ns != stamp)
            time.sleep(chance.uniform(0, 0.15))
        assert process.poll() is None, "it ended before it could be killed: more steps are needed"
        kill(process)
        early += not (run / "state.pt").exists()
        lived = done(run)[known:]
        assert lived == list(range(before + 1,
                                   before + 1 + len(lived))), "it did not go on where the last checkpoint was"
        last = lived[-1] if lived else before
        kept = {last // EVERY * EVERY} | ({last - EVERY} if lived and last % EVERY == 0 else set())   # not yet saved
        assert saved(run) in kept, f"step {last} was done, and the checkpoint is of step {saved(run)}"
    assert caught and early, "no kill fell into the writing of a checkpoint, or before the first"
    assert same_state(finish(run, steps, processes, changed), whole(steps, processes, changed))
    assert not list(run.rglob(".*.tmp")), "what was half written is swept up"
    note(f"SIGKILL, {processes} processes, {changed}", kills,
         f"the same bits as undisturbed; {early} before, {caught} in a save")


@proc
@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_saves_a_checkpoint_and_ends_and_the_same_command_goes_on(tmp_path, whole, note, processes):
    steps, run, rarely = 40, tmp_path / "run", "save_every=1000"
    process = start(run, steps, processes, rarely)
    wait(process, lambda: len(done(run)) > 5)
    others = family(process.pid)
    assert process.poll() is None and not (run / "state.pt").exists()
    process.terminate()
    status = process.wait(SOON)
    assert status == 130 if processes == 1 else status != 0      # torchrun has a status of its own
    assert not running(others)
    assert 5 < saved(run) == done(run)[-1] < steps, "the last step that was done is not the one that was saved"
    assert same_state(finish(run, steps, processes, rarely),
                      whole(steps, processes)) and done(run) == list(range(1, steps + 1))
    note(f"SIGTERM, {processes} processes", 1, "saved at that step; the same bits as undisturbed")


@proc
def test_a_rank_that_dies_brings_the_job_down_and_relaunching_resumes(tmp_path, whole, note):
    steps, run = 40, tmp_path / "run"
    process = start(run, steps, 2)
    wait(process, lambda: (run / "state.pt").exists())
    worker = next(pid for pid in family(process.pid)[1:] if b"pretrain" in Path(f"/proc/{pid}/cmdline").read_bytes())
    others = family(process.pid)
    os.kill(worker, signal.SIGKILL)
    assert process.wait(SOON) != 0, "the job goes down with it, and says so by its status"
    assert not running(others), "and no process outlives it"
    assert 0 < saved(run) < steps and same_state(finish(run, steps, 2), whole(steps, 2))
    note("SIGKILL of one rank of two", 1, "the other ends, too; the same bits as undisturbed")


def test_two_machines_train_as_one_and_either_that_dies_brings_the_other_down(tmp_path, whole, note, machines):
    steps, run = 40, tmp_path / "run"
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
    assert same_state(finish(run, steps, "machines"), whole(steps, 2))
    note("a machine of two is lost", 2, "the other ends, too; the same bits as undisturbed")


def test_machines_whose_names_lead_nowhere_are_told_what_to_say(tmp_path, machines):
    words, told = [*LAUNCHERS["machines"][:-1], "-m", "--", "minalbef", "pretrain", *SMALL, "--run",
                   str(tmp_path / "run")], tmp_path / "told"
    with told.open("w") as file:
        process = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file, env=ENVIRONMENT | {"INTERFACE": ""})
        wait(process, lambda: "minalbef: the processes do not reach each other" in told.read_text())
    process.terminate()                                          # one of them may wait for half an hour, torch's rule
    assert process.wait(SOON) != 0 and "GLOO_SOCKET_IFNAME=eth0" in told.read_text() and not (tmp_path / "run").exists()


@proc
def test_a_second_command_in_a_run_folder_is_refused_and_the_first_ends_undisturbed(tmp_path, whole, note):
    steps, run = 40, tmp_path / "run"
    process, others = start(run, steps, 1), ([], ["seed=1"], ["warm_steps=7"], ["lr=0.5"])
    for happened in (lambda: (run / ".lock.json").exists(), lambda: done(run)):
        wait(process, happened)                                  # as it starts, and while it trains
        process.send_signal(signal.SIGSTOP)                      # lest it end before the others come
        for changes in others:
            with pytest.raises(Refused, match=f"{run} is in use: process {process.pid} of .*--run"):
                command("pretrain", *SMALL, *changes, f"epoch={16 * steps}", "--run", run, "--quiet")
        process.send_signal(signal.SIGCONT)
    assert process.wait(120) == 0
    assert same_state(finish(run, steps, 1), whole(steps, 1))
    note("a second command in a run folder", 2 * len(others), "refused by name; the first ends as undisturbed")
