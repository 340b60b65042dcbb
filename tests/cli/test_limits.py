"""limits: no number of the command line is taken unseen; and every error that a user can mend is one paragraph."""
import dataclasses
import inspect
import os
import re
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

import minalbef
from minalbef.cli import bench
from minalbef.cli import main as command_line
from minalbef.cli.limits import LIMITS, checked
from minalbef.presets import preset
from minalbef.recipes.finetune import finetune, settings
from minalbef.recipes.pretrain import for_scenes
from minalbef.system import checkpoint
from processes import SMALL

SECTIONS = ("scenes", "sets")
COMMANDS = [*command_line.COMMANDS.values(), bench.step, bench.data]


def kinds(annotation) -> set[type]:
    """int, float and whatever else stands in an annotation, at any depth."""
    inner = typing.get_args(annotation)
    return set().union(*map(kinds, inner)) if inner else {annotation}


def numbers(command) -> set[str]:
    found = set()
    for name, annotation in typing.get_type_hints(command).items():
        inside = [kind for kind in kinds(annotation) if dataclasses.is_dataclass(kind)]
        found |= {name} if {int, float} & kinds(annotation) else set().union(*map(numbers, inside))
    return found - {"boxes"}                                     # of their picture: tasks.grounding checks them


def test_every_number_of_the_command_line_has_limits():
    found = set().union(*map(numbers, COMMANDS))
    assert found <= LIMITS.keys() and {"size", "most_bad", "processes", "workers", "steps"} <= found
    assert all(hasattr(command, "__wrapped__") for command in COMMANDS[-3:])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_hostile_number_is_refused_by_flag_before_the_command_begins(command):
    ran, plain = [], inspect.unwrap(command)
    def stub(*args, **kwargs):
        ran.append(kwargs)
    stub.__signature__ = inspect.signature(plain)
    call, given = checked(stub), {name: p for name, p in inspect.signature(plain).parameters.items()}
    before = [None for p in given.values() if p.kind is p.POSITIONAL_ONLY]
    for name in numbers(plain):
        for value in (float("nan"), float("inf"), -1, 10 ** 30):
            holder = {name: value}
            if name not in given:
                section = next(one for one in SECTIONS if one in given and hasattr(given[one].default, name))
                holder = {section: dataclasses.replace(given[section].default, **holder)}
            if name in given and given[name].kind is not inspect.Parameter.KEYWORD_ONLY:
                holder = {name: (value, value) if name == "sizes" else value}
            rest = {key: None for key, p in given.items() if p.default is p.empty and p.kind is not p.POSITIONAL_ONLY}
            with pytest.raises(ValueError, match=re.escape(f"--{name.replace('_', '-')} {value} must lie between ")):
                call(*before, **rest | holder)
    assert not ran
    call(*before, **{key: None for key, p in given.items() if p.default is p.empty and p.kind is not p.POSITIONAL_ONLY})
    assert len(ran) == 1


@pytest.mark.parametrize("words, says", [
    ("evaluate tiny --pairs --among 20", "--among and --from: of no use with --pairs; leave them out"),
    ("search a.png --texts b.txt --out c.png", "--out: texts are listed, and no figure is drawn"),
    ("finetune vqa --no-evaluate --baselines a b", "--baselines a b: with --no-evaluate, one model is trained"),
    ("finetune vqa --no-evaluate --processes 2", "--processes and --size: of no use with --no-evaluate"),
    ("evalute tiny", "no command 'evalute' (did you mean 'evaluate'?); there are demo, "),
    ("evaluate tiny --size nan", "--size nan must lie between 0.001 and 1"),
    ("evaluate tiny --size 0", "--size 0.0 must"), ("demo --processes -1", "--processes -1 must lie between 1 and 256"),
    ("prepare coco --from here --most-bad 2", "--most-bad 2.0 must lie between 0 and 1"),
    ("pretrain --workers -3", "--workers -3 must lie between 0 and 1,024"),
    ("search apple --scenes 0", "--scenes 0 must"),
    ("bench step base --steps 0", "--steps 0 must"),
    ("pretrain --preset base", "preset base with objects=0 trains on photographs: name a prepared set with --data"),
    ("demo --preset vqa", "preset vqa with objects=0 trains on photographs"),
    ("pretrain objects=0", "preset tiny with objects=0 trains on photographs"),
    ("demo objects=-1", "objects=-1 must lie between 0 and 223"),
    ("demo objects=223", "objects=223 leaves 0 kinds for the warm start to see; take at most objects=220")])
def test_what_cannot_be_done_is_said_before_it_begins(words, says, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["minalbef", *words.split()])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith(f"minalbef: {says}"), said
    assert not list(tmp_path.iterdir())


def test_what_has_objects_is_for_scenes():
    for config in (preset("tiny"), preset("small"), preset("tiny", objects=220),
                   preset("tiny", objects=223, warm_steps=0), preset("tiny", objects=223, warm_objects="same")):
        assert for_scenes(config) == config


def test_an_unknown_rival_is_refused(tmp_path):
    source = checkpoint.run_folder("tiny")
    with pytest.raises(ValueError, match="vqa has no baseline 'text_alon' .did you mean 'text_alone'"):
        finetune("vqa", source, tmp_path, settings("vqa", source), baseline="text_alon")


def deep():
    return deep()


def fail(error: BaseException):
    raise error


@pytest.mark.parametrize("fault, status, says", [
    (lambda: torch.empty(2 ** 50), 1, "not enough memory .*can't allocate memory.*; take a smaller batch"),
    (lambda: torch.empty(2 ** 40, 2 ** 40), 1, "not enough memory .*overflow"),
    (lambda: np.empty(2 ** 58), 1, "not enough memory .Unable to allocate"),
    (lambda: fail(MemoryError()), 1, "not enough memory .MemoryError.; take"),
    (lambda: fail(RuntimeError("CUDA out of memory. Tried\nto")), 1, "not enough memory .CUDA out of memory. Tried.;"),
    (deep, 1, "what was read is nested too deep"), (lambda: fail(KeyboardInterrupt()), 130, "stopped"),
    (lambda: fail(ValueError("Caught ValueError in worker 0.\nTraceback\n\nValueError: a.jpg\n")), 2, "a.jpg\n$"),
    (lambda: fail(OSError("no space")), 1, "no space"), (lambda: fail(ValueError("lr=-1")), 2, "lr=-1")])
def test_errors_of_the_world_are_one_line_without_a_traceback(fault, status, says, monkeypatch, capsys):
    def summary() -> None:
        fault()
    monkeypatch.setattr(command_line, "COMMANDS", {"summary": summary, "other": summary})
    monkeypatch.setattr(sys, "argv", ["minalbef", "summary"])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    said = capsys.readouterr().err
    assert stop.value.code == status and said.count("\n") == 1
    assert re.match(f"minalbef: {says}", said), said
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
    code = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import minalbef.bench.loading; "
            "from minalbef.cli.main import main; print('ready', flush=True); main()")
    child = subprocess.Popen([sys.executable, "-c", code, "bench", "data", "--number", "1000000"], cwd=tmp_path,
                             text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout.readline() == "ready\n"
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (130, "minalbef: stopped\n")


def test_version_names_torchs_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["minalbef", "--version"])
    command_line.main()
    assert capsys.readouterr().out.startswith(f"minalbef {minalbef.__version__}, torch ")


@pytest.mark.parametrize("words", ["--help", "--version", "evaluate --help", "bench step --help", "evalute"])
def test_help_and_mistakes_do_not_wait_for_torch(words):
    code = ("import sys; from minalbef.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
            "print('torch' in sys.modules)")
    run = subprocess.run([sys.executable, "-c", code, *words.split()], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "False", run.stdout


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_the_help_of_every_command_fits_a_screen(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["minalbef", name, "--help"])
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        command_line.main()
    flags, _, _ = capsys.readouterr().out.partition("\noptions: name=value")
    assert len(flags.splitlines()) <= 50


def test_every_command_can_be_quiet_log_more_or_show_a_traceback(tmp_path, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)            # which a quiet command that ran in here has left
    def run(*words):
        return subprocess.run([sys.executable, "-m", "minalbef", *words], cwd=tmp_path, capture_output=True, text=True)
    command = "pretrain", *SMALL, "epoch=32", "warm_steps=2", "objects=12", "--run"
    loud, still = run(*command, "loud"), run("--quiet", *command, "still")
    assert "ALBEF" in loud.stderr and still.stderr == "" and loud.returncode == still.returncode == 0
    assert "Traceback" in run("doctor", "nowhere", "--debug").stderr
    assert run("doctor", "nowhere", "--log-level", "loud").returncode == 2


@pytest.mark.parametrize("shell", ["COLUMNS=5", "COLUMNS=1", "LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii"])
@pytest.mark.parametrize("words", ["--help", "demo --nonsense"])
def test_a_narrow_terminal_or_an_ascii_one_shows_what_it_can(shell, words, note):
    settings = dict(pair.split("=") for pair in shell.split())
    run = subprocess.run([sys.executable, "-m", "minalbef", *words.split()], capture_output=True, text=True,
                         encoding="utf-8", env=os.environ | settings, timeout=100)
    assert "Traceback" not in run.stderr and "codec" not in run.stderr, run.stderr
    assert run.returncode == (2 if "nonsense" in words else 0) and "minalbef" in run.stdout + run.stderr
    note(f"{shell}: {words}", 1, "answered without a traceback")


@pytest.mark.skipif(sys.platform == "win32", reason="closes streams by the shell")
@pytest.mark.parametrize("words, status", [("--help >&-", 0), ("--help 2>&-", 0), ("evalute 2>&-", 2),
                                           ("evalute >&- 2>&-", 2)])
def test_closed_streams_change_no_exit_status(words, status, note):
    run = subprocess.run(f"'{sys.executable}' -m minalbef {words}", shell=True, capture_output=True, text=True)
    assert run.returncode == status and not run.stderr, run.stderr
    assert "no command" not in run.stdout, "an error is no output"
    note(f"a closed stream: {words}", 1, f"exit status {status}, no traceback")


def test_outside_a_checkout_there_is_nothing_to_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="the tests are in a checkout"):
        command_line.test()


@pytest.fixture
def ran(monkeypatch):
    """What `minalbef test` would run on seven cores: the words behind `python -m`, and the threads of each process."""
    commands = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    def note(words, env):
        commands.append([*words[2:], env["OMP_NUM_THREADS"]])
        return subprocess.CompletedProcess(words, 0)
    monkeypatch.setattr(subprocess, "run", note)
    return commands


def test_the_tests_run_as_make_runs_them(monkeypatch, ran):
    command_line.test(workers=3)
    command_line.test(slow=True)
    assert [words[0] for words in ran] == ["ruff", "mypy", "pytest", "pytest"]
    assert [words[-1] for words in ran] == 3 * ["2"] + ["3"], "each process has its share of the cores"
    assert "3" in ran[2] and "notebooks/00_tour.ipynb" in ran[2] and {"-m", "not slow", "--nbval"} <= set(ran[2])
    monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 4))
    with pytest.raises(SystemExit, match="4"):
        command_line.test()


@pytest.mark.parametrize("slow", [False, True])
def test_the_three_parts_of_the_tests_are_all_of_them(ran, slow):
    command_line.test(slow=slow)
    whole = [word for words in ran for word in words]
    ran.clear()
    for part in ("lint", "core", "chapters"):
        command_line.test(part, slow=slow)
    parts = [word for words in ran for word in words]
    left_out = {word.removeprefix("--ignore=") for word in parts if word.startswith("--ignore=")}
    assert left_out and left_out <= set(parts) and all(Path(folder).is_dir() for folder in left_out)
    assert set(whole) | left_out == {word for word in parts if not word.startswith("--ignore=")}
