"""What the command line takes: ranges of numbers, and which flags go together, checked before any work begins."""
import functools
import inspect
from collections.abc import Callable

from minalbef.config import RANGES, check_range

# (least, most) by flag; a flag named like a field of Config has that field's range
LIMITS = RANGES | {name: limits for names, limits in {
    "processes seeds": (1, 256),
    "threads": (1, 1_024),
    "workers": (0, 1_024),
    "exam": (0.001, 1),
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


def checked(command: Callable, scenes: str = "", sets: str = "") -> Callable:
    """The command, with its flags checked: raises ValueError for a number outside LIMITS, and for flags that don't fit.

    scenes: flags for the embedded scenes alone. sets: flags for prepared sets alone, which --data names
    """
    defaults = {name: one.default for name, one in inspect.signature(command).parameters.items()}
    @functools.wraps(command)
    def call(*args, **kwargs):
        given = inspect.signature(command).bind(*args, **kwargs).arguments
        for name, values in given.items():
            for value in values if isinstance(values, tuple) else (values,):
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    check_range(f"{flag(name)} {value}", value, *LIMITS[name])
        strange = scenes if given.get("data") else sets
        if amiss := [flag(name) for name in strange.split() if given.get(name, defaults[name]) != defaults[name]]:
            raise ValueError(f"{', '.join(amiss)}: of use on " + (
                "the embedded scenes alone; leave it out with --data" if given.get("data") else
                "prepared sets alone; name one with --data, such as --data prepared/coco, or leave it out"))
        return command(*args, **kwargs)
    return call


def flag(name: str) -> str:
    """A parameter of a command as a user writes it."""
    return "--from" if name == "source" else f"--{name.replace('_', '-')}"
