"""problems, phrasing and staging: every truth checked, nothing learnt from text or image alone."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from emojiscenes.language import Relation, There, holds, needs
from emojiscenes.phrasing import CLAIMED, NEEDS_BOTH
from emojiscenes.problems import GROUP, Problems
from emojiscenes.scenes import SPLITS, split_of
from emojiscenes.staging import refers, views

MANY = {
    "entailment": 3006, "vqa": 3000, "nlvr2": 3000, "grounding": 3000, "retrieval": 800,
    "families": 800,
}


@pytest.fixture(scope="module")
def samples():
    problems = {}
    for task in GROUP:
        source = Problems(task, "train", objects=50)
        problems[task] = [source.draw(i) for i in range(MANY[task])]
    return problems


def majority(problems, key, truth: str) -> float:
    """How often the commonest truth of the problems with the same key is right."""
    counts = defaultdict(Counter)
    for problem in problems:
        counts[key(problem)][getattr(problem, truth)] += 1
    right = 0
    for truths in counts.values():
        right += max(truths.values())
    return right / len(problems)


def of_kind(problems, kind: str) -> list:
    return [problem for problem in problems if problem.kind == kind]


def names(scene) -> set[str]:
    return {thing.name for thing in scene.objects}


def texts_of(problem) -> tuple[str, ...]:
    return problem.texts if hasattr(problem, "texts") else (problem.text,)


@pytest.mark.parametrize("task", GROUP)
def test_splits_share_neither_sentence_nor_scene(task, samples):
    scenes = set()
    for problem in samples[task]:
        scenes |= {problem.left, problem.right} if task == "nlvr2" else {problem.scene}
    for split in SPLITS:
        problems = Problems(task, split, objects=50)
        for i in range(2 * GROUP[task]):
            problem = problems.draw(i)
            if task != "vqa":
                for text in texts_of(problem):
                    assert split_of(text) == split
            if split != "train":
                scene = problem.left if task == "nlvr2" else problem.scene
                assert scene not in scenes


def test_neither_statement_nor_scene_nor_curtain_tells_a_label(samples):
    selection = samples["entailment"]
    labels = Counter()
    words = defaultdict(Counter)
    for problem in selection:
        assert problem.scene.curtain
        labels[problem.label] += 1
        for word in set(problem.text.split()):
            words[word][problem.label] += 1
    assert labels == dict.fromkeys((0, 1, 2), 1002)
    for word, counts in words.items():
        assert len(set(counts.values())) == 1, word
    keys = {
        "statement": lambda problem: problem.text,
        "scene": lambda problem: problem.scene,
        "curtain's place": lambda problem: tuple(edge > 0.5 for edge in problem.scene.curtain),
        "statement's form": lambda problem: type(problem.form),
        "how many are hidden": lambda problem: (
            len(problem.scene.objects) - len(views(problem.scene)[2].objects)
        ),
    }
    for name, key in keys.items():
        assert majority(selection, key, "label") == pytest.approx(1 / 3), name

    def in_sight(problem) -> bool:
        return needs(problem.form) <= names(views(problem.scene)[2])

    both = majority(selection, in_sight, "label")
    assert 0.4 < both < 0.6, "only with both can there be more than chance, or the check is blind"


def test_text_or_one_picture_do_not_tell_where_both_are_needed(samples):
    ids = {
        "text": lambda problem: problem.text,
        "left": lambda problem: (problem.id, problem.left),
        "right": lambda problem: (problem.id, problem.right),
    }
    for name, key in ids.items():
        for kind in CLAIMED:
            share = majority(of_kind(samples["nlvr2"], kind), key, "true")
            if name == "text" or kind in NEEDS_BOTH:
                assert share == 0.5, (kind, name)
            assert kind != name or share == 1, "a claim about one picture is told by it"
        assert majority(samples["nlvr2"], key, "true") < 0.66
    both = 0
    for kind in NEEDS_BOTH:
        both += len(of_kind(samples["nlvr2"], kind))
    assert 0.4 < both / 3000 < 0.6


def test_an_expression_is_true_of_its_target_alone(samples):
    kinds = Counter()
    for problem in samples["grounding"]:
        target = problem.scene.objects[problem.target]
        assert refers(problem.expression, problem.scene) == (target,)
        assert target.name in problem.text
        assert problem.box == (
            target.x - target.size / 2, target.y - target.size / 2, target.size, target.size,
        )
        noun = (
            problem.expression.a if isinstance(problem.expression, Relation) else problem.expression
        )
        before = problem.scene.objects[: problem.target]
        after = problem.scene.objects[problem.target + 1 :]
        rest = replace(problem.scene, objects=before + after)
        assert target.name in names(rest), "no distractor"
        form = There(noun) if noun is problem.expression else problem.expression
        assert holds(form, problem.scene) is True
        assert holds(form, rest) is False
        is_noun = noun is problem.expression
        kinds[(bool(noun.size), bool(noun.place)) if is_noun else "relation"] += 1
    assert len(kinds) == 4 and min(kinds.values()) > 200
