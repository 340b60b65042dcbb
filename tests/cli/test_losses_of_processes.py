"""A process that is lost: torch's messages become one line with the signal and the way out."""
import signal

import pytest

from minalbef.cli.main import describe_error
from minalbef.recipes import launch

KILLED = "DataLoader worker (pid 4711) is killed by signal: Killed. "


@pytest.mark.parametrize("text, line", [
    (KILLED, "a loader's worker (pid 4711) was killed by SIGKILL, perhaps for want of memory"),
    ("DataLoader worker (pid 7) exited unexpectedly with exit code 1. "
     "Details are lost due to multiprocessing.",
     "a loader's worker (pid 7) ended unexpectedly")])
def test_a_loaders_worker_is_named_with_its_signal_and_the_way_out(text, line):
    message = f"{line}; the same command goes on from the last checkpoint"
    assert describe_error(RuntimeError(text)) == (message, 1)


@pytest.mark.parametrize("codes, line", [
    ([3, -9], "training process 1 (pid 11) was killed by SIGKILL, "
              "perhaps for want of memory; the same command"),
    ([-11, 3], "rank 0's words\n"
               "training process 0 (pid 10) was killed by SIGSEGV; the same command"),
    ([3, 1], "rank 1's words\n"),
    ([3, 3], "the training processes lost each other; the same command")])
def test_the_launcher_names_the_cause_and_leaves_out_what_followed_from_it(
        codes, line, tmp_path, capsys, caplog):
    files = []
    for rank in range(2):
        files.append(open(tmp_path / str(rank), "w+b"))
        if codes[rank] != -signal.SIGKILL:
            files[-1].write(f"rank {rank}'s words\n".encode())
    launch.print_failures(codes, [10, 11], files)
    printed = capsys.readouterr().err + "".join(record.message for record in caplog.records)
    assert printed.startswith(line) and printed.count("the same command") <= 1
    assert "rank" not in printed.removeprefix(line)
