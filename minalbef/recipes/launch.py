"""Training in several processes of this machine that end with the command that started them, however it ends."""
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from tempfile import TemporaryFile

import torch.distributed as dist

from minalbef.train import Signals

LAUNCHED = "MINALBEF_LAUNCHED"         # set for the processes that `launch` starts
POLL, GRACE = 0.05, 30                # seconds: between two looks at the training processes, and for them to end in peace
MENDABLE, STOPPED = 2, 130            # exit statuses: of an error that was said in a line, and of a run that was stopped


def launch(arguments: list[str], processes: int) -> int:
    """Run a command of minalbef's that trains, in several processes of a thread each: -> its exit status.

    Ctrl-C, SIGTERM and the failure of one process stop all of them after the step that they are in, or after GRACE seconds.
    They also stop when this process is killed: see `follow_launcher`.
    Small matrices gain little from a second thread; on a CPU of two cores two processes are faster.
    """
    # spinning threads slow a shared machine; and glibc returns and takes big blocks anew every step unless told not to
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "4294967296",
                   "MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "268435456",
                   "TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ, LAUNCHED: "yes"}
    if processes > 1:                            # as torchrun does: the store is here, so that no two runs take one port
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(processes),
                        "TORCHELASTIC_USE_AGENT_STORE": "True"}
    with ExitStack() as stack:
        stopped, workers = stack.enter_context(Signals(aloud=False)), []
        said = [None, *(stack.enter_context(TemporaryFile()) for _ in range(processes - 1))]     # rank 0 speaks for all
        try:
            for rank, stderr in enumerate(said):                 # in sessions of their own: Ctrl-C is for this process to pass on
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
                workers.append(subprocess.Popen([sys.executable, "-m", "minalbef", *arguments], env=environment | own,
                                                stdin=subprocess.PIPE, stderr=stderr, start_new_session=True))
            patience = GRACE
            while patience > 0 and any(worker.poll() is None for worker in workers):
                if stopped or any(worker.returncode for worker in workers):
                    patience -= POLL
                    for worker in workers:
                        worker.stdin.close()
                time.sleep(POLL)
        finally:
            for worker in workers:
                worker.kill()                    # of those that have ended nothing happens
                worker.wait()
                worker.stdin.close()
        codes = [worker.returncode for worker in workers]
        if stopped:
            if codes[0] != STOPPED:              # in training it would have said so itself
                print("minalbef: stopped; the same command goes on", file=sys.stderr)
            return STOPPED
        if any(codes) and codes[0] not in (MENDABLE, STOPPED):       # else rank 0 has said why
            for file in said[1:]:
                file.seek(0)
                print(file.read().decode(errors="replace"), end="", file=sys.stderr)
            for rank, code in enumerate(codes):
                if code == -signal.SIGKILL:
                    print(f"minalbef: training process {rank} was killed, for want of memory perhaps; the same command goes on "
                          "from the last checkpoint", file=sys.stderr)
        code = max((code for code in codes if code), default=0)
        return code if code >= 0 else 128 - code


def follow_launcher():
    """From now on stop, as of SIGTERM, when the process that launched this one ends or lets go, by `launch`.

    Its standard input is a pipe from there: all systems close it when a process ends, even one that is killed.
    """
    def wait():
        while os.read(0, 1):
            pass
        signal.raise_signal(signal.SIGTERM)
    if os.environ.pop(LAUNCHED, None):           # not for what this process starts itself
        threading.Thread(target=wait, daemon=True).start()
