"""What each number may be, of a Config and of the command line: two tables, read before any work begins."""
import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass

_MANY = 10 ** 9                       # no run comes near it, and sums of it fit 64 bits

# the least and the most that each number of a Config may be
RANGES = {name: limits for names, limits in {
    "seed": (0, 2 ** 32 - 1),
    "image_size patch_size": (1, 10_000),
    "image_width image_heads text_width text_heads embed_dim": (1, 100_000),
    "image_depth fusion_depth": (1, 1_000),
    "text_depth": (0, 1_000),
    "image_mlp_ratio text_mlp_ratio": (0.1, 100),
    "text_length": (2, 100_000),      # [CLS] and a word
    "positions": (2, 100_000),
    "vocab_size queue_size batch warm_batch accumulate bucket top save_every": (1, _MANY),
    "warmup_steps warm_steps": (0, _MANY),
    "epochs": (1e-6, 1_000_000),
    "epoch": (1, 1_000 * _MANY),
    "lr lr_start lr_end warm_lr temperature_lr stem_lr weight_decay warm_weight_decay mask_power pos_scale": (0, 1_000),
    "init_std": (0, 10),
    "clip": (0, _MANY),
    "temperature temperature_min": (1e-6, 1_000),
    "temperature_max": (1e-6, float("inf")),      # the original holds it from below alone in retrieval
    "alpha teacher_momentum mask_rate dropout crop match_from queue_from hard_from siblings_from": (0, 1),
    "siblings restyle": (0, 1),
    "objects": (0, 223),              # kinds in data/emoji
}.items() for name in names.split()}

# the least and the most, by flag; what a flag shares with a field of Config has that field's range
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


def check_range(said: str, value: float, least: float, most: float):
    """Raises ValueError for a number outside, and for nan. said: the number with its name, as the user wrote it."""
    if not least <= value <= most:
        raise ValueError(f"{said} must lie between {least:,} and {most:,}")


def checked(command: Callable) -> Callable:
    """The command, which then raises ValueError before it begins where a number of its flags is not within LIMITS."""
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
