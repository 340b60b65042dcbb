"""The stress test's questions: the true pair is true, the false one false in the right way."""

import hashlib
import re
from dataclasses import astuple

import pytest

from emojiscenes import stress
from emojiscenes.language import Noun, Relation, holds
from emojiscenes.stream import Stream

WAYS = dict(zip(stress.SAYING.values(), stress.SAYING))
A = r"(?:an?|the) (\w+)"
WAY = f"({'|'.join(WAYS)})"
UNSEEN = ("openmoji",)
ABOUT_TWO = re.compile("relation|right angles|A and B|left of a B")


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


@pytest.mark.parametrize("title", list(filter(ABOUT_TWO.match, stress.QUESTIONS)))
def test_the_true_relation_holds_and_the_false_one_does_not(title):
    for (scene, true), (same, false) in ask_some(title):
        assert same is scene and true != false
        assert holds(relation_of(true), scene)
        assert holds(relation_of(false), scene) is False
        kinds = {relation_of(true).kind, relation_of(false).kind}
        opposite = kinds in ({"left", "right"}, {"above", "below"})
        assert opposite != title.startswith("right angles")
        x = [thing.x for thing in scene.objects]
        y = [thing.y for thing in scene.objects]
        if edge := re.search(r"(\w+) edge", title):
            at_edges = {
                "left": max(x) <= 0.4, "right": min(x) >= 0.6, "top": max(y) <= 0.4,
                "bottom": min(y) >= 0.6,
            }
            assert at_edges[edge[1]]
        assert "straight" not in title or min(abs(x[0] - x[1]), abs(y[0] - y[1])) <= 0.04


def test_questions_are_the_same_for_ever():
    """Of every title, in the streams of notebooks/experiments/stress.py, which rests on them."""
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
