"""Why the lesson works: its toy, how lessons are drawn, when a plateau ends, and its verdicts."""
import math
from itertools import chain, repeat
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import lesson
import lesson_tables
import lesson_toy
from emojiscenes.grammar import directions
from lesson_parts import FREQUENT, POOL, RARE, draw_siblings


def slope(optimiser: str, low: float, high: float, factors: int = 1) -> float:
    """Of the logarithm of the toy's plateau on that of its bias, between two biases."""
    long = lesson_toy.plateau(low, optimiser, factors)[0].mean().item()
    short = lesson_toy.plateau(high, optimiser, factors)[0].mean().item()
    return math.log(short / long) / math.log(high / low)


def test_the_toys_plateau_goes_like_one_over_the_bias():
    assert slope("SGD", 0.3, 1.0) == pytest.approx(-1, abs=0.15)
    assert slope("Adam", 0.3, 1.0) == pytest.approx(-0.5, abs=0.15), "Adam divides the size out"
    assert slope("Adam", 0.3, 0.8, factors=2) == pytest.approx(-0.9, abs=0.15), "not of a product"


def test_without_skew_the_toy_learns_a_given_place_late_and_a_product_not_at_all():
    given_place = lesson_toy.plateau(0.0, "Adam", 1, steps=1000)[0]
    product = lesson_toy.plateau(0.0, "Adam", 2, steps=1000)[0]
    skewed = lesson_toy.plateau(1.0, "Adam", 2)[0]
    assert given_place.mean() < 200 and skewed.mean() < 200
    assert product.isnan().all()


def test_the_toy_learns_the_place_before_the_word():
    """Right after the plateau it says of the rare word what is true of the frequent one."""
    for factors in (1, 2):
        assert lesson_toy.plateau(0.4, "Adam", factors)[1].mean() < 0.15
    assert lesson_toy.plateau(0.0, "Adam")[1].mean() > 0.4


# lessons

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
    (lesson.CONTROLS["labels"], 0.0, 0.5, None),
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


@pytest.mark.parametrize("mirrored", [True, False])
def test_each_caption_has_a_frequent_word_or_its_rare_opposite(mirrored):
    siblings = draw_siblings("train", mirrored, 6)
    assert len(siblings.images) == 12
    assert not torch.equal(siblings.images[0], siblings.images[1])
    for frequent, rare in zip(*siblings.texts):
        assert directions(frequent) <= FREQUENT
        assert directions(rare) <= RARE
    if mirrored:                       # both captions say the same direction
        for first, second in zip(siblings.texts[0][::2], siblings.texts[0][1::2]):
            assert directions(first) == directions(second)


class Questions:
    """Of which such a share is right."""

    def __init__(self, share: float):
        self.share = share

    def right(self, start) -> float:
        return self.share


def test_a_plateau_ends_where_the_mean_of_25_losses_is_below_the_bound():
    start = SimpleNamespace(task=nn.Module())
    losses = chain(repeat(0.69, 100), repeat(0.59, 400))
    half_right = {"relation": Questions(0.5)}
    run = lesson.record_run(start, lambda i: next(losses), 450, lambda: half_right)
    assert run["left"] == 103, "three of 25 losses bring .69 down to .678, two to .682"
    assert run["rows"][-1]["step"] == 175, "50 steps more, to a whole row"
    never = lesson.record_run(start, lambda i: 0.681, 75, lambda: half_right)
    assert never["left"] is None and len(never["rows"]) == 3
    good = {"relation": Questions(0.96)}
    until = lesson.record_run(start, lambda i: 0.1, 300, lambda: good, until=0.95)
    assert len(until["rows"]) == 1


# verdicts

def runs_by_law(power: float) -> list[dict]:
    """Runs of five seeds with plateaus of about 150 steps * skew ** power."""
    rows = []
    for step in range(25, 1001, 25):
        rows.append({"step": step, "frequent": 0.7, "rare": 0.3, "relation": 0.6})
    runs = []
    for arm, skew in zip(lesson.ARMS, lesson.SKEWS):
        for seed in range(5):
            steps = round((150 + seed) * skew ** power) if skew else 999
            end = steps if steps <= lesson_tables.LONGEST else None
            runs.append({"arm": arm, "seed": seed, "left": end, "rows": rows})
    return runs


@pytest.mark.parametrize("power, verdict", [
    (-1, "1/b"), (0, "not decided"), (-0.4, "weaker than 1/b")])
def test_a_law_is_read_from_the_lengths_of_plateaus(power, verdict):
    slopes = lesson_tables.slopes(runs_by_law(power))
    assert slopes == pytest.approx([power] * 5, abs=0.02)
    low, high = lesson_tables.interval(slopes)
    assert lesson_tables.law(low - 0.02, high + 0.02) == verdict
    assert lesson_tables.rare_after(runs_by_law(power)) == pytest.approx([0.3] * 5)


@pytest.mark.parametrize("low, high, verdict", [
    (-2.3, -1.2, "1/b²"),
    (-2.1, -0.9, "not decided"),
    (-1.2, 0.1, "not decided"),
    (-1.8, -1.1, "not decided"),
])
def test_the_registered_bounds_of_a_law(low, high, verdict):
    assert lesson_tables.law(low, high) == verdict


@pytest.mark.parametrize("leave, runs, predicted, verdict", [
    (3, 5, True, "no"),
    (4, 5, True, "yes"),
    (1, 5, False, "yes"),
    (2, 5, False, "no"),
    (0, 3, False, "not decided"),
    (3, 4, True, "not decided"),
    (0, 4, False, "yes"),
    (1, 3, True, "no"),
])
def test_a_count_of_seeds_is_judged_even_while_some_are_missing(leave, runs, predicted, verdict):
    assert lesson_tables.counted(leave, runs, predicted) == verdict
