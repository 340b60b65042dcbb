"""effects: differences paired by seed, their intervals, and verdicts, against numbers worked out by hand."""
from dataclasses import replace
from pathlib import Path

import pytest

import effects
import results
from ablate_records import read_records
from ablate_rows import ROWS
from effects import Claim, Effect

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "notebooks" / "experiments"


def record(row: str, seed: int, right: int, samples: int = 0, **more) -> dict:
    """A run that answers so many of ten questions about relations."""
    return {"row": row, "seed": seed, "samples": samples or ROWS[row].samples, "equal": False, "cpu_seconds": 10.0,
            "outcomes": {"change relation": "9" * right + "0" * (10 - right)}} | more


RUNS = [record(row, seed, right) for row, some in {"hard": (5, 6, 4), "distil": (7, 7, 7), "itc": (5, 5)}.items()
        for seed, right in enumerate(some)]


def test_a_difference_is_taken_seed_by_seed_and_gets_students_interval():
    found = effects.paired_effect(RUNS, Claim("", "distil", "hard", "relation", 0.1, 0.05, 10), 0.95)
    assert found.values == pytest.approx((0.2, 0.1, 0.3)) and found.mean == pytest.approx(0.2)
    # Student's t for two degrees of freedom at 95% is 4.303, the standard error .1 / sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.2 - 4.3027 * 0.057735, 0.2 + 4.3027 * 0.057735), abs=1e-4)
    wider = effects.paired_effect(RUNS, Claim("", "distil", "hard", "relation", 0.1, 0.05, 10), 0.99)
    assert wider.high - wider.mean == pytest.approx(9.9248 * 0.057735, abs=1e-4)


def test_seeds_that_a_row_lacks_are_left_out_and_runs_of_other_samples_too():
    claim = Claim("", "distil", "itc", "relation", 0.1, 0.05, 10)
    assert effects.paired_effect(RUNS, claim, 0.95).values == pytest.approx((0.2, 0.2))
    more = [*RUNS, record("itc", 2, 0, samples=64)]
    assert effects.paired_effect(more, claim, 0.95).values == pytest.approx((0.2, 0.2))
    alone = Claim("", "distil", "hard", "relation", 0, 0, 10)
    assert effects.paired_effect(RUNS[:4], alone, 0.95) is None, "one seed has no interval"


def test_figures_come_in_the_order_of_seeds_whatever_the_order_of_runs():
    runs = [record("hard", seed, seed % 10) for seed in (16, 8, 1)]
    assert list(effects.by_seed(runs, "hard", "relation")) == [1, 8, 16]


def test_terms_are_summed_and_several_rows_of_one_name_are_a_mean():
    spoilt = [record(row, seed, 4 + i + seed) for seed in (0, 1) for i, row in enumerate(effects.MEANS["spoilt"])]
    distilled = [record(row, seed, 8) for seed in (0, 1) for row in effects.MEANS["spoilt-distil"]]
    assert len(effects.MEANS["spoilt"]) == len(effects.MEANS["spoilt-distil"]) == 6
    runs = [*RUNS, *spoilt, *distilled]
    gain = effects.paired_effect(runs, Claim("", "spoilt-distil", "spoilt", "relation", 0, 0, 10), 0.95)
    assert gain.values == pytest.approx((0.8 - 0.65, 0.8 - 0.75))
    more = effects.paired_effect(runs, Claim("", "spoilt-distil + hard", "spoilt + distil", "relation", 0, 0, 10), 0.95)
    assert more.values == pytest.approx((0.15 - 0.2, 0.05 - 0.1))


def test_the_teachers_own_answers_are_told_from_the_students():
    runs = [record("distil", seed, 5, teacher_outcomes={"change relation": "9999999900"}) for seed in (0, 1)]
    found = effects.paired_effect(runs, Claim("", "distil@teacher", "distil", "relation", 0, 0, 10), 0.95)
    assert found.values == pytest.approx((0.3, 0.3))


def test_tasks_are_told_with_and_without_distillation():
    runs = [record("distil", seed, 5, tasks={"nlvr2": "90"}, tasks_distilled={"nlvr2": "99"}) for seed in (0, 1)]
    found = effects.paired_effect(runs, Claim("", "distil@distilled", "distil", "nlvr2", 0, 0, 10), 0.95)
    assert found.values == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("low, mean, high, verdict", [
    (0.01, 0.05, 0.09, "supported"), (0.01, 0.02, 0.09, "can't tell"), (-0.01, 0.05, 0.11, "can't tell"),
    (-0.05, 0.0, 0.02, "contradicted: too small"), (0.005, 0.01, 0.02, "contradicted: too small"),
    (-0.2, -0.1, -0.01, "contradicted: below zero")])
def test_a_verdict_needs_the_whole_interval(low, mean, high, verdict):
    assert Effect((mean, mean), mean, low, high).verdict(least=0.03) == verdict


def test_there_is_no_verdict_before_all_registered_seeds_are_there_and_none_beyond_them_counts():
    claim = Claim("it helps", "distil", "hard", "relation", 0, 0, 10)
    assert "| 3 of 10 | not yet |" in effects.claims_table(RUNS, [claim])
    assert "| 3 of 3 | can't tell (relation) |" in effects.claims_table(RUNS, [replace(claim, seeds=3)])
    assert effects.paired_effect(RUNS, replace(claim, seeds=2), 0.95).values == pytest.approx((0.2, 0.1))


def test_runs_of_equal_seconds_are_kept_apart():
    runs = [*RUNS, *(record("distil", seed, 6, samples=64, equal=True) for seed in (0, 1))]
    claim = Claim("", "distil@equal", "hard", "relation", 0, 0, 10)
    assert effects.paired_effect(runs, claim, 0.95).values == pytest.approx((0.1, 0.0))
    assert "| `distil` | + distillation in MLM | 2 | equal | 0.60 |" in effects.rows_table(runs)
    assert "| `distil` | + distillation in MLM | 3 | 10 | 0.70 |" in effects.rows_table(runs)


def test_a_run_that_failed_is_told():
    runs = [*RUNS, {"row": "hard", "seed": 3, "samples": 19_200, "equal": False, "failed": "not finite"}]
    assert "| `hard` | + hard negatives | 3, 1 failed | 10 | 0.50 |" in effects.rows_table(runs)


def test_claims_are_read_from_a_table_and_their_rows_and_figures_must_exist(tmp_path):
    page = tmp_path / "claims.md"
    page.write_text("words | not | a table\n| claim | rows | less | figure | predicted | least | seeds |\n"
                    "|---|---|---|---|---|---|---|\n| it helps | distil | hard | relation | +.1 | .05 | 8 |\n")
    assert effects.read_claims(page) == [Claim("it helps", "distil", "hard", "relation", 0.1, 0.05, 8)]
    claims = effects.read_claims(page)
    table = effects.claims_table(RUNS, claims)
    start = "| it helps | distil − hard | relation | +0.10 | +0.05 | "
    assert start + "+0.200 | [-0.048, +0.448] | 3 of 8 | not yet |" in table
    assert start + " |  |  | not yet |" in effects.claims_table([], claims)
    for wrong, said in (("| it helps | distill | hard | relation | 0 | 0 | 8 |", "no row or figure 'distill'"),
                        ("| it helps | distil | hard | relations | 0 | 0 | 8 |", "no row or figure 'relations'"),
                        ("| it helps | distil@teachr | hard | relation | 0 | 0 | 8 |", "figure 'distil@teachr'")):
        page.write_text(f"\n| claim |\n|---|\n{wrong}\n")
        with pytest.raises(ValueError, match=said):
            effects.read_claims(page)


def test_a_file_without_results_is_named_and_no_table_is_replaced(tmp_path):
    with pytest.raises(ValueError, match="typo.jsonl has no results; `python notebooks/experiments/ablate.py` writes"):
        effects.main(tmp_path / "typo.jsonl", pages=(ROOT / "docs" / "ablation.md",))


def test_tables_stand_between_their_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- rows -->\nold\n<!-- end of rows -->\nb\n")
    results.write_tables(page, rows=effects.rows_table(RUNS))
    text = page.read_text()
    assert "| `hard` | + hard negatives | 3 | 10 | 0.50 |" in text and text.startswith("a\n") and text.endswith("\nb\n")
    with pytest.raises(ValueError, match="has no place for a table: add the lines <!-- claims --> and <!-- end of cl"):
        results.write_tables(page, claims="")


def test_the_pages_say_what_the_results_say():
    records = read_records(RESULTS / "ablation.jsonl")
    claims, rows = ((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("ablation.md", "ablation_rows.md"))
    assert effects.claims_table(records, effects.read_claims(RESULTS / "registered.md")) in claims
    assert effects.rows_table(records) in rows
    registered = effects.read_claims(RESULTS / "registered.md")
    assert effects.unregistered_table(records, len(registered)) in rows
    both = effects.paired_effect(records, Claim("", "distil", "hard", "retrieval", 0, 0, 8),
                                 1 - 0.05 / len(registered))
    stated = f"{both.mean:+.3f} [{both.low:+.3f}, {both.high:+.3f}]".replace("0.", ".")
    assert f"distillation in both losses gains {stated} over none" in " ".join(claims.split())
    first = effects.paired_effect(records, registered[0], 1 - 0.05 / len(registered))
    assert f"the interval begins at {first.low:+.4f}".replace("0.", ".", 1) in claims


def test_differences_beside_the_claims_have_the_level_of_their_table():
    runs = [record(row, seed, right) for row, some in {"distil": (5, 6, 4), "hard": (3, 3, 3)}.items()
            for seed, right in enumerate(some)]
    for run in runs:
        run["outcomes"] = {"both": run["outcomes"]["change relation"]}
    # .2, .3 and .1: Student's t for two degrees of freedom at 1 - .05 / 5 is 9.925
    line = "| distillation in both losses | distil − hard | retrieval | +0.200 | [-0.373, +0.773] | 3 |"
    assert line in effects.unregistered_table(runs, 5)
