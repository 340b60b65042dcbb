"""Runs a chapter as with a GPU, see card.py: `on_card.py CHAPTER` prints, as JSON, cells that failed and why."""
import contextlib
import io
import json
import sys
import warnings

import nbformat
from IPython.core.interactiveshell import InteractiveShell

from card import card


def failures(chapter: str) -> list[tuple[int, str]]:
    """Cells' numbers, each with the error it ended in."""
    shell, found = InteractiveShell.instance(), []
    with card():
        for number, cell in enumerate(nbformat.read(chapter, 4).cells):
            if cell.cell_type == "code":
                with contextlib.redirect_stdout(io.StringIO()):
                    result = shell.run_cell(cell.source, store_history=False)
                if error := result.error_before_exec or result.error_in_exec:
                    found.append((number, f"{type(error).__name__}: {error}"))
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(failures(sys.argv[1])))
