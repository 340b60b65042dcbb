"""The stress test's questions: the true pair is true, the false one false, and in the way it should."""

import hashlib
import re
from dataclasses import astuple

import pytest

from emojiscenes import language, stress
from emojiscenes.language import Noun, Relation, holds
from emojiscenes.stream import Stream

WAYS = {named: kind for kind, named in stress.SAYING.items()}
A = r"(?:an?|the) (\w+)"
WAY = f"({'|'.join(WAYS)})"
UNSEEN = ("openmoji",)


def ask_some(title: str, count: int = 30) -> list[stress.Contrast]:
    stage = stress.stage_for(title, 50)
    ask = stress.QUESTIONS[title]
    return [ask(stage, Stream("test of stress", title, i)) for i in range(count)]


def relation_of(text: str) -> Relation:
    """What a sentence says of two objects, in one of the three orders."""
    if inverted := re.fullmatch(f"{WAY} {A} is {A}", text):
        way, second, first = inverted.groups()
    else:
        first, way, second = re.search(f"{A} {WAY} {A}$", text).groups()
    return Relation(Noun(first), WAYS[way], Noun(second))


# the questions


@pytest.mark.parametrize(
    "title",
    [
        title
        for title in stress.QUESTIONS
        if title.startswith(("relation", "right angles", "A and B", "left of a B"))
    ],
)
def test_the_true_relation_holds_and_the_false_one_does_not(title):
    for (scene, true), (same, false) in ask_some(title):
        assert same is scene and true != false
        assert holds(relation_of(true), scene)
        assert holds(relation_of(false), scene) is False
        kinds = {relation_of(true).kind, relation_of(false).kind}
        opposite = kinds in ({"left", "right"}, {"above", "below"})
        assert opposite != title.startswith("right angles")
        x, y = ([getattr(thing, axis) for thing in scene.objects] for axis in "xy")
        edge = re.search(r"(\w+) edge", title)
        assert (
            not edge
            or {
                "left": max(x) <= 0.4, "right": min(x) >= 0.6, "top": max(y) <= 0.4,
                "bottom": min(y) >= 0.6,
            }[edge[1]]
        )
        assert "straight" not in title or min(abs(x[0] - x[1]), abs(y[0] - y[1])) <= 0.04


def test_a_negation_is_true_of_the_mirror_image_alone():
    for (mirrored, text), (scene, same) in ask_some("not"):
        denied = relation_of(text.replace(" not ", " "))
        assert same == text
        assert holds(denied, scene)
        assert holds(denied, mirrored) is False


@pytest.mark.parametrize("shown, named", [(2, 3), (3, 2), (2, 1)])
def test_as_many_are_shown_as_the_true_sentence_says(shown, named):
    words = {1: "one", 2: "two", 3: "three"}
    for (scene, true), (_, false) in ask_some(f"{words[shown]} of a kind, not {words[named]}"):
        noun = Noun(scene.objects[0].name)
        assert holds(language.Count(noun, shown), scene) and len(scene.objects) == shown
        assert true.split()[0] == words[shown] and false.split()[0] == words[named]


def test_questions_are_the_same_for_ever():
    """Of every title, in the streams of notebooks/experiments/stress.py, whose figures rest on them."""
    digest = hashlib.sha256()
    for vendors in (None, UNSEEN):
        for title, ask in stress.QUESTIONS.items():
            stage = stress.stage_for(title, 50, vendors)
            for i in range(40):
                true, false = ask(stage, Stream("stress", 0, title, i))
                values = astuple(true[0]), true[1], astuple(false[0]), false[1]
                digest.update(repr(values).encode())
    assert digest.hexdigest() == "e08a815a2a3320ecf2e26258ef9648eced8aca7e4e14e43deafd080e9cfabe68"


# by the kinds of a report


def test_splits_seeds_and_styles_have_other_scenes():
    def scenes(*given, **options) -> set:
        questions = stress.draw("relation_anywhere", 10, *given, 50, **options)
        return {question.true[0] for question in questions}

    first = scenes("test", 0)
    assert first == scenes("test", 0) and len(first) == 10
    for others in (scenes("validation", 0), scenes("test", 1), scenes("test", 0, vendors=UNSEEN)):
        assert not first & others
    assert {
        thing.vendor for scene in scenes("test", 0, vendors=UNSEEN) for thing in scene.objects
    } == {"openmoji"}


@pytest.mark.parametrize(
    "objects, kind",
    [
        (("apple", "cat", "bus", "moon"), "left_of_a_cat_not_of_a_dog"),
        (("apple", "rose", "cat", "dog"), "false_colour_seen_nowhere"),
        (("apple", "rose"), "half_truth"),
    ],
)
def test_a_question_that_the_objects_cannot_show_is_not_asked(objects, kind):
    """There is no dog, all that have a colour are red, and nothing else could be added."""
    assert stress.draw(kind, 5, "test", 0, objects) == []
    assert len(stress.draw("negation", 5, "test", 0, objects)) == 5
    assert len(stress.draw(kind, 5, "test", 0, (*objects, "dog", "frog", "banana"))) == 5
