"""The blanks of the chapters: where they are, their answers, and cells that run without the rest of their chapter."""
import ast
import importlib
import re
import symtable
import textwrap
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import nbformat

ROOT = Path(__file__).parents[2]
CHAPTERS = {path.stem[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
DRAWING = ("02", "05", "08")          # an answer moves torch's generator: cells below it draw other numbers


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
    return needed_by(source, above, ways_of(chapter).NEEDS.get(name, ()))


def needed_by(source: str, above: list[str], parts: Sequence[str] = ()) -> dict:
    """The names that a cell needs from the cells above it; cells that hold one of `parts` run whole."""
    whole = [cell for cell in above if any(part in cell for part in parts)]
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


def filled_cells(chapter: str) -> list[str]:
    """A chapter's code cells, the answers in their blanks."""
    sources = [cell.source if cell.cell_type == "code" else "" for cell in cells_of(chapter)]
    for name, place in blanks_of(chapter).items():
        sources[place] = fill(sources[place], name, answer_to(chapter, name))
    return [source for source in sources if source]
