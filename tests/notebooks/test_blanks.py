"""Every blank of every chapter: its answer passes its check, and with another result it doesn't.

A blank's cell runs without the chapter: what it needs are the chapter's imports, the definitions that it
names, and the cells that hold a text that blanks.NEEDS has for the blank. nbval runs the chapters as they
are, with their blanks open.
"""

import ast
import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch

from blanks import CHAPTERS, ROOT, blanks_of, filled, parse, prepare

BLANKS = []
for _chapter in CHAPTERS:
    for _name in blanks_of(_chapter):
        BLANKS.append(pytest.param(_chapter, _name, id=f"{_chapter}-{_name}"))
every_blank = pytest.mark.parametrize("chapter, name", BLANKS)


@pytest.fixture(autouse=True)
def in_the_chapters_folder(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")


def run_blank(chapter: str, name: str, spoil: Callable | None = None) -> None:
    """Run a blank's cell with its answer; spoil: of what it defines, before it is checked."""
    source = filled(chapter, name)
    names = prepare(chapter, name, source) | {"spoil": spoil}
    statements = parse(source)
    if spoil:
        place = [getattr(node, "name", "") for node in statements].index(name)
        statements[place + 1 : place + 1] = ast.parse(f"{name} = spoil({name})").body
    torch.manual_seed(0)
    exec(compile(ast.Module(statements, []), f"blank {name}", "exec"), names)


@every_blank
def test_the_answer_folded_below_a_blank_passes_its_check(chapter, name, capsys):
    run_blank(chapter, name)
    output = capsys.readouterr().out
    assert "same output" in output
    assert "yours to write" not in output


def spoilt(answer):
    """A blank's function, or a class with its methods, of which each result is another."""
    if not isinstance(answer, type):

        def answer_otherwise(*values, **named):
            result = answer(*values, **named)
            if result is None:  # what it changes in place is changed twice
                return answer(*values, **named)
            return other(result)

        return answer_otherwise
    methods = {}
    for name, method in vars(answer).items():
        if inspect.isfunction(method) and name != "__init__":
            methods[name] = spoilt(method)
    return type(answer.__name__, (answer,), methods)


def other(value):
    match value:
        case bool():
            return not value
        case str():
            return f"{value}?"
        case list() | tuple():
            return type(value)(map(other, value))
        case torch.Tensor() | np.ndarray() if "bool" in str(value.dtype):
            return ~value
        case int() | float() | torch.Tensor() | np.ndarray():
            return 1.7 - 2 * value


@every_blank
def test_an_answer_with_another_result_is_heard(chapter, name):
    with pytest.raises(Exception) as heard:
        run_blank(chapter, name, spoilt)
    assert not isinstance(heard.value, NotImplementedError)
