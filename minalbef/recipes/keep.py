"""Keep a part that a chapter built: its source, from the notebook's cells, as a file of `mine`."""
import ast
import builtins
import linecache
import symtable
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from minalbef.system.writing import restate, write_text

FOLDER = Path("mine")                 # beside the chapters, which run in their own folder
Definition = ast.FunctionDef | ast.ClassDef


def keep_part(part: str, names: Sequence[str], check: Callable[[ModuleType], None],
              instead: Mapping[str, str] | None = None, cells: Sequence[str] | None = None,
              folder: Path = FOLDER) -> None:
    """Write functions and classes of a notebook to folder/part.py, if they pass the check.

    names: they go with whatever else of the notebook they use, and the imports for it
    check: called with the new module; raises AssertionError where it differs from the package's
    instead: what the file says in place of an expression: {"minalbef.Attention": "Attention"}
    cells: sources of the cells that ran; None: those of this notebook
    With a blank unfilled, nothing is written. Prints what has become of the part.
    Raises ValueError for a part that fails its check, or that uses what can't be kept: an older
    file of the part stays as it was.
    """
    source = Cells(run_cells() if cells is None else cells)
    blanks = [name for name in names if source.is_blank(name)]
    if blanks:
        subject = ", ".join(blanks) + (" is" if len(blanks) == 1 else " are")
        print(f"{part}: {subject} yours to write; the package's is used until then")
        return
    text = source.module(part, names, instead or {})
    module = run_module(part, text)
    with restate(f"{part} isn't kept", "make it equal to the package's", AssertionError):
        check(module)
    path = folder / f"{part}.py"
    write_text(path, text)
    print(f"{part}: kept in {path.as_posix()}, {count_lines(text)} lines")


def run_cells() -> list[str]:
    """The sources of a notebook's cells, in the order in which they ran."""
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    cells = [cell for cell in shell.user_ns["In"] if cell]
    if not cells:
        # nbval runs cells with store_history=False: IPython's public history stays empty, and no
        # public name lists the sources that its compiler keeps for tracebacks
        names = list(shell.compile._filename_map)
        cells = ["".join(linecache.getlines(name)) for name in names]
    return cells


def run_module(part: str, text: str) -> ModuleType:
    """A module of `mine`, from its source."""
    module = ModuleType(f"mine.{part}")
    exec(compile(text, f"mine/{part}.py", "exec"), module.__dict__)
    return module


def count_lines(text: str) -> int:
    """Lines of code: not empty, no comment, no docstring."""
    strings = 0
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            strings += (node.end_lineno or node.lineno) - node.lineno + 1
    lines = [line.strip() for line in text.splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines) - strings


class Cells:
    """The definitions and imports of cells that ran; of one name, the last counts."""

    def __init__(self, cells: Sequence[str]) -> None:
        self.definitions: dict[str, tuple[str, Definition]] = {}
        self.imports: dict[str, str] = {}
        for cell in cells:
            try:
                statements = ast.parse(cell).body
            except SyntaxError:                  # a magic, or a cell that failed
                continue
            for node in statements:
                if isinstance(node, Definition):
                    first = min(part.lineno for part in (node, *node.decorator_list))
                    text = "\n".join(cell.splitlines()[first - 1:node.end_lineno])
                    self.definitions.pop(node.name, None)
                    self.definitions[node.name] = (text, node)
                elif isinstance(node, ast.Import | ast.ImportFrom):
                    for alias in list(node.names):
                        node.names = [alias]
                        name = alias.asname or alias.name.partition(".")[0]
                        self.imports[name] = ast.unparse(node)

    def is_blank(self, name: str) -> bool:
        """Whether a definition is still to be written. Raises ValueError if there is none."""
        if name not in self.definitions:
            raise ValueError(f"no cell that ran defines {name}; run the cell with it first")
        _, node = self.definitions[name]
        return any(isinstance(inner, ast.Raise) and "NotImplementedError" in ast.unparse(inner)
                   for inner in ast.walk(node))

    def module(self, part: str, names: Sequence[str], instead: Mapping[str, str]) -> str:
        """The source of a module with these names and all that they use."""
        texts: dict[str, str] = {}
        imports = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in texts:
                continue
            text, _ = self.definitions[name]
            texts[name] = replace_expressions(text, instead)
            for used in sorted(names_of(ast.parse(texts[name]))):
                if used in self.definitions:
                    waiting.append(used)
                elif used in self.imports:
                    imports.add(self.imports[used])
                elif not hasattr(builtins, used):
                    raise ValueError(f"{name} uses {used}, which is neither imported nor defined "
                                     "by a def or class of a cell; write it into the function")
        order = [name for name in self.definitions if name in texts]
        head = [f'"""{part}: written by a chapter, from your cells."""',
                "from __future__ import annotations\n",         # they may name what comes later
                *sorted(imports)]
        return "\n\n\n".join(["\n".join(head), *(texts[name] for name in order)]) + "\n"


def names_of(tree: ast.AST) -> set[str]:
    """Names that code takes from outside of it."""
    tables = [symtable.symtable(ast.unparse(tree), "part", "exec")]
    names = set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            outer = symbol.is_global() or table.get_type() == "module"
            if outer and symbol.is_referenced() and not symbol.is_assigned():
                names.add(symbol.get_name())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, Definition)}
    return names - defined


def replace_expressions(text: str, instead: Mapping[str, str]) -> str:
    """Put other names in place of expressions such as `minalbef.Attention`."""
    lines = text.splitlines()
    places = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in instead:
            places.append((node.lineno, node.col_offset, node.end_col_offset, ast.unparse(node)))
    for line, first, end, expression in sorted(places, reverse=True):
        row = lines[line - 1].encode()
        new = row[:first] + instead[expression].encode() + row[end:]
        lines[line - 1] = new.decode()
    return "\n".join(lines)
