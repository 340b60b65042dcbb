"""What the command line takes: ranges of numbers, and which flags go together."""
import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from minalbef.config import RANGES, check_range

LOG = logging.getLogger("minalbef")
# flags of the version before; the next one forgets them
RENAMED = {"--exam": "--size", "--rival": "--baseline"}

# (least, most) by flag; a flag named like a field of Config has that field's range
LIMITS = RANGES | {
    "processes": (1, 256),
    "seeds": (1, 256),
    "only": RANGES["seed"],
    "workers": (0, 1_024),
    "size": (0.001, 1),
    "most_bad": (0, 1),
    "cpu": (0.1, 1_000_000),
    "among": (1, 1_000_000),
    "scenes": (1, 1_000_000),
    "number": (1, 1_000_000),
    "steps": (1, 1_000_000),
    "top": (0, RANGES["top"][1]),     # 0: the paper's
    "layer": (0, 1_000),
    "photo": RANGES["image_size"],
    "sizes": RANGES["image_size"],
}


def checked(command: Callable) -> Callable:
    """The command, with its flags checked before it begins.

    Raises ValueError for a number outside LIMITS, and for flags that don't fit together: those of
    its section `scenes` are for the embedded scenes alone, those of `sets` for prepared sets, which
    --data names.
    """
    @functools.wraps(command)
    def call(*args: Any, **options: Any) -> Any:
        flags = dict(inspect.signature(command).bind(*args, **options).arguments)
        sections = {}
        for name in ("scenes", "sets"):
            if is_dataclass(flags.get(name)):
                sections[name] = flags.pop(name)
        values = dict(flags)
        for section in sections.values():
            values |= vars(section)
        check_numbers(values)
        if flags.get("data"):
            refuse_changed(sections.get("scenes"), "the embedded scenes alone; leave it out "
                                                   "with --data")
        else:
            refuse_changed(sections.get("sets"), "prepared sets alone; name one with --data, such "
                                                 "as --data prepared/coco, or leave it out")
        return command(*args, **options)
    return call


def check_numbers(values: Mapping[str, Any]) -> None:
    """Raises ValueError for a number outside LIMITS."""
    for name, value in values.items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                check_range(f"{flag(name)} {number}", number, *LIMITS[name])


def refuse_changed(section: Any, purpose: str) -> None:
    """Raises ValueError for a section's flags that differ from their defaults: of use on what."""
    if section is None:
        return
    names = []
    for item in fields(section):
        if getattr(section, item.name) != item.default:
            names.append(flag(item.name))
    if names:
        raise ValueError(f"{', '.join(names)}: of use on {purpose}")


def current_flags(words: Sequence[str]) -> list[str]:
    """A command line with today's flags in place of RENAMED ones, each with a note."""
    current = []
    for word in words:
        name, equals, value = word.partition("=")
        if name in RENAMED:
            LOG.warning("%s is now %s; the next version won't know %s", name, RENAMED[name], name)
            name = RENAMED[name]
        current.append(name + equals + value)
    return current


def flag(name: str) -> str:
    """A parameter of a command as a user writes it."""
    return "--from" if name == "source" else f"--{name.replace('_', '-')}"
