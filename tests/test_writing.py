"""writing: one process writes a run at a time, the dead hold nothing,
and what is no run is not written over."""
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from minalbef.system.writing import lock, write_atomically


@pytest.fixture
def holder():
    """hold(folder) -> a process that holds it, until it is told to end or killed."""
    context = multiprocessing.get_context("fork")
    began = []

    def held(folder, pipe):
        with lock(folder):
            pipe.send("held")
            pipe.recv()

    def hold(folder):
        here, there = context.Pipe()
        process = context.Process(target=held, args=(folder, there))
        process.start()
        assert here.recv() == "held"
        began.append(process)
        return process, here
    yield hold
    for process in began:
        process.kill()
        process.join()


def test_a_folder_that_another_process_holds_is_refused_with_its_number(holder, tmp_path):
    process, pipe = holder(tmp_path / "run")
    refusal = f"run is in use: process {process.pid} of .*choose another folder with --run"
    with pytest.raises(ValueError, match=refusal), lock(tmp_path / "run"):
        pass
    with lock(tmp_path / "other"):
        pass
    pipe.send("end")
    process.join()
    assert not (tmp_path / "run").exists(), (
        "who ends in peace leaves no lock, nor the empty folder that it made")
    with lock(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").exists()


def test_a_forked_worker_neither_ends_the_lock_nor_keeps_it(tmp_path):
    """Loaders fork workers. An inherited lock would go when one ends,
    or stay when its parent is killed."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def train():
        with lock(tmp_path / "run"):
            first = context.Process(target=os.getpid)
            second = context.Process(target=time.sleep, args=(60,))
            first.start()
            first.join()
            second.start()
            there.send(second.pid)
            time.sleep(60)
    process = context.Process(target=train)
    process.start()
    assert here.poll(60), "it has failed"
    worker = here.recv()
    try:
        with pytest.raises(ValueError,
                           match=f"process {process.pid}"), lock(tmp_path / "run"):
            pass
        process.kill()
        process.join()
        os.kill(worker, 0)
        with lock(tmp_path / "run"):
            pass
    finally:
        process.kill()
        os.kill(worker, signal.SIGKILL)


def test_a_folder_of_other_things_is_refused_and_what_it_holds_is_named(tmp_path):
    for i in range(7):
        (tmp_path / f"{i}.txt").touch()
    for folder in (tmp_path, Path("/")):
        with pytest.raises(ValueError,
                           match="is not a run folder and not empty.*2 more|not a run folder.*bin"):
            with lock(folder):
                pass
        assert not (folder / ".lock").exists()
    # the latter alone, where a run stopped early
    for name in ("state.pt", "unreadable.txt"):
        (tmp_path / name).touch()
        with lock(tmp_path):
            pass
        (tmp_path / name).unlink()


def test_two_processes_that_write_one_file_at_once_leave_it_whole(tmp_path):
    path = tmp_path / "report.json"
    numbers = list(range(20_000))

    def write(value):
        for _ in range(20):
            write_atomically(path, lambda temporary: temporary.write_text(
                json.dumps([value, *numbers])))
    processes = [multiprocessing.get_context("fork").Process(target=write, args=(value,))
                 for value in (1, 2)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        assert not path.exists() or json.loads(path.read_text())[1:] == numbers
    assert [process.exitcode for process in processes] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]
