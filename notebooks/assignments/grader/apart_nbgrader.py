"""A notebook's cells for a process of their own, and nbgrader's preprocessors around the cells of tests that stay."""
import ast
import atexit
import json
import re
from pathlib import Path
from typing import Any

import apart
from grading import refused

HERE = Path(__file__).parent


def cleaned(source: str) -> str:
    """Python without a notebook's magics."""
    return re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.M)


def given_names(source: str) -> list[str]:
    """What the cells above an answer define: imports, functions, classes, variables."""
    names = []
    for node in ast.parse(cleaned(source)).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names += [alias.asname or alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)]
    return names


def cells_of(sources: list[tuple[str, str]], check: bool = True) -> list[tuple[str, str, str]]:
    """(name, source) of a student's cells, for a session: without magics, and refused where they import too much."""
    return [(name, cleaned(source), refused(source) if check else "") for name, source in sources]


def take_out(notebook: Any, resources: dict) -> tuple[Any, dict]:
    """Before anything runs: a student's cells leave the notebook, and the first of them starts their process instead.

    Only cells that are the instructor's, word for word, stay and run here: what a file says of itself is not asked.
    """
    name = resources["metadata"]["name"]
    source = json.loads((HERE / "source" / name / f"{name}.ipynb").read_text(encoding="utf-8"))
    ours = {"".join(cell["source"]).strip() for cell in source["cells"]
            if cell["metadata"].get("nbgrader", {}).get("locked")}
    cells, begin, above = [], None, ""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if cell.source.strip() in ours:
            above += "" if begin else cell.source + "\n"
            continue
        kind, _, answer = cell.metadata.get("nbgrader", {}).get("grade_id", "").partition("-")
        cells.append((answer if kind == "answer" else "", cell.source))
        cell.metadata["submitted"] = cell.source
        if answer and begin is None:
            begin = cell
        cell.source = ""
    if begin is not None:
        given = f"get_ipython(), {cells_of(cells)!r}, {given_names(above)!r}"
        begin.source = (f"import sys\nsys.path.insert(0, {str(HERE)!r})\nimport apart_nbgrader\n"
                        f"globals().update(apart_nbgrader.begin({given}))")
    return notebook, resources


def put_back(notebook: Any, resources: dict) -> tuple[Any, dict]:
    """After everything ran: the student's cells, for those who read the graded notebook."""
    for cell in notebook.cells:
        if "submitted" in cell.metadata:
            cell.source, cell.outputs = cell.metadata.pop("submitted"), []
    return notebook, resources


def begin(shell: Any, cells: list[tuple[str, str, str]], given: list[str]) -> dict[str, Any]:
    """In nbgrader's kernel, which runs tests alone: start the student's process -> its answers, by name."""
    session = apart.Session(cells, {name: shell.user_ns[name] for name in given if name in shell.user_ns})
    shell.events.register("pre_run_cell", lambda *_: session.fresh())
    atexit.register(session.close)
    return session.names()
