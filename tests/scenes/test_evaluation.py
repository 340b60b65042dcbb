"""The evaluation on scenes: every figure by hand on made-up answers,
and chance for a model that learnt nothing."""
import json
import math
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from emojiscenes.grammar import KINDS
from emojiscenes.language import All, Noun, Object, Relation, Scene, There
from emojiscenes.scenes import Drawn, Scenes
from emojiscenes.stress import Contrast
from minalbef import load
from minalbef.albef import ALBEF
from minalbef.evaluation import pointing, ranking, words
from minalbef.evaluation.ranking import Encoded, Scores, recall
from minalbef.presets import preset
from minalbef.scenes import evaluation, questions
from minalbef.scenes.evaluation import Contest, recalls
from minalbef.scenes.records import patches_inside
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.run import Run

F = False
T = True


@pytest.fixture(scope="module")
def run() -> Run:
    """A model that learnt nothing, with a tokenizer that knows the captions."""
    torch.manual_seed(0)
    source = Scenes("train", objects=64)
    tokenizer = Tokenizer.train((source.draw(i).text for i in range(800)), 512)
    config = preset("tiny", vocab_size=len(tokenizer))
    return Run(ALBEF(config).eval(), tokenizer, config, None)


@pytest.fixture(scope="module")
def figures(run) -> dict:
    return evaluation.evaluate_scenes(run, seed=3, size=0.05)


# recall


def test_recall_by_hand():
    scores = torch.tensor([[.9, .8, .1, .0],          # the right one is second
                           [.5, .5, .5, .5],          # no opinion: one right of four
                           [.7, .7, .2, .1],          # two tie ahead, one of them right
                           [.9, .3, .3, .3],          # two of the three behind the first
                           [.9, .9, .1, .0],          # both of the best are right
                           [.4, .3, .2, .1]])         # nothing is right
    true = torch.tensor([[F, T, F, F], [T, F, F, F], [F, T, F, F],
                         [F, T, T, F], [T, T, F, F], [F, F, F, F]])
    assert_close(recall(scores, true), torch.tensor([0, 1 / 4, 1 / 2, 0, 1, 0]))
    assert_close(recall(scores, true, 2), torch.tensor([1, 1 / 2, 1, 2 / 3, 1, 0]))
    assert_close(recall(scores, true, 3), torch.tensor([1, 3 / 4, 1, 1, 1, 0]))


# scores of pairs


def test_itm_is_asked_for_the_best_of_both_ways(run):
    model = run.model
    encoded = Encoded(torch.randn(12, 37, 96), torch.randn(12, 5, 96),
                      torch.ones(12, 5, dtype=torch.bool))
    block = torch.arange(12) // 4
    rivals = block[:, None] == block
    scores = ranking.score(model, encoded, top=2, rivals=rivals)
    assert (scores.itc == -math.inf).equal(~rivals)
    assert_close(scores.itc[rivals], ranking.similarity(model, encoded)[rivals])
    for i in range(12):
        for t in range(12):
            better = ((scores.itc[i] > scores.itc[i, t]).sum(),
                      (scores.itc[:, t] > scores.itc[i, t]).sum())
            due = rivals[i, t] and min(better) < 2
            assert scores.itm[i, t].isfinite() == due
            if due:
                pair = torch.tensor([i]), torch.tensor([t])
                assert_close(scores.itm[i, t], ranking.match_odds(model, encoded, *pair)[0],
                             rtol=1e-4, atol=1e-5)
    assert ranking.score(model, encoded, itm=False).itm is None
    assert ranking.score(model, encoded).itm.isfinite().all()


# retrieval, by hand


def scene(*things: Object) -> Scene:
    return Scene(things, "white")


APPLE = Object("apple", 0.2, 0.5, 0.3, "noto")
CAT = Object("cat", 0.8, 0.5, 0.3, "noto")
BUS = Object("bus", 0.5, 0.5, 0.3, "noto")


def test_the_oracle_knows_objects_and_no_more():
    left_of = Relation(Noun("apple"), "left", Noun("cat"))
    right_of = Relation(Noun("apple"), "right", Noun("cat"))
    draws = [Drawn(scene(APPLE, CAT), left_of, "an apple left of a cat", 0, 0),
             Drawn(scene(CAT, APPLE), right_of, "an apple right of a cat", 1, 0),
             Drawn(scene(APPLE, BUS), All((There(Noun("apple")), There(Noun("bus")))),
                   "an apple and a bus", 2, 0),
             Drawn(scene(BUS), There(Noun("bus")), "a bus", 3, 0)]
    shared = evaluation.objects_shared(draws)
    assert_close(shared, torch.tensor([[1, 1, 1 / 3, 0], [1, 1, 1 / 3, 0],
                                       [1 / 3, 1 / 3, 1, 1 / 2], [0, 0, 1 / 2, 1]]))
    true = torch.eye(4, dtype=torch.bool)
    assert_close(recall(shared, true), torch.tensor([1 / 2, 1 / 2, 1, 1]))
    # "a bus" is true of the third, too; the oracle ranks it second
    true[2, 3] = True
    assert_close(recall(shared.T, true.T), torch.tensor([1 / 2, 1 / 2, 1, 1]))


def test_recalls_of_a_contest_by_hand():
    # pictures by captions: everyone wants the first
    sim = torch.tensor([[3., 2.], [2., 1.]])
    odds = torch.tensor([[0., 1.], [4., 3.5]])
    contest = Contest(Scores(sim, odds), torch.eye(2, dtype=torch.bool), torch.ones(2, 2))
    result = {name: value.tolist() for name, value in recalls(contest, 2.0).items()}
    assert result["itc_i2t_r1"] == [1, 0] and result["itc_t2i_r1"] == [1, 0]
    assert result["rerank_i2t_r1"] == [0, 0] and result["rerank_t2i_r1"] == [0, 1]
    assert result["rerank_plus_i2t_r1"] == [1, 0]
    assert result["rerank_plus_t2i_r1"] == [0, 1]
    assert result["oracle_r1"] == result["chance_r1"] == [0.5, 0.5]


# match or not


def test_balanced_accuracy_counts_every_kind_alike():
    odds = {"true": torch.tensor([1., 1., -1., 1.]), "easy": torch.tensor([-2., -2., -2., -2.]),
            "hard": torch.tensor([2., 2., -2., 2., -2., -2.])}
    share = evaluation.balanced_accuracy(evaluation.rejected(odds, 0.0))
    assert share.mean().item() == pytest.approx((3 / 4 + (1 + 1 / 4) / 2) / 2)
    assert evaluation.rejected(odds, 1.0)["true"].mean() == 1, "at the threshold is not over it"


# the stress test


def test_answers_to_a_stress_test_by_hand(run, monkeypatch):
    true = [(scene(APPLE), "a"), (scene(CAT), "b"), (scene(BUS), "c"), (scene(CAT), "a")]
    false = [(scene(APPLE), "d"), (scene(CAT), "a"), (scene(BUS), "d"), (scene(APPLE), "a")]
    values = [3.0, 1.0, 0.6, -1.0, 2.0, 1.0, 0.4, 4.0]            # four true pairs, four false
    blank = {"a": 2.0, "b": 1.0, "c": 0.5, "d": 0.5}
    def match_odds(run, scenes, texts):
        if scenes[0] is None:
            return torch.tensor(list(map(blank.get, texts)))
        assert list(zip(scenes, texts)) == true + false
        return torch.tensor(values)
    monkeypatch.setattr(questions, "match_odds", match_odds)
    contrasts = list(map(Contrast, true, false))
    result = evaluation.contrast_values(run, 0.5, contrasts)
    assert {name: value.tolist() for name, value in result.items()} == {
        "true_preferred": [1, 0.5, 1, 0],
        "true_preferred_blank": [1, 0, 0.5, 0.5],
        "true_accepted": [1, 1, 1, 0],
        "false_accepted": [1, 1, 0, 1]}


# words


def test_pointing_by_hand(run, monkeypatch):
    draws = [Drawn(scene(APPLE, CAT), None, "an apple left of a cat", 0, 0),
             Drawn(scene(BUS), None, "a bus", 1, 0)]
    inside = [patches_inside(thing, 6) for thing in (APPLE, CAT, BUS)]
    # right, the wrong object, no answer
    maps = torch.stack([inside[0] * 2.0, inside[0] * 1.0, torch.zeros(36)])
    monkeypatch.setattr(pointing, "word_maps", lambda *args: maps)
    result = evaluation.pointing_game(run, draws)
    chance = torch.stack(inside).float().mean(1)
    assert_close(result["pointing_chance"], chance)
    assert_close(result["pointing_itm"], torch.tensor([1.0, 0.0, chance[2]]))


def test_a_word_is_hidden_with_all_its_pieces(run):
    text = "a helicopter on a red background"
    # has letters for it, and no word
    tokenizer = Tokenizer.train(["a red cat on a background"], 60)
    reader = Run(run.model, tokenizer, run.config, None)
    assert len(tokenizer.tokens("cat")) < len(tokenizer.tokens("drone"))
    text = "a drone on a cat"
    hidden = words.hide(reader, ["a cat", text], [(1, [1]), (0, [1]), (1, [3, 4])])
    assert hidden.rows.tolist() == [1, 0, 1]
    values = [tokenizer.decode(row[mask]) for row, mask in zip(hidden.tokens, hidden.hidden)]
    assert values == ["drone", "cat", "a cat"]


# the whole


def leaves(figures: dict, path: str = ""):
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def test_a_model_that_learnt_nothing_scores_chance(figures):
    intervals = dict(leaves(figures["intervals"]))
    def check(name: str, expected: float, margin: float):
        low, high = intervals[name]
        assert low - margin <= expected <= high + margin, (name, low, high, expected)
    for part in ("plain", "families", "unseen_style", "unseen_style.families",
                 "unseen_pairs", "unseen_pairs.control"):
        chance = dict(leaves(figures))[f"{part}.chance_r1"]
        assert dict(leaves(figures))[f"{part}.oracle_r1"] >= chance
        for score in ("itc", "rerank", "rerank_plus"):
            for way in ("i2t", "t2i"):
                check(f"{part}.{score}_{way}_r1", chance, 0.05)
    assert figures["families"]["oracle_r1"] == figures["families"]["chance_r1"] == 0.25
    check("itm_balanced_accuracy", 0.5, 0.03)
    for kind in KINDS:
        check(f"itm_one_change_accuracy.{kind}", 0.5, 0.05)
        check(f"itm_one_change_blank.{kind}", 0.5, 0.05)
        check(f"itc_one_change_accuracy.{kind}", 0.5, 0.05)
    for kind in ("relation_anywhere", "relation_in_unseen_style"):
        check(f"stress.true_preferred.{kind}", 0.5, 0.05)
    assert figures["stress"]["true_preferred_blank"]["negation"] == 0.5, (
        "both have one sentence")
    assert figures["mlm_accuracy"]["all"] < 0.1
    for score in ("itm", "mlm"):
        check(f"pointing_{score}", figures["pointing_chance"], 0.05)


def test_figures_of_the_shipped_model_are_those_that_were_noted_when_it_shipped():
    """The evaluation that noted them, on 2026-11-30,
    agreed with that of commit 2d022da on the model before.

    On another processor a near tie may fall the other way.
    """
    before = json.loads((Path(__file__).parent / "figures_of_tiny.json").read_text("utf-8"))
    figures = evaluation.evaluate_scenes(load("tiny"), seed=11, size=0.02, among=40)
    for name in ("intervals", "counts", "stress"):
        del figures[name]
    now = dict(leaves(figures))
    assert now.keys() == before.keys()
    changes = {}
    for name, value in now.items():
        if value != pytest.approx(before[name], abs=1e-3):
            changes[name] = (before[name], value)
    assert len(changes) <= 3, changes
    for old, value in changes.values():
        assert value == pytest.approx(old, abs=0.2), changes


def test_an_evaluation_repeats_itself_and_its_start_is_part_of_it(run, figures):
    start = evaluation.evaluate_start(run, seed=3, size=0.05)
    assert {"itc_i2t_r1", "itc_t2i_r1", "families",
            "pointing_itm", "pointing_chance"} <= set(start)
    assert start == evaluation.evaluate_start(run, seed=3, size=0.05)
    assert start != evaluation.evaluate_start(run, seed=4, size=0.05)


def test_what_is_calibrated_is_calibrated_on_other_scenes_of_validation(run, monkeypatch):
    calls = []
    monkeypatch.setattr(questions, "Scenes",
                        lambda split, **more: calls.append((split, more["seed"]))
                        or Scenes(split, **more))
    evaluation.calibrate(run, seed=3, size=0.01)
    assert set(calls) == {("validation", 1_000_003)}, "of the test nothing may be set"
    calls.clear()
    evaluation.evaluate_scenes(run, seed=3, size=0.01, split="validation")
    assert set(calls) == {("validation", 3), ("validation", 1_000_003)}, (
        "on validation there is no other split")
