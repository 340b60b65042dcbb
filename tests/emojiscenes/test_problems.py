"""problems, phrasing and staging: every truth checked, nothing to be learnt from text or image alone."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from emojiscenes.language import Noun, Object, Relation, There, holds, needs
from emojiscenes.phrasing import ASKED, CLAIMED, NEEDS_BOTH, answer
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


def majority(given) -> float:
    """Of (what is known, truth) each: how often the commonest truth for what is known is right."""
    counts: dict = {}
    for known, truth in given:
        counts.setdefault(known, Counter())[truth] += 1
    right = sum(max(answers.values()) for answers in counts.values())
    return right / sum(answers.total() for answers in counts.values())


def texts_of(problem) -> tuple[str, ...]:
    return problem.texts if hasattr(problem, "texts") else (problem.text,)


def thing(name, x, y, size=0.25):
    return Object(name, x, y, size, "noto")


# all of them


@pytest.mark.parametrize("task", GROUP)
def test_splits_share_neither_sentence_nor_scene(task, samples):
    number = 2 * GROUP[task]
    for split in SPLITS:
        problems = Problems(task, split, objects=50)
        selection = [problems.draw(i) for i in range(number)]
        texts = {text for problem in selection for text in texts_of(problem)}
        if task != "vqa":
            for text in texts:
                assert split_of(text) == split
        if split != "train":
            seen = set()
            for problem in samples[task]:
                seen |= {problem.left, problem.right} if task == "nlvr2" else {problem.scene}
            assert not seen & {
                problem.left if task == "nlvr2" else problem.scene for problem in selection
            }


# entailment
def test_neither_statement_nor_scene_nor_curtain_tells_a_label(samples):
    selection = samples["entailment"]
    assert Counter(problem.label for problem in selection) == dict.fromkeys((0, 1, 2), 1002)
    keys = {
        "statement": lambda problem: problem.text,
        "scene": lambda problem: problem.scene,
        "curtain": lambda problem: problem.scene.curtain,
        "curtain's place": lambda problem: tuple(edge > 0.5 for edge in problem.scene.curtain),
        "background": lambda problem: problem.scene.background,
        "statement's form": lambda problem: type(problem.form),
        "how many are seen": lambda problem: len(views(problem.scene)[2].objects),
        "how many are hidden": lambda problem: (
            len(problem.scene.objects) - len(views(problem.scene)[2].objects)
        ),
    }
    for name, key in keys.items():
        assert majority((key(problem), problem.label) for problem in selection) == pytest.approx(
            1 / 3
        ), name
    for word in {word for problem in selection for word in problem.text.split()}:
        counts = Counter(problem.label for problem in selection if word in problem.text.split())
        assert len(set(counts.values())) == 1, word
    both = majority(
        (
            needs(problem.form) <= {thing.name for thing in views(problem.scene)[2].objects},
            problem.label,
        )
        for problem in selection
    )
    assert 0.4 < both < 0.6, "only with both can there be more than chance, or the check is blind"
    for problem in selection:
        assert problem.scene.curtain


def worlds(problem):
    """The scene without curtain, with up to two things that may stand behind it."""
    seen = views(problem.scene)[2]
    x0, y0, x1, y1 = problem.scene.curtain
    names = needs(problem.form) | {thing.name for thing in seen.objects}
    names.add(getattr(problem.form, "noun", Noun("gift")).name)
    selection = []
    for name, half in itertools.product(sorted(names), (0.105, 0.19)):
        if min(x1 - x0, y1 - y0) < 2 * half:
            continue
        for a, b in itertools.product((0.0, 0.5, 1.0), repeat=2):
            x = x0 + half + a * (x1 - x0 - 2 * half)
            y = y0 + half + b * (y1 - y0 - 2 * half)
            selection.append(thing(name, x, y, 2 * half))
    pairs = [pair for pair in itertools.combinations(selection, 2) if pair[0].name != pair[1].name]
    for more in [(), *((single,) for single in selection), *pairs[::7], *pairs[3::31]]:
        yield replace(seen, objects=seen.objects + more)


def test_labels_agree_with_trying_what_may_stand_behind_the_curtain(samples):
    """The scene as it truly is, too: so lifting the curtain never proves a label wrong."""
    for problem in samples["entailment"][:270]:
        values = {holds(problem.form, world) for world in worlds(problem)} - {None}
        assert values == {0: {False}, 1: {True, False}, 2: {True}}[problem.label], problem
        lifted = holds(problem.form, replace(problem.scene, curtain=None))
        assert problem.label == 1 or lifted is (problem.label == 2)


# VQA


def expected(question, scene):
    """The answer, from the words alone."""
    words = question.text.removesuffix("?").replace(",", "").split()
    things = {thing.name: thing for thing in scene.objects}
    if question.kind == "background":
        return scene.background
    if question.kind == "where":
        thing = next(things[word] for word in words if word in things)
        across = "left" if thing.x < 0.4 else "right" if thing.x > 0.6 else ""
        height = "top" if thing.y < 0.4 else "bottom" if thing.y > 0.6 else ""
        return f"{height} {across}".strip() or "middle"
    if question.kind == "compare":
        a = things[words[-4]]
        b = things[words[-1]]
        value = {
            "bigger": b.size - a.size, "smaller": a.size - b.size, "higher": a.y - b.y,
            "lower": b.y - a.y, "left": a.x - b.x, "right": b.x - a.x,
        }
        word = next(word for word in words if word in value)
        return a.name if value[word] < 0 else b.name
    return None


def test_answers_agree_with_the_words(samples):
    checked = Counter()
    for problem in samples["vqa"]:
        assert problem.answer == answer(problem.question, problem.scene)
        assert problem.text == problem.question.text
        value = expected(problem.question, problem.scene)
        assert value in (None, problem.answer), problem
        checked[problem.kind] += value is not None
    assert checked == {
        **dict.fromkeys(("where", "background", "compare"), 500),
        **dict.fromkeys(("what", "how many", "yes or no"), 0),
    }


def test_questions_alone_give_no_answers(samples):
    for kind in ASKED:
        selection = [problem for problem in samples["vqa"] if problem.kind == kind]
        # even for one who has seen these problems
        assert majority((problem.text, problem.answer) for problem in selection) <= 0.5, kind
    yes_or_no = Counter(problem.answer for problem in samples["vqa"] if problem.kind == "yes or no")
    assert yes_or_no == {"yes": 250, "no": 250}
    shares = Counter(problem.answer for problem in samples["vqa"] if problem.kind == "how many")
    assert shares["two"] > 80 and shares["none"] > 80


# NLVR2


def test_text_or_one_picture_do_not_tell_where_both_are_needed(samples):
    ids = {
        "text": lambda problem: problem.text,
        "left": lambda problem: (problem.id, problem.left),
        "right": lambda problem: (problem.id, problem.right),
    }
    for name, key in ids.items():
        for kind in CLAIMED:
            share = majority(
                (key(problem), problem.true) for problem in samples["nlvr2"] if problem.kind == kind
            )
            if name == "text" or kind in NEEDS_BOTH:
                assert share == 0.5, (kind, name)
            assert kind != name or share == 1, "a claim about one picture is told by it"
        assert majority((key(problem), problem.true) for problem in samples["nlvr2"]) < 0.66
    assert 0.4 < sum(problem.kind in NEEDS_BOTH for problem in samples["nlvr2"]) / 3000 < 0.6


# grounding


def test_an_expression_is_true_of_its_target_alone(samples):
    kinds = Counter()
    for problem in samples["grounding"]:
        target = problem.scene.objects[problem.target]
        assert refers(problem.expression, problem.scene) == (target,)
        assert target.name in problem.text
        assert problem.box == (
            target.x - target.size / 2, target.y - target.size / 2, target.size, target.size,
        )
        # no distractor
        assert sum(thing.name == target.name for thing in problem.scene.objects) >= 2
        noun = (
            problem.expression.a if isinstance(problem.expression, Relation) else problem.expression
        )
        rest = tuple(thing for thing in problem.scene.objects if thing is not target)
        form = There(noun) if noun is problem.expression else problem.expression
        assert holds(form, problem.scene) is True
        assert holds(form, replace(problem.scene, objects=rest)) is False
        is_noun = noun is problem.expression
        kinds[(bool(noun.size), bool(noun.place)) if is_noun else "relation"] += 1
    assert len(kinds) == 4 and min(kinds.values()) > 200


# retrieval


def test_captions_of_a_family_are_true_of_one_picture_alone(samples):
    for family in zip(*(samples["families"][i::4] for i in range(4))):
        assert (
            len({frozenset(thing.name for thing in problem.scene.objects) for problem in family})
            == 1
        )
        for problem, other in itertools.permutations(family, 2):
            for form in problem.forms:
                assert holds(form, other.scene) is False
