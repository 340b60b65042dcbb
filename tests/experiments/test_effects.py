"""Differences paired by seed, their intervals and verdicts, against numbers worked out by hand."""

import pytest

import effects
from ablate_rows import ROWS
from effects import Claim, Effect


def record(row: str, seed: int, right: int, samples: int = 0, **more) -> dict:
    """A run that answers so many of ten questions of a kind."""
    answers = "9" * right + "0" * (10 - right)
    kinds = ("change relation", "both", "itc", "itm")
    return {
        "row": row,
        "seed": seed,
        "samples": samples or ROWS[row].samples,
        "equal": False,
        "cpu_seconds": 10.0,
        "outcomes": dict.fromkeys(kinds, answers),
    } | more


def records_of(row: str, *rights: int, **more) -> list[dict]:
    """A row's runs of seeds 0, 1, ..."""
    return [record(row, seed, right, **more) for seed, right in enumerate(rights)]


RUNS = [
    *records_of("hard", 5, 6, 4),
    *records_of("distil", 7, 7, 7),
    *records_of("itc", 5, 5),
]
CLAIM = Claim("it helps", "distil", "hard", "relation", 0.1, 0.05, 10)


# intervals

def test_a_difference_is_paired_by_seed_and_gets_students_interval():
    effect = effects.paired_effect(RUNS, CLAIM, 0.95)
    assert effect.values == pytest.approx((0.2, 0.1, 0.3))
    # Student's t for two degrees of freedom at 95% is 4.303, the standard error .1 / sqrt(3)
    assert effect.mean == pytest.approx(0.2)
    assert effect.low == pytest.approx(0.2 - 4.3027 * 0.057735, abs=1e-4)
    assert effect.high == pytest.approx(0.2 + 4.3027 * 0.057735, abs=1e-4)
    wider = effects.paired_effect(RUNS, CLAIM, 0.99)
    assert wider.high - wider.mean == pytest.approx(9.9248 * 0.057735, abs=1e-4)
    assert effects.half_width([1.0, 2.0, 3.0]) == pytest.approx(4.3027 / 3 ** 0.5, abs=1e-3)


# verdicts

@pytest.mark.parametrize("low, mean, high, verdict", [
    (0.01, 0.05, 0.09, "supported"),
    (0.01, 0.02, 0.09, "can't tell"),
    (0.005, 0.01, 0.02, "contradicted: too small"),
    (-0.2, -0.1, -0.01, "contradicted: below zero"),
])
def test_a_verdict_needs_the_whole_interval(low, mean, high, verdict):
    assert Effect((mean, mean), mean, low, high).verdict(least=0.03) == verdict


# pages with rules of their own
