"""Ctrl-C and SIGTERM, remembered until a step is done."""
import os
import signal

from minalbef import distributed


class Signals:
    """Remember Ctrl-C and SIGTERM instead of dying of them; a second Ctrl-C kills as usual. aloud: say what follows."""

    def __init__(self, aloud: bool = True):
        self.aloud = aloud and distributed.rank() == 0

    def __enter__(self) -> list:
        self.seen, self.before = [], {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.before[number] = signal.signal(number, self.note)
            except ValueError:                   # not the main thread: a notebook's widget, say
                pass
        return self.seen

    def note(self, number, frame):
        if self.aloud and not self.seen:                         # os.write: print may be what was interrupted
            os.write(2, b"\nstopping when this step is done, to save it; a second Ctrl-C ends at once\n")
        self.seen.append(number)
        if number == signal.SIGINT:              # SIGTERM comes twice where a whole group is terminated
            signal.signal(number, self.before[number])

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)
