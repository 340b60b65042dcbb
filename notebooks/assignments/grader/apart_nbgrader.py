"""nbgrader's configuration: the graded notebook is made from the release, and its answers run
in their own process.

nbgrader loads its configuration twice, so lists are written whole: what is inserted would stand
there twice. All its commands load it, so torch is imported where it is needed.
"""
import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apart_sandbox
import nbformat
from apart_rebuild import grade_id, leave_only, rebuilt

HERE = Path(__file__).parent
# why a process could not be started, for report.py to print
SAID = "sandbox_problem.txt"


def configure(c: Any) -> None:
    """Set which preprocessors nbgrader runs, and in which order."""
    # here and not above: in its kernel they are not needed
    from apart_pages import clean, page_of
    from nbgrader import preprocessors as theirs

    c.HTMLExporter.filters = {"markdown2html": page_of, "clean_html": clean}
    c.HTMLExporter.sanitize_html = True                          # outputs, too
    c.Autograde.sanitize_preprocessors = [
        from_release, theirs.ClearOutput, theirs.DeduplicateIds,
        theirs.OverwriteKernelspec, theirs.OverwriteCells, theirs.CheckCellMetadata]
    c.Autograde.autograde_preprocessors = [
        take_out, theirs.Execute, put_back, theirs.LimitOutput, theirs.SaveAutoGrades,
        theirs.AssignLatePenalties, theirs.CheckCellMetadata]


def from_release(notebook: Any, resources: dict) -> tuple[Any, dict]:
    """First of all: the release with the submission's answers. OverwriteCells then puts the
    hidden tests into it."""
    name = resources["nbgrader"]["notebook"]
    release = nbformat.read(HERE / "release" / resources["nbgrader"]["assignment"]
                            / f"{name}.ipynb", as_version=4)
    return rebuilt(release, notebook), resources


def take_out(notebook: Any, resources: dict) -> tuple[Any, dict]:
    """Before anything runs: answers leave the notebook, and the first of them starts their
    process instead."""
    apart_sandbox.choose()       # refuses here, so that nobody gets 0 points for it
    from apart_run import above, cells_of, given_names, parts_of

    source = HERE / "source" / resources["nbgrader"]["assignment"]
    files = {"timestamp.txt"}
    for path in source.rglob("*"):
        if path.is_file():
            files.add(path.relative_to(source).as_posix())
    leave_only(Path(resources["metadata"]["path"]), files)
    parts = parts_of(notebook)
    names = given_names(above(parts))
    begin_here = "\n".join([
        "import sys",
        f"sys.path.insert(0, {str(HERE)!r})",
        "import apart_nbgrader",
        f"cells = {cells_of(parts)!r}",
        f"answers = apart_nbgrader.begin(get_ipython(), cells, {names!r})",
        "globals().update(answers)",
    ])
    for cell in notebook.cells:
        if cell.cell_type == "code" and grade_id(cell).startswith("answer-"):
            cell.metadata["submitted"] = cell.source
            cell.source = begin_here
            begin_here = ""
    return notebook, resources


def put_back(notebook: Any, resources: dict) -> tuple[Any, dict]:
    """After everything ran: the student's answers, for those who read the graded notebook
    and the feedback."""
    for cell in notebook.cells:
        if "submitted" in cell.metadata:
            cell.source = cell.metadata.pop("submitted")
            cell.outputs = []
    return notebook, resources


def begin(shell: Any, cells: list[tuple[str, str, str]],
          names: list[str]) -> dict[str, Any]:
    """In nbgrader's kernel, which runs tests alone: start the student's process -> its
    answers, by name."""
    import apart

    with _or_no_kernel():
        session = apart.Session(cells,
                                {name: shell.user_ns[name]
                                 for name in names if name in shell.user_ns})

    def before_each_cell(*_: Any) -> None:
        with _or_no_kernel():
            session.fresh()

    shell.events.register("pre_run_cell", before_each_cell)
    atexit.register(session.close)
    return session.names()


@contextmanager
def _or_no_kernel() -> Iterator[None]:
    """What fails here isn't the student's fault. Without a kernel nbgrader gives no points
    at all, where it gave 0."""
    try:
        yield
    except Exception as problem:
        (HERE / SAID).write_text(f"{problem}\n", encoding="utf-8")
        os._exit(1)
