"""Scripts of notebooks/experiments: the stress test, a forecast by hand, NLVR2's layers that share more or less."""
import json
import math
from pathlib import Path

import pytest
import torch

import curve
import forecast
import sharing
import stress
from emojiscenes.stream import Stream
from emojiscenes.stress import QUESTIONS, stage_for
from helpers import disturb, small, texts
from minalbef import load
from minalbef.albef import ALBEF
from minalbef.scenes import questions
from minalbef.tasks.nlvr2 import PairModel

RESULTS = Path(__file__).parents[2] / "notebooks" / "experiments"


def share(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def rows(intercept: float, slope: float, *samples: int) -> list[dict]:
    return [{"step": n, "seconds": 1.0, "samples": n, "relation": share(intercept + slope * math.log(n))}
            for n in samples]


def test_a_curve_that_is_a_line_in_logits_is_forecast_without_a_miss():
    run = rows(-8.0, 1.0, *range(1000, 11_000, 1000))
    found = forecast.forecast(run[:6], run, 40_000)["relation"]
    ten, forty = (round(share(math.log(n) - 8), 3) for n in (10_000, 40_000))
    assert found == {"tested": ten, "found": ten, "miss": 0, "mean": forty, "low": forty, "high": forty}


def test_the_interval_is_twice_the_miss_on_each_side_in_logits():
    """The first curve stays at 1/2, logit 0; the second at logit 1: its forecast is 1 ± 2. Place misses by nothing."""
    before, run = ([{**row, "place": 0.5, "size": 0.5} for row in rows(at, 0.0, 1, 2, 3, 4)]
                   for at in (0.0, 1.0))
    found = forecast.forecast(before, run, 900)
    assert found["relation"]["miss"] == 1 and found["place"]["miss"] == 0
    assert found["relation"]["low"] == round(share(-1), 3) and found["relation"]["high"] == round(share(3), 3)
    assert found["place"] == {"tested": 0.5, "found": 0.5, "miss": 0, "mean": 0.5, "low": 0.5, "high": 0.5}


def test_no_interval_is_narrower_than_the_median_miss_allows():
    before, run = ([{**row, "place": share(at), "size": 0.5} for row in rows(at, 0.0, 1, 2, 3, 4)] for at in (0.0, 1.0))
    size = forecast.forecast(before, run, 900)["size"]
    assert size["miss"] == 0 and (size["low"], size["high"]) == (round(share(-2), 3), round(share(2), 3))


def test_only_the_last_half_of_a_curve_counts_and_certainty_has_an_end():
    run = rows(0.0, 0.0, 100, 200)
    first = [{**row, "relation": 0.9} for row in run]
    last = [{**row, "samples": 10 * row["samples"], "relation": 1.0} for row in run]
    assert forecast.extend(first + last, "relation", 10_000) == pytest.approx(math.log(0.998 / 0.002))


def test_the_forecast_of_small_is_what_the_two_curves_say():
    said = json.loads((RESULTS / "forecast.json").read_text(encoding="utf-8"))
    assert said["figures"] == forecast.forecast(forecast.curve("tiny"), forecast.curve("desk"), said["samples"])


def test_pairs_that_share_nothing_or_everything_begin_as_the_same_model():
    config = small(fusion_depth=3)
    image, (tokens, keep) = torch.randn(4, 3, 24, 24), texts(3, 8, lengths=[8, 5, 3])
    albef, pairs, trained = disturb(ALBEF(config), 0.1), torch.tensor([[0, 1], [2, 1], [3, 3]]), {}
    for what in sharing.SHARES:
        model = PairModel(config, torch.nn.Linear(config.text_width, 2))
        model.start(albef)
        before = model(image, pairs, tokens, keep)
        first, second = sharing.share(model, what).albef.fusion.layers[:2]
        after = model(image, pairs, tokens, keep)
        assert torch.equal(after, before)
        tied = second.cross.q.weight is first.cross.q.weight, second.cross.k is None
        assert tied == {"nothing": (False, False), "keys and values": (False, True), "everything": (True, True)}[what]
        after.square().sum().backward()
        trained[what] = sum(one.grad is not None for one in model.parameters())
    assert trained["nothing"] > trained["keys and values"] > trained["everything"]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("curve_*.json")), ids=lambda path: path.stem)
def test_a_curve_is_of_the_settings_that_its_command_has_today(path):
    measured = json.loads(path.read_text(encoding="utf-8"))
    today = json.loads(json.dumps(curve.RUNS[path.stem[6:]].to_dict()))
    assert measured["command"] == f"python notebooks/experiments/curve.py {path.stem[6:]}"
    assert len(measured["rows"]) == 10
    assert measured["config"] == {name: today[name] for name in measured["config"]}
    assert measured["rows"][-1]["samples"] == today["epochs"] * today["epoch"]


# the stress test

def test_a_pair_is_accepted_over_even_odds_and_preferred_with_the_higher_ones(monkeypatch):
    odds = torch.tensor([2.0, -1.0, -3.0, 0.5, 1.0, -2.0, -1.0, -0.5])       # four true pairs, four false
    monkeypatch.setattr(questions, "match_odds", lambda run, scenes, texts: odds)
    asked = [(("scene", "true"), ("scene", "false"))] * 4
    assert stress.judge(None, asked) == {
        "true accepted": 0.5, "false accepted": 0.25, "true preferred": 0.75}


def test_the_measured_answers_are_those_of_the_script_and_the_model():
    measured = json.loads(stress.PATH.read_text(encoding="utf-8"))
    run = load("tiny")
    title = "not"
    stage = stage_for(title, run.config.objects)
    asked = [QUESTIONS[title](stage, Stream("stress", measured["seed"], title, i))
             for i in range(measured["count"])]
    found = stress.judge(run, asked)
    assert found == pytest.approx(measured["questions"]["styles of training"][title], abs=0.005)


# what docs/results.md says, and the answers that stand in its gaps
SENTENCES = {
    "of two of them is accepted in {}, though preferred to its opposite in {}. Of a pair": [
        f"true {what}: relation, among four objects" for what in ("accepted", "preferred")],
    "alone it is accepted in {} anywhere": ["true accepted: relation, anywhere"],
    "\"left of\" or \"right of\" is accepted in {}; side": [
        "false accepted: right angles, straight, one above the other"],
    "side by side, \"above\" or \"below\" in {}.": [
        "false accepted: right angles, straight, side by side"],
    "the right scene is preferred in {}.": ["true preferred: not"],
    "it prefers \"three\" to \"two\" in {}, of two \"two\" to \"one\" in {}.": [
        "true preferred: three of a kind, not two", "true preferred: two of a kind, not one"],
    "\"an apple left of a dog\" in {}, \"... of a rocket\" in {}.": [
        f"false accepted: left of a cat, not of a {said}" for said in ("dog", "rocket")],
    "(the background's {}, another object's {}, one that is nowhere {})": [
        f"false accepted: colour, {whose}" for whose in ("background", "other object", "nowhere")],
}


def page(name: str) -> str:
    return " ".join((RESULTS.parents[1] / "docs" / name).read_text(encoding="utf-8").split())


def two_digits(share: float) -> str:
    return f"{share:.2f}".removeprefix("0")


def test_the_page_of_the_stress_test_is_what_was_measured():
    measured = json.loads(stress.PATH.read_text(encoding="utf-8"))
    text = page("stress.md")
    assert " ".join(stress.table(measured["questions"]).split()) in text
    assert f"`{measured['command']}`, {measured['date'][:10]}, {measured['device']};" in text
    report = json.loads((RESULTS.parents[1] / "data" / "tiny" / "report.json").read_text(encoding="utf-8"))
    card, here = (found["itm_threshold"] for found in (report, measured["evaluation"]))
    assert f"are {card:.2f} for the model card's seed and {here:.2f} for seed 0)" in text


def test_the_page_of_results_says_what_the_stress_test_found():
    questions = json.loads(stress.PATH.read_text(encoding="utf-8"))["questions"]
    seen, results = questions["styles of training"], page("results.md")
    for sentence, answers in SENTENCES.items():
        pairs = [answer.split(": ", 1) for answer in answers]
        assert sentence.format(*(two_digits(seen[title][answer]) for answer, title in pairs)) in results
    edges = [two_digits(found["true accepted"]) for title, found in seen.items() if "edge" in title]
    assert f"and in {min(edges)} to {max(edges)} at the edges." in results
    unseen = two_digits(questions["unseen style"]["relation, anywhere"]["true accepted"])
    assert f"a true relation is accepted in {unseen} of scenes." in results
