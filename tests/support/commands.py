"""`minalbef` called in this process, as typed in a shell."""

import io
import logging
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from minalbef.cli.main import main


class Outcome(NamedTuple):
    """A command's exit status, and all that it printed or logged."""

    status: int
    text: str

    @property
    def failed(self) -> bool:
        return self.status != 0


def call(*words: str | Path, folder: Path | None = None) -> Outcome:
    """`minalbef WORDS`, in a folder. An error that isn't explained to the user, a traceback, is raised."""
    output = io.StringIO()
    root = logging.getLogger()
    handlers = root.handlers[:]
    root.handlers.clear()  # so that the command's own handler writes to our stream
    before = Path.cwd()
    status = 0
    try:
        os.chdir(folder or before)
        with (
            redirect_stdout(output),
            redirect_stderr(output),
            mock.patch.object(sys, "argv", ["minalbef", *map(str, words)]),
        ):
            main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    finally:
        os.chdir(before)
        root.handlers[:] = handlers
    return Outcome(status, output.getvalue())
