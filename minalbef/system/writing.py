"""A run folder's files: atomic writes, reads whose errors name the file, and the folder's lock."""
import errno
import glob
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from minalbef.system import distributed

LOCK, STATE, MODEL = ".lock", "state.pt", "model.safetensors"
LOADER_DIED = "DataLoader worker (pid"           # how torch's message begins when a worker dies
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)        # of a file system without locks
# any of them shows that a folder is a run's
SIGNS = (LOCK, STATE, "metrics.csv", "warm", "assign", "unreadable.txt", "unreadable-0.txt",
         "tensorboard")
SETTINGS = {"task": str, "tokenizer": str, "vocab_size": int}    # in a run's config.json
# what a file that isn't what it should be raises in the code that reads it
MALFORMED = (AttributeError, IndexError, KeyError, OSError, RecursionError, SafetensorError,
             TypeError, ValueError)
KINDS: dict[type, str] = {str: "text", dict: "values by name", list: "a list"}
T = TypeVar("T")
_held: set[Path] = set()                         # folders that this process has locked


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call write(temporary) beside `path`, sync it to disk and rename it over `path`.

    A reader sees the old file or the new one, never a part. A symbolic link is written through: the
    file it names is replaced, and the link stays.
    Raises OSError that names the folder when it can't be written (full, read-only); the old file is
    then untouched. Raises ValueError where `path` exists and is no file: renaming would put a file
    in a device's place.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file, but a folder, device or pipe; name a file to write")
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_dead(path.parent.glob(f".{glob.escape(path.name)}.*.tmp"))    # of a killed command
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)                   # safetensors writes for the owner alone
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:    # the latter two wrap a full disk
        if LOADER_DIED in str(error):            # raised by a signal handler, in any line
            raise
        raise OSError(f"could not write {path}: {error}; free some space or choose another folder. "
                      "The file that was there before, if any, is untouched") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text atomically, in UTF-8."""
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


@contextmanager
def name_file(path: Path) -> Iterator[None]:
    """Name the file in an OSError that doesn't, such as that of a write to a full disk."""
    try:
        yield
    except OSError as error:
        named = error.errno is None and "could not write" in str(error)
        if error.filename is not None or named:
            raise
        raise OSError(f"could not write {path}: {error}; free some space or choose another "
                      "folder") from error


@contextmanager
def restate(problem: str, way_out: str, *errors: type[Exception]) -> Iterator[None]:
    """Raises ValueError in place of these errors: the problem, their message, and the way out."""
    try:
        yield
    except errors as error:
        raise ValueError(f"{problem} ({' '.join(str(error).split())[:300]}); {way_out}") from error


def require_file(path: Path) -> None:
    """Raises ValueError for a folder, device or pipe: whoever opens a pipe may wait forever."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file, but a folder, device or pipe")


def read_json(path: Path, way_out: str, parse: Callable[[Any], T]) -> T:
    """A JSON file, as `parse` returns it, which raises ValueError for values that don't belong.

    Raises ValueError that names the file if it can't be read, is no JSON or is nested too deep.
    """
    state = "is damaged" if path.exists() else "is missing"
    with restate(f"{path} {state}", way_out, *MALFORMED):
        require_file(path)
        return parse(json.loads(path.read_text(encoding="utf-8")))


def check_fields(values: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """The values, if they are a dict that has these names, each with a value of its type.

    Raises ValueError for what isn't.
    """
    if not isinstance(values, dict):
        raise ValueError("it holds no values by name")
    for name, kind in kinds.items():
        if not isinstance(values.get(name), kind):
            value = repr(values.get(name))[:80]
            raise ValueError(f"{name!r} is {value} and must be {KINDS.get(kind, kind.__name__)}")
    return values


def check_texts(values: Any) -> list[str]:
    """The values, if they are a list of strings. Raises ValueError for what isn't."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("it is no list of texts")
    return values


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a run folder while a command writes it.

    Rank 0 holds it for all ranks; reading needs no lock.
    Raises ValueError for a folder that another process holds, and for one that is not for training
    into, see `check_folder`.
    """
    folder = folder.resolve()
    if distributed.rank() or folder in _held:
        yield
        return
    check_folder(folder)
    with hold(folder / LOCK, "trains there", "--run"):
        _held.add(folder)
        try:
            yield
        finally:
            _held.discard(folder)


@contextmanager
def hold(path: Path, action: str, option: str) -> Iterator[None]:
    """Hold the system's lock on a file, which ends with its process.

    A JSON file beside it says which process that is. Both are removed afterwards, and the folder
    if nothing is in it, as after a failed start. Where the file system has no locks, everybody
    gets one.
    action: what a holder does, for the message. option: the one that names another folder
    Raises ValueError where another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(path, blocking=False)
    holder_file = path.with_name(f"{path.name}.json")            # Windows can't read a locked file
    try:
        file_lock.acquire()
    except Timeout:
        holder = "another process"               # which hasn't written its number yet
        with suppress(ValueError):
            values = read_json(holder_file, "", lambda values: check_fields(values, {}))
            holder = f"process {values.get('process')} of {values.get('machine')}"
        raise ValueError(f"{path.parent} is in use: {holder} {action}; wait until it ends, or "
                         f"choose another folder with {option}") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        with suppress(OSError):                  # a full disk: the holder then stays unnamed
            holder_file.write_text(json.dumps({"process": os.getpid(), "machine": platform.node()}))
        yield
    finally:
        with suppress(OSError):                  # on Windows an open file can't be removed
            holder_file.unlink(missing_ok=True)
            path.unlink(missing_ok=True)         # after the release it may be another's
        file_lock.release()
        with suppress(OSError):                  # it has something in it
            path.parent.rmdir()


def check_folder(folder: Path) -> None:
    """Raises ValueError for a folder that is not for training into.

    Such a folder has things in it and none of a run's, like / or your home; or it has a model
    without the state of its training, like a copy, and the model would be overwritten.
    """
    names: list[str] = []
    problem = ""
    if folder.is_dir():
        names = sorted(path.name for path in folder.iterdir())
    elif folder.exists():
        problem = "is a file, and a run needs a folder"
    visible = [name for name in names if not name.startswith(".")]
    if MODEL in names and STATE not in names:
        problem = (f"holds a trained model ({MODEL}) without the state of its training ({STATE}), "
                   "which would be overwritten")
    elif visible and not any(sign in names for sign in SIGNS):
        with suppress(ValueError):               # it has settings before the first checkpoint
            read_json(folder / "config.json", "", lambda values: check_fields(values, SETTINGS))
            return
        contents = ", ".join(visible[:5])
        if len(visible) > 5:
            contents += f" and {len(visible) - 5} more"
        problem = f"is not a run folder and not empty: it holds {contents}"
    if problem:
        raise ValueError(f"{folder} {problem}; choose another folder with --run")


def remove_dead(paths: Iterable[Path]) -> None:
    """Remove those temporary files and folders whose process, named in theirs, has ended."""
    for path in paths:
        number = path.name.split(".")[-2]
        if number.isdecimal() and not _alive(int(number)):
            with suppress(OSError):              # Windows keeps what another process has open
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _alive(number: int) -> bool:
    """Whether a process of this number exists."""
    if sys.platform == "win32":                  # os.kill(number, 0) would send Ctrl-C there; no
        return False                             # matter: unlink fails for a file in use
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):     # another user's
        pass
    return True
