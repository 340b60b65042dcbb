"""A list flag of any command keeps all its values, however often it is named."""
import functools
import inspect
import os
import re
import shutil
import sys

import pytest

from commands import call
from minalbef.cli import main as command_line
from minalbef.cli.limits import join_lists

COMMANDS = {name: inspect.unwrap(command) for name, command in (command_line.COMMANDS | command_line.BENCHES).items()
            if name != "bench"}
VALUES = {"PATH": ["a", "b", "c"], "STR": ["a", "b", "c"], "INT": ["48", "64", "96"], "{image,text}": ["image", "text"],
          "FLOAT FLOAT FLOAT FLOAT": ["1 2 3 4", "-5 6 7 8", "9 10 11 12"]}


def lists_by_help(name: str) -> list[tuple[str, str]]:
    """The list flags of a command, and what a value is."""
    return re.findall(r"(--[\w-]+) \[(.+?) \[\2 \.\.\.\]\]", call(*name.split(), "--help").text)


def arguments(command, words: list[str], monkeypatch) -> dict:
    """What a command gets from the command line, sections apart. It isn't run."""
    got: dict = {}

    @functools.wraps(command)
    def stub(*args, **options):
        for key, value in inspect.signature(command).bind(*args, **options).arguments.items():
            got.update(vars(value) if key in ("scenes", "sets") else {key: value})
    monkeypatch.setattr(sys, "argv", ["script", *words])
    command_line.run_script(stub)
    return got


def test_every_list_flag_of_every_command_appends(monkeypatch):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: os.terminal_size((200, 50)))
    monkeypatch.setattr(command_line, "checked", lambda command: command)
    seen = set()
    for name, command in COMMANDS.items():
        parameters = inspect.signature(command).parameters.values()
        required = [one for one in parameters if one.default is one.empty]
        for flag, kind in lists_by_help(name):
            needed = []
            for one in required:
                option = [] if one.kind is one.POSITIONAL_ONLY else [f"--{one.name}"]
                needed += [] if option == [flag] else [*option, "x"]
            first, *rest = [value.split() for value in VALUES[kind]]
            once = [flag, *first, *sum(rest, [])]
            repeated = [flag, *first, *sum(([flag, *value] for value in rest), [])]
            mixed = [flag, *first, *rest[0], *sum((["--quiet", flag, *value] for value in rest[1:]), [])]
            values = [arguments(command, [*needed, *words], monkeypatch)[flag[2:].replace("-", "_")]
                      for words in (once, repeated, mixed)]
            assert values[0] == values[1] == values[2] and len(values[0]) == len(VALUES[kind]), (name, flag)
            seen.add(f"{name} {flag}")
    assert {"pretrain --data", "pretrain --freeze", "prepare --images", "prepare --without", "predict --image",
            "predict --boxes", "finetune --baselines", "bench data --sizes", "evaluate --tuned-on"} <= seen


@pytest.mark.parametrize("words, joined", [
    ("--data=a lr=1 --data=b", "lr=1 --data a b"), ("--tuned_on a --run r --tuned-on=b", "--run r --tuned-on a b"),
    ("x --run r y", "x --run r y"), ("--data a -h", "--data a -h")])
def test_a_value_stays_with_its_flag(words, joined):
    assert join_lists(words.split(), {"--data", "--tuned-on"}) == joined.split()


@pytest.mark.parametrize("words", ["pretrain --data nope/a --data nope/b", "bench data --sizes 0 --sizes 48",
                                   "pretrain --data --run x"])
def test_the_command_line_joins_them(words, tmp_path):
    outcome = call(*words.split(), folder=tmp_path)
    assert outcome.failed and re.search("nope.a|sizes 0 must|--data has no value", outcome.text), outcome.text
    assert not list(tmp_path.iterdir())
