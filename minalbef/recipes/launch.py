"""Training in several processes of this machine that end with the command that started them, however it ends."""
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import BinaryIO

import torch
import torch.distributed as dist

from minalbef.train import catch_signals

LOG = logging.getLogger("minalbef")
LAUNCHED = "MINALBEF_LAUNCHED"        # set for the processes that `launch` starts: "yes", then
FOLLOWED = "followed"                 # once they follow it
POLL, GRACE = 0.05, 30                # seconds: between two polls of the training processes, and for them to shut down
ALONE = 3                             # of these, in which processes that lose another end by themselves
LIBUV = sys.platform != "win32"       # PyTorch for Windows is built without it (pytorch/pytorch, issue 139990)
# exit statuses: of an error reported in one line, of a process that lost another one, and of a stopped run
MENDABLE, LOST, STOPPED = 2, 3, 130
RESUME = "the same command goes on from the last checkpoint"
LIKELY = {"SIGKILL": ", perhaps for want of memory", "SIGBUS": ", perhaps for want of shared memory (/dev/shm)"}
# spinning threads slow a shared machine; by default glibc frees and maps big blocks anew in every step
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "4294967296",
               "MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "268435456", "TORCH_CPP_LOG_LEVEL": "ERROR"}


def launch(arguments: list[str], processes: int | None = None) -> int:
    """Run a training command of minalbef in several processes of one thread each: -> its exit status.

    processes: by default one a GPU; without any GPU two, or one where there is one core

    Ctrl-C, SIGTERM and the failure of one process stop all of them after the current step, or after GRACE seconds.
    They also stop when this process is killed: see `follow_launcher`.
    Small matrices gain little from a second thread; on a CPU of two cores two processes are faster.
    """
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        processes = torch.cuda.device_count() or (1 if torch.backends.mps.is_available() else min(2, cores))
    environment = {**ENVIRONMENT, **os.environ, LAUNCHED: "yes"}
    if processes > 1:                            # as in torchrun, we host the store, so that no two runs take one port
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, use_libuv=LIBUV)
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(processes),
                        "TORCHELASTIC_USE_AGENT_STORE": "True", "USE_LIBUV": str(int(LIBUV))}
    with ExitStack() as stack:
        stopped, workers = stack.enter_context(catch_signals(aloud=False)), []
        said = [None, *(stack.enter_context(TemporaryFile()) for _ in range(processes - 1))]     # rank 0 speaks for all
        try:
            for rank, stderr in enumerate(said):                 # in new sessions: Ctrl-C reaches this process alone
                place = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
                workers.append(subprocess.Popen([sys.executable, "-m", "minalbef", *arguments], env=environment | place,
                                                stdin=subprocess.PIPE, stderr=stderr, start_new_session=True))
            patience = GRACE
            while patience > 0 and any(worker.poll() is None for worker in workers):
                if stopped or any(worker.returncode for worker in workers):
                    patience -= POLL
                if stopped or patience < GRACE - ALONE:
                    for worker in workers:
                        worker.stdin.close()
                time.sleep(POLL)
            stuck = [worker.poll() is None for worker in workers]
        finally:
            for worker in workers:
                worker.kill()                    # does nothing to those that have ended
                worker.wait()
                worker.stdin.close()
        codes = [LOST if late else worker.returncode for worker, late in zip(workers, stuck)]
        if stopped:
            if codes[0] != STOPPED:              # in training it would have said so itself
                LOG.warning("stopped; the same command goes on")
            return STOPPED
        if any(codes) and codes[0] not in (MENDABLE, STOPPED):       # else rank 0 has said why
            print_failures(codes, [worker.pid for worker in workers], said)
    code = min(codes)                            # negative: of a process that was killed
    return 128 - code if code < 0 else max(codes)


def print_failures(codes: list[int], pids: list[int], said: Sequence[BinaryIO | None]) -> None:
    """Why training failed: which processes were killed, by what, and what the others wrote to stderr.

    codes: exit statuses, negative: the signal. said: stderr of each process, None where it was printed already
    Those that ended because they lost another one add nothing.
    """
    causes = [rank for rank, code in enumerate(codes) if code not in (0, LOST, -signal.SIGTERM)]     # SIGTERM is ours
    for rank in causes:
        if file := said[rank]:
            file.seek(0)
            print(file.read().decode(errors="replace"), end="", file=sys.stderr)
        if codes[rank] < 0:
            LOG.error(f"training process {rank} (pid {pids[rank]}) was killed by {killer(-codes[rank])}; {RESUME}")
    if not causes:
        LOG.error(f"the training processes lost each other; {RESUME}")


def killer(number: int) -> str:
    """A signal's name, with the likely reason."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return name + LIKELY.get(name, "")


def followed() -> bool:
    """Whether this process was started by `launch`, which says itself when one of them is lost."""
    return os.environ.get(LAUNCHED) == FOLLOWED


def follow_launcher():
    """From now on stop, as on SIGTERM, when the `launch` that started this process ends or closes its pipe.

    Standard input is that pipe: every system closes it when the parent process ends, even when it is killed.
    """
    def wait():
        while os.read(0, 1):
            pass
        signal.raise_signal(signal.SIGTERM)
    if os.environ.get(LAUNCHED) == "yes":
        os.environ[LAUNCHED] = FOLLOWED          # no longer "yes", for the children of this process
        threading.Thread(target=wait, daemon=True).start()
