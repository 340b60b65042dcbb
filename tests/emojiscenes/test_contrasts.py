"""contrasts: minimal pairs at an edge, in a line, alone, of a colour, in another order of words."""

from collections.abc import Iterator

import pytest

from emojiscenes.contrasts import CONTRASTS
from emojiscenes.language import holds
from emojiscenes.scenes import Scenes


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
