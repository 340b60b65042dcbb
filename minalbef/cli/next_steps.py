"""The last line of a long command: what to call next."""
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minalbef.system.limits import printable

if TYPE_CHECKING:                     # importing them loads torch, for which --help need not wait
    from minalbef.recipes.doctor import Diagnosis


def announce(command: str | None, purpose: str = "") -> None:
    """Print which command of minalbef comes next, and what for; nothing for None."""
    if command is None:
        return
    line = f"next: minalbef {command}"
    if purpose:
        line += f" ({purpose})"
    print(printable(line))


def predict_with(task: str, run: Path) -> str | None:
    """The command that asks a run about your own image; None for a task that can't be asked."""
    from minalbef.tasks.table import TASKS
    if task not in TASKS or not TASKS[task].predict:
        return None
    images = "IMAGE" if TASKS[task].images == 1 else "LEFT RIGHT"
    return f'predict {task} --image {images} --text "{TASKS[task].text.upper()}" --run {run}'


def ends_here() -> bool:
    """Whether a training process is the first, and its command ends with it.

    `demo` and `finetune` start processes that train, and go on themselves.
    """
    from minalbef.recipes.launch import followed
    return os.environ.get("RANK", "0") == "0" and not followed()


def after_preparing(name: str, folder: Path) -> str:
    """The command that uses a prepared set: training, or evaluation where it has nothing else."""
    from minalbef.datasets.catalogue import PRETRAINING, SETS
    from minalbef.tasks.table import TASKS
    if name == "clipart":
        return f"pretrain --preset clipart --data {folder} --vit tiny/start --run runs/clipart"
    if name == "pairs":
        return f"pretrain --data {folder} --run runs/own"
    if name in PRETRAINING:
        return f"pretrain --preset base --data {folder} --run runs/base"
    if name in SETS and "train" not in SETS[name]:
        return f"evaluate RUN --data {folder}/test"
    task = name if name in TASKS else "retrieval"
    return f"finetune {task} --data {folder} --from RUN"


def after_doctor(diagnosis: "Diagnosis", data: Sequence[Path]) -> str | None:
    """The evaluation of a finished run in which nothing was found; a finding says what to try."""
    from minalbef.datasets.store import place_of
    if diagnosis.findings or diagnosis.step is not None:
        return None
    if diagnosis.config.objects:
        return f"evaluate {diagnosis.folder}"
    folder = place_of(data[0])[0] if data else Path("prepared", "SET")
    return f"evaluate {diagnosis.folder} --data {folder}/test"


def after_finetuning(task: str, run: Path, data: Sequence[Path]) -> str:
    """The evaluation of the best weights, or the task that text assignment prepares for."""
    from minalbef.datasets.store import place_of
    from minalbef.evaluation.validation import BEST
    from minalbef.tasks.table import TASKS
    for name, other in TASKS.items():
        if other.pretraining == task:
            return f"finetune {name} --from {run} --data prepared/{name}"
    weights = run / BEST if (run / BEST).exists() else run
    return f"evaluate {weights} --data {place_of(data[0])[0]}/test"
