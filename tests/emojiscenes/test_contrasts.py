"""contrasts: minimal pairs at an edge, in a line, alone, of a colour, in another order of words."""

import numpy as np
import pytest

from emojiscenes.contrasts import CONTRASTS, EDGE, LINE
from emojiscenes.grammar import reword
from emojiscenes.language import Noun, Object, Relation, colour_of, has_colour, holds
from emojiscenes.painting import RGB, paint
from emojiscenes.scenes import Scenes
from emojiscenes.stream import Stream


def pairs(kind: str, count: int = 60) -> list[tuple]:
    scenes = Scenes("train", seed=3, siblings=1.0, objects=50, kinds=(kind,))
    return [(scenes.draw(2 * i), scenes.draw(2 * i + 1)) for i in range(count)]


@pytest.mark.parametrize("kind", CONTRASTS)
def test_each_caption_is_true_of_its_own_scene_and_false_of_the_other(kind):
    for first, second in pairs(kind):
        assert holds(first.form, first.scene) and holds(second.form, second.scene)
        assert holds(first.form, second.scene) is False
        assert holds(second.form, first.scene) is False
        assert first.kind == kind and first.text != second.text
        assert first.scene.background == second.scene.background


def test_pairs_at_an_edge_stay_in_its_outer_part():
    for first, second in pairs("edge"):
        for example in (first, second):
            places = [[getattr(thing, axis) for thing in example.scene.objects] for axis in "xy"]
            assert any(
                max(axis) - min(axis) <= EDGE
                and (max(axis) <= EDGE + 1e-9 or min(axis) >= 1 - EDGE - 1e-9)
                for axis in places
            )


def test_pairs_in_a_line_are_related_along_it_alone():
    for first, second in pairs("line"):
        (a, b), (c, d) = first.scene.objects, second.scene.objects
        assert min(abs(a.x - b.x), abs(a.y - b.y)) <= 2 * LINE + 1e-9
        # turned by a right angle
        assert (abs(a.x - b.x) > abs(a.y - b.y)) == (abs(c.x - d.x) < abs(c.y - d.y))


def test_a_colour_is_the_drawings_own_or_painted():
    apple = Object("apple", 0.5, 0.5, 0.4, "noto")
    cat = Object("cat", 0.5, 0.5, 0.4, "noto+outlined")
    blue = Object("cat", 0.5, 0.5, 0.4, "noto+outlined+blue")
    assert [colour_of(thing) for thing in (apple, cat, blue)] == ["red", None, "blue"]
    assert has_colour(apple, "red")
    assert has_colour(apple, "blue") is False
    assert has_colour(cat, "red") is None
    assert has_colour(blue, "blue")


def test_a_painted_object_has_its_colour_and_shades_of_it():
    for name in ("cat", "apple", "key"):
        for colour in ("red", "green", "blue", "yellow"):
            scene = pairs("colour", 1)[0][0].scene
            thing = Object(name, 0.5, 0.5, 0.9, f"noto+{colour}")
            image = paint(type(scene)((thing,), "white", None, (255, 255, 255)), 64).reshape(-1, 3)
            colour_drawn = image[(image != 255).any(1)].mean(0)
            nearest = min(RGB, key=lambda other: np.abs(colour_drawn - RGB[other]).sum())
            assert nearest == colour, (name, colour, colour_drawn)
            assert np.unique(image, axis=0).shape[0] > 5


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


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="no kind 'corner'; there are object, .*order"):
        Scenes("train", kinds=("corner",))
