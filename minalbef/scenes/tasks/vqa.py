"""VQA on scenes: one question about two similar scenes, with different answers."""
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch

from emojiscenes.phrasing import ASKED
from emojiscenes.problems import Asked, answer_list
from minalbef.evaluation import answers
from minalbef.evaluation.intervals import figures_by_kind
from minalbef.scenes.tasks.base import BLIND, Draw, Painter, SceneTask, SceneTest, cluster
from minalbef.tasks.vqa import VQARecord

NUMBER = 1800


def record(problem: Asked, painter: Painter) -> VQARecord:
    return VQARecord(painter.image(problem.scene), painter.text(problem.text), problem.answers,
                     problem.id, kind=problem.kind)


def agreement(answer: str, problem: Asked) -> float:
    """VQA accuracy of an answer."""
    return answers.accuracy(answer, problem.answers)


def options(problem: Asked, objects: Sequence[str]) -> list[str]:
    """Possible answers: all objects to "what", to the other kinds the question's own options.

    To "compare" they are the two objects that the question names.
    """
    if problem.kind == "what":
        return list(objects)
    return [option for option, _ in problem.question.options]


def baselines(draw: Draw) -> dict:
    """VQA accuracy of the best constant answer to each kind of question, and of a random one."""
    examples = draw("vqa", NUMBER)
    objects = sorted({thing.name for problem in examples for thing in problem.scene.objects})
    scores = []                       # of each question's answers; all others score 0
    totals: dict[str, Counter] = defaultdict(Counter)                # by kind
    chance = []
    for problem in examples:
        score = {answer: agreement(answer, problem) for answer in problem.answers}
        scores.append(score)
        totals[problem.kind].update(score)
        possible = options(problem, objects)
        chance.append(sum(score.get(answer, 0) for answer in possible) / len(possible))
    best = {kind: max(total, key=total.__getitem__) for kind, total in totals.items()}
    constant = [score.get(best[p.kind], 0.0) for score, p in zip(scores, examples)]
    kinds = [problem.kind for problem in examples]
    figures = {}
    for name, samples in (("majority", constant), ("chance", chance)):
        clusters = cluster(torch.tensor(samples), "vqa")
        figures[name] = {"accuracy": clusters, **figures_by_kind(clusters, kinds)}
    return figures


SCENES = SceneTask(
    problems=("vqa",),
    record=record,
    tests={"": SceneTest("vqa", NUMBER)},
    titles=(("VQA accuracy", "accuracy"),
            *((f"VQA accuracy, {kind}", f"by_kind.{kind}") for kind in ASKED)),
    listed_answers=lambda config: answer_list(config.objects),
    baselines=baselines,
    trained_baselines=BLIND,
)
