"""The evaluation on scenes: every figure by hand on made-up answers, and chance for a model that learnt nothing."""
import copy
import json
import math
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from card import CUDA, card
from emojiscenes import grammar
from emojiscenes.grammar import KINDS, OPPOSITE, directions
from emojiscenes.language import All, Noun, Object, Relation, Scene, There
from emojiscenes.painting import all_names
from emojiscenes.scenes import Drawn, Scenes
from emojiscenes.stress import TITLES, Contrast
from emojiscenes.stress import draw as draw_contrasts
from helpers import disturb, small
from minalbef import load
from minalbef.albef import ALBEF
from minalbef.evaluation import choices, pointing, ranking, words
from minalbef.evaluation.ranking import Encoded, Scores, recall, rerank
from minalbef.presets import preset
from minalbef.scenes import evaluation, questions, tables
from minalbef.scenes.evaluation import Contest, recalls
from minalbef.scenes.records import patches_inside, unique_nouns
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.run import Run

F, T = False, True


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
    true = torch.tensor([[F, T, F, F], [T, F, F, F], [F, T, F, F], [F, T, T, F], [T, T, F, F], [F, F, F, F]])
    assert_close(recall(scores, true), torch.tensor([0, 1 / 4, 1 / 2, 0, 1, 0]))
    assert_close(recall(scores, true, 2), torch.tensor([1, 1 / 2, 1, 2 / 3, 1, 0]))
    assert_close(recall(scores, true, 3), torch.tensor([1, 3 / 4, 1, 1, 1, 0]))


def test_recall_is_the_mean_over_all_ways_to_break_ties():
    chance = torch.Generator().manual_seed(0)
    for _ in range(20):
        scores = torch.randint(3, (5,), generator=chance).float()
        true = torch.rand(5, generator=chance) < 0.4
        for k in (1, 2, 4):
            found = [any(true[i] for i in sorted(order, key=lambda i: -scores[i])[:k])
                     for order in permutations(range(5))]
            assert recall(scores, true, k).item() == pytest.approx(sum(found) / len(found), abs=1e-6)


def test_a_caption_that_fits_another_image_is_a_hit_there():
    scores = Scores(torch.tensor([[0.2, 0.1], [0.9, 0.3]]))      # both images prefer the first caption
    first_alone, first_fits_both = torch.eye(2, dtype=torch.bool), torch.tensor([[True, False], [True, True]])
    found = [{name: value.tolist() for name, value in ranking.rank(scores, true, (1,)).items()}
             for true in (first_alone, first_fits_both)]
    assert found == [{"itc_i2t_r1": [1, 0], "itc_t2i_r1": [0, 1]}, {"itc_i2t_r1": [1, 1], "itc_t2i_r1": [1, 1]}]


def test_recall_of_blocks_is_that_of_each():
    scores, true = torch.rand(3, 4, 4), torch.rand(3, 4, 4) < 0.5
    assert_close(recall(scores, true)[1], recall(scores[1], true[1]))


def test_only_the_best_by_similarity_are_ordered_anew():
    sim, score = torch.tensor([[4., 3., 2., 1.]]), torch.tensor([[0., 1., 2., 3.]])
    assert rerank(sim, score, 3).argmax() == 2
    assert rerank(sim, score, 3)[0, 3] == -math.inf
    assert recall(rerank(sim, score, 3), torch.tensor([[F, F, F, T]]), 3) == 0


# scores of pairs


def test_pairs_are_scored_as_one_by_one(run):
    chance = torch.Generator().manual_seed(1)
    tokens = torch.randint(5, 60, (5, 7), generator=chance)
    keep = torch.arange(7) < torch.tensor([7, 3, 5, 6, 4])[:, None]
    model = disturb(ALBEF(small()).eval(), 0.2)
    encoded = ranking.encode(model, torch.randn(4, 3, 24, 24, generator=chance), tokens, keep, chunk=3)
    images, texts = torch.tensor([3, 0, 1, 1, 2, 0]), torch.tensor([0, 4, 2, 0, 1, 4])
    odds = ranking.match_odds(model, encoded, images, texts, chunk=2)
    assert_close(odds, ranking.match_odds(model, encoded, images, texts, rows=2))
    for i, t, value in zip(images, texts, odds):
        n = keep[t].sum()
        no, yes = model.match_logits(model.fuse(model.encode_text(tokens[t:t + 1, :n], keep[t:t + 1, :n]),
                                                keep[t:t + 1, :n], encoded.image[i:i + 1]))[0]
        assert_close(value, yes - no, rtol=1e-4, atol=1e-5)
    assert odds.unique().numel() == 5, "the fifth and the second pair are alike, and no others"


def test_itm_is_asked_for_the_best_of_both_ways(run):
    model = run.model
    encoded = Encoded(torch.randn(12, 37, 96), torch.randn(12, 5, 96), torch.ones(12, 5, dtype=torch.bool))
    block = torch.arange(12) // 4
    rivals = block[:, None] == block
    scores = ranking.score(model, encoded, top=2, rivals=rivals)
    assert (scores.itc == -math.inf).equal(~rivals)
    assert_close(scores.itc[rivals], ranking.similarity(model, encoded)[rivals])
    for i in range(12):
        for t in range(12):
            better = ((scores.itc[i] > scores.itc[i, t]).sum(), (scores.itc[:, t] > scores.itc[i, t]).sum())
            asked = rivals[i, t] and min(better) < 2
            assert scores.itm[i, t].isfinite() == asked
            if asked:
                pair = torch.tensor([i]), torch.tensor([t])
                assert_close(scores.itm[i, t], ranking.match_odds(model, encoded, *pair)[0], rtol=1e-4, atol=1e-5)
    assert ranking.score(model, encoded, itm=False).itm is None
    assert ranking.score(model, encoded).itm.isfinite().all()


def test_what_comes_twice_is_scored_alike(run):
    one, other = (Scenes("test").draw(i) for i in (0, 1))
    odds = questions.match_odds(run, [one.scene, other.scene, one.scene, None],
                                [one.text, one.text, one.text, one.text])
    assert odds[0] == odds[2] and odds[0] != odds[1] and odds[3] not in odds[:3]


# retrieval, by hand


def scene(*things: Object) -> Scene:
    return Scene(things, "white")


APPLE, CAT, BUS = (Object(name, x, 0.5, 0.3, "noto") for name, x in (("apple", 0.2), ("cat", 0.8), ("bus", 0.5)))


def test_the_oracle_knows_objects_and_no_more():
    left, right = (Relation(Noun("apple"), kind, Noun("cat")) for kind in ("left", "right"))
    drawn = [Drawn(scene(APPLE, CAT), left, "an apple left of a cat", 0, 0),
             Drawn(scene(CAT, APPLE), right, "an apple right of a cat", 1, 0),
             Drawn(scene(APPLE, BUS), All((There(Noun("apple")), There(Noun("bus")))), "an apple and a bus", 2, 0),
             Drawn(scene(BUS), There(Noun("bus")), "a bus", 3, 0)]
    shared = evaluation.objects_shared(drawn)
    assert_close(shared, torch.tensor([[1, 1, 1 / 3, 0], [1, 1, 1 / 3, 0], [1 / 3, 1 / 3, 1, 1 / 2], [0, 0, 1 / 2, 1]]))
    true = torch.eye(4, dtype=torch.bool)
    assert_close(recall(shared, true), torch.tensor([1 / 2, 1 / 2, 1, 1]))
    true[2, 3] = True                                 # "a bus" is true of the third, too; the oracle ranks it second
    assert_close(recall(shared.T, true.T), torch.tensor([1 / 2, 1 / 2, 1, 1]))


def test_recalls_of_a_contest_by_hand():
    sim = torch.tensor([[3., 2.], [2., 1.]])                     # pictures by captions: everyone wants the first
    odds = torch.tensor([[0., 1.], [4., 3.5]])
    contest = Contest(Scores(sim, odds), torch.eye(2, dtype=torch.bool), torch.ones(2, 2))
    found = {name: value.tolist() for name, value in recalls(contest, 2.0).items()}
    assert found["itc_i2t_r1"] == [1, 0] and found["itc_t2i_r1"] == [1, 0]
    assert found["rerank_i2t_r1"] == [0, 0] and found["rerank_t2i_r1"] == [0, 1]
    assert found["rerank_plus_i2t_r1"] == [1, 0] and found["rerank_plus_t2i_r1"] == [0, 1]
    assert found["oracle_r1"] == found["chance_r1"] == [0.5, 0.5]


def test_a_model_that_knows_the_truth_scores_one(run):
    drawn = questions.families(run, "test", 0, 10)
    contest = evaluation.compete(run, drawn, 4)
    assert contest.true.equal(torch.eye(40, dtype=torch.bool))
    truth = torch.where(contest.scores.itc == -math.inf, -math.inf, contest.true.float())
    knowing = recalls(replace(contest, scores=Scores(truth, truth)), 1.0)
    assert all(value.mean() == 1 for name, value in knowing.items() if name.split("_")[0] in ("itc", "rerank"))
    assert knowing["oracle_r1"].mean() == knowing["chance_r1"].mean() == 0.25


# match or not


def test_balanced_accuracy_counts_every_kind_alike():
    odds = {"true": torch.tensor([1., 1., -1., 1.]), "easy": torch.tensor([-2., -2., -2., -2.]),
            "hard": torch.tensor([2., 2., -2., 2., -2., -2.])}
    share = evaluation.balanced_accuracy(evaluation.rejected(odds, 0.0))
    assert share.mean().item() == pytest.approx((3 / 4 + (1 + 1 / 4) / 2) / 2)
    assert evaluation.rejected(odds, 1.0)["true"].mean() == 1, "at the threshold is not over it"


def test_a_paraphrase_is_true_and_says_the_opposite_direction(run):
    asked = questions.paraphrases(run, "test", 0, 30)
    turned = asked.pop("other_direction")
    assert {name: len(some) for name, some in asked.items()} == {"caption": 30, "paraphrase": 30, "foil": 30}
    for (picture, caption), (same, paraphrase), (again, foil) in zip(*asked.values()):
        assert picture is same is again and len({caption, paraphrase, foil}) == 3
        (said,), (opposite,), (wrong,) = map(directions, (caption, paraphrase, foil))
        assert OPPOSITE[said] == opposite == wrong
    true = {id(picture): directions(caption) for picture, caption in asked["caption"]}
    for picture, text in turned:
        (said,), (other,) = true[id(picture)], directions(text)
        assert other not in (said, OPPOSITE[said])
    assert {other for _, text in turned for other in directions(text)} == set(OPPOSITE)


def test_similarity_of_pairs_is_that_of_the_matrix(run):
    pictures, texts = [scene(APPLE), scene(CAT), scene(APPLE)], ["an apple", "a cat", "a cat"]
    whole = run.model.image_feature(questions.image_tokens(run, pictures)) @ run.model.text_feature(
        questions.encode(run, pictures, texts).text).T
    assert_close(questions.similarity(run, pictures, texts), whole.diagonal().detach())


def test_who_cannot_tell_a_change_gets_a_half(run, monkeypatch):
    changes = {"size": [(scene(APPLE), "a", "b"), (scene(CAT), "c", "d")],
               "count": [(scene(BUS), "e", "f")]}
    itm = [[2.0, 1.0], [-1.0, -1.0], [0.0, 3.0]]
    itc = [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]]
    blank = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    def by_way(run, batch, weight):
        shown = [torch.tensor([[row], [odds], [row]]) for row, odds in zip(itc, itm)]
        grey = [torch.tensor([[row]] * 3) for row in blank]
        return [torch.cat(parts) for parts in zip(shown, grey)]
    monkeypatch.setattr(choices, "by_way", by_way)
    found = evaluation.one_change(run, changes)
    shares = {way: {kind: value.tolist() for kind, value in kinds.items()}
              for way, kinds in found.items()}
    assert shares == {"itc": {"size": [0, 1], "count": [0.5]},
                      "itm": {"size": [1, 0.5], "count": [0]},
                      "blank": {"size": [0.5, 0], "count": [1]}}


# the stress test


def test_answers_to_a_stress_test_by_hand(run, monkeypatch):
    true = [(scene(APPLE), "a"), (scene(CAT), "b"), (scene(BUS), "c"), (scene(CAT), "a")]
    false = [(scene(APPLE), "d"), (scene(CAT), "a"), (scene(BUS), "d"), (scene(APPLE), "a")]
    shown = [3.0, 1.0, 0.6, -1.0, 2.0, 1.0, 0.4, 4.0]            # four true pairs, four false
    blank = {"a": 2.0, "b": 1.0, "c": 0.5, "d": 0.5}
    def match_odds(run, scenes, texts):
        if scenes[0] is None:
            return torch.tensor([blank[text] for text in texts])
        assert list(zip(scenes, texts)) == true + false
        return torch.tensor(shown)
    monkeypatch.setattr(questions, "match_odds", match_odds)
    contrasts = [Contrast(*pairs) for pairs in zip(true, false)]
    found = evaluation.contrast_values(run, 0.5, contrasts)
    assert {name: value.tolist() for name, value in found.items()} == {
        "true_preferred": [1, 0.5, 1, 0],
        "true_preferred_blank": [1, 0, 0.5, 0.5],
        "true_accepted": [1, 1, 1, 0],
        "false_accepted": [1, 1, 0, 1]}


def test_the_stress_test_asks_every_kind_in_the_split_and_one_in_the_unseen_style(run, monkeypatch):
    drawn = {}
    def answer(run, threshold, contrasts):
        drawn[len(drawn)] = contrasts
        return {"true_preferred": torch.full((len(contrasts),), threshold)}
    monkeypatch.setattr(evaluation, "contrast_values", answer)
    found = evaluation.stress_values(run, 0.25, 3, 0.05, "validation")
    kinds = list(found["true_preferred"])
    assert kinds == [*TITLES, "relation_in_unseen_style"]
    assert all(value.tolist() == [0.25] * 10 for value in found["true_preferred"].values())
    first, last = drawn[0], drawn[len(kinds) - 1]
    assert first == draw_contrasts("relation_anywhere", 10, "validation", 3, run.config.objects)
    assert last == draw_contrasts("relation_anywhere", 10, "validation", 3, run.config.objects,
                                  evaluation.UNSEEN)
    few = questions.contrasts(run, "test", 0, 0.1)
    assert {len(part) for part in few.values()} == {4}


def test_wrong_pairs_are_wrong_in_their_way(run):
    changes = questions.foils(run, "test", 0, 5)
    assert {kind: len(some) for kind, some in changes.items()} == dict.fromkeys(KINDS, 5)
    for some in changes.values():
        for _, true, false in some:
            assert sum(a != b for a, b in zip(true.split(), false.split())) >= 1
    pairs = questions.wrong_pairs(run, "test", 0, 40, changes)
    assert min(map(len, pairs.values())) >= 28, "nearly as many of each kind"
    plural = {name: word for word in all_names() for name in (word, grammar.words(word)[1])}
    for kind, some in pairs.items():
        shared = [len({thing.name for thing in one.objects} & {plural.get(word.strip(",")) for word in text.split()})
                  for one, text in some]
        if kind == "no_object_shared":
            assert set(shared) == {0}
        elif kind == "one_object_shared":
            assert set(shared) == {1}
        else:
            assert sum(shared) / len(shared) > 1.2, kind


# words


def test_patches_inside_by_hand():
    inside = patches_inside(Object("apple", 0.5, 0.25, 0.5, "noto"), 4).view(4, 4)      # 0.25 to 0.75, 0 to 0.5
    assert inside.tolist() == [[F, T, T, F], [F, T, T, F], [F, F, F, F], [F, F, F, F]]


def test_only_names_that_mean_one_thing_are_pointed_at():
    small_cat = Object("cat", 0.2, 0.2, 0.2, "noto")
    def found(things, text):
        return [(thing.name, at) for thing, at in unique_nouns(Drawn(scene(*things), None, text, 0, 0))]
    assert found([APPLE, CAT], "a small cat above an apple") == [("apple", [5]), ("cat", [2])]
    assert found([APPLE, CAT, small_cat], "a cat, and an apple on the left") == [("apple", [4])]
    assert found([APPLE, CAT], "two cats left of an apple, and an apple") == []
    assert found([Object("alarm clock", 0.5, 0.5, 0.3, "noto")], "an alarm clock") == [("alarm clock", [1, 2])]


def test_pointing_by_hand(run, monkeypatch):
    drawn = [Drawn(scene(APPLE, CAT), None, "an apple left of a cat", 0, 0), Drawn(scene(BUS), None, "a bus", 1, 0)]
    inside = [patches_inside(thing, 6) for thing in (APPLE, CAT, BUS)]
    maps = torch.stack([inside[0] * 2.0, inside[0] * 1.0, torch.zeros(36)])      # right, the wrong object, no answer
    monkeypatch.setattr(pointing, "word_maps", lambda *args: maps)
    found = evaluation.pointing_game(run, drawn)
    chance = [part.float().mean() for part in inside]
    assert_close(found["pointing_chance"], torch.stack(chance))
    assert_close(found["pointing_itm"], torch.tensor([1.0, 0.0, chance[2]]))


def test_a_word_is_hidden_with_all_its_pieces(run):
    text = "a helicopter on a red background"
    tokenizer = Tokenizer.train(["a red cat on a background"], 60)               # has letters for it, and no word
    other = Run(run.model, tokenizer, run.config, None)
    assert len(tokenizer.tokens("cat")) < len(tokenizer.tokens("drone"))
    text = "a drone on a cat"
    hidden = words.hide(other, ["a cat", text], [(1, [1]), (0, [1]), (1, [3, 4])])
    assert hidden.rows.tolist() == [1, 0, 1]
    shown = [tokenizer.decode(row[mask]) for row, mask in zip(hidden.tokens, hidden.hidden)]
    assert shown == ["drone", "cat", "a cat"]


def test_a_hidden_word_cannot_be_seen(run):
    drawn = Scenes("test").draw(0)
    hidden = words.hide(run, [drawn.text], [(0, [1])])
    image = questions.image_tokens(run, [drawn.scene])
    other = replace(hidden, tokens=torch.where(hidden.hidden, run.tokenizer.unk, hidden.tokens))
    assert words.guess(run, hidden, image).equal(words.guess(run, other, image))
    shown = replace(hidden, tokens=torch.where(hidden.hidden, hidden.tokens, run.tokenizer.unk))
    scores = [run.model.word_logits(run.model.fuse(run.model.encode_text(
        row.tokens.masked_fill(row.hidden, run.tokenizer.mask), row.keep), row.keep, image)) for row in (hidden, shown)]
    assert not torch.allclose(*scores), "the check is blind: the other words make no difference"


def test_guesses_and_maps_are_those_of_each_row_alone(run):
    drawn = [Scenes("test").draw(i) for i in range(3)]
    spans = [(i, [j]) for i, one in enumerate(drawn) for j in range(len(one.text.split()))]
    hidden = words.hide(run, [one.text for one in drawn], spans)
    image = questions.image_tokens(run, [one.scene for one in drawn])
    guessed = words.guess(run, hidden, image, chunk=4)
    assert guessed[~hidden.hidden].equal(hidden.tokens[~hidden.hidden])
    maps = {score: words.word_maps(run, hidden, image, score, chunk=4) for score in ("itm", "mlm")}
    assert maps["itm"].shape == (len(spans), 36)
    for row in (0, 5, len(spans) - 1):
        i = spans[row][0]
        alone = words.hide(run, [drawn[i].text], [(0, spans[row][1])])
        length = alone.tokens.shape[1]
        assert_close(words.guess(run, alone, image[i:i + 1])[0], guessed[row, :length])
        for score in maps:
            assert_close(words.word_maps(run, alone, image[i:i + 1], score)[0], maps[score][row], rtol=1e-3, atol=1e-7)


# the whole


def leaves(figures: dict, path: str = ""):
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def test_a_model_that_learnt_nothing_scores_chance(figures):
    intervals = dict(leaves(figures["intervals"]))
    def near(name: str, expected: float, margin: float):
        low, high = intervals[name]
        assert low - margin <= expected <= high + margin, (name, low, high, expected)
    for part in ("plain", "families", "unseen_style", "unseen_style.families", "unseen_pairs", "unseen_pairs.control"):
        chance = dict(leaves(figures))[f"{part}.chance_r1"]
        assert dict(leaves(figures))[f"{part}.oracle_r1"] >= chance
        for score in ("itc", "rerank", "rerank_plus"):
            for way in ("i2t", "t2i"):
                near(f"{part}.{score}_{way}_r1", chance, 0.05)
    assert figures["families"]["oracle_r1"] == figures["families"]["chance_r1"] == 0.25
    near("itm_balanced_accuracy", 0.5, 0.03)
    for kind in KINDS:
        near(f"itm_one_change_accuracy.{kind}", 0.5, 0.05)
        near(f"itm_one_change_blank.{kind}", 0.5, 0.05)
        near(f"itc_one_change_accuracy.{kind}", 0.5, 0.05)
    for kind in ("relation_anywhere", "relation_in_unseen_style"):
        near(f"stress.true_preferred.{kind}", 0.5, 0.05)
    assert figures["stress"]["true_preferred_blank"]["negation"] == 0.5, "both have one sentence"
    assert figures["mlm_accuracy"]["all"] < 0.1
    for score in ("itm", "mlm"):
        near(f"pointing_{score}", figures["pointing_chance"], 0.05)


def test_figures_of_the_shipped_model_are_those_that_were_noted_when_it_shipped():
    """The evaluation that noted them, on 2026-11-30, agreed with that of commit 2d022da on the model before.

    On another processor a near tie may fall the other way.
    """
    before = json.loads((Path(__file__).parent / "figures_of_tiny.json").read_text("utf-8"))
    figures = evaluation.evaluate_scenes(load("tiny"), seed=11, size=0.02, among=40)
    now = dict(leaves({name: value for name, value in figures.items()
                       if name not in ("intervals", "counts", "stress")}))
    assert now.keys() == before.keys()
    others = {}
    for name, value in now.items():
        if value != pytest.approx(before[name], abs=1e-3):
            others[name] = (before[name], value)
    assert len(others) <= 3, others
    assert all(value == pytest.approx(old, abs=0.2) for old, value in others.values()), others


def test_a_report_is_complete_and_fit_for_json(figures):
    again = json.loads(json.dumps(figures, allow_nan=False))
    assert again == figures
    for name, value in leaves({key: part for key, part in figures.items()
                               if key not in ("intervals", "counts", "among", "split", "scenes_seed")}):
        assert isinstance(value, float), name
        assert 0 <= value <= 1 or name == "itm_threshold", name
    for name, (low, high) in leaves(figures["intervals"]):
        assert low <= dict(leaves(figures))[name] <= high, name
    assert {"itc_i2t_r1", "itc_i2t_r5", "itc_t2i_r10", "rerank_t2i_r1", "oracle_r1",
            "chance_r10"} <= set(figures["plain"])
    assert figures["stress"].keys() == figures["intervals"]["stress"].keys() == {
        "true_preferred", "true_preferred_blank", "true_accepted", "false_accepted"}
    assert set(figures["counts"]["stress"]["false_accepted"].values()) == {10}
    assert figures["counts"]["plain"]["itc_i2t_r1"] == 100 and figures["counts"]["families"]["itc_i2t_r1"] == 25


def test_an_evaluation_repeats_itself_and_its_start_is_part_of_it(run, figures):
    start = evaluation.evaluate_start(run, seed=3, size=0.05)
    assert {"itc_i2t_r1", "itc_t2i_r1", "families", "pointing_itm", "pointing_chance"} <= set(start)
    assert start == evaluation.evaluate_start(run, seed=3, size=0.05)
    assert start != evaluation.evaluate_start(run, seed=4, size=0.05)


def test_what_is_calibrated_is_calibrated_on_other_scenes_of_validation(run, monkeypatch):
    asked = []
    monkeypatch.setattr(questions, "Scenes", lambda split, **more: asked.append((split, more["seed"]))
                        or Scenes(split, **more))
    evaluation.calibrate(run, seed=3, size=0.01)
    assert set(asked) == {("validation", 1_000_003)}, "of the test nothing may be set"
    asked.clear()
    evaluation.evaluate_scenes(run, seed=3, size=0.01, split="validation")
    assert set(asked) == {("validation", 3), ("validation", 1_000_003)}, "on validation there is no other split"


def test_an_evaluation_on_a_gpu_has_the_figures_of_one_on_the_cpu(run, figures):
    run = replace(run, model=copy.deepcopy(run.model))
    with card():
        run.model.to("cuda")
        assert run.device == CUDA and evaluation.evaluate_scenes(run, seed=3, size=0.05) == figures
        picture, said = Image.new("RGB", (48, 48)), ["a red apple", "a cat"]
        for answer in (run.similarity, run.match_probability):
            assert answer([picture] * 3, said).is_cuda and answer([picture] * 3, said).shape == (3, 2)


def test_as_many_scenes_compete_as_you_say(run):
    found = evaluation.evaluate_scenes(run, seed=3, size=0.01, among=4000)     # of 4,000 and of 500 here a hundredth
    assert found["among"] == 4000 and found["counts"]["plain"]["itc_i2t_r1"] == 40
    assert found["plain"]["chance_r1"] < 0.04
    assert found["counts"]["unseen_pairs"]["itc_i2t_r1"] == 8, "of the rest 500 compete as ever"
    assert tables.competitors(found) == 40 and tables.competitors({}) == 500
    assert tables.competitors(found | {"counts": {}}) == 4000
    assert "Plain: the right one of 40 scenes" in tables.summary_table(found)


def test_retrievals_table_says_among_how_many_scenes_the_right_one_was_found():
    figures = {"itc_i2t_r1": 0.5, "itc_t2i_r1": 0.25}
    report = {"task": "retrieval", "test": {"plain": figures}, "commit": "abc", "seed": 0,
              "counts": {"test": {"plain": {name: 50 for name in figures}}}}
    assert "| retrieval: R@1 of 50, ITC | 0.50 / 0.25 |" in tables.task_table([report])
    del report["counts"]
    assert "| retrieval: R@1 of 500, ITC | 0.50 / 0.25 |" in tables.task_table([report])
