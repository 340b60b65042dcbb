"""loose: verdicts on loose ends of the ablation, by the rules that were registered before the runs."""
from pathlib import Path
from statistics import fmean

import pytest

import loose
from ablate_rows import ROWS
from effects import Effect
from helpers import short, short_interval

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "notebooks" / "experiments"
CLAIMS = loose.read_loose_claims(RESULTS / "registered_loose.md")


def record(row: str, seed: int, right: int) -> dict:
    """A run that answers so many of ten questions, of each of three figures."""
    answers = "9" * right + "0" * (10 - right)
    return {"row": row, "seed": seed, "samples": ROWS[row].samples, "equal": False,
            "outcomes": dict.fromkeys(("both", "itc", "itm"), answers)}


def remedy(ending: str, seed: int, *right: int) -> list[dict]:
    """A seed's runs on the three kinds of spoilt captions."""
    return [record(f"{kind}40{ending}", seed, one) for kind, one in zip(loose.SPOILT, right, strict=True)]


def test_the_claims_are_those_that_were_registered():
    assert [(claim.rows, claim.less, claim.predicted, claim.least) for claim in CLAIMS] == [
        ("words", "nothing", 0.03, 0.02), ("lightwords", "nothing", 0.03, 0.02), ("words", "lightwords", 0.0, 0.02),
        ("hard", "itc", -0.01, 0.02)]
    assert [claim.seeds for claim in CLAIMS] == [range(5)] * 3 + [range(8, 24)]


def test_a_remedys_figure_is_the_mean_of_three_kinds_for_seeds_that_have_all_of_them():
    runs = [*remedy("", 0, 1, 2, 6), *remedy("-words", 0, 4, 4, 4),
            *remedy("", 1, 2, 2, 2), *remedy("-words", 1, 4, 5, 6)]
    effect = loose.effect_of(runs, CLAIMS[0])
    assert effect.values == pytest.approx((0.4 - 0.3, 0.5 - 0.2))
    partly = [*runs, *remedy("", 2, 1, 1, 1), *remedy("-words", 2, 9, 9, 9)[:2]]
    assert loose.effect_of(partly, CLAIMS[0]).values == effect.values


def test_hard_negatives_are_judged_by_the_seeds_that_were_new():
    known = [record(row, seed, right) for seed in range(8) for row, right in (("hard", 9), ("itc", 1))]
    assert loose.effect_of(known, CLAIMS[3]) is None
    new = [record(row, seed, right) for seed in (8, 23) for row, right in (("hard", 4), ("itc", 5))]
    assert loose.effect_of(known + new, CLAIMS[3]).values == pytest.approx((-0.1, -0.1))


def test_there_is_no_verdict_before_all_seeds_have_run():
    runs = []
    for seed in range(5):
        said = loose.claims_table(runs, CLAIMS)
        assert "supported" not in said and said.count("not yet") == 4
        runs += [*remedy("", seed, 2, 2, 2), *remedy("-words", seed, 4 + seed % 2, 4, 4)]
    first, *others = loose.claims_table(runs, CLAIMS).splitlines()[2:]
    assert first.endswith("| 5 of 5 | supported |") and all(line.endswith("| not yet |") for line in others)


def test_the_page_rewrites_byte_for_byte(tmp_path):
    before = loose.PAGE.read_bytes()
    (tmp_path / loose.PAGE.name).write_bytes(before)
    loose.main(tmp_path / loose.PAGE.name)
    assert (tmp_path / loose.PAGE.name).read_bytes() == before


def test_what_the_page_says_is_what_was_measured():
    text = " ".join(loose.PAGE.read_text(encoding="utf-8").split())
    records = loose.read_all()
    words, light, beyond, hard = (loose.effect_of(records, claim) for claim in CLAIMS)

    assert min(words.values) > 0 and f"helps: supported**, {short(words.mean, '.3f')}, in every seed" in text
    assert f"helps, too: supported**, {short(light.mean, '.3f')}, two thirds of that" in text
    assert 0.6 < light.mean / words.mean < 0.7
    assert f"can't tell**, {short(beyond.mean, '.3f')} {short_interval(beyond)}" in text
    by_itm = loose.effect_of(records, CLAIMS[2], "by ITM")
    assert min(by_itm.values) > 0 and f"{short(by_itm.mean, '.3f')} {short_interval(by_itm)}, in every seed" in text
    assert all(abs(effect.mean - claim.predicted) < 0.0125
               for effect, claim in zip((words, light, beyond, hard), CLAIMS, strict=True))
    assert "All four predictions were within .012" in text

    def gains_on_clean(row: str, name: str) -> list[float]:
        with_it, without = (loose.by_seed(records, one, name) for one in (row, "hard"))
        return [with_it[seed] - without[seed] for seed in loose.WORDS_SEEDS]

    rows = {"distil-words": CLAIMS[0], "light-words": CLAIMS[1]}
    clean = [loose.student_interval(gains_on_clean(row, "retrieval"), 0.95) for row in rows]
    assert " and ".join(f"{short(gain.mean, '.3f')} {short_interval(gain)}" for gain in clean) + ". So" in text
    more = []
    for row, claim in rows.items():
        pairs = zip(loose.effect_of(records, claim, "by ITM").values, gains_on_clean(row, "by ITM"), strict=True)
        more.append(loose.student_interval([spoilt - gain for spoilt, gain in pairs], 0.95))
    assert "by " + " and ".join(f"{short(gain.mean, '.3f')} {short_interval(gain)}" for gain in more) + "." in text
    earlier = loose.read_records(loose.HERE / "ablation.jsonl")
    again = [record for record in records if record["row"].endswith("words")]
    gains = [short(loose.effect_of(earlier + again, claim).mean, '.3f') for claim in CLAIMS[:2]]
    assert f"the first two gains are {gains[0]} and {gains[1]}" in text


def test_what_the_page_says_of_hard_negatives_is_what_was_measured():
    text = " ".join(loose.PAGE.read_text(encoding="utf-8").split())
    records, claim = loose.read_all(), CLAIMS[3]
    hard = loose.effect_of(records, claim)
    assert f"too small:** {short(hard.mean, '.3f')} {short_interval(hard)} in sixteen new seeds; eight seeds" in text
    assert sum(value > 0 for value in hard.values) == sum(value < 0 for value in hard.values) == 8
    earlier = loose.read_records(loose.HERE / "ablation.jsonl")
    first, second = (loose.by_seed(earlier, row, "retrieval") for row in (claim.rows, claim.less))
    all_seeds = loose.student_interval([*(first[seed] - second[seed] for seed in range(8)), *hard.values], 0.95)
    assert f"on another processor, it is {short(all_seeds.mean, '.3f')} {short_interval(all_seeds)}" in text
    counts = loose.effect_of(records, claim, "count")
    assert f"a wrong one more often, by {short(counts.mean, '.3f')} {short_interval(counts)}" in text
    kinds = ("size", "place", "relation", "mixed")
    others = family_gains(records, *kinds)
    count = family_gains(records, "count")
    assert f"where the count differs, by {short(count.mean, '.3f')} {short_interval(count)}" in text
    assert f"other four kinds together by {short(others.mean, '.3f')} {short_interval(others)}" in text
    for figure, said in (("place", "above a wrong one less often, by"), ("by ITM", "is found less often, by")):
        effect = loose.effect_of(records, claim, figure)
        turned = Effect((), -effect.mean, -effect.high, -effect.low)
        assert f"{said} {short(turned.mean, '.3f')} {short_interval(turned)}" in text
    itc = loose.effect_of(records, claim, "by ITC")
    assert f"By ITC alone hard negatives gain {short(itc.mean, '.3f')} {short_interval(itc)}" in text
    costs = []
    for row in (claim.rows, claim.less):
        by_itc, reranked = (loose.by_seed(records, row, figure) for figure in ("by ITC", "retrieval"))
        costs.append(short(fmean(by_itc[seed] - reranked[seed] for seed in claim.seeds)))
    assert f"with hard negatives ({costs[0]}) and without ({costs[1]})" in text
    resumed = sum(record["cpu_seconds"] is None for record in loose.read_records(RESULTS / "ablation_loose.jsonl"))
    assert resumed == 7 and "seven runs were stopped and resumed" in text


def family_gains(records: list[dict], *kinds: str) -> Effect:
    """What hard negatives gain in families that differ in one of these kinds, with its interval."""
    found = {}
    for record in records:
        if record["row"] in ("hard", "itc") and record["seed"] in CLAIMS[3].seeds:
            digits = "".join(record["outcomes"][f"families {kind}"] for kind in kinds)
            found[record["row"], record["seed"]] = fmean(int(digit) / 9 for digit in digits)
    return loose.student_interval([found["hard", seed] - found["itc", seed] for seed in CLAIMS[3].seeds], 0.95)
