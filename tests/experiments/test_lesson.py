"""Why the lesson works: its toy, and how lessons are drawn."""
import math

import pytest
import torch

import lesson
import lesson_toy
from lesson_parts import POOL


def slope(optimiser: str, low: float, high: float, factors: int = 1) -> float:
    """Of the logarithm of the toy's plateau on that of its bias, between two biases."""
    long = lesson_toy.plateau(low, optimiser, factors)[0].mean().item()
    short = lesson_toy.plateau(high, optimiser, factors)[0].mean().item()
    return math.log(short / long) / math.log(high / low)


def test_the_toys_plateau_goes_like_one_over_the_bias():
    assert slope("SGD", 0.3, 1.0) == pytest.approx(-1, abs=0.15)
    assert slope("Adam", 0.3, 1.0) == pytest.approx(-0.5, abs=0.15), "Adam divides the size out"
    assert slope("Adam", 0.3, 0.8, factors=2) == pytest.approx(-0.9, abs=0.15), "not of a product"



@pytest.fixture(scope="module")
def lessons() -> lesson.Lessons:
    """Lessons whose images are their row's number, and whose captions are that and 1 if rare."""
    lessons = lesson.Lessons.__new__(lesson.Lessons)
    rows = torch.arange(4 * POOL)
    frequent = torch.stack([rows, torch.zeros_like(rows)], 1)
    rare = torch.stack([rows, torch.ones_like(rows)], 1)
    lessons.image = rows
    lessons.words = torch.stack([frequent, rare])
    return lessons


@pytest.mark.parametrize("arm, mirrored, rare_any, rare_mirrored", [
    (lesson.ARMS["skew 0.80"], 0.8, 0.5, 0.0),
    (lesson.ARMS["skew 0.00"], 0.0, 0.5, None),
    (lesson.CONTROLS["words"], 0.0, 0.1, None),
    (lesson.CONTROLS["images"], 0.8, 0.5, 0.5),
])
def test_pairs_are_drawn_as_an_arm_says(lessons, arm, mirrored, rare_any, rare_mirrored):
    generator = torch.Generator().manual_seed(0)
    image, words = lessons.draw(arm._replace(pairs=20_000), generator)
    assert (image[0::2] % 2 == 0).all()
    assert (image[1::2] == image[0::2] + 1).all(), "siblings stand side by side"
    assert (words[:, 0] == image).all(), "each with its own caption"
    is_mirrored = image >= 2 * POOL
    assert is_mirrored.float().mean().item() == pytest.approx(mirrored, abs=0.02)
    rare = words[:, 1].float()
    assert rare[~is_mirrored].mean().item() == pytest.approx(rare_any, abs=0.02)
    if rare_mirrored is not None:
        assert rare[is_mirrored].mean().item() == pytest.approx(rare_mirrored, abs=0.02)
    assert len(image.unique()) > 1.8 * POOL
