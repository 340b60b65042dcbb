"""A notebook graded: the instructor's cells run in this process, in order, the answers in
one of their own."""
import ast
import itertools
from typing import Any, NamedTuple

import apart
from grading import cleaned, refused


class Part(NamedTuple):
    """A code cell: of the instructor's ("code"), an answer, or the tests of one."""

    kind: str
    name: str
    source: str


def given_names(source: str) -> list[str]:
    """What the cells above an answer define: imports, functions, classes, variables."""
    names = []
    for node in ast.parse(cleaned(source)).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names += [alias.asname or alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [part.id for target in node.targets
                      for part in ast.walk(target) if isinstance(part, ast.Name)]
    return names


def cells_of(parts: list[Part], check: bool = True) -> list[tuple[str, str, str]]:
    """(name, source, why it is refused) of a student's cells, for a session: without magics, and
    refused where they import too much."""
    cells = []
    for kind, name, source in parts:
        if kind == "answer":
            why = refused(source) if check else ""
            cells.append((name, cleaned(source), why))
    return cells


def parts_of(notebook: Any) -> list[Part]:
    """The code cells of a notebook that was made from the release, by what they are."""
    parts = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            marks = cell["metadata"].get("nbgrader", {})
            kind, _, name = marks.get("grade_id", "code-").partition("-")
            parts.append(Part(kind, name, "".join(cell["source"])))
    return parts


def above(parts: list[Part]) -> str:
    """The instructor's cells above the first answer, which it may use."""
    before = itertools.takewhile(lambda part: part.kind != "answer", parts)
    return "\n".join(part.source for part in before)


def run(parts: list[Part], seconds: float = apart.SECONDS,
        check: bool = True) -> dict[str, Exception | None]:
    """What the tests of each answer raise, by its name; None where it keeps its points.

    seconds: of processor time for the calls of one cell; check: refuse imports that an answer
    may not use
    """
    space: dict[str, Any] = {"__name__": "__main__"}
    problems: dict[str, Exception | None] = {}
    first = above(parts)
    exec(compile(cleaned(first), "<above>", "exec"), space)
    shared = {name: space[name] for name in given_names(first) if name in space}
    cells = cells_of(parts, check)
    rest = itertools.dropwhile(lambda part: part.kind != "answer", parts)
    with apart.Session(cells, shared, seconds=seconds) as session:
        space |= session.names()
        for kind, name, source in rest:
            if kind == "answer":
                continue
            session.fresh()
            problem = None
            try:
                exec(compile(cleaned(source), f"<{kind} {name}>", "exec"), space)
            except Exception as raised:
                problem = raised
            # a figure that fails costs nothing
            if kind == "tests":
                problems[name] = problem
    return problems
