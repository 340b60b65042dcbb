"""What the command line takes: ranges of numbers, and which flags go together, checked before any work begins."""
import functools
import inspect
import logging
import operator
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass

from minalbef.config import RANGES, check_range

LOG = logging.getLogger("minalbef")
RENAMED = {"--exam": "--size"}        # flags of the version before; the next one forgets them

# (least, most) by flag; a flag named like a field of Config has that field's range
LIMITS = RANGES | {name: limits for names, limits in {
    "processes seeds": (1, 256),
    "threads": (1, 1_024),
    "workers": (0, 1_024),
    "size": (0.001, 1),
    "most_bad utilisation": (0, 1),
    "among scenes number": (1, 1_000_000),
    "steps": (1, 1_000_000),
    "gpus": (1, 100_000),
    "top": (0, RANGES["top"][1]),     # 0: the paper's
    "layer": (0, 1_000),
    "image patch photo sizes": RANGES["image_size"],
    "width heads": RANGES["image_width"],
    "depth text_layers fusion_layers": (0, 1_000),
    "vocab queue": RANGES["queue_size"],
}.items() for name in names.split()}


def checked(command: Callable) -> Callable:
    """The command, with its flags checked: raises ValueError for a number outside LIMITS, and for flags that don't fit.

    Flags of its section `scenes` are for the embedded scenes alone, those of `sets` for prepared sets, which --data
    names.
    """
    @functools.wraps(command)
    def call(*args, **kwargs):
        given = inspect.signature(command).bind(*args, **kwargs).arguments
        sections = {name: given.pop(name) for name in ("scenes", "sets") if is_dataclass(given.get(name))}
        numbers = functools.reduce(operator.or_, map(vars, sections.values()), given)
        for name, values in numbers.items():
            for value in values if isinstance(values, tuple) else (values,):
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    check_range(f"{flag(name)} {value}", value, *LIMITS[name])
        strange = sections.get("scenes" if given.get("data") else "sets")
        if strange and (amiss := [flag(one.name) for one in fields(strange)
                                  if getattr(strange, one.name) != one.default]):
            raise ValueError(f"{', '.join(amiss)}: of use on " + (
                "the embedded scenes alone; leave it out with --data" if given.get("data") else
                "prepared sets alone; name one with --data, such as --data prepared/coco, or leave it out"))
        return command(*args, **kwargs)
    return call


def current_flags(words: Sequence[str]) -> list[str]:
    """A command line with today's flags in place of RENAMED ones, each with a note."""
    current = []
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in RENAMED:
            LOG.warning("%s is now %s; the next version won't know %s", flag, RENAMED[flag], flag)
            flag = RENAMED[flag]
        current.append(flag + equals + value)
    return current


def flag(name: str) -> str:
    """A parameter of a command as a user writes it."""
    return "--from" if name == "source" else f"--{name.replace('_', '-')}"
