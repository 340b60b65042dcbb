"""Killed, stopped, started twice: a run goes on from its last checkpoint to the same bits."""

import random
import signal
import time
from functools import cache

import pytest

from helpers import same_state
from processes import (
    EVERY,
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


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """(steps, processes, changes) -> what an undisturbed run keeps at its end."""
    return cache(lambda *how: finish(tmp_path_factory.mktemp("whole") / "run", *how))


def allowed_saves(last: int, lived: list[int]) -> set[int]:
    """The steps of which the last checkpoint may be, after a life whose last step this was."""
    steps = {last // EVERY * EVERY}
    if lived and last % EVERY == 0:  # it was done, and perhaps not yet saved
        steps.add(last - EVERY)
    return steps


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(
    tmp_path, reference, processes
):
    steps = 60
    run = tmp_path / "run"
    state = run / "state.pt"
    moments = random.Random(processes)
    in_a_save = False
    before_the_first_save = False
    for life in range(4):
        before = saved(run)
        count = len(done(run))
        written = state.stat().st_mtime_ns if state.exists() else 0
        process = start(run, steps, processes, "dropout=0.1")
        if life == 0:  # while it starts
            time.sleep(1)
        elif life == 1:  # in the middle of writing a checkpoint
            wait(process, lambda: any(run.glob(".state.pt.*.tmp")))
            in_a_save |= any(run.glob(".state.pt.*.tmp"))
        else:  # a little after one
            wait(process, lambda: state.exists() and state.stat().st_mtime_ns != written)
            time.sleep(moments.uniform(0, 0.15))
        assert process.poll() is None, "it ended before it could be killed: more steps are needed"
        kill(process)
        before_the_first_save |= not state.exists()
        lived = done(run)[count:]
        assert lived == list(range(before + 1, before + 1 + len(lived))), "it went on elsewhere"
        assert saved(run) in allowed_saves(lived[-1] if lived else before, lived)
    assert in_a_save and before_the_first_save
    end = finish(run, steps, processes, "dropout=0.1")
    assert same_state(end, reference(steps, processes, "dropout=0.1"))
    assert not list(run.rglob(".*.tmp")), "what was half written is swept up"


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_saves_a_checkpoint_and_ends_and_the_same_command_goes_on(
    tmp_path, reference, processes
):
    steps = 40
    rarely = "save_every=1000"
    run = tmp_path / "run"
    process = start(run, steps, processes, rarely)
    wait(process, lambda: len(done(run)) > 5)
    everyone = family(process.pid)
    assert process.poll() is None
    assert not (run / "state.pt").exists()
    process.terminate()
    status = process.wait(SOON)
    assert status == 130 if processes == 1 else status != 0  # torchrun has a status of its own
    assert not running(everyone)
    assert 5 < saved(run) == done(run)[-1] < steps, "the last step that was done is saved"
    assert same_state(finish(run, steps, processes, rarely), reference(steps, processes))
    assert done(run) == list(range(1, steps + 1))


def test_a_second_command_in_a_run_folder_is_refused_and_the_first_ends_undisturbed(
    tmp_path, reference
):
    steps = 40
    run = tmp_path / "run"
    process = start(run, steps, 1)
    refusal = f"{run} is in use: process {process.pid} of .*--run"
    wait(process, lambda: (run / ".lock.json").exists())
    process.send_signal(signal.SIGSTOP)  # lest it end before the other comes
    with pytest.raises(Refused, match=refusal):
        command("pretrain", *SMALL, f"epoch={16 * steps}", "--run", run, "--quiet")
    process.send_signal(signal.SIGCONT)
    assert process.wait(120) == 0
    assert same_state(finish(run, steps, 1), reference(steps, 1))
