"""Flags that take a list: `--data A B`, `--data A --data B`, or a mix of both."""
import inspect
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from typing import get_origin, get_type_hints

from minalbef.cli.limits import flag


def list_flags(command: Callable) -> set[str]:
    """The flags of a command, or of one of its sections, that take a list."""
    hints = get_type_hints(command)
    flags = set()
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(hints[name]):
            flags |= list_flags(hints[name])
        elif get_origin(hints[name]) is tuple and parameter.kind != parameter.POSITIONAL_ONLY:
            flags.add(flag(name))
    return flags


def join_lists(words: Sequence[str], flags: set[str]) -> list[str]:
    """A command line with each of the flags once, with the values of all its occurrences.

    tyro would take those of the last alone.
    Raises ValueError for a flag without a value.
    """
    values: dict[str, list[str]] = {}            # by flag
    rest: list[str] = []
    current = rest                               # the list that a value belongs to
    for word in words:
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")            # tyro reads both
        if name not in flags:
            if word.startswith("--"):
                current = rest
            current.append(word)
            continue
        current = values.setdefault(name, [])
        if equals:                               # what follows isn't the flag's
            current.append(value)
            current = rest
    for name, items in values.items():
        if not items:
            raise ValueError(f"{name} has no value; name at least one after it, or leave it out")
        rest += [name, *items]
    return rest
