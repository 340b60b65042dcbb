"""The command line: `minalbef` and `python -m minalbef`.

A command imports what it needs when it runs: torch takes longer than --help.
"""
import argparse
import importlib.metadata
import inspect
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import tyro

import minalbef
from minalbef.cli.bench import BENCHES, bench
from minalbef.cli.full_size import convert, prepare
from minalbef.cli.help import describe_commands, describe_options, fill_in
from minalbef.cli.limits import checked, join_lists, list_flags
from minalbef.cli.measure import doctor, evaluate
from minalbef.cli.train import demo, finetune, pretrain
from minalbef.cli.use import explore, export, predict, search
from minalbef.system.limits import nearest, printable

ABOUT = """ALBEF, rebuilt minimal, faithful and fast. `minalbef COMMAND --help` shows its flags.

Every command takes --quiet (no progress bar), --log-level LEVEL and --debug (an error with its
traceback), too."""
NARROWEST = 40                        # columns; in fewer, tyro never ends to draw its boxes
TYRO = (tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff)


def test(part: Literal["all", "lint", "core", "chapters"] = "all", slow: bool = False,
         workers: int = 2) -> None:
    """Check a checkout of minalbef, as `make test` does: linter, types, tests, chapters.

    Args:
        part: one of the three jobs of CI alone: lint (and types), core (tests of the code), or
            chapters, with the course, the site and pages in a browser
        slow: `make test-slow`: the slow tests, and the solutions
        workers: processes
    """
    # with more threads, a process would wait for a core
    threads = max(1, (os.cpu_count() or 1) // max(1, workers))
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ

    def run(*words: str, accept: tuple[int, ...] = (0,)) -> None:
        status = subprocess.run([sys.executable, "-m", *words], env=environment).returncode
        if status not in accept:
            raise SystemExit(status)

    if not Path("tests").is_dir():
        raise ValueError("the tests are in a checkout of minalbef, not in the package: go to its "
                         "folder first")
    chapter_tests = ["tests/notebooks", "tests/pages"]
    tests = {"all": ["tests"], "lint": [], "chapters": chapter_tests,
             "core": ["tests", *(f"--ignore={folder}" for folder in chapter_tests)]}[part]
    has_chapters = part in ("all", "chapters")
    # whole files: what a module's fixtures make is made once
    pytest = ["pytest", "-q", "-n", str(workers), "--dist", "loadfile", "--nbval",
              "--nbval-current-env", "--nbval-cell-timeout=300",
              "--no-loadscope-reorder"]                      # order: tests/conftest.py
    if slow:
        notebooks = sorted(Path("notebooks/solutions").glob("*.ipynb")) if has_chapters else []
        if tests:
            # 5: none is slow
            run(*pytest, "-m", "slow", *tests, *map(str, notebooks), accept=(0, 5))
        return
    if part in ("all", "lint"):
        run("ruff", "check")
        run("mypy")
    chapters = sorted(Path("notebooks").glob("*.ipynb")) if has_chapters else []
    if tests:
        run(*pytest, "-m", "not slow", *tests, *map(str, chapters))


def commands_of(*functions: Callable) -> dict[str, Callable]:
    """Commands by name, with their flags checked before they begin."""
    return {function.__name__.replace("_", "-"): checked(function) for function in functions}


GROUPS = {
    "begin": commands_of(demo, test),
    "data": commands_of(prepare, convert),
    "train": commands_of(pretrain, finetune),
    "use": commands_of(search, predict, explore, export),
    "measure": commands_of(evaluate, doctor, bench),
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def describe_loss(text: str) -> tuple[str, int] | None:
    """torch's message that another process has ended -> ours and the exit status.

    Ours is empty where the launcher says which process that was. None for another message.
    """
    signs = (r"DataLoader worker \(pid|gloo/transport|NCCL communicator was aborted|"
             "remote process exited")
    if not re.search(signs, text):
        return None
    from minalbef.recipes.launch import LIKELY, LOST, RESUME, followed  # torch is there already
    killed = r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)(?: is killed by signal: ([\w ]+))?"
    loader = re.search(killed, text)
    if loader:
        signals = {signal.strsignal(number): number.name for number in signal.Signals}
        name = signals.get((loader[2] or "").strip(), loader[2])
        how = f"was killed by {name}{LIKELY.get(name, '')}" if name else "ended unexpectedly"
        return f"a loader's worker (pid {loader[1]}) {how}; {RESUME}", 1
    if followed():
        return "", LOST
    message = f"another training process has ended, and this one can't go on without it; {RESUME}"
    return message, LOST


def describe_error(error: BaseException) -> tuple[str, int]:
    """An error's message and the exit status: 2 wrong use, 1 it could not, 130 stopped.

    Raises the error again where it is a bug of ours.
    """
    text = str(error)
    first = (text.splitlines() or [type(error).__name__])[0]
    if isinstance(error, KeyboardInterrupt):                 # train.Stopped is one
        return text or "stopped", 130
    loss = describe_loss(text) if isinstance(error, RuntimeError) else None
    if loss:
        return loss
    no_memory = re.search("(allocate|enough|out of) memory|Storage size calcul", text)
    if isinstance(error, MemoryError) or no_memory:
        return (f"not enough memory ({first}); take a smaller batch, more passes a step "
                "(accumulate=4) or checkpointing=true; `minalbef bench step` measures memory"), 1
    if isinstance(error, RecursionError):
        return f"what was read is nested too deep ({first}); mend the file or leave it out", 1
    explained = isinstance(error, ValueError | OSError | FloatingPointError)
    if explained or hasattr(error, "exit_status"):           # as images.ChangedImage has
        # a loader's worker puts its traceback before the message
        name = rf"\n(?:[\w.]+\.)?{type(error).__name__}: "
        message = re.split(name, text)[-1].rstrip()
        return message, getattr(error, "exit_status", 2 if isinstance(error, ValueError) else 1)
    raise error


def accept_any_terminal() -> None:
    """No command fails for where its words go.

    That is a closed stream, an encoding without some letters, or a narrow terminal.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:                       # closed by the shell: 2>&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):     # a notebook's has no encoding to change
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)


def run_command_line(call: Callable[[list[str]], object]) -> None:
    """Do what the user typed: `call` gets the words, without the options that all commands share.

    Errors that a user can mend are printed without a traceback, except with --debug.
    """
    accept_any_terminal()
    # torch's C++ part warns of DDP's search for weights without gradient, which phases need
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # Apple's GPU lacks operations; torch names them
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--quiet", action="store_true")
    common.add_argument("--debug", action="store_true")
    common.add_argument("--log-level", type=str.upper, default="INFO",
                        choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    flags, words = common.parse_known_args()
    if flags.quiet:
        os.environ["TQDM_DISABLE"] = "1"                 # of the processes that train, too
    logging.basicConfig(format="minalbef: %(message)s", level="WARNING")
    logging.getLogger("minalbef").setLevel("WARNING" if flags.quiet else flags.log_level)
    try:
        call(words)
    except (Exception, KeyboardInterrupt) as error:
        if flags.debug:
            raise
        message, status = describe_error(error)
        if message:
            lines = f"minalbef: {message}".split("\n")
            print("\n".join(map(printable, lines)), file=sys.stderr)
        raise SystemExit(status) from None


def run_script(command: Callable) -> None:
    """Entry of a script: the parameters of `command` are its options.

    Errors are explained as minalbef's are.
    """
    def call(words: list[str]) -> None:
        words = join_lists(words, list_flags(command))
        tyro.cli(checked(command), args=words, config=TYRO)
    run_command_line(call)


def call_command(words: list[str]) -> None:
    """Call the command that the words name. Raises ValueError for one that does not exist."""
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        print(f"usage: minalbef COMMAND ...\n\n{ABOUT}\n{describe_commands(GROUPS)}")
        return
    command = COMMANDS.get(name)
    if command is None and not name.startswith("-"):
        names = ", ".join(COMMANDS)
        raise ValueError(f"no command {name!r}{nearest(name, COMMANDS)}; there are {names}")
    with_options = False
    if command and {"-h", "--help"} & {*words}:
        fill_in(command)
        with_options = "changes" in inspect.signature(command).parameters
    for title in (name, " ".join(words[:2])):
        if title in COMMANDS | BENCHES:
            words = join_lists(words, list_flags((COMMANDS | BENCHES)[title]))
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="minalbef", args=words, config=TYRO)
    except SystemExit:
        if with_options:
            print(describe_options())
        raise


def main() -> None:
    """Entry of the command line."""
    if sys.argv[1:] == ["--version"]:
        accept_any_terminal()
        print(f"minalbef {minalbef.__version__}, torch {importlib.metadata.version('torch')}")
    else:
        run_command_line(call_command)
