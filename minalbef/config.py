"""Every number of a run, in one frozen dataclass: the defaults are the paper's, presets change them."""
import difflib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

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
    "warmup_steps warm_steps sibling_pairs": (0, _MANY),
    "validate_every": (0, 1_000_000), "share": (1e-6, 1), "epochs": (1e-6, 1_000_000), "epoch": (1, 1_000 * _MANY),
    "lr lr_start lr_end warm_lr temperature_lr stem_lr weight_decay warm_weight_decay mask_power pos_scale": (0, 1_000),
    "init_std": (0, 10),
    "clip": (0, _MANY),
    "temperature temperature_min": (1e-6, 1_000),
    "temperature_max": (1e-6, float("inf")),      # inf: the original lets it run free in retrieval
    "alpha teacher_momentum mask_rate dropout crop match_from queue_from hard_from lesson_from siblings_from": (0, 1),
    "siblings restyle": (0, 1),
    "objects": (0, 223),              # kinds in the embedded artwork
}.items() for name in names.split()}
# the words that a field may be, and fields that must be multiples of others
CHOICES = {"stem": ("patch", "conv"), "hard_negatives": ("global", "local"), "schedule": ("smooth", "stairs"),
           "warm_objects": ("other", "same"), "device": ("auto", "cpu", "cuda", "mps"), "precision": ("fp32", "bf16")}
MULTIPLES = {"image_size": "patch_size", "image_width": "image_heads", "text_width": "text_heads"}
_KINDS = {int: "a whole number", bool: "true or false", float: "a number", str: "a word", tuple: "two numbers, a,b"}


@dataclass(frozen=True)
class Config:
    """One run of ALBEF: model, data and training. Make one with `preset(name, **changes)`.

    Raises ValueError for a number outside its range, which is in RANGES, and for values that do not fit together.
    """

    name: str = "paper-4m"
    seed: int = 0

    # image encoder, section 3.1: ViT-B/16
    image_size: int = 256             # fine-tuning goes to 384 and resizes the positions
    patch_size: int = 16
    image_width: int = 768
    image_depth: int = 12
    image_heads: int = 12
    image_mlp_ratio: float = 4.0
    stem: str = "patch"               # "conv": strided convolutions instead of one; learns from far fewer pictures
    pos_scale: float = 0.0            # > 0: positions start as sines and cosines of this standard deviation

    # text encoder and fusion, section 3.1: the lower and the upper half of BERT-base
    vocab_size: int = 30_522
    text_length: int = 25             # word pieces, with [CLS], of a text that was cut at 30 words before
    positions: int = 512              # rows of BERT's table; text_length of them are used
    text_width: int = 768
    text_depth: int = 6
    text_heads: int = 12
    text_mlp_ratio: float = 4.0
    fusion_depth: int = 6
    fuse_cls: bool = True             # False: words see the image's patches, not its [CLS]
    dropout: float = 0.1
    init_std: float = 0.02            # BERT's; narrow models from nothing want more, about 0.5 / width ** 0.5
    embed_dim: int = 256

    # objectives, sections 3.2 and 3.3
    temperature: float = 0.07         # learnt, from here
    temperature_min: float = 0.001
    temperature_max: float = 0.5
    temperature_lr: float = 1.0       # its share of the rate: at high rates it runs to its floor and stays
    queue_size: int = 65_536
    teacher_momentum: float = 0.995
    alpha: float = 0.4                # weight of the teacher's soft targets
    alpha_ramp: bool = True           # alpha rises from 0 over the first epoch; False: constant (original's entailment)
    mask_rate: float = 0.15
    mask_power: float = 0.0           # > 0: frequent words are masked less; "a" and "on" teach little (not the paper's)
    equal_ids_match: bool = False     # True: captions of one picture are positives of each other (retrieval: always)
    equal_texts_match: bool = False   # True: pairs with equal captions are positives of each other (not the paper's)
    hard_negatives: str = "global"    # "local": from this process's own rows, as the original does

    # a gentler beginning, as shares of the run; 0 is the paper's way. Small models from nothing need it
    match_from: float = 0.0           # before: ITC alone
    queue_from: float = 0.0           # before: ITC within the batch
    hard_from: float = 0.0            # before: ITM's negatives are drawn evenly
    siblings_from: float = 0.0        # before: no siblings in the batch
    lesson_from: float = 1.0          # until siblings_from: relations' siblings alone, of ten times the weight

    # training
    batch: int = 512                  # of all processes together
    epochs: float = 30.0
    epoch: int = 5_100_000            # examples
    share: float = 1.0                # of the pairs; 0.01 is part of 0.1. Epoch and warm-up shrink with it
    lr: float = 1e-4
    lr_start: float = 1e-5            # warm-up begins here
    lr_end: float = 1e-5              # cosine ends here
    warmup_steps: int = 2_000         # the original's "20 epochs" of 100 steps
    schedule: str = "smooth"          # "stairs": the original's, which rises every 100 steps and falls every epoch
    stem_lr: float = 1.0              # the stem's share of the rate: without norms inside, it forgets its warm start
    weight_decay: float = 0.02
    decay_all: bool = False           # True: temperature, class token and positions decay, too, as in the original
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 0.0                 # 0: none, as the original
    save_every: int = 1_000           # steps
    validate_every: float = 0.0       # epochs between validations, which keep the best weights in RUN/best; 0: none

    # how it is computed; what alters results by more than rounding says so
    device: str = "auto"              # "auto": a GPU where there is one; "cuda", "mps", "cpu"
    precision: str = "fp32"           # "bf16": products in bfloat16; weights, sums and losses stay in fp32
    accumulate: int = 1               # passes a step; in-batch negatives then come from one pass, see train.backward
    checkpointing: bool = False       # activation checkpointing: a third of the memory, a quarter more time
    compile: bool = False             # layers go through torch.compile, which takes a minute or two at first
    tensorboard: bool = False         # curves also for TensorBoard, an extra of the package

    # photographs, in training, and how many candidates the second stage looks at
    crop: float = 0.2                 # a random crop keeps at least this share of a picture; 1: no crop, only resized
    top: int = 128                    # of texts or pictures, re-ranked by ITM; of answers, ranked by their likelihood

    # how files of pictures are opened; training takes the way of its prepared set
    upright: bool = False             # True: turned by EXIF, over white; False: as the original

    # embedded scenes; the fields have no meaning for other data
    objects: int = 0                  # how many kinds captions name; 0: not trained on scenes
    siblings: float = 0.0             # share of the batch that are minimal pairs, with an ITM loss of their own
    sibling_pairs: int = 0            # > 0: drawn from so many neighbours, again and again
    restyle: float = 0.0              # share of drawings given an outline or flat colours, in the warm start too
    bucket: int = 1                   # so many batches are drawn together and sorted by length, to pad less
    warm_steps: int = 0               # supervised start of the image encoder, as the paper starts from DeiT
    warm_batch: int = 64
    warm_lr: float = 2e-3
    warm_weight_decay: float = 0.05
    warm_objects: str = "other"       # "same": the kinds that captions name

    def __post_init__(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            kind: Any = type(field.default)
            if not isinstance(value, (int, float) if kind is float else kind):
                raise ValueError(f"{field.name}={value!r} must be {_KINDS[kind]}, such as {field.default!r}")
            if kind in (int, float):
                check_range(f"{field.name}={value}", value, *RANGES[field.name])
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas} must be two numbers, from 0 to less than 1, such as 0.9,0.999")
        for name, of in MULTIPLES.items():
            value, unit = getattr(self, name), getattr(self, of)
            if value % unit:
                raise ValueError(f"{name}={value} is not a multiple of {of}={unit}; the nearest that is: "
                                 f"{max(1, round(value / unit)) * unit}")
        for name, words in CHOICES.items():
            word = getattr(self, name)
            if word not in words:
                raise ValueError(f"{name}={word!r} is none of {', '.join(words)}{nearest(word, words)}")
        if self.stem == "conv" and (self.patch_size < 2 or self.patch_size & (self.patch_size - 1)):
            raise ValueError(f"patch_size={self.patch_size}: a conv stem halves the picture again and again, "
                             "so it wants a power of two; or take stem='patch'")
        if self.batch % self.accumulate:
            near = next(n for n in range(min(self.accumulate, self.batch), 0, -1) if self.batch % n == 0)
            raise ValueError(f"accumulate={self.accumulate} does not divide batch={self.batch}; take {near}, "
                             "or another batch")
        if self.text_length > self.positions:
            raise ValueError(f"text_length={self.text_length} is more than positions={self.positions}; "
                             "raise positions or lower text_length")
        if not self.temperature_min <= self.temperature <= self.temperature_max:
            raise ValueError(f"temperature={self.temperature} lies outside "
                             f"[{self.temperature_min}, {self.temperature_max}], where it will be held")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return max(1, int(self.epochs * self.epoch + 1e-6) // self.batch)      # 0.41 * 153,600 is 62,975.999

    @property
    def grid(self) -> int:
        """Patches along a side of the picture."""
        return self.image_size // self.patch_size

    def in_lesson(self, step: int) -> bool:
        """Whether a step is one of the lesson, which begins and ends with a bucket of batches."""
        first = step - step % self.bucket
        return self.siblings > 0 and self.lesson_from * self.steps <= first < self.siblings_from * self.steps

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


def require_config(config: Any) -> None:
    """Raises ValueError for what is no Config, such as a preset's name."""
    if not isinstance(config, Config):
        raise ValueError(f"config={config!r} must be a Config; make one with minalbef.preset(name)")


FREE = ("device", "checkpointing", "compile", "tensorboard")   # on resume: they change rounding and dropout's masks


def read_changes(changes: tuple[str, ...]) -> dict[str, str]:
    """("batch=32",) -> {"batch": "32"}. Raises ValueError for what has no "="."""
    if wrong := [change for change in changes if "=" not in change]:
        raise ValueError(f"{wrong[0]!r} is no change of an option; write name=value, such as batch=32")
    return dict(change.split("=", 1) for change in changes)


def replace_checked(config: Config, /, **changes: Any) -> Config:
    """`dataclasses.replace` that reads strings as the field's type and names the nearest field for a wrong one."""
    known: dict[str, Any] = {field.name: type(field.default) for field in fields(Config)}
    for name, value in changes.items():
        if name not in known:
            raise ValueError(f"no option {name!r}{nearest(name, known)}")
        kind = known[name]
        with suppress(TypeError, ValueError, OverflowError, KeyError):   # Config says what is wrong
            if kind is tuple:
                parts = value.strip("()").split(",") if isinstance(value, str) else value
                changes[name] = tuple(float(part) for part in parts)
            elif kind is bool:
                changes[name] = {"true": True, "false": False}[str(value).lower()]
            elif kind is not int:
                changes[name] = kind(value)
            elif float(value) == int(float(value)):
                changes[name] = int(float(value))
    return replace(config, **changes)


# of fields that came later: what held in runs that lack them, where it isn't the default
EARLIER = {"equal_ids_match": True}


def from_dict(values: dict[str, Any], source: str | Path = "the settings") -> Config:
    """The Config that `to_dict` gave, also after JSON. source: its file. Raises ValueError if it does not fit."""
    if unknown := sorted(values.keys() - {field.name for field in fields(Config)}):
        raise ValueError(f"{source} was made by a later version of minalbef, or changed: it has {', '.join(unknown)}, "
                         "which this version does not know; take the later version, or train the run again")
    if "upright" not in values:       # an older version's; runs of scenes read files upright
        values = values | {"upright": values.get("objects", 0) != 0}
    try:
        return replace_checked(Config(), **EARLIER | values)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def other_settings(was: dict[str, Any], config: Config) -> str:
    """How a run's settings, as `to_dict` has them, differ from `config`, FREE ones aside; "" if they do not."""
    was, now = from_dict(was).to_dict(), config.to_dict()
    return "; ".join(f"{key}: {was[key]} there, {now[key]} here" for key in now
                     if was[key] != now[key] and key not in FREE)


def check_range(said: str, value: float, least: float, most: float) -> None:
    """Raises ValueError for a number outside, and for nan. said: the number with its name, as the user wrote it."""
    if not least <= value <= most:
        raise ValueError(f"{said} must lie between {least:,} and {most:,}")


def nearest(word: str, words: Iterable[str]) -> str:
    """" (did you mean 'batch'?)", one that begins with the word if there is, or nothing where no word is near."""
    near = ([one for one in words if one.startswith(str(word))]
            or difflib.get_close_matches(str(word), list(words), n=1, cutoff=0.4))
    return f" (did you mean {near[0]!r}?)" if near else ""


def printable(text: str) -> str:
    """A file's name or a user's text as a terminal may show it, in one line.

    What isn't printable is written as an escape: control characters, and half of a surrogate pair,
    which stands for a byte of a name that is no UTF-8.
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode()
                   for letter in text)
