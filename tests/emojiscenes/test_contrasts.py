"""contrasts: minimal pairs at an edge, in a line, alone, of a colour, in another order of words."""

from collections.abc import Iterator

import pytest

from emojiscenes.contrasts import CONTRASTS
from emojiscenes.grammar import reword
from emojiscenes.language import Noun, Object, Relation, colour_of, has_colour, holds
from emojiscenes.scenes import Scenes
from emojiscenes.stream import Stream


def pairs(kind: str, count: int = 60) -> Iterator[tuple]:
    scenes = Scenes("train", seed=3, siblings=1.0, objects=50, kinds=(kind,))
    for i in range(count):
        yield scenes.draw(2 * i), scenes.draw(2 * i + 1)


@pytest.mark.parametrize("kind", CONTRASTS)
def test_each_caption_is_true_of_its_own_scene_and_false_of_the_other(kind):
    for first, second in pairs(kind):
        assert holds(first.form, first.scene) and holds(second.form, second.scene)
        assert holds(first.form, second.scene) is False
        assert holds(second.form, first.scene) is False
        assert first.kind == kind and first.text != second.text
        assert first.scene.background == second.scene.background


def test_a_colour_is_the_drawings_own_or_painted():
    apple = Object("apple", 0.5, 0.5, 0.4, "noto")
    cat = Object("cat", 0.5, 0.5, 0.4, "noto+outlined")
    blue = Object("cat", 0.5, 0.5, 0.4, "noto+outlined+blue")
    assert colour_of(apple) == "red"
    assert colour_of(cat) is None
    assert colour_of(blue) == "blue"
    assert has_colour(apple, "red")
    assert has_colour(apple, "blue") is False
    assert has_colour(cat, "red") is None
    assert has_colour(blue, "blue")


def test_other_orders_of_words_say_the_same_relation():
    relation = Relation(Noun("apple"), "left", Noun("cat"))
    texts = {reword(relation, Stream(i)) for i in range(200)}
    assert {
        "an apple and a cat, the apple left of the cat",
        "an apple and a cat, the cat right of the apple",
        "left of a cat is an apple",
        "a cat and, left of it, an apple",
    } <= texts
    for text in texts:
        assert ("left" in text) != ("right" in text)
