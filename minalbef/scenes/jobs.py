"""The five tasks on the embedded scenes: the one table of their problems, figures and baselines."""
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import nn

from emojiscenes.phrasing import ASKED
from emojiscenes.problems import GROUP
from minalbef import distributed
from minalbef.config import Config
from minalbef.scenes import task_problems
from minalbef.tasks.pretrain import Pretrain
from minalbef.tokenizer import Tokenizer


@dataclass(frozen=True)
class Job:
    """One task on the embedded scenes.

    problems: keys of problems.GROUP, in equal parts of a batch. titles: of its figures, each with a path in the report
    simple: draw -> samples of baselines without a model
    rivals: baselines that are trained in the same way, by name: what differs, "hide" or "make" or "assign"
    untrained: baselines without training, by name: which model ("pretrained", "start", "random", "tuned"), and the
        input that is hidden from it
    """

    problems: tuple[str, ...]
    titles: tuple[tuple[str, str], ...]
    examine: Callable
    simple: Callable
    rivals: dict[str, dict]
    untrained: dict[str, tuple[str, str]] = field(default_factory=dict)
    settings: dict = field(default_factory=dict)


BLIND = {"text_alone": {"hide": "image"}, "picture_alone": {"hide": "text"}}
JOBS = {
    "retrieval": Job(
        ("families", "retrieval"),
        tuple((f"R@1 {of}, {score.upper()}", f"{test}.{score}_i2t_r1 / {test}.{score}_t2i_r1")
              for test, of in (("families", "in a family of 4"), ("plain", "of {block}")) for score in ("itc", "itm")),
        task_problems.examine_retrieval, task_problems.simple_retrieval, {"continued_pretraining": {"make": Pretrain}},
        {"pretrained": ("pretrained", "")}),
    "entailment": Job(
        ("entailment",), (("accuracy, three classes", "accuracy"),),
        partial(task_problems.examine_answers, "entailment"),
        partial(task_problems.simple_majority, "entailment"), BLIND, settings={"alpha_ramp": False}),
    "vqa": Job(
        ("vqa",), (("VQA accuracy", "accuracy"), *((f"VQA accuracy, {kind}", f"by_kind.{kind}") for kind in ASKED)),
        partial(task_problems.examine_answers, "vqa"), task_problems.simple_vqa, BLIND),
    "nlvr2": Job(
        ("nlvr2",), (("accuracy", "accuracy"), ("consistency, all four pairs of a statement", "consistency")),
        partial(task_problems.examine_answers, "nlvr2"), partial(task_problems.simple_majority, "nlvr2"),
        BLIND | {"left_alone": {"hide": "right"}, "without_assignment": {"assign": 0}}, settings={"lr": 6e-4}),
    "grounding": Job(
        ("grounding",), (("pointing", "pointing"), ("pointing, if only a relation decides", "by_kind.relation"),
                         ("proposals, accuracy at IoU 0.5", "proposals")),
        task_problems.examine_grounding, task_problems.simple_grounding, {},
        {"pretrained": ("pretrained", ""), "warm_start": ("start", ""), "random_weights": ("random", ""),
         "shuffled_text": ("tuned", "shuffled")})}


def examine(task: str, model: nn.Module, tokenizer: Tokenizer, draw: task_problems.Draw, hide: str = "") -> dict:
    """The task's figures on problems from `draws`: samples by name. The model is moved to a GPU if there is one."""
    model.to(distributed.device_at_hand(getattr(model, "albef", model).config.device))
    with torch.no_grad() if task != "grounding" else torch.enable_grad():
        return JOBS[task].examine(model, tokenizer, draw, hide)


def draws(config: Config, split: str, seed: int, size: float) -> task_problems.Draw:
    """-> a cached function that draws a test set's problems, in whole groups; size: share of the number asked for."""
    @cache
    def draw(name: str, number: int) -> list:
        source = task_problems.problems(name, split, config, seed)
        return [source.draw(i) for i in range(max(36, int(number * size)) // GROUP[name] * GROUP[name])]
    return draw
