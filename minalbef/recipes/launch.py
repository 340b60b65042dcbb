"""Training in several processes of this machine, which end whenever their command does."""
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from tempfile import TemporaryFile
from typing import BinaryIO

import torch
import torch.distributed as dist

from minalbef.system.interrupt import catch_signals

LOG = logging.getLogger("minalbef")
LAUNCHED = "MINALBEF_LAUNCHED"        # set for the processes that `launch` starts: "yes", then
FOLLOWED = "followed"                 # once they follow it
POLL = 0.05                           # seconds between two polls of the training processes
GRACE = 30                            # seconds for them to shut down
ALONE = 3                             # of these, for a process that lost another one to end
LIBUV = sys.platform != "win32"       # PyTorch for Windows lacks it (pytorch/pytorch, issue 139990)
# exit statuses: of an error that is one line, of a process that lost another one, of a stopped run
MENDABLE, LOST, STOPPED = 2, 3, 130
RESUME = "the same command goes on from the last checkpoint"
LIKELY = {
    "SIGKILL": ", perhaps for want of memory",
    "SIGBUS": ", perhaps for want of shared memory (/dev/shm)",
}
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",     # spinning threads slow a shared machine
    "OMP_NUM_THREADS": "1",
    # by default glibc frees and maps large blocks anew in every step
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def launch(arguments: list[str], processes: int) -> int:
    """Run a training command of minalbef in several single-threaded processes: -> its exit status.

    Ctrl-C, SIGTERM and the failure of one process stop all of them after the current step, or after
    GRACE seconds. They also stop when this process is killed: see `follow_launcher`.
    Small matrices gain little from a second thread; on a CPU of two cores two processes are faster.
    """
    environment = {**ENVIRONMENT, **os.environ, LAUNCHED: "yes"}
    if processes > 1:                    # we host the store, as torchrun: no two runs share a port
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False,
                              use_libuv=LIBUV)
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
                        "WORLD_SIZE": str(processes), "USE_LIBUV": str(int(LIBUV)),
                        "TORCHELASTIC_USE_AGENT_STORE": "True"}
    with ExitStack() as stack:
        signals = stack.enter_context(catch_signals(aloud=False))
        files: list[BinaryIO | None] = [None]            # rank 0 writes to our stderr
        for _ in range(processes - 1):
            files.append(stack.enter_context(TemporaryFile()))
        workers: list[subprocess.Popen] = []
        try:
            for rank, stderr in enumerate(files):
                place = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
                # in a session of its own: Ctrl-C reaches the launcher alone
                workers.append(subprocess.Popen(
                    [sys.executable, "-m", "minalbef", *arguments], env=environment | place,
                    stdin=subprocess.PIPE, stderr=stderr, start_new_session=True))
            stuck = wait_for(workers, signals)
        finally:
            for worker in workers:
                worker.kill()                    # does nothing to those that have ended
                worker.wait()
                worker.stdin.close()             # type: ignore[union-attr]
        codes = [LOST if hung else worker.returncode for worker, hung in zip(workers, stuck)]
        if signals:
            if codes[0] != STOPPED:              # in training it would have said so itself
                LOG.warning("stopped; the same command goes on")
            return STOPPED
        if any(codes) and codes[0] not in (MENDABLE, STOPPED):       # else rank 0 has said why
            print_failures(codes, [worker.pid for worker in workers], files)
    code = min(codes)
    return 128 - code if code < 0 else max(codes)        # negative: a signal killed it


def default_processes() -> int:
    """One per GPU; without a GPU two, or one where there is one core."""
    if torch.cuda.device_count():
        return torch.cuda.device_count()
    if torch.backends.mps.is_available():
        return 1
    if hasattr(os, "sched_getaffinity"):
        return min(2, len(os.sched_getaffinity(0)))
    return min(2, os.cpu_count() or 1)


def fitting_processes(*batches: tuple[int, int]) -> int:
    """`default_processes`, or the most below it that can share batches evenly, with a warning.

    batches: rows of each, and how many of them the smallest possible share has
    """
    default = default_processes()
    count = default
    while count > 1 and not all(rows % (count * least) == 0 for rows, least in batches):
        count -= 1
    if count < default:
        sizes = " and ".join(str(rows) for rows in dict(batches))
        LOG.warning(f"{default} processes can't share {sizes} rows evenly, so {count} will train")
    return count


def wait_for(workers: Sequence[subprocess.Popen], signals: Sequence[int]) -> list[bool]:
    """Wait until all have ended, or GRACE seconds after a signal or a failure.

    -> which of them still run
    """
    patience: float = GRACE
    while patience > 0 and any(worker.poll() is None for worker in workers):
        if signals or any(worker.returncode for worker in workers):
            patience -= POLL
        if signals or patience < GRACE - ALONE:
            for worker in workers:
                worker.stdin.close()             # type: ignore[union-attr]  # see follow_launcher
        time.sleep(POLL)
    return [worker.poll() is None for worker in workers]


def print_failures(codes: list[int], pids: list[int], files: Sequence[BinaryIO | None]) -> None:
    """Why training failed: which processes a signal killed, and what the others wrote to stderr.

    codes: exit statuses; a signal's is negative. files: each one's stderr, None if it is printed
    Those that ended because they lost another one add nothing.
    """
    harmless = (0, LOST, -signal.SIGTERM)        # the latter is ours
    causes = [rank for rank, code in enumerate(codes) if code not in harmless]
    for rank in causes:
        file = files[rank]
        if file:
            file.seek(0)
            print(file.read().decode(errors="replace"), end="", file=sys.stderr)
        if codes[rank] < 0:
            name = f"signal {-codes[rank]}"
            with suppress(ValueError):           # one that Python doesn't know
                name = signal.Signals(-codes[rank]).name
            LOG.error(f"training process {rank} (pid {pids[rank]}) was killed by "
                      f"{name}{LIKELY.get(name, '')}; {RESUME}")
    if not causes:
        LOG.error(f"the training processes lost each other; {RESUME}")


def followed() -> bool:
    """Whether `launch` started this process; it then reports the loss of a process itself."""
    return os.environ.get(LAUNCHED) == FOLLOWED


def follow_launcher() -> None:
    """From now on stop, as on SIGTERM, when the `launch` that started this process ends.

    Standard input is a pipe from it. Every system closes that when the parent process ends, even
    when it is killed; the launcher closes it to stop training.
    """
    def wait() -> None:
        while os.read(0, 1):
            pass
        signal.raise_signal(signal.SIGTERM)

    if os.environ.get(LAUNCHED) == "yes":
        os.environ[LAUNCHED] = FOLLOWED          # no longer "yes", for the children of this process
        threading.Thread(target=wait, daemon=True).start()
