"""problems and staging: splits are apart, and nothing is learnt from text or image alone."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from emojiscenes.language import Relation, There, holds
from emojiscenes.phrasing import CLAIMED, NEEDS_BOTH
from emojiscenes.problems import GROUP, Problems
from emojiscenes.scenes import SPLITS, split_of
from emojiscenes.staging import refers, views


def draw(task: str, split: str, count: int) -> list:
    source = Problems(task, split, objects=50)
    return [source.draw(i) for i in range(count)]


def scenes_of(problem) -> tuple:
    return (problem.left, problem.right) if hasattr(problem, "left") else (problem.scene,)


def majority(problems, key, truth: str) -> float:
    """How often the commonest truth of the problems with the same key is right."""
    counts = defaultdict(Counter)
    for problem in problems:
        counts[key(problem)][getattr(problem, truth)] += 1
    right = 0
    for truths in counts.values():
        right += max(truths.values())
    return right / len(problems)


@pytest.mark.parametrize("task", GROUP)
def test_splits_share_neither_sentence_nor_scene(task):
    in_training = set()
    for problem in draw(task, "train", 800):
        in_training.update(scenes_of(problem))
    for split in SPLITS:
        for problem in draw(task, split, 2 * GROUP[task]):
            texts = problem.texts if hasattr(problem, "texts") else (problem.text,)
            if task != "vqa":
                assert {split_of(text) for text in texts} == {split}
            if split != "train":
                assert not in_training.intersection(scenes_of(problem))


def test_neither_statement_nor_scene_nor_curtain_tells_a_label():
    problems = draw("entailment", "train", 3006)
    words = defaultdict(Counter)
    for problem in problems:
        for word in set(problem.text.split()):
            words[word][problem.label] += 1
    for word, counts in words.items():
        assert len(set(counts.values())) == 1, word

    def hidden(problem) -> int:
        return len(problem.scene.objects) - len(views(problem.scene)[2].objects)

    keys = {
        "statement": lambda problem: problem.text,
        "scene": lambda problem: problem.scene,
        "curtain's place": lambda problem: tuple(edge > 0.5 for edge in problem.scene.curtain),
        "statement's form": lambda problem: type(problem.form),
        "how many are hidden": hidden,
    }
    for name, key in keys.items():
        assert majority(problems, key, "label") == pytest.approx(1 / 3), name


def test_text_or_one_picture_do_not_tell_where_both_are_needed():
    problems = draw("nlvr2", "train", 3000)
    keys = {
        "text": lambda problem: problem.text,
        "left": lambda problem: (problem.id, problem.left),
        "right": lambda problem: (problem.id, problem.right),
    }
    for name, key in keys.items():
        for kind in CLAIMED:
            share = majority([each for each in problems if each.kind == kind], key, "true")
            if name == "text" or kind in NEEDS_BOTH:
                assert share == 0.5, (kind, name)


def test_an_expression_is_true_of_its_target_alone():
    for problem in draw("grounding", "train", 1000):
        scene = problem.scene
        target = scene.objects[problem.target]
        assert refers(problem.expression, scene) == (target,)
        corner = target.x - target.size / 2, target.y - target.size / 2
        assert problem.box == (*corner, target.size, target.size)
        rest = scene.objects[: problem.target] + scene.objects[problem.target + 1 :]
        assert target.name in {thing.name for thing in rest}, "no distractor"
        form = problem.expression
        form = form if isinstance(form, Relation) else There(form)
        assert holds(form, scene) is True
        assert holds(form, replace(scene, objects=rest)) is False
