"""The table of all tasks: the paper's, and yours once you add it."""
from collections.abc import Collection
from pathlib import Path

from torch import nn

from minalbef.fast.pretrain import in_form
from minalbef.pretrain import Pretrain, collate
from minalbef.system import checkpoint
from minalbef.system.limits import nearest
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import (
    entailment,
    grounding,
    nlvr2,
    retrieval,
    text_assignment,
    vqa,
)
from minalbef.tasks.base import Task

PRETRAIN = Task(
    name="pretrain",
    module=lambda config: in_form(Pretrain, config)(config),
    collate=collate,
    begins_from=(),
    presets=("paper-4m", "paper-14m", "base"),
    least_rows=2,
)
FILES = (retrieval, entailment, vqa, text_assignment, nlvr2, grounding)
TASKS: dict[str, Task] = {"pretrain": PRETRAIN} | {file.TASK.name: file.TASK for file in FILES}


def find_task(name: str, run: str | Path = "", among: Collection[str] = TASKS) -> Task:
    """A task by its name. Raises ValueError for one that isn't among these.

    run: the run whose task it is, for the error message
    """
    if name in among:
        return TASKS[name]
    problem = f"no task {name!r}{nearest(name, among)}; there are {', '.join(among)}"
    if run:
        problem = (f"{run} is a run of task {name!r}, which this version does not know: {problem}. "
                   "Put your own into minalbef.tasks.table.TASKS before you load it, or install "
                   "the version that trained it")
    raise ValueError(problem)


def find_task_of_preset(preset: str) -> Task | None:
    """The task that a preset belongs to; None for presets of scenes, which pretrain."""
    for task in TASKS.values():
        if preset in task.presets:
            return task
    return None


def load_model(task: str, run: str | Path) -> tuple[nn.Module, Tokenizer, str]:
    """A run's model in evaluation mode, its tokenizer, and the task it was trained for.

    task: the task to use it for
    Raises ValueError for a run of another task.
    """
    config, trained_for, tokenizer, weights, step = checkpoint.open_run(run)
    runs = {task, *find_task(task).evaluates}
    if trained_for not in runs:
        raise ValueError(f"{run} is a run of {trained_for}, not of {task}: name one of "
                         f"{' or '.join(sorted(runs))}, such as `minalbef finetune {task} --from "
                         "RUN` makes, on your own set with --data FOLDER")
    model = TASKS[task].module(config).student
    lacks = find_task(trained_for, run).lacks
    checkpoint.fit_weights(model, weights, run, lacks)
    checkpoint.warn_unfinished(run, config, step)
    return model.eval(), tokenizer, trained_for
