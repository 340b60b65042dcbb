"""What flags take: numbers in a range, lists, and only those that fit the data."""
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_origin, get_type_hints

from minalbef.config import RANGES
from minalbef.system.limits import check_range

# (least, most) by flag; a flag named like a field of Config has that field's range
LIMITS = RANGES | {
    "processes": (1, 256),
    "seeds": (1, 256),
    "only": RANGES["seed"],
    "share": RANGES["data_fraction"],            # of the ablation's samples
    "workers": (0, 1_024),
    "size": (0.001, 1),
    "most_bad": (0, 1),
    "cpu": (0.1, 1_000_000),
    "among": (10, 1_000_000),         # as many as ITM re-ranks
    "scenes": (1, 1_000_000),
    "number": (1, 1_000_000),
    "steps": (1, 1_000_000),
    "top": (0, RANGES["top"][1]),     # 0: the paper's
    "layer": (0, 1_000),
    "photo": RANGES["image_size"],
    "sizes": RANGES["image_size"],
}
# a command's sections of flags, and what they are of use on
SECTIONS = {
    "scenes": "the embedded scenes alone; leave it out with --data",
    "sets": "prepared sets alone; name one with --data, such as --data prepared/coco, or leave "
            "it out",
}


def checked(command: Callable) -> Callable:
    """The command, with its flags checked before it begins.

    Raises ValueError for a number outside LIMITS, and for flags of one of the SECTIONS without the
    data that they are for.
    """
    @functools.wraps(command)
    def call(*args: Any, **options: Any) -> Any:
        flags = dict(inspect.signature(command).bind(*args, **options).arguments)
        useless = "scenes" if flags.get("data") else "sets"
        values = dict(flags)
        for name in SECTIONS:
            if is_dataclass(flags.get(name)):
                values |= vars(values.pop(name))
        check_numbers(values)
        if is_dataclass(section := flags.get(useless)):
            changed = {}
            for item in fields(section):
                changed[item.name] = getattr(section, item.name) != item.default
            refuse(f"of use on {SECTIONS[useless]}", **changed)
        return command(*args, **options)
    return call


def check_numbers(values: Mapping[str, Any]) -> None:
    """Raises ValueError for a number outside LIMITS."""
    for name, value in values.items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                check_range(f"{flag(name)} {number}", number, *LIMITS[name])


def refuse(reason: str, **values: Any) -> None:
    """Raises ValueError for those of these flags that have a value."""
    names = [flag(name) for name, value in values.items() if value]
    if names:
        raise ValueError(f"{', '.join(names)}: {reason}")


def flag(name: str) -> str:
    """A parameter of a command as a user writes it."""
    return "--from" if name == "source" else f"--{name.replace('_', '-')}"


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

    Of `--data A --data B` tyro would take B alone.
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
