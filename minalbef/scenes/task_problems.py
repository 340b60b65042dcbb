"""The tasks' problems on scenes: as records, as batches to train on, and as test sets.

A test set is evaluated by the task's own `evaluate`, which public sets use, too.
"""
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from torch import nn

from emojiscenes.problems import GROUP
from minalbef.config import Config
from minalbef.scenes.tasks.base import Draw, how, make_records, problems
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.system import distributed
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.table import TASKS

FEWEST = 36                           # problems of a test set, whatever share of it is wanted


class Evaluation(NamedTuple):
    """What an evaluation gives; samples are nested as `intervals.summarise` takes them."""

    samples: dict
    baselines: dict                   # without a model
    options: dict[str, Any]           # of How, chosen on validation problems


def records(task: str, examples: Sequence, size: int, hide: str = "") -> list:
    """Problems as records of a task, painted at `size` pixels; hide: see Painter."""
    return make_records(SCENE_TASKS[task].record, examples, size, hide)


def batch(task: str, examples: Sequence, tokenizer: Tokenizer, size: int, hide: str = "",
          length: int = 30) -> Any:
    """Problems as the batch that the task trains on, with normalised images."""
    examples = records(task, examples, size, hide)
    return TASKS[task].collate(examples, tokenizer, size, length).to("cpu")


def draws(config: Config, split: str, seed: int, size: float) -> Draw:
    """A cached function that draws a test set's problems, in whole groups.

    size: share of the number that is asked for
    """
    @cache
    def draw(name: str, number: int) -> list:
        source = problems(name, split, config, seed)
        count = max(FEWEST, int(number * size))
        return [source.draw(i) for i in range(count // GROUP[name] * GROUP[name])]

    return draw


def evaluate_problems(task: str, model: nn.Module, tokenizer: Tokenizer, draw: Draw,
                      hide: str = "") -> Evaluation:
    """A task's figures on problems from `draws`. The model is moved to a GPU if there is one.

    hide: an input that the model doesn't see, see Painter
    """
    scene_task = SCENE_TASKS[task]
    config: Any = getattr(model, "albef", model).config
    evaluate_records = TASKS[task].evaluate
    assert evaluate_records, f"{task} has problems and no evaluation"
    model.to(distributed.device_at_hand(config.device))
    chosen: dict[str, Any] = {}
    if scene_task.choose:
        chosen = scene_task.choose(model, tokenizer, hide)
    candidates = scene_task.listed_answers(config)
    samples: dict = {}
    baselines: dict = {}
    for name, test in scene_task.tests.items():
        group = GROUP[test.problems] if test.grouped else None
        test_records = make_records(scene_task.record, draw(test.problems, test.number),
                                    config.image_size, hide, group)
        options = how(model, {"answers": candidates, **test.options, **chosen})
        figures, _ = evaluate_records(model, tokenizer, test_records, options)
        baselines |= figures.pop("baselines", {})
        if scene_task.figures:
            figures = {new: figures[old] for old, new in scene_task.figures.items()}
        if name:
            samples[name] = figures
        else:
            samples |= figures
    return Evaluation(samples, baselines, chosen)
