"""The tasks, presets and sets that --help names. They are looked up only when it is asked for:
that loads torch."""
import inspect
from collections.abc import Callable, Iterable


def fill_in(command: Callable) -> None:
    """Put names where the docstring has {tasks} and the like. In place."""
    command = inspect.unwrap(command)            # tyro reads the docstring of the innermost one
    doc = command.__doc__ or ""
    if "{" in doc:
        command.__doc__ = doc.format(**names())


def names() -> dict[str, str]:
    """What a docstring may name, as words."""
    from minalbef.datasets.catalogue import SETS
    from minalbef.scenes.tasks.table import SCENE_TASKS
    from minalbef.tasks.table import TASKS
    fine_tuning = [name for name, task in TASKS.items() if task.begins_from]
    predicting = [task for task in TASKS.values() if task.predict]
    return {
        "scene_tasks": either(SCENE_TASKS),
        "other_tasks": either(name for name in fine_tuning if name not in SCENE_TASKS),
        "predicting_tasks": either(task.name for task in predicting),
        "of_two_images": either(task.name for task in predicting if task.images == 2),
        "of_boxes": either(task.name for task in predicting if task.candidates == "boxes"),
        "of_pretrained": either(task.name for task in predicting if "pretrain" in task.evaluates),
        "texts": either(dict.fromkeys(task.text for task in predicting)),
        "example": next(task.example for task in predicting if task.example),
        "trained_sets": ", ".join(name for name, splits in SETS.items() if "train" in splits),
        "other_sets": ", ".join(name for name, splits in SETS.items() if "train" not in splits),
    }


def either(words: Iterable[str]) -> str:
    """a, b or c"""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
