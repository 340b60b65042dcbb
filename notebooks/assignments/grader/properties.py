"""Properties that hold for nearly every answer, and errors in words: what several tests
would otherwise repeat."""
import dis
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def in_words() -> Iterator[None]:
    """Inside, an error that stops an answer becomes AssertionError with the message of the
    test that it stopped."""
    try:
        yield
    except (AssertionError, NotImplementedError):
        raise
    except Exception as problem:
        kind = type(problem) if type(problem).__module__ == "builtins" else Exception
        says = _checked(problem.__traceback__)
        why = kind.__name__
        # these say why: a name is missing, as its cell was refused or is no Python, or a
        # process is out of memory
        if kind is NameError or "allocate memory" in str(problem):
            why = f"{why}: {problem}"
        raise AssertionError(f"{says} (this stops with {why})") from problem


def _checked(trace: TracebackType | None) -> str:
    """The message of the test at whose line a trace begins: the sentence in the call, or the
    next to be loaded."""
    while trace and trace.tb_frame.f_code.co_name != "<module>" and trace.tb_next:
        trace = trace.tb_next
    otherwise = "every input that the text allows must give a result"
    if not trace:
        return otherwise
    steps = list(dis.get_instructions(trace.tb_frame.f_code))
    # the last that began: caches follow a call
    here = [step.positions for step in steps if step.offset <= trace.tb_lasti][-1]
    inside = []
    after = []
    for step in steps:
        text = step.argval
        if not isinstance(text, str) or len(text) <= 20 or " " not in text:
            continue
        if here.lineno <= step.positions.lineno <= here.end_lineno:
            inside.append(text)
        if step.offset > trace.tb_lasti:
            after.append(text)
    return [*inside[-1:], *after, otherwise][0]


def careful(answer: Callable, *args: Any) -> Any:
    """Call an answer once, and hold it to what no caller should have to ask for; -> what it
    gives.

    AssertionError if it overwrites what it was given, changes the mode of a module, or sets a
    seed for all.
    """
    before = _state(args)
    chance = torch.get_rng_state()
    seed = 2 ** 40 + 7
    # one that no answer sets
    torch.manual_seed(seed)
    out = answer(*args)
    seeded = torch.initial_seed() != seed
    torch.set_rng_state(chance)
    assert _state(args) == before, (
        "what the caller gave stays as it was: values and lists, what learns and what "
        "does not, the modes of modules")
    assert not seeded, (
        "no seed is set: that of a program is its caller's, and whatever is drawn "
        "later depends on it")
    return out


def _state(value: Any) -> Any:
    """What of an argument a call must not change, as values that can be compared."""
    if isinstance(value, Tensor):
        return value.tolist(), value.requires_grad
    if isinstance(value, nn.Module):
        modes = [part.training for part in value.modules()]
        return modes, [weight.requires_grad for weight in value.parameters()]
    if isinstance(value, (list, tuple)):
        return [_state(part) for part in value]
    return value if isinstance(value, (str, int, float)) else None
