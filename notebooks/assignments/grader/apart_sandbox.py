"""Where a submission's process runs: in bubblewrap's sandbox, as an account without rights or,
if told, in neither.

The audit hook of apart_child.py is a fence inside Python; code below Python gets over it. The
system's fence is here.
"""
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# hidden, too, where they are installed among the libraries
PACKAGES = ("minalbef", "emojiscenes")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store",
          "/etc/ld.so.cache", "/etc/alternatives", "/sys/devices/system/cpu")
PYTHON = ("bin", "lib", "lib64", "pyvenv.cfg")
UNSAFE = "MINALBEF_UNSAFE"
ACCOUNT = "MINALBEF_STUDENT"
MEANS = (f"`--unsafe` ({UNSAFE}=1) grades without a sandbox. Submissions then run "
         "under your account, behind Python's audit hook alone: code that gets "
         "around the hook can read the solutions, change grades, delete your files "
         "and use your network")
WAYS_OUT = ("Do one of these: install bubblewrap (Debian, Ubuntu: apt-get install "
            "bubblewrap); grade in the container of "
            "notebooks/assignments/Containerfile; as root, name an account without "
            f"rights in {ACCOUNT}. {MEANS}")


class Refused(RuntimeError):
    """There is no sandbox, and nobody said that none is needed."""


def choose() -> str:
    """How submissions run here: "unsafe", "account" or "bwrap". Refused, with the ways out,
    where none may be."""
    if os.environ.get(UNSAFE, "0") not in ("", "0"):
        return "unsafe"
    if user := os.environ.get(ACCOUNT):
        why = _account_fails(user, HERE)
        way = "account"
    else:
        why = _bubblewrap_fails()
        way = "bwrap"
    if why:
        raise Refused(f"nothing is graded: {why}. {WAYS_OUT}")
    return way


def without() -> None:
    """From here on no sandbox, in processes that this one starts, too; it says what that means."""
    os.environ[UNSAFE] = "1"
    print(f"{MEANS}.")


def trust_ours() -> None:
    """For submissions that we wrote ourselves: a sandbox where there is one, else none."""
    try:
        choose()
    except Refused:
        os.environ[UNSAFE] = "1"


def command(words: list[str], folder: str) -> tuple[list[str], dict[str, Any]]:
    """A command as it is called in its sandbox, and what else Popen must know. folder: where
    it works, empty."""
    way = choose()
    if way == "bwrap":
        return [*bubblewrap(), *words], {"cwd": folder}
    if way == "unsafe":
        return words, {"cwd": folder}
    os.chmod(folder, 0o755)
    return words, {"cwd": folder, **_account(os.environ[ACCOUNT])}


def bubblewrap() -> list[str]:
    """bwrap with the system and Python bound read-only: no home, no course, no network, no
    process but its own."""
    words = ["bwrap", "--unshare-all", "--uid", "65534", "--gid", "65534",
             "--die-with-parent", "--new-session", "--proc", "/proc", "--dev", "/dev",
             "--tmpfs", "/tmp", "--setenv", "HOME", "/tmp"]
    bound = []
    for path in SYSTEM:
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            words += ["--ro-bind", path, path]
            bound.append(path)
    for path in _python():
        if not _within(path, bound):
            words += ["--ro-bind", path, path]
            bound.append(path)
    for path in _secrets():
        if _within(path, bound):
            words += ["--tmpfs", path]
    return [*words, "--remount-ro", "/", "--chdir", "/tmp"]


def _python() -> list[str]:
    """Where this Python and its libraries are: a virtual environment and the Python that it
    was made from."""
    prefixes = {sys.prefix, sys.base_prefix, os.path.realpath(sys.prefix),
                os.path.realpath(sys.base_prefix),
                str(Path(sys.executable).resolve().parents[1])}
    paths = [os.path.join(prefix, name) for prefix in sorted(prefixes)
             for name in PYTHON]
    return [path for path in paths if os.path.exists(path)]


def _secrets() -> list[str]:
    """Folders that no submission may see, should they lie among the libraries."""
    folders = {str(HERE),
               *(str(path)
                 for path in HERE.parents
                 if (path / "notebooks" / "assignments").is_dir())}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None:
            folders |= set(spec.submodule_search_locations or ())
    return sorted(folder for folder in folders if os.path.isdir(folder))


def _within(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


@functools.cache
def _bubblewrap_fails() -> str:
    if not shutil.which("bwrap"):
        return "bubblewrap (bwrap) is not installed"
    return _fails([*bubblewrap(), sys.executable, "-I", "-c", "pass"],
                  "bubblewrap is installed but fails here")


@functools.cache
def _account_fails(user: str, secret: Path) -> str:
    """Why an account is no sandbox: it isn't there, Python doesn't start as it, or it can
    read the course."""
    try:
        account = _account(user)
    except KeyError:
        return f"{ACCOUNT} names {user!r}, and there is no such account"
    code = "import os, sys; print(os.access(sys.argv[1], os.R_OK))"
    try:
        run = subprocess.run([sys.executable, "-I", "-c", code, str(secret)], cwd="/",
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             timeout=60, **account)
    except (OSError, subprocess.SubprocessError) as problem:
        return f"no process can be started as the account {user}: {problem}"
    if run.returncode:
        return (f"this Python does not start as the account {user}: "
                f"{run.stderr.strip()[-300:]}")
    if run.stdout.strip() == "True":
        return f"the account {user} can read {secret}; do chmod -R go-rwx there"
    return ""


def _account(user: str) -> dict[str, Any]:
    import pwd  # here and not above: Windows has none

    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _fails(words: list[str], what: str) -> str:
    try:
        run = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as problem:
        return f"{what}: {problem}"
    return f"{what}: {run.stdout.strip()[-300:]}" if run.returncode else ""
