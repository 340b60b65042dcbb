"""writing: one process writes a run at a time, the dead hold nothing, and what is no run is not written over."""
import json
import multiprocessing
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import small
from minalbef.recipes import pretrain
from minalbef.system import distributed
from minalbef.system.checkpoint import write_atomically
from minalbef.system.writing import lock, name_file

CONFIG = small(seed=3)


@pytest.fixture
def holder():
    """hold(folder) -> a process that holds it, until it is told to end or killed."""
    context, began = multiprocessing.get_context("fork"), []

    def held(folder, pipe):
        with lock(folder, CONFIG):
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


def test_a_folder_that_another_process_holds_is_refused_with_its_number_and_settings(holder, tmp_path):
    process, pipe = holder(tmp_path / "run")
    for here, says in ((CONFIG, "with the same settings"),
                       (replace(CONFIG, seed=4, batch=2),
                        "with other settings (seed: 3 there, 4 here; batch: 8 there, 2 here)")):
        with pytest.raises(ValueError, match=f"run is in use: process {process.pid} of .*{re.escape(says)}.*choose "
                                             f"another folder with --run"):
            with lock(tmp_path / "run", here):
                pass
    with lock(tmp_path / "other", CONFIG):
        pass
    pipe.send("end")
    process.join()
    assert not (tmp_path / "run").exists(), "who ends in peace leaves no lock, nor the empty folder that it made"
    with lock(tmp_path / "run", CONFIG):
        assert (tmp_path / "run" / ".lock").exists()


def test_the_lock_of_a_killed_process_is_gone(holder, tmp_path):
    process, _ = holder(tmp_path / "run")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / "run" / ".lock").exists(), "the check is blind: it was no sudden end"
    with lock(tmp_path / "run", CONFIG):
        pass


def test_a_forked_worker_neither_ends_the_lock_nor_keeps_it(tmp_path):
    """Loaders fork workers. An inherited lock would go when one ends, or stay when its parent is killed."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def train():
        with lock(tmp_path / "run", CONFIG):
            first, second = context.Process(target=os.getpid), context.Process(target=time.sleep, args=(60,))
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
        with pytest.raises(ValueError, match=f"process {process.pid}"), lock(tmp_path / "run", CONFIG):
            pass
        process.kill()
        process.join()
        os.kill(worker, 0)
        with lock(tmp_path / "run", CONFIG):
            pass
    finally:
        process.kill()
        os.kill(worker, signal.SIGKILL)


def test_rank_0_alone_holds_the_lock_and_may_take_it_again(holder, tmp_path, monkeypatch):
    with lock(tmp_path / "run", CONFIG), lock(tmp_path / "run", CONFIG):
        pass
    holder(tmp_path / "run")
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    with lock(tmp_path / "run", CONFIG):
        pass


def test_a_held_folder_is_refused_before_anything_is_drawn(holder, tmp_path, monkeypatch):
    process, _ = holder(tmp_path / "run")
    monkeypatch.setattr(pretrain, "read_captions", lambda *_: pytest.fail("it went on"))
    with pytest.raises(ValueError, match=f"process {process.pid}"):
        pretrain.pretrain(replace(CONFIG, objects=12), tmp_path / "run", quiet=True)


def test_only_temporary_files_of_dead_processes_are_swept_in_start_too(holder, tmp_path):
    process, pipe = holder(tmp_path / "other")
    for folder in (tmp_path / "run", tmp_path / "run" / "start"):
        folder.mkdir()
        for number in (process.pid, os.getpid()):
            (folder / f".state.pt.{number}.tmp").touch()
    (tmp_path / "run" / "state.pt").touch()
    pipe.send("end")
    process.join()
    with lock(tmp_path / "run", CONFIG):
        left = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob(".*.tmp")}
    assert left == {f".state.pt.{os.getpid()}.tmp", f"start/.state.pt.{os.getpid()}.tmp"}


def test_a_folder_of_other_things_is_refused_and_what_it_holds_is_named(tmp_path):
    for i in range(7):
        (tmp_path / f"{i}.txt").touch()
    for folder in (tmp_path, Path("/")):
        with pytest.raises(ValueError, match="is not a run folder and not empty.*2 more|not a run folder.*bin"):
            with lock(folder, CONFIG):
                pass
        assert not (folder / ".lock").exists()
    for name in ("state.pt", "unreadable.txt"):          # the latter alone, where a run stopped early
        (tmp_path / name).touch()
        with lock(tmp_path, CONFIG):
            pass
        (tmp_path / name).unlink()


@pytest.mark.parametrize("make, says", [(os.mkdir, "a folder"), (os.mkfifo, "no file, but a device or pipe")])
def test_what_is_no_file_is_not_replaced_by_one(tmp_path, make, says):
    make(tmp_path / "there")
    with pytest.raises(ValueError, match=f"there is {says}"):
        write_atomically(tmp_path / "there", lambda path: path.write_text("new"))
    assert not (tmp_path / "there").is_file()


def test_two_processes_that_write_one_file_at_once_leave_it_whole(tmp_path):
    path, numbers = tmp_path / "report.json", list(range(20_000))

    def write(value):
        for _ in range(20):
            write_atomically(path, lambda temporary: temporary.write_text(json.dumps([value, *numbers])))
    processes = [multiprocessing.get_context("fork").Process(target=write, args=(value,)) for value in (1, 2)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        assert not path.exists() or json.loads(path.read_text())[1:] == numbers
    assert [process.exitcode for process in processes] == [0, 0] and list(tmp_path.iterdir()) == [path]


def test_a_symbolic_link_is_written_through(tmp_path, note):
    target, link = tmp_path / "disk" / "report.json", tmp_path / "run" / "report.json"
    for folder in (target.parent, link.parent):
        folder.mkdir()
    link.symlink_to(target)
    for text in ("the target is new", "the target is there"):
        write_atomically(link, lambda path, text=text: path.write_text(text))
        assert link.is_symlink() and target.read_text() == text and not target.is_symlink()
        assert [path.name for path in target.parent.iterdir()] == ["report.json"]
    (tmp_path / "folder").symlink_to(target.parent)
    with pytest.raises(ValueError, match="folder is a folder"):
        write_atomically(tmp_path / "folder", lambda path: path.write_text("new"))
    note("a symbolic link named with --out", 2, "its target is written, the link stands")


def test_a_write_that_fails_names_the_file_and_no_option_that_the_command_lacks(tmp_path):
    def full(path):
        raise OSError(27, "File too large")
    message = f"could not write {tmp_path}/search.png: .*another folder"
    with pytest.raises(OSError, match=message) as told:
        write_atomically(tmp_path / "search.png", full)
    assert "--run" not in str(told.value)
    message = f"could not write {tmp_path}/a: .Errno 27. File too large; free"
    with pytest.raises(OSError, match=message):
        with name_file(tmp_path / "b"), name_file(tmp_path / "a"):
            full(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"), name_file(tmp_path / "a"):
        (tmp_path / "nowhere").read_text()


def test_a_write_removes_what_a_killed_process_left_of_the_same_file(tmp_path, holder):
    process, _ = holder(tmp_path / "elsewhere")
    dead = multiprocessing.get_context("fork").Process(target=int)
    dead.start()
    dead.join()
    for number in (dead.pid, process.pid):
        (tmp_path / f".a[1].idx.{number}.tmp").write_text("half")
    (tmp_path / f".b.idx.{dead.pid}.tmp").write_text("of another file, maybe of another program")
    write_atomically(tmp_path / "a[1].idx", lambda path: path.write_text("new"))
    assert {path.name for path in tmp_path.glob("*.idx*")} | {path.name for path in tmp_path.glob(".*.tmp")} == {
        "a[1].idx", f".a[1].idx.{process.pid}.tmp", f".b.idx.{dead.pid}.tmp"}


def test_a_start_that_fails_leaves_no_folder_that_it_made(tmp_path):
    with pytest.raises(ValueError, match="vocab"):
        pretrain.pretrain(replace(CONFIG, objects=12), tmp_path / "a" / "b" / "run", vocab=tmp_path / "vocab.txt",
                          quiet=True)
    assert not list(tmp_path.iterdir())
    for name in ("empty", "full"):
        (tmp_path / name).mkdir()
    with pytest.raises(ZeroDivisionError):
        with lock(tmp_path / "empty", CONFIG):
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        with lock(tmp_path / "full" / "run", CONFIG):
            (tmp_path / "full" / "run" / "metrics.csv").touch()
            raise ZeroDivisionError
    assert (tmp_path / "empty").is_dir(), "it was there before"
    assert [path.name for path in (tmp_path / "full" / "run").iterdir()] == ["metrics.csv"]
