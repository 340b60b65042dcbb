"""Words that a run can't know, vocabularies that lack a set's words, and an ITM that never left its guessing level."""
import csv
import math
from pathlib import Path

import pytest

from minalbef import checkpoint
from minalbef.data import Record
from minalbef.presets import preset
from minalbef.recipes import pretrain, vocabulary
from minalbef.recipes import search as finder
from minalbef.run import Run, load
from minalbef.tokenizer import Tokenizer
from untrained import untrained

CAPTIONS = ["a zebra on wet grass", "two zebras, grazing", "a red apple"]
RECORDS = [Record(Path("picture.jpg"), text, i) for i, text in enumerate(CAPTIONS)]


def test_the_share_of_words_without_a_piece_is_counted_and_they_are_named():
    tokenizer = Tokenizer.train(["a red apple", "two cats", "a big, wet dog on red"], 128)
    said = vocabulary.vocabulary_warning(tokenizer, CAPTIONS, "runs/mine")
    # of 11 words, zebra and zebras hold a letter, z, that it has never seen; grass and grazing are spelt
    assert said.startswith("36% of the words of these texts have no piece in the vocabulary of runs/mine, such as ")
    assert all(f"'{word}'" in said for word in ("zebra", "zebras", "grass", "grazing")) and "27% are read as" in said
    assert vocabulary.vocabulary_warning(Tokenizer.train(CAPTIONS, 500), CAPTIONS, "runs/mine") == ""


def test_what_is_cut_is_what_the_tokenizer_does_not_read():
    tokenizer = Tokenizer.train(["a red cat, zebras on wet grass"] * 3, 64)
    words = "a red cat zebras on wet grass".split()
    long = " ".join(words * 5)                                   # 35 words
    assert vocabulary.count_cut(["A red cat!", "a cat"], tokenizer, 8) == (0, 0)
    assert vocabulary.count_cut([long, "a cat"], tokenizer, 500) == (0.5, 5 / 37), "30 words are read"
    assert vocabulary.count_cut([long, "a red cat"], tokenizer, 3) == (1.0, (33 + 1) / 38), "two tokens and [CLS]"
    for length in range(2, 40):
        lost = vocabulary.count_cut([long], tokenizer, length).words
        read = tokenizer.decode(tokenizer.encode([long], length)[0][0].tolist()).split()
        assert lost == pytest.approx(1 - len(read) / 35)
    spelt = vocabulary.count_cut(["a zzz cat", "a"], Tokenizer.train(["z a cat"] * 3, 64), 4)
    assert spelt == (0.5, 0.5), "a word that is read in part is lost, and what comes after it"


def test_a_cut_is_told_and_no_cut_is_not(monkeypatch):
    tokenizer = Tokenizer.train(CAPTIONS, 128)
    assert vocabulary.cut_warning(RECORDS, tokenizer, 30) == ""
    said = vocabulary.cut_warning(RECORDS, tokenizer, 5)
    assert said.startswith("33.3% of the texts are cut, and 9.1% of their words lost") and "records" not in said
    monkeypatch.setattr(vocabulary, "LOOKED_AT", 2)
    assert "of 2 records" in vocabulary.cut_warning(RECORDS, tokenizer, 3)


def test_the_shipped_model_lacks_what_photographs_show():
    tiny = load("tiny")
    assert "'zebra'" in vocabulary.vocabulary_warning(tiny.tokenizer, CAPTIONS, "tiny")
    assert vocabulary.vocabulary_warning(tiny.tokenizer, ["a red apple left of a cat"], "tiny") == ""


def test_a_run_on_captions_of_ones_own_knows_which_words_it_has_never_seen(tmp_path):
    run = untrained()
    config = preset("tiny", objects=0, siblings=0, restyle=0, warm_steps=0)
    mine = Run(run.model, run.tokenizer, config, tmp_path)
    assert finder.unknown_words(mine, "a purple zebra") == [], "nobody knows, and nothing is said"
    vocabulary.record_words(tmp_path, RECORDS)
    assert finder.unknown_words(mine, "a purple Zebra, on grass") == ["purple"]
    hit = finder.search_texts(run, Path(__file__).parents[2] / "data" / "tiny" / "example.png",
                              [*CAPTIONS, "a purple zebra"])
    assert "no training caption says 'purple'" in finder.describe_hits(mine, "example.png", hit)


def test_what_is_tuned_knows_the_words_of_its_source_too_and_of_too_many_captions_nothing_is_recorded(
        tmp_path, monkeypatch):
    vocabulary.record_words(tmp_path / "tuned", RECORDS, frozenset({"purple"}))
    known = vocabulary.trained_words(tmp_path / "tuned", preset("base"))
    assert known is not None and {"purple", "zebra"} <= known
    vocabulary.record_words(tmp_path / "unknown", RECORDS, None)
    monkeypatch.setattr(vocabulary, "MOST", 2)
    vocabulary.record_words(tmp_path / "many", RECORDS)
    assert not (tmp_path / "unknown").exists() and not (tmp_path / "many").exists()


def test_other_weights_keep_no_words_of_those_before_them_and_damaged_ones_are_named(tmp_path):
    run = untrained()
    vocabulary.record_words(tmp_path, RECORDS)
    (tmp_path / "words.json").write_text("{")
    with pytest.raises(ValueError, match="words.json is damaged .*remove it"):
        vocabulary.trained_words(tmp_path, run.config)
    checkpoint.save(tmp_path, run.model, run.tokenizer)
    assert not (tmp_path / "words.json").exists()


@pytest.mark.parametrize("losses, guesses", [
    ([0.64] * 20, True), ([0.64] * 18 + [0.631, 0.629], True), ([0.64] * 18 + [0.5, 0.5], False), ([0.2] * 20, False),
    (["", 0.637], True), ([], False), (["", ""], False)])
def test_an_itm_that_ends_at_its_guessing_level_is_said_so(losses, guesses, tmp_path):
    assert pretrain.GUESSING == pytest.approx(-(math.log(1 / 3) + 2 * math.log(2 / 3)) / 3)
    if losses:
        with (tmp_path / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "seconds", "itm"])
            writer.writerows([[60 * i, i, loss] for i, loss in enumerate(losses, 1)])
    said = pretrain.still_guesses(tmp_path)
    assert bool(said) == guesses and ("guessing has 0.637" in said) == guesses


def test_of_a_run_of_a_few_steps_nothing_is_said(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,seconds,itm\n99,1,0.64\n", encoding="utf-8")
    assert pretrain.still_guesses(tmp_path) == ""
