"""What a task is: one `Task` object at the end of each task's file says everything about it.

`tasks.table.TASKS` lists them. Training, evaluation, prediction, the dry run, the conversion of
checkpoints and the command line read the object and know no task by its name.
"""
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Record, Source
from minalbef.train import Trainable

ALIGNED = ("pretrain", "retrieval", "grounding")         # whose ALBEF lacks the word head at most
HEADS = ("image_proj", "text_proj", "temperature", "match_head", "word_head")


class TaskModule(Trainable, Protocol):
    """What `train.fit` trains: an nn.Module with a student, a teacher or None, and a start.

    `ema.Distilled` has all but forward; a module with random draws of its own overrides `draws`.
    """

    student: nn.Module
    teacher: nn.Module | None

    def __call__(self, batch: Any, alpha: float, draws: Any) -> tuple[dict[str, Tensor], Any]:
        """Losses by name, and the state that `after_step` needs. Changes nothing.

        alpha: weight of the teacher's soft targets
        """

    def start(self, albef: ALBEF, teacher: ALBEF | None = None) -> None:
        """Begin from a trained ALBEF and its teacher; without one, from a copy of the student.

        In place.
        """


def plain_record(image: Source, other: Source, text: str, id: int) -> Record:
    """An image and a caption: the record of most tasks. other: a second image, of no use here."""
    return Record(image, text, id)


@dataclass(frozen=True)
class Task:
    """One task. Only the first three fields are needed to train; without `evaluate` or `predict`
    the task has none.

    `minalbef.scenes.tasks` has its problems on the embedded scenes, in a file of the same name.
    """

    # training
    name: str
    module: Callable[[Config], Any]              # config -> a TaskModule
    collate: Callable[..., Any]                  # (records, tokenizer, size, length) -> a batch
    records: tuple[type, ...] = (Record,)        # it learns from; evaluated on the first of them
    begins_from: tuple[str, ...] = ALIGNED       # tasks whose runs it is fine-tuned from
    pretraining: str = ""                        # a task to train first, as text assignment is
    presets: tuple[str, ...] = ()                # the paper's recipes, the default first
    preset_of_set: Mapping[str, str] = field(default_factory=dict)       # where sets differ
    images: int = 1                              # of a record
    pairs: bool = False                          # its fusion reads two images
    lacks: tuple[str, ...] = ()                  # parts of ALBEF that the original's file leaves out
    original_head: str = "cls_head"              # what the original's file calls a classifier

    # evaluation
    # (model, tokenizer, records, how) -> samples, and what else to report: see evaluation.loop
    evaluate: Callable[..., tuple[dict, dict]] | None = None
    # what evaluate gives -> figures of validation.csv, of which the first chooses the best weights
    validation_figures: Callable[[dict, dict], dict[str, float]] | None = None
    evaluates: tuple[str, ...] = ()              # other tasks whose runs it evaluates, too

    # prediction
    # (model, tokenizer, query) -> an answer: see tasks.prediction
    predict: Callable[..., Any] | None = None
    candidates: str = ""                         # what a prediction may choose among: answers, boxes
    predict_needs: tuple[str, ...] = ()          # parts of ALBEF without which an answer is noise
    text: str = "text"                           # what the text is to it, such as a question
    example: str = ""                            # of a text, for the command line

    # the dry run
    # (image, another, text, id) -> a record
    dry_run_record: Callable[[Source, Source, str, int], Any] = plain_record
    least_batch: int = 2                         # rows that a batch needs

    @property
    def preset(self) -> str:
        """The default recipe, or "" for a task without one."""
        return self.presets[0] if self.presets else ""
