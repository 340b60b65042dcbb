"""What defines a task: one `Task` object at the end of each task's file.

`tasks.table.TASKS` lists them. Training, evaluation, prediction, the benchmark, the conversion of
checkpoints and the command line read this object; none of them refers to a task by its name.
"""
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Record
from minalbef.system.images import Source

# tasks whose ALBEF is complete, except perhaps for the word head
ALIGNED = ("pretrain", "retrieval", "grounding")
HEADS = ("image_proj", "text_proj", "temperature", "match_head", "word_head")


class TaskModule(Protocol):
    """A `Trainable` that begins from a trained ALBEF; `ema.Distilled` has all but `forward`."""

    student: nn.Module
    teacher: nn.Module | None

    def start(self, albef: ALBEF, teacher: ALBEF | None = None) -> None:
        """Load the weights of a trained ALBEF and of its teacher, in place.

        Without a teacher, the teacher starts as a copy of the student.
        """


def mean_figures(*names: str) -> Callable[[dict, dict], dict[str, float]]:
    """A Task's `validation_figures`: the means of these samples; the first selects the weights."""
    def figures(samples: dict, more: dict) -> dict[str, float]:
        return {name: samples[name].mean().item() for name in names}

    return figures


def plain_record(image: Source, second: Source, text: str, id: int) -> Record:
    """An image and a caption, the record of most tasks; the second image is not used."""
    return Record(image, text, id)


@dataclass(frozen=True)
class Task:
    """One task. The first three fields are enough to train it.

    A task without `evaluate` or `predict` can't be evaluated or asked for a prediction. Its
    problems on generated scenes are in `minalbef.scenes.tasks`, in a file of the same name.
    """

    # training
    name: str
    module: Callable[[Config], Any]              # config -> a TaskModule
    collate: Callable[..., Any]                  # (records, tokenizer, size, length) -> a batch
    records: tuple[type, ...] = (Record,)        # for training; evaluation takes the first type
    begins_from: tuple[str, ...] = ALIGNED       # tasks whose runs it can be fine-tuned from
    pretraining: str = ""                        # a task to train first, such as text_assignment
    presets: tuple[str, ...] = ()                # the paper's recipes, the default first
    # presets by data set, where not the default
    preset_of_set: Mapping[str, str] = field(default_factory=dict)
    images: int = 1                              # per record
    pairs: bool = False                          # its fusion attends to two images
    least_rows: int = 1                          # of a pass: a row's negatives are other rows
    lacks: tuple[str, ...] = ()                  # parts of ALBEF missing in the original's files
    original_head: str = "cls_head"              # the classifier's name in the original's files

    # evaluation
    # (model, tokenizer, records, how) -> samples, and what else to report; see evaluation.loop
    evaluate: Callable[..., tuple[dict, dict]] | None = None
    # what evaluate returns -> figures of validation.csv; the first one selects the best weights
    validation_figures: Callable[[dict, dict], dict[str, float]] | None = None
    evaluates: tuple[str, ...] = ()              # other tasks whose runs it can evaluate

    # prediction
    # (model, tokenizer, query) -> an answer; see tasks.prediction
    predict: Callable[..., Any] | None = None
    candidates: str = ""                         # what to choose from: answers or boxes
    predict_needs: tuple[str, ...] = ()          # parts of ALBEF that must be trained
    text: str = "text"                           # what it calls its text, such as "question"

    # made-up data, for bench
    # (image, second image, text, id) -> a record
    dummy_record: Callable[[Source, Source, str, int], Any] = plain_record

    @property
    def preset(self) -> str:
        """The default recipe, or "" for a task without one."""
        return next(iter(self.presets), "")
