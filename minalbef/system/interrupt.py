"""Ctrl-C and SIGTERM: a run is saved, and goes on from there."""
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from minalbef.system import distributed

STOPPING = b"\nstopping when this step is done, to save it; a second Ctrl-C ends at once\n"


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM: the run was saved and can go on."""


@contextmanager
def catch_signals(aloud: bool = True) -> Iterator[list[int]]:
    """Note Ctrl-C and SIGTERM in the list instead of ending; a second Ctrl-C kills as usual.

    aloud: say that the first one was noted
    """
    numbers: list[int] = []
    handlers: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        if aloud and not numbers and distributed.rank() == 0:
            os.write(2, STOPPING)                # not print, which may be what was interrupted
        numbers.append(number)
        if number == signal.SIGINT:              # a terminated group may get SIGTERM twice
            signal.signal(number, handlers[number])

    for stop in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError):               # not the main thread: a notebook's widget, say
            handlers[stop] = signal.signal(stop, note)
    try:
        yield numbers
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
