"""Ranges of the command line's numbers, checked before any work begins."""
import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass

from minalbef.config import RANGES, check_range

# (least, most) by flag; a flag named like a field of Config has that field's range
LIMITS = RANGES | {name: limits for names, limits in {
    "processes seeds": (1, 256),
    "threads": (1, 1_024),
    "workers": (0, 1_024),
    "exam": (0.001, 1),
    "most_bad utilisation": (0, 1),
    "among scenes number pictures": (1, 1_000_000),
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
    """The command, with its flags checked: raises ValueError for a number outside LIMITS."""
    @functools.wraps(command)
    def call(*args, **kwargs):
        given = inspect.signature(command).bind(*args, **kwargs).arguments
        for value in list(given.values()):
            if is_dataclass(value):
                given |= vars(value)
        for name, values in given.items():
            for value in values if isinstance(values, tuple) else (values,):
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    check_range(f"--{name.replace('_', '-')} {value}", value, *LIMITS[name])
        return command(*args, **kwargs)
    return call
