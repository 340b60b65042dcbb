"""Differences paired by seed, their intervals and verdicts, against numbers worked out by hand."""
from dataclasses import replace

import pytest

import ablation_tables
import effects
import loose
import table1
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


def test_seeds_that_a_row_lacks_and_runs_of_other_samples_are_left_out():
    claim = replace(CLAIM, less="itc")
    assert effects.paired_effect(RUNS, claim, 0.95).values == pytest.approx((0.2, 0.2))
    shorter = [*RUNS, record("itc", 2, 0, samples=64)]
    assert effects.paired_effect(shorter, claim, 0.95).values == pytest.approx((0.2, 0.2))
    two_seeds = replace(CLAIM, seeds=2)
    assert effects.paired_effect(RUNS, two_seeds, 0.95).values == pytest.approx((0.2, 0.1))
    assert effects.paired_effect(RUNS[:4], CLAIM, 0.95) is None, "one seed has no interval"


def test_figures_come_in_the_order_of_seeds_whatever_the_order_of_runs():
    runs = [record("hard", seed, 5) for seed in (16, 8, 1)]
    assert list(effects.by_seed(runs, "hard", "relation")) == [1, 8, 16]


def test_terms_are_summed_and_several_rows_of_one_name_are_a_mean():
    runs = [*RUNS]
    for i, row in enumerate(effects.MEANS["spoilt"]):
        runs += records_of(row, 4 + i, 5 + i)
    for row in effects.MEANS["spoilt-distil"]:
        runs += records_of(row, 8, 8)
    gain = replace(CLAIM, rows="spoilt-distil", less="spoilt")
    assert effects.paired_effect(runs, gain, 0.95).values == pytest.approx((0.15, 0.05))
    more = replace(CLAIM, rows="spoilt-distil + hard", less="spoilt + distil")
    assert effects.paired_effect(runs, more, 0.95).values == pytest.approx((-0.05, -0.05))


@pytest.mark.parametrize("part, figure, more", [
    ("teacher", "relation", {"teacher_outcomes": {"change relation": "9999999900"}}),
    ("distilled", "nlvr2", {
        "tasks": {"nlvr2": "9999900000"},
        "tasks_distilled": {"nlvr2": "9999999900"},
    }),
])
def test_parts_of_a_run_are_kept_apart(part, figure, more):
    runs = records_of("distil", 5, 5, **more)
    claim = replace(CLAIM, rows=f"distil@{part}", less="distil", figure=figure)
    assert effects.paired_effect(runs, claim, 0.95).values == pytest.approx((0.3, 0.3))


def test_runs_of_equal_seconds_are_kept_apart():
    runs = [*RUNS, *records_of("distil", 6, 6, samples=64, equal=True)]
    claim = replace(CLAIM, rows="distil@equal")
    assert effects.paired_effect(runs, claim, 0.95).values == pytest.approx((0.1, 0.0))
    table = effects.rows_table(runs)
    equal, ordinary = "| 2 | equal | 0.60 | 0.60 | 0.60 |", "| 3 | 10 | 0.70 | 0.70 | 0.70 |"
    for cells in (equal, ordinary):
        assert f"| `distil` | + distillation in MLM {cells}" in table


# verdicts

@pytest.mark.parametrize("low, mean, high, verdict", [
    (0.01, 0.05, 0.09, "supported"),
    (0.01, 0.02, 0.09, "can't tell"),
    (-0.01, 0.05, 0.11, "can't tell"),
    (-0.05, 0.0, 0.02, "contradicted: too small"),
    (0.005, 0.01, 0.02, "contradicted: too small"),
    (-0.2, -0.1, -0.01, "contradicted: below zero"),
])
def test_a_verdict_needs_the_whole_interval(low, mean, high, verdict):
    assert Effect((mean, mean), mean, low, high).verdict(least=0.03) == verdict


def test_there_is_no_verdict_before_all_registered_seeds_have_run():
    assert "| 3 of 10 | not yet |" in effects.claims_table(RUNS, [CLAIM])
    assert "| not yet |" in effects.claims_table([], [CLAIM])
    complete = replace(CLAIM, seeds=3)
    assert "| 3 of 3 | can't tell (relation) |" in effects.claims_table(RUNS, [complete])


def test_a_run_that_failed_is_counted():
    failure = record("hard", 3, 0) | {"failed": "not finite"}
    del failure["outcomes"]
    assert "| + hard negatives | 3, 1 failed | 10 | 0.50 |" in effects.rows_table([*RUNS, failure])


@pytest.mark.parametrize("wrong", [
    "distill | hard | relation",
    "distil | hard | relations",
    "distil@teachr | hard | relation",
])
def test_claims_are_read_from_a_table_and_their_rows_and_figures_must_exist(wrong, tmp_path):
    page = tmp_path / "claims.md"
    head = "words | not | a table\n| claim | rows | less | figure | predicted | least | seeds |\n"
    head += "|---|---|---|---|---|---|---|\n"
    right = "distil | hard | relation"
    page.write_text(f"{head}| it helps | {right} | +.1 | .05 | 10 |\n", encoding="utf-8")
    assert effects.read_claims(page) == [CLAIM]
    page.write_text(f"{head}| it helps | {wrong} | +.1 | .05 | 10 |\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no row or figure"):
        effects.read_claims(page)


# pages with rules of their own

def test_a_gain_is_paired_by_seed():
    runs = records_of("hard", 10, 0)[::-1] + records_of("distil", 10, 10)
    assert ablation_tables.gain(runs, "distil", "hard", "by ITC") == [0, 1]


def remedy(ending: str, seed: int, *rights: int) -> list[dict]:
    """A seed's runs on the three kinds of spoilt captions."""
    rows = [f"{kind}40{ending}" for kind in loose.SPOILT]
    return [record(row, seed, right) for row, right in zip(rows, rights)]


def loose_claim(rows: str, less: str) -> loose.LooseClaim:
    return loose.LooseClaim("", rows, less, 0.03, 0.02)


def test_a_remedy_is_the_mean_of_three_kinds_in_seeds_that_have_all_of_them():
    runs = [
        *remedy("", 0, 1, 2, 6), *remedy("-words", 0, 4, 4, 4),
        *remedy("", 1, 2, 2, 2), *remedy("-words", 1, 4, 5, 6),
    ]
    claim = loose_claim("words", "nothing")
    assert loose.effect_of(runs, claim).values == pytest.approx((0.4 - 0.3, 0.5 - 0.2))
    partly = [*runs, *remedy("", 2, 1, 1, 1), *remedy("-words", 2, 9, 9)]
    assert loose.effect_of(partly, claim).values == loose.effect_of(runs, claim).values


def test_hard_negatives_are_judged_by_the_seeds_that_were_new():
    claim = loose_claim("hard", "itc")
    earlier = [*records_of("hard", *[9] * 8), *records_of("itc", *[1] * 8)]
    assert loose.effect_of(earlier, claim) is None
    new = []
    for seed in (8, 23):
        new += [record("hard", seed, 4), record("itc", seed, 5)]
    assert loose.effect_of(earlier + new, claim).values == pytest.approx((-0.1, -0.1))


def test_retrieval_of_table_1_is_of_texts_by_image_first_then_of_images_by_text():
    runs = records_of("itc", 5, 5, outcomes={"both": "90000999"})
    assert table1.figure_by_seed(runs, "itc", "text retrieval") == {0: 0.25, 1: 0.25}
    assert table1.figure_by_seed(runs, "itc", "image retrieval") == {0: 0.75, 1: 0.75}


def test_a_step_of_table_1_stands_in_points_beside_the_papers():
    runs = []
    for row, rights in (("itm-mlm", (4, 5, 9)), ("itc", (5, 7))):
        for seed, right in enumerate(rights):
            answers = "9" * right + "0" * (10 - right)
            tasks = dict.fromkeys(effects.DOWNSTREAM, answers)
            runs.append(record(row, seed, 5, tasks=tasks))
    first, second = table1.steps_table(runs).splitlines()[2:4]
    # gains of 10 and 20 points: 15 ± 12.71 * 7.07 / 2 ** .5
    assert first.endswith("| +15.0 ± 63.5; +2.09 | +15.0 ± 63.5; +2.37 | +15.0 ± 63.5; +1.89 |")
    assert second.startswith("| + hard negatives | –; +0.46 | –; +0.47 |"), "not yet run"
