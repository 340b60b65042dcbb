"""No number of the command line is taken unseen, and an error is one line."""
import dataclasses
import inspect
import re
import signal
import subprocess
import sys
import time
import typing

import pytest
import torch

from minalbef.cli import bench
from minalbef.cli import main as command_line
from minalbef.cli.limits import checked
from processes import SMALL

SECTIONS = ("scenes", "sets")
COMMANDS = [*command_line.COMMANDS.values(), bench.step, bench.data]


def kinds(annotation) -> set[type]:
    """int, float and whatever else stands in an annotation, at any depth."""
    inner = typing.get_args(annotation)
    return set().union(*map(kinds, inner)) if inner else {annotation}


def numbers(command) -> set[str]:
    names = set()
    for name, annotation in typing.get_type_hints(command).items():
        inside = [kind for kind in kinds(annotation) if dataclasses.is_dataclass(kind)]
        if {int, float} & kinds(annotation):
            names.add(name)
        else:
            names |= set().union(*map(numbers, inside))
    # of their picture: tasks.grounding checks them
    return names - {"boxes"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_hostile_number_is_refused_by_flag_before_the_command_begins(command):
    calls = []
    plain = inspect.unwrap(command)
    def stub(*args, **kwargs):
        calls.append(kwargs)
    stub.__signature__ = inspect.signature(plain)
    call = checked(stub)
    options = inspect.signature(plain).parameters
    before = []
    rest = {}
    for name, option in options.items():
        if option.kind is option.POSITIONAL_ONLY:
            before.append(None)
        elif option.default is option.empty:
            rest[name] = None
    for name in numbers(plain):
        for value in (float("nan"), float("inf"), -1, 10 ** 30):
            holder = {name: value}
            if name not in options:
                section = next(key for key in SECTIONS if key in options
                               and hasattr(options[key].default, name))
                holder = {section: dataclasses.replace(options[section].default, **holder)}
            if name in options and options[name].kind is not inspect.Parameter.KEYWORD_ONLY:
                holder = {name: (value, value) if name == "sizes" else value}
            refusal = re.escape(f"--{name.replace('_', '-')} {value} must lie between ")
            with pytest.raises(ValueError, match=refusal):
                call(*before, **rest | holder)
    assert not calls
    call(*before, **rest)
    assert len(calls) == 1


@pytest.mark.parametrize("words, says", [
    ("evaluate tiny --pairs --among 20",
     "--among: of no use with --pairs; leave it out"),
    ("search a.png --texts b.txt --out c.png",
     "--out: of no use with --texts"),
    ("finetune vqa --no-evaluate --baselines a b",
     "--baselines: with --no-evaluate, one model is trained"),
    ("evalute tiny", "no command 'evalute' (did you mean 'evaluate'?); there are demo, "),
    ("pretrain --preset base",
     "preset base with objects=0 trains on photographs: name a prepared set with --data"),
    ("demo objects=-1", "objects=-1 must lie between 0 and 223"),
    ("demo objects=223",
     "objects=223 leaves 0 kinds for the warm start to see; take at most objects=220")])
def test_what_cannot_be_done_is_said_before_it_begins(words, says, monkeypatch, tmp_path,
                                                      capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["minalbef", *words.split()])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    text = capsys.readouterr().err
    assert stop.value.code == 2 and text.startswith(f"minalbef: {says}"), text
    assert not list(tmp_path.iterdir())


def deep():
    return deep()


def fail(error: BaseException):
    raise error


@pytest.mark.parametrize("fault, status, says", [
    (lambda: torch.empty(2 ** 50), 1,
     "not enough memory .*can't allocate memory.*; take a smaller batch"),
    (deep, 1, "what was read is nested too deep"),
    (lambda: fail(KeyboardInterrupt()), 130, "stopped"),
    (lambda: fail(ValueError("Caught ValueError in worker 0.\nTraceback\n\nValueError: a.jpg\n")),
     2, "a.jpg\n$"),
    (lambda: fail(ValueError("lr=-1")), 2, "lr=-1")])
def test_errors_of_the_world_are_one_line_without_a_traceback(fault, status, says, monkeypatch,
                                                              capsys):
    def summary() -> None:
        fault()
    monkeypatch.setattr(command_line, "COMMANDS", {"summary": summary, "other": summary})
    monkeypatch.setattr(sys, "argv", ["minalbef", "summary"])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    text = capsys.readouterr().err
    assert stop.value.code == status and text.count("\n") == 1
    assert re.match(f"minalbef: {says}", text), text
    monkeypatch.setattr(sys, "argv", ["minalbef", "summary", "--debug"])
    with pytest.raises((RuntimeError, MemoryError, OSError, KeyboardInterrupt, ValueError)):
        command_line.main()


def test_our_own_faults_keep_their_traceback(monkeypatch):
    def summary() -> None:
        raise IndexError("tuple index out of range")
    monkeypatch.setattr(command_line, "COMMANDS", {"summary": summary, "other": summary})
    monkeypatch.setattr(sys, "argv", ["minalbef", "summary"])
    with pytest.raises(IndexError):
        command_line.main()


def test_ctrl_c_ends_a_command_with_130_and_one_line(tmp_path):
    # all is imported first: libraries of C++ may abort where an import is interrupted
    code = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "import minalbef.bench.loading; from minalbef.cli.main import main; "
            "print('ready', flush=True); main()")
    words = [sys.executable, "-c", code, "bench", "data", "--number", "1000000"]
    child = subprocess.Popen(words, cwd=tmp_path, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout.readline() == "ready\n"
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    _, text = child.communicate(timeout=60)
    assert (child.returncode, text) == (130, "minalbef: stopped\n")


@pytest.mark.parametrize("words",
                         ["--help", "--version", "evaluate --help", "bench step --help",
                          "evalute"])
def test_help_and_mistakes_do_not_wait_for_torch(words):
    code = ("import sys; from minalbef.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
            "print('torch' in sys.modules)")
    run = subprocess.run([sys.executable, "-c", code, *words.split()], capture_output=True,
                         text=True, check=True)
    assert run.stdout.splitlines()[-1] == "False", run.stdout


def test_every_command_can_be_quiet_log_more_or_show_a_traceback(tmp_path, monkeypatch):
    # which a quiet command that ran in here has left
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    def run(*words):
        words = [sys.executable, "-m", "minalbef", *words]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    command = "pretrain", *SMALL, "epoch=32", "warm_steps=2", "objects=12", "--run"
    loud = run(*command, "loud")
    still = run("--quiet", *command, "still")
    assert "ALBEF" in loud.stderr and still.stderr == ""
    assert loud.returncode == still.returncode == 0
    assert "Traceback" in run("doctor", "nowhere", "--debug").stderr
    assert run("doctor", "nowhere", "--log-level", "loud").returncode == 2
