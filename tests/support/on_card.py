"""Runs a chapter as with a GPU, see card.py: `on_card.py CHAPTER` prints, as JSON, cells that failed and why.

What a chapter trains is cut short. So an assert of what was learnt may fail here and is passed over: what is asked is
where tensors are. That the chapter learns is checked without a GPU.
"""
import contextlib
import io
import json
import sys
import warnings
from dataclasses import replace

import nbformat
from IPython.core.interactiveshell import InteractiveShell

from card import card
from minalbef import train

STEPS = 8                             # of a training, at most
SMALLER = {"share": 0.001}            # parameters, in chapters that have them
whole = train.fit


def fit(task, batches, config, *rest, **more):
    if config.steps > STEPS:
        config = replace(config, epochs=1.0, epoch=STEPS * config.batch)
        if more.get("validation"):
            more["validation"].config = config           # it ends with a row, as the whole training does
    return whole(task, batches, config, *rest, **more)


def failures(chapter: str) -> list[tuple[int, str]]:
    """Cells' numbers, each with the error it ended in."""
    shell, found = InteractiveShell.instance(), []
    train.fit = fit
    with card():
        for number, cell in enumerate(nbformat.read(chapter, 4).cells):
            if cell.cell_type == "code":
                with contextlib.redirect_stdout(io.StringIO()):
                    shell.user_ns["In"].append(cell.source)      # keep_part reads it
                    result = shell.run_cell(cell.source, store_history=False)
                error = result.error_before_exec or result.error_in_exec
                if error and not isinstance(error, AssertionError):
                    found.append((number, f"{type(error).__name__}: {error}"))
                if "parameters" in cell.metadata.get("tags", []):
                    shell.user_ns |= {name: value for name, value in SMALLER.items() if name in shell.user_ns}
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(failures(sys.argv[1])))
