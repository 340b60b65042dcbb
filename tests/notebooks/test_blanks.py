"""Every blank of every chapter: its answer and other right ways pass its check, likely mistakes don't.

The ways are in tests/support/blanks_NN.py, for chapter NN: RIGHT and WRONG, bodies of functions by the blank's name; a
wrong one may come with words that the check must say.
A blank's cell runs without the chapter: what it needs are the chapter's imports and the definitions that it names, and
the cells that hold a text that NEEDS has for the blank.
"""
import ast
import importlib
import re
import symtable
import textwrap
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
CHAPTERS = {path.stem[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
LEAST = {"00": 3, "14": 3, "15": 3} | {f"{n:02}": 6 for n in (*range(1, 14), 16)}


def ways_of(chapter: str) -> SimpleNamespace:
    """The table of a chapter's right and wrong ways."""
    try:
        table = importlib.import_module(f"blanks_{chapter}")
    except ModuleNotFoundError:
        return SimpleNamespace(RIGHT={}, WRONG={}, NEEDS={})
    return SimpleNamespace(RIGHT=table.RIGHT, WRONG=table.WRONG, NEEDS=getattr(table, "NEEDS", {}))


@lru_cache
def cells_of(chapter: str) -> list:
    return nbformat.read(CHAPTERS[chapter], 4).cells


@lru_cache
def blanks_of(chapter: str) -> dict[str, int]:
    """The functions and classes that a reader writes, and where their cells are."""
    blanks = {}
    for place, cell in enumerate(cells_of(chapter)):
        if cell.cell_type == "code" and "blank=True" in cell.source:
            for node in ast.parse(cell.source).body:
                if hasattr(node, "name") and "NotImplementedError" in ast.unparse(node):
                    blanks[node.name] = place
    return blanks


def parse(source: str) -> list[ast.stmt]:
    """A cell's statements, without its magics."""
    return ast.parse("\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in source.splitlines())).body


def names_in(nodes: list[ast.stmt]) -> set[str]:
    """The names of the chapter that statements use: not the local ones of their functions."""
    tables = [symtable.symtable("\n".join(map(ast.unparse, nodes)), "cells", "exec")]
    names = set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        names |= {each.get_name() for each in table.get_symbols() if each.is_referenced()
                  and (each.is_global() or table.get_type() == "module")}
    return names


def defined_by(node: ast.stmt) -> set[str]:
    """The names that a statement of a chapter gives, by definition, assignment, or as a variable of with or for."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)}


def prepare(chapter: str, name: str, source: str) -> dict:
    """The names that a blank's cell, filled as in `source`, needs from the cells above it."""
    place = blanks_of(chapter)[name]
    above = [cell.source for cell in cells_of(chapter)[:place] if cell.cell_type == "code"]
    whole = [cell for cell in above if any(part in cell for part in ways_of(chapter).NEEDS.get(name, ()))]
    statements = [node for cell in above for node in parse(cell)]
    chosen = {i for i, node in enumerate(statements) if isinstance(node, ast.Import | ast.ImportFrom)}
    wanted = names_in(parse(source)) | names_in([node for cell in whole for node in parse(cell)])
    while more := {i for i, node in enumerate(statements) if defined_by(node) & wanted} - chosen:
        chosen |= more
        wanted |= names_in([statements[i] for i in more])
    needed = "\n".join([*(ast.unparse(statements[i]) for i in sorted(chosen)), *whole])
    return dict(run_once(needed))


@lru_cache(maxsize=16)
def run_once(source: str) -> dict:
    names = {"__name__": "__main__", "display": print}
    exec(compile(ast.Module(parse(source), []), "chapter", "exec"), names)
    return names


def fill(source: str, name: str, body: str) -> str:
    """A blank's cell with `body` in place of the body of the function of this name, or of a class's blank method.

    A body with a `def` or `class` of this name stands for the whole.
    """
    lines = source.splitlines()
    node, = (node for node in ast.parse(source).body if getattr(node, "name", "") == name)
    body = textwrap.dedent(body).strip("\n")
    if re.search(rf"^(def|class) {name}\b", body, re.M):
        lines[node.lineno - 1:node.end_lineno] = body.splitlines()
    else:
        blank, = (inner for inner in ast.walk(node) if isinstance(inner, ast.FunctionDef)
                  and "NotImplementedError" in ast.unparse(inner))
        indent = " " * blank.body[0].col_offset
        lines[blank.body[0].lineno - 1:blank.end_lineno] = textwrap.indent(body, indent).splitlines()
    return "\n".join(lines)


def answer_to(chapter: str, name: str) -> str:
    """The answer that is folded below a blank."""
    text = cells_of(chapter)[blanks_of(chapter)[name] + 1].source
    return re.search(r"```python\n(.*?)```", text, re.S)[1]


def run_blank(chapter: str, name: str, body: str) -> None:
    source = fill(cells_of(chapter)[blanks_of(chapter)[name]].source, name, body)
    names = prepare(chapter, name, source)
    exec(compile(ast.Module(parse(source), []), f"blank {name}", "exec"), names)


def cases(kind: str) -> list:
    return [pytest.param(chapter, name, body, id=f"{chapter}-{name}-{i}") for chapter in CHAPTERS
            for name, bodies in getattr(ways_of(chapter), kind).items() for i, body in enumerate(bodies)]


@pytest.fixture(autouse=True)
def in_the_chapters_folder(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")


@pytest.mark.parametrize("chapter", [*LEAST])
def test_a_chapter_has_its_blanks_and_each_has_ways_to_fill_it(chapter):
    blanks = blanks_of(chapter)
    assert len(blanks) >= LEAST[chapter], f"{len(blanks)} blanks"
    ways = ways_of(chapter)
    assert set(ways.RIGHT) | set(ways.WRONG) <= set(blanks)
    assert all(len(ways.WRONG.get(name, ())) >= 2 for name in blanks), set(blanks) - set(ways.WRONG)


@pytest.mark.parametrize("chapter, name", [(chapter, name) for chapter in CHAPTERS for name in blanks_of(chapter)])
def test_the_answer_folded_below_a_blank_passes_its_check(chapter, name, capsys):
    run_blank(chapter, name, answer_to(chapter, name))
    said = capsys.readouterr().out
    assert "same output" in said and "yours to write" not in said, said


@pytest.mark.parametrize("chapter, name, body", cases("RIGHT"))
def test_a_blank_is_right_whatever_its_way(chapter, name, body, capsys):
    run_blank(chapter, name, body)
    assert "same output" in capsys.readouterr().out


@pytest.mark.parametrize("chapter, name, body", cases("WRONG"))
def test_a_likely_mistake_in_a_blank_is_heard(chapter, name, body):
    body, says = (body, "") if isinstance(body, str) else body
    with pytest.raises(AssertionError, match=says):
        run_blank(chapter, name, body)
