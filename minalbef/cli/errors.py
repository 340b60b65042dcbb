"""Errors that a user can mend, as a message and an exit status."""
import re

from minalbef.train import Stopped


def explain(error: BaseException) -> tuple[str, int]:
    """An error's message for the user, and the exit status. Raises the error again if it is a bug of ours."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, Stopped | KeyboardInterrupt):
        return str(error) or "stopped", 130
    if isinstance(error, MemoryError) or re.search("allocate memory|out of memory|Storage size calcul", str(error)):
        return (f"not enough memory ({first}); take a smaller batch, more passes a step (accumulate=4) or "
                "checkpointing=true; `minalbef plan` says what a preset needs"), 2
    if isinstance(error, RecursionError):
        return f"what was read is nested too deep ({first}); mend the file or leave it out", 2
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return str(error), 2
    raise error
