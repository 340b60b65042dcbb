"""Fine-tuning: from a pretrained run, a task and its batches, of scenes or of records, to a run of that task."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from minalbef import checkpoint, distributed, train
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.run import load
from minalbef.tasks.base import Task, entry, resize_weights
from minalbef.tasks.text_assignment import TextAssignment


def finetune(task: str, batches: Callable[[int], Any], source: str | Path, run: Path, config: Config,
             quiet: bool = False, module: Task | None = None, title: str = "") -> None:
    """Train a run for a task, into a run folder; called again, it resumes from the last checkpoint.

    task: a name of tasks.base.TASKS. batches: step -> this rank's batch, such as loader.RecordBatches
    source: the run to begin from. config: of the source's sizes, except image_size
    module: an initialised task, in place of a new one. Raises ValueError for a run that the task cannot begin from.
    """
    tokenizer = checkpoint.read_run(source)[2]
    if module is None:
        torch.manual_seed(config.seed)           # of new layers
        module = entry(task).make(config)
        begin(module, source, config)
    train.fit(module, batches, config, run, quiet=quiet, title=title or task)
    if distributed.rank() == 0:
        checkpoint.save(run, module.student, tokenizer, module.teacher, task)


def begin(task: Task, source: str | Path, config: Config) -> None:
    """Initialise student and teacher from a run, its teacher if it has one, with positions resized. In place."""
    base, kind, _, weights = checkpoint.read_run(source)
    if kind == "text_assignment":
        model = TextAssignment(base).student
        checkpoint.fit_weights(
            model, weights | checkpoint.expected_absent(model.state_dict(), weights, entry(kind).lacks), source)
        return task.start(model.albef)
    albef, teacher = at_size(load(source).model, config), None
    if (path := checkpoint.run_folder(source) / "teacher.safetensors").exists():
        teacher = ALBEF(config)                  # what a teacher's file lacks, a student's has: the match head
        held = {name.removeprefix("albef."): value for name, value in checkpoint.load_file(path).items()}
        checkpoint.fit_weights(teacher, albef.state_dict() | resize_weights(held, config), path)
    task.start(albef, teacher)


def at_size(albef: ALBEF, config: Config) -> ALBEF:
    """The same model for images of config.image_size."""
    model = ALBEF(config)
    model.load_state_dict(resize_weights(albef.state_dict(), config))
    return model.eval()
