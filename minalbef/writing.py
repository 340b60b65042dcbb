"""Atomic writes of a run folder's files, what is said of damaged ones, and the folder's lock."""
import errno
import json
import os
import platform
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from minalbef import distributed
from minalbef.config import Config, other_settings

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK, STATE, MODEL = ".lock", "state.pt", "model.safetensors"
LOADER_DIED = "DataLoader worker (pid"           # how torch's message begins when such a process ends
BEHIND = 1 << 30                                 # a locked byte can't be read on Windows: lock one behind the text
# any of them shows that a folder is a run's
SIGNS = (LOCK, STATE, "metrics.csv", "warm", "assign", "unreadable.txt", "unreadable-0.txt",
         "tensorboard")
_held: set[Path] = set()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """write(temporary) beside `path`, to disk, then rename: a reader sees the old file or the new, never a part.

    A symbolic link is written through: the file that it names is replaced, and the link stays.
    Raises OSError that names the folder when it cannot be written (full, read-only); the old file then stands.
    Raises ValueError where `path` is there and is no file: renaming would put a file in a device's place.
    """
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'no file, but a device or pipe'}; "
                         "name a file to write, new or old")
    if path.is_symlink():
        with explain(f"{path} is a symbolic link that can't be followed", "name another file",
                     OSError, RuntimeError):
            path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)                   # safetensors writes for the owner alone
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:        # torch and safetensors wrap a full disk in theirs
        if LOADER_DIED in str(error):            # raised by a signal handler, wherever the main thread is
            raise
        raise OSError(f"could not write {path}: {error}; free some space or choose another folder. "
                      "The file that was there before, if any, is untouched") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def name_file(path: Path) -> Iterator[None]:
    """Name the file in an OSError that doesn't, such as that of a write to a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None and "could not write" in str(error):
            raise
        raise OSError(f"could not write {path}: {error}; free some space or choose another "
                      "folder") from error


@contextmanager
def explain(problem: str, way_out: str, *errors: type[Exception]) -> Iterator[None]:
    """Raises ValueError in place of these errors: the problem, what they say, and the way out."""
    try:
        yield
    except errors as error:
        raise ValueError(f"{problem} ({' '.join(str(error).split())[:300]}); {way_out}") from error


@contextmanager
def lock(folder: Path, config: Config) -> Iterator[None]:
    """Hold a run folder while a command writes it, and remove temporary files of killed ones. Reading needs no lock.

    Rank 0 holds it for all. The lock is the system's, and ends with its process; the file .lock says whose it is.
    Raises ValueError for a folder that another process holds, naming it and its settings, and for one without a run.
    """
    folder = folder.resolve()
    if distributed.rank() or folder in _held:
        yield
        return
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, and a run needs a folder; choose another with --run")
    check_folder(folder)
    with hold(folder / LOCK, {"config": config.to_dict()}, lambda path: _refusal(path, config)):
        _held.add(folder)
        try:
            sweep(folder)
            yield
        finally:
            _held.discard(folder)


@contextmanager
def hold(path: Path, about: dict, refusal: Callable[[Path], str]) -> Iterator[None]:
    """Hold a lock file, which says whose it is and what `about` adds; gone afterwards.

    Raises ValueError with refusal(path) where another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a+", encoding="utf-8")
        if not _acquire(file.fileno()):
            file.close()
            raise ValueError(refusal(path))
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                break
        file.close()                             # its holder ended and removed it after we had opened it
    try:
        with suppress(OSError):                  # a full disk: who holds the lock is then not said
            file.truncate(0)
            file.write(json.dumps({"process": os.getpid(), "machine": platform.node()} | about))
            file.flush()
        yield
    finally:
        with suppress(OSError):                  # Windows keeps an open file
            path.unlink(missing_ok=True)
        with suppress(OSError):                  # on a full disk closing tries once more to write
            file.close()


def check_folder(folder: Path) -> None:
    """Raises ValueError for a folder that is not for training into.

    That is one with things in it and none of a run's, such as / or your home; and one with a model
    but without the state of its training, such as a copy, whose model would be overwritten.
    """
    if (folder / MODEL).exists() and not (folder / STATE).exists():
        raise ValueError(f"{folder} holds a trained model ({MODEL}) without the state of its "
                         f"training ({STATE}), and would be overwritten; choose another "
                         "folder with --run, or remove the model first")
    held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    shown = [name for name in held if not name.startswith(".")]
    if shown and not any(sign in held for sign in SIGNS) and not _has_settings(folder):
        raise ValueError(f"{folder} is not a run folder and not empty: it holds {', '.join(shown[:5])}"
                         f"{f' and {len(shown) - 5} more' if len(shown) > 5 else ''}; name a new folder with --run")


def _has_settings(folder: Path) -> bool:
    """Whether its config.json is a run's, which stands there before the first checkpoint."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and {"task", "tokenizer", "vocab_size"} <= values.keys()


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders of dead processes, in a folder and the folders in it."""
    for path in [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]:
        number = path.name.split(".")[-2]
        if number.isdecimal() and not _alive(int(number)):
            with suppress(OSError):              # Windows keeps what another process has open
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _acquire(descriptor: int) -> bool:
    """Lock an open file, if no other process has. Where the file system has no locks, everybody gets one."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, BEHIND, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)       # not flock, whose lock forked workers inherit
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def holder_of(path: Path) -> str:
    """Who holds a lock file, in words."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['process']} of {holder['machine']}"
    except (OSError, ValueError, KeyError, TypeError):       # it has not written it yet
        return "another process"


def _refusal(path: Path, config: Config) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        other = other_settings(holder["config"], config)
        settings = f"with other settings ({other})" if other else "with the same settings"
    except (OSError, ValueError, KeyError):      # it has not written them yet, or is of another version
        settings = "with settings unknown"
    return (f"{path.parent} is in use: {holder_of(path)} trains there, {settings}; "
            "wait until it ends, or choose another folder with --run")


def _alive(number: int) -> bool:
    if sys.platform == "win32":                  # there os.kill(number, 0) would send Ctrl-C, and unlink tells
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):     # another user's
        pass
    return True
