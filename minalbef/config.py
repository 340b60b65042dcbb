"""Every number of a run, in one frozen dataclass: the paper's by default, and presets change them.

`Config` has four parts, each a dataclass of its own: the model, its objectives, how it is trained,
and the embedded scenes. What takes a `ModelConfig` reads the model's fields alone, and a Config is
one, too. A field has one name everywhere: `config.lr` in code is the option `lr=1e-3` of a user.
"""
import math
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, TypeVar

from minalbef.system.limits import (
    check_encoder,
    check_freeze,
    check_kind,
    check_multiple,
    check_range,
    nearest,
)

Number = TypeVar("Number", int, float)

MANY = 10 ** 9                        # no run comes near it, and sums of it fit 64 bits


def number(default: Number, least: float, most: float) -> Number:
    """A field with a range: `batch: int = number(512, 1, MANY)`."""
    return field(default=default, metadata={"range": (least, most)})


def word(default: str, *others: str) -> str:
    """A field that is one of a few words, the first of them by default."""
    return field(default=default, metadata={"words": (default, *others)})


@dataclass(frozen=True)
class _Checked:
    """Fields that are checked when they are set: each by itself, then what must fit together."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            check_kind(item.name, value, item.default)
            if "range" in item.metadata:
                check_range(f"{item.name}={value}", value, *item.metadata["range"])
            words = item.metadata.get("words", (value,))
            if value not in words:
                hint = nearest(value, words)
                raise ValueError(f"{item.name}={value!r} is none of {', '.join(words)}{hint}")
        self.check()

    def check(self) -> None:
        """Raises ValueError for values that do not fit together."""


@dataclass(frozen=True)
class ModelConfig(_Checked):
    """The model: two encoders and fusion."""

    # image encoder, section 3.1: ViT-B/16
    image_encoder: str = "vit"  # or timm:NAME, or yourmodule:YourClass
    image_size: int = number(256, 1, 10_000)  # fine-tuning goes to 384 and resizes the positions
    patch_size: int = number(16, 1, 10_000)
    image_width: int = number(768, 1, 100_000)
    image_depth: int = number(12, 1, 1_000)
    image_heads: int = number(12, 1, 100_000)
    image_mlp_ratio: float = number(4.0, 0.1, 100)
    stem: str = word("patch", "conv")  # "conv": strided convolutions; needs far fewer images
    pos_scale: float = number(0.0, 0, 1_000)  # > 0: positions start as sines of this deviation

    # text encoder and fusion, section 3.1: the lower and the upper half of BERT-base
    text_encoder: str = "bert"  # or bert-words: ITC reads the words' means, or yourmodule:YourClass
    vocab_size: int = number(30_522, 1, MANY)
    text_length: int = number(25, 2, 100_000)  # word pieces with [CLS]; texts were cut at 30 words
    positions: int = number(512, 2, 100_000)  # rows of BERT's table; text_length of them are used
    text_width: int = number(768, 1, 100_000)
    text_depth: int = number(6, 0, 1_000)
    text_heads: int = number(12, 1, 100_000)
    text_mlp_ratio: float = number(4.0, 0.1, 100)
    fusion_depth: int = number(6, 1, 1_000)
    fuse_cls: bool = True  # False: words see the image's patches, not its [CLS]
    dropout: float = number(0.1, 0, 1)
    init_std: float = number(0.02, 0, 10)  # BERT's; narrow models want about 0.5 / width ** 0.5
    embed_dim: int = number(256, 1, 100_000)
    # of what the projections read, which is then standardised; 0: neither, as in the paper
    image_proj_dropout: float = number(0.0, 0, 0.99)
    text_proj_dropout: float = number(0.0, 0, 0.99)

    def check(self) -> None:
        """Raises ValueError for sizes that do not fit together."""
        super().check()
        check_encoder("image_encoder", self.image_encoder, "vit", "timm:NAME")
        check_encoder("text_encoder", self.text_encoder, "bert", "bert-words")
        check_multiple("image_size", self.image_size, "patch_size", self.patch_size)
        check_multiple("image_width", self.image_width, "image_heads", self.image_heads)
        check_multiple("text_width", self.text_width, "text_heads", self.text_heads)
        power_of_two = self.patch_size >= 2 and self.patch_size & (self.patch_size - 1) == 0
        if self.stem == "conv" and not power_of_two:
            raise ValueError(f"patch_size={self.patch_size}: a conv stem halves the image again "
                             "and again, so it must be a power of two; or take stem='patch'")
        if self.text_length > self.positions:
            raise ValueError(f"text_length={self.text_length} is more than positions="
                             f"{self.positions}; raise positions or lower text_length")

    @property
    def grid(self) -> int:
        """Patches along a side of the image."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class ObjectiveConfig(_Checked):
    """ITC, ITM and MLM with a teacher, sections 3.2 and 3.3."""

    # objectives, sections 3.2 and 3.3
    temperature: float = number(0.07, 1e-6, 1_000)  # learnt, from here
    temperature_min: float = number(0.001, 1e-6, 1_000)
    temperature_max: float = number(0.5, 1e-6, float("inf"))  # inf: none (original retrieval)
    temperature_lr: float = number(1.0, 0, 1_000)  # times lr: at high rates it falls to its minimum
    queue_size: int = number(65_536, 1, MANY)
    teacher_momentum: float = number(0.995, 0, 1)
    alpha: float = number(0.4, 0, 1)  # weight of the teacher's soft targets
    alpha_ramp: bool = True  # rises from 0 over the first epoch; False: constant (original VE)
    mask_rate: float = number(0.15, 0, 1)
    mask_power: float = number(0.0, 0, 1_000)  # > 0: masks frequent words less (not the paper's)
    mlm_every: int = number(1, 1, MANY)  # MLM is of every so many-th row of a batch
    share_stem: bool = False  # the teacher takes the student's patches (not the paper's)
    equal_ids_match: bool = False  # True: captions of one image match (retrieval: always)
    equal_texts_match: bool = False  # True: equal captions match (not the paper's)
    hard_negatives: str = word("global", "machine", "local")  # of which processes; original: local

    # a gentler beginning, as shares of the run, for small models from nothing; 0 is the paper's way
    match_from: float = number(0.0, 0, 1)  # before: ITC alone
    queue_from: float = number(0.0, 0, 1)  # before: ITC within the batch
    hard_from: float = number(0.0, 0, 1)  # before: ITM's negatives are drawn evenly

    def check(self) -> None:
        """Raises ValueError for a temperature outside the limits that will hold it."""
        super().check()
        if not self.temperature_min <= self.temperature <= self.temperature_max:
            raise ValueError(f"temperature={self.temperature} lies outside "
                             f"[{self.temperature_min}, {self.temperature_max}], where it "
                             "will be held; begin within, or change temperature_min or "
                             "temperature_max")


@dataclass(frozen=True)
class TrainConfig(_Checked):
    """A run: how long, how fast, and on what."""

    # training, section 3.5
    name: str = "paper-4m"
    seed: int = number(0, 0, 2 ** 32 - 1)
    batch: int = number(512, 1, MANY)  # of all processes together
    epochs: float = number(30.0, 1e-6, 1_000_000)
    epoch: int = number(5_100_000, 1, 1_000 * MANY)  # examples
    data_fraction: float = number(1.0, 1e-6, 1)  # of the pairs; epoch and warm-up shrink with it
    lr: float = number(1e-4, 0, 1_000)
    lr_start: float = number(1e-5, 0, 1_000)  # warm-up begins here
    lr_end: float = number(1e-5, 0, 1_000)  # cosine ends here
    warmup_steps: int = number(2_000, 0, MANY)  # the original's "20 epochs" of 100 steps
    schedule: str = word("smooth", "stairs")  # "stairs": the original's, by 100 steps and epochs
    stem_lr: float = number(1.0, 0, 1_000)  # times lr: without norms, the stem forgets its start
    weight_decay: float = number(0.02, 0, 1_000)
    decay_all: bool = False  # True: temperature, [CLS] and positions decay, too, as the original's
    betas: tuple[float, float] = (0.9, 0.999)
    muon_lr: float = number(0.0, 0, 1_000)  # times lr, of matrices, by Muon; 0: AdamW for all
    clip: float = number(0.0, 0, MANY)  # 0: none, as the original
    save_every: int = number(1_000, 1, MANY)  # steps
    validate_every: float = number(0.0, 0, 1_000_000)  # epochs; the best goes to RUN/best; 0: never

    # what it starts from, section 3.5, see weights.starts; and what stays so
    image_start: str = ""  # weights for the image encoder: a file, folder, package, name or run
    text_start: str = ""  # a BERT's, for text encoder and fusion
    freeze: str = ""  # image, text, or the lowest n layers of one: "image,text:3"
    pretrained_lr: float = number(1.0, 0, 1_000)  # times lr, of weights that were loaded, by AdamW
    class_names: bool = False  # the image start's classes are images, their names captions

    # how it is computed; what alters results by more than rounding says so
    fast: bool = True  # False: the plain step and loop, as one reads them; in one process
    device: str = word("auto", "cpu", "cuda", "mps")  # "auto": a GPU where there is one
    precision: str = word("auto", "fp32", "bf16")  # of products; auto: bf16 where a GPU has it
    accumulate: int = number(1, 1, MANY)  # passes a step; negatives then come from one pass
    checkpointing: bool = False  # of activations: a third of the memory, a quarter more time
    compile: bool = False  # layers go through torch.compile, a minute or two at first
    tensorboard: bool = False  # curves also for TensorBoard, an extra of the package

    # photographs, in training, and how many candidates the second stage looks at
    crop: float = number(0.2, 0, 1)  # a random crop keeps this share at least; 1: no crop
    top: int = number(128, 1, MANY)  # candidates that ITM re-ranks; VQA's answers by likelihood

    # how files of images are opened; training takes the way of its prepared set
    upright: bool = False  # True: turned by EXIF, over white; False: as the original

    def check(self) -> None:
        """Raises ValueError for betas that are none, and passes that do not divide the batch."""
        super().check()
        check_freeze(self.freeze)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas} must be two numbers, from 0 to less than 1, "
                             "such as 0.9,0.999")
        if self.batch % self.accumulate:
            divisor = min(self.accumulate, self.batch)
            while self.batch % divisor:
                divisor -= 1
            raise ValueError(f"accumulate={self.accumulate} does not divide batch={self.batch}; "
                             f"take {divisor}, or another batch")

    @cached_property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        examples = int(self.epochs * self.epoch + 1e-6)    # 0.41 * 153,600 is 62,975.999
        return max(1, examples // self.batch)


@dataclass(frozen=True)
class SceneConfig(_Checked):
    """Embedded scenes, and their minimal pairs ("siblings"); of no meaning for other data."""

    # embedded scenes; the fields have no meaning for other data
    objects: int = number(0, 0, 223)  # kinds that captions name, of 223; 0: no scenes
    siblings: float = number(0.0, 0, 1)  # share of the batch that are minimal pairs
    sibling_pairs: int = number(0, 0, MANY)  # > 0: drawn from so many pairs, again and again
    siblings_from: float = number(0.0, 0, 1)  # share of the run before which there are none
    sibling_negatives: bool = True  # False: ITM's wrong pairs of a sibling are of its pair alone
    more_kinds_from: float = number(1.0, 0, 1)  # then siblings also differ in more kinds
    lesson_from: float = number(1.0, 0, 1)  # until siblings_from: relations' pairs alone, tenfold
    lesson_skew: float = number(2 / 3, 0, 1)  # share of these that say "left of" or "above" alone
    restyle: float = number(0.0, 0, 1)  # share of drawings with an outline or flat colours
    bucket: int = number(1, 1, MANY)  # batches sorted by length together, to pad less
    warm_steps: int = number(0, 0, MANY)  # the image encoder's supervised start, as from DeiT
    warm_batch: int = number(64, 1, MANY)
    warm_lr: float = number(2e-3, 0, 1_000)
    warm_weight_decay: float = number(0.05, 0, 1_000)
    warm_objects: str = word("other", "same")  # "same": the kinds that captions name


@dataclass(frozen=True)
class Config(SceneConfig, TrainConfig, ObjectiveConfig, ModelConfig):
    """One run of ALBEF. Make one with `preset(name, **changes)`.

    Raises ValueError for a number outside its range, and for values that do not fit together.
    """

    def step_of(self, share: float) -> int:
        """The step with which a share of the run ends: 816 for .34 of 2,400."""
        return math.ceil(share * self.steps - 1e-6)            # .34 * 2,400 is 816.0000000000001

    def in_lesson(self, step: int) -> bool:
        """Whether a step is one of the lesson, which begins and ends with a bucket of batches."""
        first = step - step % self.bucket
        begin = self.step_of(self.lesson_from)
        end = self.step_of(self.siblings_from)
        return self.siblings > 0 and begin <= first < end

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


PARTS = (ModelConfig, ObjectiveConfig, TrainConfig, SceneConfig)
# the least and the most that each number of a Config may be
RANGES = {item.name: item.metadata["range"] for item in fields(Config) if "range" in item.metadata}
