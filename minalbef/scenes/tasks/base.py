"""A task on the embedded scenes: what its problems are as records, its test sets, its baselines."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from emojiscenes.language import Scene
from emojiscenes.problems import GROUP, Problems
from minalbef.config import Config
from minalbef.evaluation.intervals import Clusters
from minalbef.evaluation.loop import How
from minalbef.scenes.records import image_of
from minalbef.system.tokenizer import Tokenizer

HIDDEN_TEXT = "a picture"             # every text, where the text is hidden
SHIFT = 7                             # whose text a record gets, where texts are shuffled
ROWS = 256                            # records that are evaluated at once
# a key of emojiscenes.problems.GROUP, and how many -> problems, freshly drawn
Draw = Callable[[str, int], list]
# baselines that are trained in the same way, but never see the image, or the text
BLIND: dict[str, dict[str, Any]] = {
    "text_alone": {"hide": "image"},
    "image_alone": {"hide": "text"},
}


class Painter:
    """Images and texts of problems, for a model that reads images of `size` pixels.

    hide: "" or the input that is hidden: image, text, or right, the second of two images
    """

    def __init__(self, size: int, hide: str = ""):
        self.size = size
        self.hide = hide
        self.images: dict[Scene | None, np.ndarray] = {}

    def image(self, scene: Scene, side: str = "left") -> np.ndarray:
        """Equal scenes are one array: the four pairs of an NLVR2 statement share their images."""
        key = None if self.hide in ("image", side) else scene
        if key not in self.images:
            self.images[key] = image_of(key, self.size)
        return self.images[key]

    def text(self, text: str) -> str:
        return HIDDEN_TEXT if self.hide == "text" else text


class SceneTest(NamedTuple):
    """One test set of a task."""

    problems: str                     # a key of GROUP
    number: int
    options: dict[str, Any] = {}      # of evaluation.loop.How
    grouped: bool = True              # whether a group's problems share scenes or texts


@dataclass(frozen=True)
class SceneTask:
    """One task on the embedded scenes; tasks.base.Task has the rest of it."""

    problems: tuple[str, ...]                    # keys of GROUP, in equal parts of a training batch
    # (problem, painter) -> a record of the task; its kind, if any, has figures of its own
    record: Callable[[Any, Painter], Any]
    tests: Mapping[str, SceneTest]               # by name in the report; "" where there is only one
    # titles of figures in tables, with their paths in the report
    titles: tuple[tuple[str, str], ...]
    # figures that the task's `evaluate` gives -> their names in the report; empty: all, unchanged
    figures: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)    # of fine-tuning, where they differ
    # config -> the answers to choose among, for a run of scenes
    listed_answers: Callable[[Config], list[str] | None] = lambda config: None
    # (model, tokenizer, hide) -> options of How that are chosen on validation problems
    choose: Callable[[nn.Module, Tokenizer, str], dict[str, Any]] | None = None

    # baselines: without a model, beside those of the task's `evaluate`
    baselines: Callable[[Draw], dict] | None = None
    # trained in the same way, by name: what differs, "hide", "module" or "assign"
    trained_baselines: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    # not trained: which model (pretrained, start, random, tuned), and the input that it doesn't see
    untrained_baselines: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def problems(name: str, split: str, config: Config, seed: int) -> Problems:
    """The problems of a key of GROUP, for a run of scenes."""
    restyle = config.restyle if split == "train" else 0.0
    return Problems(name, split, seed, config.image_size, config.objects, restyle=restyle)


def make_records(record: Callable[[Any, Painter], Any], examples: Sequence, size: int,
                 hide: str = "", group: int | None = None) -> list:
    """Problems as records, their images painted at `size` pixels.

    hide: see Painter; "shuffled" gives each record the text of another
    group: so many problems in a row make a group; None: they are independent
    """
    painter = Painter(size, hide)
    records = [record(problem, painter) for problem in examples]
    if hide == "shuffled":
        texts = [record.text for record in records[SHIFT:] + records[:SHIFT]]
        records = [replace(record, text=text) for record, text in zip(records, texts)]
    if group:
        records = [replace(record, group=i // group) for i, record in enumerate(records)]
    return records


def how(model: nn.Module, options: Mapping[str, Any]) -> How:
    """How a model is evaluated here: on its device, texts truncated as in training."""
    config: Any = getattr(model, "albef", model).config
    defaults: dict[str, Any] = {
        "batch": ROWS,
        "device": next(model.parameters()).device,
        "length": config.text_length,
        "quiet": True,
    }
    return How(**{**defaults, **options})


def cluster(samples: Tensor, name: str) -> Clusters:
    """Samples in the order drawn, as clusters: the problems of a group share scenes or texts."""
    return Clusters(samples, torch.arange(len(samples)) // GROUP[name])
