"""Why the lesson works: its toy."""
import math

import pytest

import lesson_toy


def slope(optimiser: str, low: float, high: float, factors: int = 1) -> float:
    """Of the logarithm of the toy's plateau on that of its bias, between two biases."""
    long = lesson_toy.plateau(low, optimiser, factors)[0].mean().item()
    short = lesson_toy.plateau(high, optimiser, factors)[0].mean().item()
    return math.log(short / long) / math.log(high / low)


def test_the_toys_plateau_goes_like_one_over_the_bias():
    assert slope("SGD", 0.3, 1.0) == pytest.approx(-1, abs=0.15)
    assert slope("Adam", 0.3, 1.0) == pytest.approx(-0.5, abs=0.15), "Adam divides the size out"
    assert slope("Adam", 0.3, 0.8, factors=2) == pytest.approx(-0.9, abs=0.15), "not of a product"
