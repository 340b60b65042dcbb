"""Processes for submissions, forked from one that has imported torch: 2 s less each, for tests that start many.

Where a sandbox is asked for, and elsewhere than on Linux, a process is started as ever: macOS may stop forked ones.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import apart

CHILD = (Path(apart.__file__).parent / "apart_child.py").read_text(encoding="utf-8")
WORDS = [sys.executable, "-I", "-B", "-c", CHILD]
MAIN = 'if __name__ == "__main__":'
FORK = """
torch.optim.SGD([nn.Parameter(torch.ones(1))]).step()
import signal, socket
signal.signal(signal.SIGCHLD, signal.SIG_IGN)        # those that end leave no zombie
line = socket.socket(fileno=0)
while True:
    folder, fds, *_ = socket.recv_fds(line, 4096, 3)
    if not folder:
        raise SystemExit
    pid = os.fork()
    if not pid:
        break
    line.send(str(pid).encode())
    for fd in fds:
        os.close(fd)
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
line.detach()
os.setsid()
os.chdir(folder)
os.environ["HOME"] = folder.decode()
for number, fd in enumerate(fds):
    os.dup2(fd, number)
    os.close(fd)
del folder, fds, fd, number, pid, line, signal, socket
"""


class Server:
    """The process that has imported torch."""

    def __init__(self, env: dict[str, str]):
        self.line, theirs = socket.socketpair()
        head, main, tail = CHILD.partition(MAIN)
        assert main, "apart_child.py has no main part any more"
        self.process = subprocess.Popen(
            [*WORDS[:-1], head + FORK + main + tail], stdin=theirs, env=env
        )
        theirs.close()

    def fork(self, folder: str, *files: int) -> int:
        """-> pid of a process that works in a folder, with these as its standard input, output and error."""
        socket.send_fds(self.line, [folder.encode()], files)
        return int(self.line.recv(16))

    def close(self) -> None:
        self.line.close()
        self.process.wait()


class Forked:
    """What apart.Session needs of a Popen."""

    def __init__(self, server: Server, folder: str, errors: int):
        requests, to_it = os.pipe()
        from_it, answers = os.pipe()
        self.pid = server.fork(folder, requests, answers, errors)
        os.close(requests)
        os.close(answers)
        self.stdin = os.fdopen(to_it, "wb")
        self.stdout = os.fdopen(from_it, "rb")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()


def instead_of_subprocess() -> tuple[SimpleNamespace, list[Server]]:
    """What may stand as `apart.subprocess`, and its server, once there is one, to be closed at the end."""
    servers: list[Server] = []

    def start(words, stderr, env, cwd=None, **how):
        if (
            words != WORDS
            or how.keys() != {"stdin", "stdout", "start_new_session"}
            or sys.platform != "linux"
        ):
            return subprocess.Popen(words, stderr=stderr, env=env, cwd=cwd, **how)
        if not servers:
            servers.append(Server(env))
        return Forked(servers[0], cwd, stderr.fileno())

    return SimpleNamespace(Popen=start, PIPE=subprocess.PIPE), servers
