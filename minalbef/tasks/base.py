"""What a task is, and the one table of tasks: the paper's, and yours once you put it there."""
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from minalbef import checkpoint
from minalbef.albef import ALBEF
from minalbef.config import Config, nearest, replace_checked
from minalbef.data import Record
from minalbef.tasks import entailment, grounding, nlvr2, retrieval, vqa
from minalbef.tasks.pretrain import Pretrain
from minalbef.tasks.text_assignment import TextAssignment
from minalbef.tokenizer import Tokenizer
from minalbef.train import Trainable


class Task(Trainable, Protocol):
    """What `train.fit` trains, with a student, maybe a teacher, and a beginning: an nn.Module.

    `ema.Distilled` has all but forward; a task with draws of its own overrides `draws`.
    """

    student: nn.Module
    teacher: nn.Module | None

    def __call__(self, batch: Any, alpha: float, draws: Any) -> tuple[dict[str, Tensor], Any]:
        """Losses by name, and the state `after_step` needs. Changes nothing. alpha: of the teacher's soft targets."""

    def start(self, albef: ALBEF, teacher: ALBEF | None = None) -> None:
        """Begin from a trained ALBEF and its teacher; without one, from a copy of the student. In place."""


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    make: config -> the Task. collate(records, tokenizer, size, length) -> a batch
    records: the types it learns from, the first of them the one it is evaluated on
    evaluate(model, tokenizer, records, how) -> samples, what else to report, see evaluation.loop; None: no evaluation
    figures(samples, more): what evaluate gives -> the figures of validation.csv, by the first of
        which the best weights are chosen; None: no validation
    preset: the paper's recipe. begin: tasks whose runs it begins from. runs: others whose models it evaluates, too
    lacks: parts of ALBEF that the original's file of the task leaves out. pairs: its model reads two images
    """

    make: Callable[[Config], Any]
    collate: Callable[..., Any]
    records: tuple[type, ...] = (Record,)
    evaluate: Callable[..., tuple[dict, dict]] | None = None
    preset: str = ""
    begin: tuple[str, ...] = ("pretrain", "retrieval", "grounding")      # whose ALBEF lacks the word head at most
    runs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    pairs: bool = False
    figures: Callable[[dict, dict], dict[str, float]] | None = None


_ALIGNED = Entry.begin
_HEADS = ("image_proj", "text_proj", "temperature", "match_head", "word_head")
TASKS: dict[str, Entry] = {
    "pretrain": Entry(Pretrain, retrieval.collate, preset="paper-4m", begin=()),
    "retrieval": Entry(retrieval.Retrieval, retrieval.collate, (Record,), retrieval.evaluate, "retrieval-coco",
                       runs=_ALIGNED, lacks=("word_head",), figures=retrieval.validation_figures),
    "entailment": Entry(entailment.Entailment, entailment.collate, (entailment.EntailmentRecord,), entailment.evaluate,
                        "entailment", lacks=_HEADS, figures=entailment.validation_figures),
    "vqa": Entry(vqa.VQA, vqa.collate, (vqa.VQARecord,), vqa.evaluate, "vqa", ("pretrain",), lacks=_HEADS),
    "text_assignment": Entry(TextAssignment, retrieval.collate, preset="nlvr2-assign",
                             lacks=("match_head", "word_head"), pairs=True),
    "nlvr2": Entry(nlvr2.NLVR2, nlvr2.collate, (nlvr2.NLVR2Record,), nlvr2.evaluate, "nlvr2",
                   (*_ALIGNED, "text_assignment"), lacks=_HEADS, pairs=True,
                   figures=nlvr2.validation_figures),
    "grounding": Entry(retrieval.Retrieval, retrieval.collate, (grounding.GroundingRecord, Record), grounding.evaluate,
                       "grounding", runs=_ALIGNED, lacks=("word_head",), figures=grounding.validation_figures)}


def entry(task: str, run: str | Path = "") -> Entry:
    """A task's row. run: the folder that names the task, for the message. Raises ValueError for an unknown task."""
    if task not in TASKS:
        known = f"{nearest(task, TASKS)}; there are {', '.join(TASKS)}"
        raise ValueError(f"no task {task!r}{known}" if not run else
                         f"{run} is a run of task {task!r}, which this version does not know{known}. Put your own into "
                         "minalbef.tasks.base.TASKS before you load it, or install the version that trained it")
    return TASKS[task]


def load_model(task: str, run: str | Path, image_size: int | None = None) -> tuple[nn.Module, Tokenizer, str]:
    """A run's model for a task, in evaluation mode, its tokenizer, and the task that it was trained for.

    image_size: resize the positions for such pictures. Raises ValueError for a run of another task.
    """
    config, kind, tokenizer, weights, step = checkpoint.open_run(run)
    if kind not in (runs := {task, *entry(task).runs}):
        raise ValueError(f"{run} is a run of {kind}, not of {task}: name one of {' or '.join(sorted(runs))}, such as "
                         f"`minalbef finetune {task} --from RUN` makes, on your own set with --data FOLDER")
    config = replace_checked(config, image_size=image_size or config.image_size)
    model = TASKS[task].make(config).student
    checkpoint.fit_weights(model, checkpoint.resize_weights(weights, config), run, entry(kind, run).lacks)
    checkpoint.warn_unfinished(run, config, step)
    return model.eval(), tokenizer, kind
