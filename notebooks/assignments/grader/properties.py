"""Properties that hold for nearly every answer, and errors in words: what several tests would otherwise repeat."""
import dis
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def in_words() -> Iterator[None]:
    """Inside, an error that stops an answer becomes AssertionError with the message of the test that it stopped."""
    try:
        yield
    except (AssertionError, NotImplementedError):
        raise
    except Exception as problem:
        kind = type(problem) if type(problem).__module__ == "builtins" else Exception
        # these say why: a name is missing, as its cell was refused or is no Python, or a process is out of memory
        why = f": {problem}" if kind is NameError or "allocate memory" in str(problem) else ""
        raise AssertionError(f"{_checked(problem.__traceback__)} (this stops with {kind.__name__}{why})") from problem


def _checked(trace: TracebackType | None) -> str:
    """The message of the test at whose line a trace begins: the sentence in the call, or the next to be loaded."""
    while trace and trace.tb_frame.f_code.co_name != "<module>" and trace.tb_next:
        trace = trace.tb_next
    steps = list(dis.get_instructions(trace.tb_frame.f_code)) if trace else []
    said = [step for step in steps if isinstance(step.argval, str) and len(step.argval) > 20 and " " in step.argval]
    here = [step.positions for step in steps if step.offset <= trace.tb_lasti][-1:]     # caches follow a call
    inside = [step.argval for step in said for at in here if at.lineno <= step.positions.lineno <= at.end_lineno]
    after = [step.argval for step in said if step.offset > trace.tb_lasti]
    return [*inside[-1:], *after, "every input that the text allows must give a result"][0]


def careful(answer: Callable, *given: Any) -> Any:
    """Call an answer once, and hold it to what no caller should have to ask for; -> what it gives.

    AssertionError if it overwrites what it was given, changes the mode of a module, or sets a seed for all.
    """
    before, chance, seed = _state(given), torch.get_rng_state(), 2 ** 40 + 7
    torch.manual_seed(seed)                                      # one that no answer sets
    out = answer(*given)
    seeded = torch.initial_seed() != seed
    torch.set_rng_state(chance)
    assert _state(given) == before, (
        "what the caller gave stays as it was: values and lists, what learns and what does not, the modes of modules")
    assert not seeded, "no seed is set: that of a program is its caller's, and whatever is drawn later depends on it"
    return out


def _state(given: Any) -> Any:
    """What of an argument a call must not change, as values that can be compared."""
    if isinstance(given, Tensor):
        return given.tolist(), given.requires_grad
    if isinstance(given, nn.Module):
        return [part.training for part in given.modules()], [weight.requires_grad for weight in given.parameters()]
    if isinstance(given, (list, tuple)):
        return [_state(part) for part in given]
    return given if isinstance(given, (str, int, float)) else None
