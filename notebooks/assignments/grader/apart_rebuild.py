"""The notebook that is graded: the release, and of a submission nothing but the sources of its
answers.

Metadata, tags such as skip-execution, outputs, cells of the student's own and files beside it
are left behind.
"""
import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# what an answer may link to and show: a place in the page, an image written out, a file beside
# the notebook
ADDRESS = re.compile(r"#[\w-]*"
                     r"|data:image/(?:gif|jpeg|png|webp);base64,[\w+/=]*"
                     r"|(?!/)(?:(?!\.\.)[\w./-])*")


def grade_id(cell: Mapping) -> str:
    """The name under which nbgrader knows a cell, such as answer-similarity; nothing for one
    of the student's own."""
    marks = cell["metadata"].get("nbgrader", {})
    return marks.get("grade_id", "") if isinstance(marks, Mapping) else ""


def is_answer(cell: Mapping) -> bool:
    """Whether a cell of the release is for the student to fill: code or text."""
    return bool(cell["metadata"].get("nbgrader", {}).get("solution"))


def source_of(cell: Mapping) -> str:
    return "".join(cell["source"])


def sources(submission: Mapping) -> dict[str, str]:
    """The sources of a submission's cells by grade id. Cells that share one are joined, in
    the order of the notebook: a copied cell takes its id along, and run from the top the
    last of them holds."""
    by_name: dict[str, list[str]] = {}
    for cell in submission["cells"]:
        by_name.setdefault(str(grade_id(cell)), []).append(source_of(cell))
    return {name: "\n\n".join(parts) for name, parts in by_name.items() if name}


def harmless(markdown: str) -> str:
    """A written answer for others to read: no HTML, no link and no image but by an `ADDRESS`.

    The rest stays as text: a space after "<" ends a tag, one after "]" a link, for every reader
    of Markdown alike.
    """
    def end_of_link(match: re.Match) -> str:
        return "]" if ADDRESS.fullmatch(match[1] or match[2] or "") else "] "

    text = re.sub(r"<(?=[A-Za-z/!?])", "< ", markdown)
    return re.sub(r"\](?=\(\s*([^\s)]*)|:\s*(\S*))", end_of_link, text)


def rebuilt(release: Mapping, submission: Mapping) -> Any:
    """A copy of the release with a submission's answers; an answer whose cell was deleted
    stays blank."""
    answers = sources(submission)
    book = copy.deepcopy(release)
    for cell in book["cells"]:
        if is_answer(cell):
            source = answers.get(grade_id(cell), source_of(cell))
            if cell["cell_type"] == "markdown":
                source = harmless(source)
            cell["source"] = source
    return book


def answers_of(notebook: Mapping) -> dict[str, str]:
    """What was answered, by grade id: two notebooks of an assignment that agree here are
    graded alike."""
    return {grade_id(cell): source_of(cell).strip()
            for cell in notebook["cells"] if is_answer(cell)}


def leave_only(folder: Path, names: set[str]) -> list[str]:
    """Delete all files of a folder but those of these names, relative to it -> what is gone,
    such as torch.py."""
    removed = []
    # what a folder holds comes before it
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif name not in names:
            path.unlink()
            removed.append(name)
    return sorted(removed)
