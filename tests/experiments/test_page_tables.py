"""Pages whose tables page_tables.py and closeup.py write: these rewrite byte for byte; sentences have their figures."""
import json
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import circuit
import closeup
import page_tables
import results
from ablate_records import read_records
from effects import Claim, half_width, paired_effect, read_claims
from helpers import short
from minalbef import load

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "notebooks" / "experiments"
RECORDS = read_records(RESULTS / "ablation.jsonl")
TEXTS = {path.name: " ".join(path.read_text(encoding="utf-8").split()) for path in (ROOT / "docs").glob("*.md")}


def test_the_tables_rewrite_byte_for_byte(tmp_path):
    for name in page_tables.PAGES:
        before = (ROOT / "docs" / name).read_text(encoding="utf-8")
        emptied = results.MARKS.sub(r"\1\3", before)
        assert emptied != before
        (tmp_path / name).write_text(emptied, encoding="utf-8")
    page_tables.main(tmp_path)
    for name in page_tables.PAGES:
        assert (tmp_path / name).read_bytes() == (ROOT / "docs" / name).read_bytes()


def test_half_of_an_interval_is_students():
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3 ** 0.5, abs=1e-3)
    assert page_tables.with_half([1.0, 2.0, 3.0]) == "2.00 ± 2.48"


def test_a_gain_is_paired_by_seed():
    def run(row: str, seed: int, right: int) -> dict:
        return {"row": row, "seed": seed, "samples": 19_200, "equal": False, "outcomes": {"itc": f"{9 * right}"}}
    runs = [run("hard", 1, 0), run("hard", 0, 1), run("distil", 0, 1), run("distil", 1, 1)]
    assert page_tables.gain(runs, "distil", "hard", "by ITC") == [0, 1]


def test_what_is_said_of_spoilt_captions_is_what_was_measured():
    text = TEXTS["ablation_spoilt.md"]
    claims = {claim.text: claim for claim in read_claims(RESULTS / "registered.md")}
    level = 1 - 0.05 / len(claims)
    helps, more = (paired_effect(RECORDS, claims[name], level).mean for name in (
        "distillation helps where captions are spoilt", "it helps more there than on clean captions"))
    assert f"Re-ranked retrieval gains {short(helps, '.3f')} in the mean of six sets" in text
    assert f"we can't tell: {short(more, '.3f')}, and the interval" in text
    best = {}
    for remedy in ("nothing", "distillation", "label smoothing"):
        end = page_tables.REMEDIES[remedy][0]
        best[remedy] = short(statistics.mean(
            max(statistics.mean(page_tables.seeds_of(RECORDS, f"{kind}{percent}{end}", name))
                for name in ("retrieval", "by ITC"))
            for kind in page_tables.SPOILT for percent in page_tables.PERCENT))
    assert (f"is {best['nothing']} with no remedy, {best['distillation']} with distillation and "
            f"{best['label smoothing']} with smoothing") in text


def test_differences_between_remedies_are_those_of_three_seeds():
    def between(name: str, remedy: str, other: str) -> tuple[str, str]:
        gains = page_tables.six_sets(RECORDS, remedy, name) - page_tables.six_sets(RECORDS, other, name)
        return short(gains.mean()), short(half_width(gains.tolist()))
    text = TEXTS["ablation_spoilt.md"]
    even, half = between("retrieval", "even negatives", "distillation")
    assert f"gain as much as distillation**, {even} ± {half} against it" in text
    loss, half = between("by ITC", "distillation in ITC", "nothing")
    assert f"by ITC it loses {loss.removeprefix('-')} ± {half}." in text
    rest, half = between("retrieval", "distillation", "distillation in ITC")
    itm, its_half = between("by ITM", "distillation", "distillation in ITC")
    assert f"The other half, {rest} ± {half} (by ITM {itm} ± {its_half})" in text


def test_in_how_many_seeds_distillation_lowers_the_belief_in_a_false_caption():
    own = {}
    for row in ("wrong40", "wrong40-distil"):
        runs = sorted((record for record in RECORDS if record["row"] == row), key=lambda record: record["seed"])
        own[row] = np.array([[look["teacher_own_spoilt"] for look in run["looks"]] for run in runs])
    *first, last = (own["wrong40-distil"] < own["wrong40"]).sum(0)
    assert f"(less in {', '.join(map(str, first))} and {last} seeds, look by look)" in TEXTS["ablation_spoilt.md"]


def test_what_is_said_beside_the_claims_is_what_was_measured():
    def found(rows: str, less: str, name: str) -> str:
        effect = paired_effect(RECORDS, Claim("", rows, less, name, 0, 0, 8), 0.95)
        return f"{short(effect.mean, '.3f')} ± {short((effect.high - effect.low) / 2, '.3f')}".replace("-.000", ".000")
    text = TEXTS["ablation.md"]
    tasks = {name: found("distil@distilled", "distil", name) for name in ("entailment", "vqa", "nlvr2", "grounding")}
    assert (f"entailment gains {tasks['entailment']}, in all eight seeds; VQA {tasks['vqa']}, NLVR2 "
            f"{tasks['nlvr2']}, grounding {tasks['grounding']}.") in text
    assert (f"change re-ranking by {found('truth', 'hard', 'retrieval')} and R@1 by ITC by "
            f"{found('truth', 'hard', 'by ITC')}.") in text
    first, *others = page_tables.gain(RECORDS, "itc", "itm-mlm", "by ITM")
    assert f"seed 0 gains {short(first)} and the others {short(min(others))} to {short(max(others))}." in text


def test_what_is_said_of_options_and_sweeps_is_what_was_measured():
    gains = [page_tables.gain(RECORDS, row, "full", name) for row in page_tables.OPTIONS
             for name in page_tables.OPTION_FIGURES]
    clear = sum(abs(statistics.mean(values)) > half_width(values) for values in gains)
    assert len(gains) == 24 and clear == 5 and "Of 24 figures five exclude zero" in TEXTS["ablation_sweeps.md"]
    itc = {row: short(statistics.mean(page_tables.seeds_of(RECORDS, row, "by ITC", 3)))
           for row in ("queue256", "full", "queue4096", "temp0.07")}
    assert (f"ITC finds {itc['queue256']} with a queue of 256, {itc['full']} with 1,024, {itc['queue4096']} with "
            f"4,096, and {itc['temp0.07']} with a temperature held at .07.") in TEXTS["ablation.md"]


def test_what_is_said_of_text_assignment_is_what_was_measured():
    runs = json.loads((RESULTS / "sharing.json").read_text(encoding="utf-8"))["runs"]
    def accuracies(share: str, assign: bool) -> np.ndarray:
        return np.array([sum(map(int, run["answers"])) / 9 / len(run["answers"]) for run in runs
                         if (run["share"], run["assign"]) == (share, assign)])
    gains = np.mean([accuracies(share, True) - accuracies(share, False) for share in page_tables.SHARES], 0)
    first, second, third = (short(x, "+.2f") for x in gains)
    assert (f"{first}, {second} and {third} in the mean of the three ways to share (mean {short(gains.mean())} ± "
            f"{short(half_width(gains.tolist()))})") in TEXTS["ablation_choices.md"]
    behind = accuracies("keys and values", True) - accuracies("everything", True)
    assert f"Everything is behind by {short(behind.min())} to {short(behind.max())} in each seed" in TEXTS[
        "ablation_choices.md"]


def test_a_curves_points_are_those_that_its_page_names():
    text = TEXTS["curves.md"]
    def at(run: str, samples: int, name: str) -> str:
        return next(short(row[name]) for row in page_tables.curve_rows(run) if row["samples"] == samples)
    itm, itc = "itm_one_change_accuracy.relation", "itc_one_change_accuracy.relation"
    assert (f"*tiny* is right in {at('tiny', 46_080, itm)} after 46,080 pairs and {at('tiny', 61_440, itm)} after "
            "61,440") in text
    assert f"right in {at('desk', 89_600, itc)} after 89,600 pairs and {at('desk', 448_000, itc)} at the end" in text
    figures = json.loads((RESULTS / "forecast.json").read_text(encoding="utf-8"))["figures"]
    limits = {name: figures[f"families.{name}_i2t_r1"] for name in ("itc", "rerank")}
    assert (f"in less than {short(limits['itc']['low'])} or more than {short(limits['itc']['high'])}, by ITM in less "
            f"than {short(limits['rerank']['low'])}, or a relation in less than "
            f"{short(figures[itm]['low'], '.3f')}.") in text


def test_the_close_up_of_relations_has_the_measured_tables(tmp_path):
    measured = json.loads(closeup.PATH.read_text(encoding="utf-8"))
    page = ROOT / "docs" / "relations.md"
    copy = tmp_path / page.name
    copy.write_text(results.MARKS.sub(r"\1\3", page.read_text(encoding="utf-8")), encoding="utf-8")
    results.write_tables(copy, **closeup.tables(measured))
    assert copy.read_bytes() == page.read_bytes()
    assert f"differ in a relation {measured['within_one_half']:.0%} have both objects in one half" in TEXTS[page.name]


def test_the_measured_families_and_contrasts_are_those_of_the_script_and_the_model():
    measured, run = json.loads(closeup.PATH.read_text(encoding="utf-8")), load("tiny")
    for name, figures in closeup.families(run).items():
        assert figures == pytest.approx(measured["families"][name], abs=0.005), name
    assert closeup.contrasts(run) == measured["contrasts"]


def test_the_sampler_of_a_model_that_knows_nothing_draws_evenly():
    """Of equal similarities every key that isn't masked has the same chance."""
    run = load("tiny")
    class Nothing:
        temperature = 1.0
        def encode_text(self, tokens, keep): return torch.zeros(len(tokens), 4)
        def encode_image(self, image): return torch.zeros(len(image), 4)
        def text_feature(self, text): return text
        def image_feature(self, image): return image
    shares = closeup.sampler(run, replace(run, model=Nothing()))["start"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert shares["the sibling"] == pytest.approx(1 / 63, abs=2e-3)


def test_the_circuits_page_has_its_tables_and_the_verdicts_follow_from_them():
    page, text = (ROOT / "docs" / "circuit.md").read_text(encoding="utf-8"), TEXTS["circuit.md"]
    made = []
    for path in (circuit.PATH, circuit.PATH.with_name("circuit_again.json")):
        models = json.loads(path.read_text(encoding="utf-8"))["models"]
        assert circuit.table(models) in page
        made.append(list(models.values()))
    first, again = made

    def reached(seeds: list[dict]) -> list[int]:
        needed = [0.45 <= found["right_without"]["relation"] <= 0.55 and found["right_without"]["object"] >= 0.95
                  for found in seeds]
        moved = [[found["moved_by_heads"] for found in seeds]]
        moved += [[found["directions"][what]["moved"] for found in seeds] for what in ("place", "fits")]
        return [sum(needed), *(sum(value >= 0.9 for value in values) for values in moved)]

    assert len(first) == len(again) == 5 and (reached(first), reached(again)) == ([0, 1, 1, 2], [0, 1, 1, 4])
    assert "Needed heads 0 of 5, enough heads 1, place 1, fit 2: none holds. On the Xeon 0, 1, 1 and 4:" in text
    place, fits = ([found["directions"][what] for found in first + again] for what in ("place", "fits"))
    controls = [way["control"] for way in fits]
    assert f"turns {short(min(controls))} to {max(controls):.2f} of answers where" in text, "it says yes to others, too"
    by_mean = [way["moved_by_as_much"] >= 0.9 for way in fits]
    assert sum(by_mean[:5]) == sum(by_mean[5:]) == 4 and "it does in four of five on both" in text
    assert f"on the Xeon in four (4 with {short(fits[9]['moved'], '.3f')})" in text
    used = [number for number, way in enumerate(place[:5]) if way["moved"] > 0.5]
    assert used == [1, 4] and all(place[number]["control"] < 0.45 for number in used)
    four, one = (short(place[5 + seed]["moved"]) for seed in (4, 1))
    others = max(place[5 + seed]["moved"] for seed in (0, 2, 3))
    assert f"it turns {four} and {one} in seeds 4 and 1, and {short(others)} at most in the others" in text
    assert f"R² of {short(min(way['explained'] for way in place[5:]))} and more in all" in text
    assert f"stay at {short(min(found['right_without']['relation'] for found in first + again))} or more in all" in text
    costs = [found["right"]["relation"] - min(found["each_alone"].values()) for found in first + again]
    assert f"but for the Xeon's seed 1 ({short(costs.pop(6))})" in text
    assert f"costs {short(max(costs))} at most" in text

    def without(group: str, what: str = "relation") -> list[float]:
        return [found["groups"][group][what] for found in first + again]

    cross = without("layer 1, cross-attention")
    kept = [cross.pop(2), cross.pop(1)]
    assert f"they stay at {short(kept[1])} and {short(kept[0])}: another path" in text
    assert f"fall to {short(min(cross))} to {short(max(cross))} in eight models" in text
    words, objects = without("layer 2, self-attention"), without("layer 2, self-attention", "object")
    moved = [way["moved"] for way in place]
    most = sorted(range(10), key=lambda number: -moved[number])[:2]
    said = [f"{short(values[most[0]])} and {short(values[most[1]])}" for values in (moved, words, objects)]
    assert "relations fall to {1}, and objects to {2}, in the two models in which the place turns most ({0})".format(
        *said) in text
    rest = min(value for number, value in enumerate(words) if number not in most)
    assert f"In the other eight relations stay at {short(rest)} or more" in text


def test_a_pass_with_heads_own_outputs_is_the_same_and_with_other_scenes_it_is_not():
    run = load("tiny")
    asked = circuit.Questions(run, circuit.draw(run, "relation", 1, 6, sideways=True))
    odds, outputs = asked.odds(0), circuit.outputs_of(asked, 0)
    heads = circuit.heads_of(run)
    assert len(heads) == len(outputs) == 12 and len({str(head) for head in heads}) == 12
    with circuit.replace_outputs(run, heads, outputs):
        assert torch.allclose(asked.odds(0), odds, atol=1e-5)
    with circuit.replace_outputs(run, heads, circuit.outputs_of(asked, 1)):
        assert not torch.allclose(asked.odds(0), odds, atol=0.1)
    assert torch.equal(asked.odds(0), odds), "hooks are gone"


def test_the_fewest_heads_are_chosen_that_harm_relations_and_not_objects(monkeypatch):
    asked = {"relation": circuit.Questions(load("tiny"), circuit.draw(load("tiny"), "relation", 1, 2, True))}
    asked["object"] = asked["relation"]
    first, second, third, *_ = circuit.heads_of(load("tiny"))
    needed, costly = {first, third}, second

    def without(heads, part, means):
        if means == "object":
            return 0.9 if costly in heads else 1.0
        return 0.5 if needed <= set(heads) else 0.8 if costly in heads or third in heads else 1.0

    monkeypatch.setattr(circuit, "without", without)
    means = {"relation": "relation", "object": "object"}
    assert circuit.choose_heads(asked, means) == [first, third]
    needed.add(costly)
    assert circuit.choose_heads(asked, means) == [third], "no set reaches chance, so the lowest"


def test_a_direction_of_made_up_words_is_found():
    words = torch.randn(400, 8, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    weights = torch.linspace(-1, 1, 8, dtype=torch.double)
    assert circuit.explained(weights, words, words @ weights + 3) == pytest.approx(1)
    assert circuit.explained(weights, words, words.flip(0) @ weights) < 0
