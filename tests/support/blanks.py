"""The blanks of the chapters: where they are, their answers, and cells that run without their chapter."""

import ast
import re
import symtable
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
CHAPTERS = {path.stem[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
NEEDS = {  # texts of the cells above a blank that run whole with it
    "01": {
        "paint_by_hand": ["def sprite("], "left_of": ["claim, chance ="],
        "batch_by_hand": ["pool = ["], "is_minimal": ["claim, chance ="],
    },
    "09": {"itc_by_ids": ["folder = Path(run", "task = retrieval.Retrieval(config)"]},
    "10": dict.fromkeys(("labels_by_hand", "EntailmentModel"), ["folder = Path(run"]),
    "12": {"TwoPictures": ["folder = Path(run"]},
    "16": dict.fromkeys(
        ("clean_title", "hold_out", "choose_rate", "stop_early", "recall_at", "first_answers"),
        ["def all_of("],
    ),
}
# a blank of chapter 18 runs without the cell that adds this
sys.path.append(str(ROOT / "notebooks" / "experiments" / "after"))


@lru_cache
def cells_of(chapter: str) -> list:
    return nbformat.read(CHAPTERS[chapter], 4).cells


@lru_cache
def blanks_of(chapter: str) -> dict[str, int]:
    """The functions and classes that a reader writes, and the numbers of their cells."""
    blanks = {}
    for i, cell in enumerate(cells_of(chapter)):
        if cell.cell_type == "code" and "blank=True" in cell.source:
            for node in ast.parse(cell.source).body:
                if hasattr(node, "name") and "NotImplementedError" in ast.unparse(node):
                    blanks[node.name] = i
    return blanks


def parse(source: str) -> list[ast.stmt]:
    """A cell's statements; its magics become `pass`."""
    lines = [re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in source.splitlines()]
    return ast.parse("\n".join(lines)).body


def names_in(nodes: list[ast.stmt]) -> set[str]:
    """The names of the chapter that statements use: not the local ones of their functions."""
    source = "\n".join(map(ast.unparse, nodes))
    tables = [symtable.symtable(source, "cells", "exec")]
    names = set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        at_top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (at_top or symbol.is_global()):
                names.add(symbol.get_name())
    return names


def defined_by(node: ast.stmt) -> set[str]:
    """The names that a statement gives: by definition, assignment, or as a variable of with or for."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    names = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            names.add(inner.id)
    return names


def prepare(chapter: str, name: str, source: str) -> dict:
    """The names that a blank's cell, filled as in `source`, needs from the cells above it."""
    cells = cells_of(chapter)[: blanks_of(chapter)[name]]
    above = [cell.source for cell in cells if cell.cell_type == "code"]
    return needed_by(source, above, NEEDS.get(chapter, {}).get(name, ()))


def needed_by(source: str, above: list[str], parts: Sequence[str] = ()) -> dict:
    """The names that a cell needs from the cells above it; cells that hold one of `parts` run whole."""
    entire = [cell for cell in above if any(part in cell for part in parts)]
    statements = []
    for cell in above:
        statements += parse(cell)
    needed = {
        i for i, node in enumerate(statements) if isinstance(node, ast.Import | ast.ImportFrom)
    }
    names = names_in(parse(source))
    for cell in entire:
        names |= names_in(parse(cell))
    while True:
        more = {i for i, node in enumerate(statements) if defined_by(node) & names} - needed
        if not more:
            break
        needed |= more
        names |= names_in([statements[i] for i in more])
    parts_to_run = [ast.unparse(statements[i]) for i in sorted(needed)]
    return dict(run_once("\n".join(parts_to_run + entire)))


@lru_cache(maxsize=16)
def run_once(source: str) -> dict:
    names = {"__name__": "__main__", "display": print}
    exec(compile(ast.Module(parse(source), []), "chapter", "exec"), names)
    return names


def filled(chapter: str, name: str) -> str:
    """A blank's cell with the answer that is folded below it."""
    cells = cells_of(chapter)
    place = blanks_of(chapter)[name]
    answer = re.search(r"```python\n(.*?)```", cells[place + 1].source, re.S)[1]
    lines = cells[place].source.splitlines()
    (node,) = [node for node in parse(cells[place].source) if getattr(node, "name", "") == name]
    lines[node.lineno - 1 : node.end_lineno] = answer.splitlines()
    return "\n".join(lines)


def filled_cells(chapter: str) -> list[str]:
    """A chapter's code cells, the answers in their blanks."""
    names = {place: name for name, place in blanks_of(chapter).items()}
    sources = []
    for place, cell in enumerate(cells_of(chapter)):
        if cell.cell_type == "code":
            sources.append(filled(chapter, names[place]) if place in names else cell.source)
    return sources
