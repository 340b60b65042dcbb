"""Words that a run can't know, and captions that are cut."""
from pathlib import Path

import pytest

from minalbef.data import Record
from minalbef.presets import preset
from minalbef.recipes import search as finder
from minalbef.recipes import vocabulary
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.run import Run
from untrained import untrained

CAPTIONS = ["a zebra on wet grass", "two zebras, grazing", "a red apple"]
RECORDS = [Record(Path("picture.jpg"), text, i) for i, text in enumerate(CAPTIONS)]


def test_what_is_cut_is_what_the_tokenizer_does_not_read():
    tokenizer = Tokenizer.train(["a red cat, zebras on wet grass"] * 3, 64)
    words = "a red cat zebras on wet grass".split()
    long = " ".join(words * 5)                                   # 35 words
    assert vocabulary.count_cut(["A red cat!", "a cat"], tokenizer, 8) == (0, 0)
    assert vocabulary.count_cut([long, "a cat"], tokenizer,
                                500) == (0.5, 5 / 37), "30 words are read"
    assert vocabulary.count_cut([long, "a red cat"], tokenizer,
                                3) == (1.0, (33 + 1) / 38), "two tokens and [CLS]"
    for length in range(2, 40):
        share = vocabulary.count_cut([long], tokenizer, length).words
        words_kept = tokenizer.decode(tokenizer.encode([long], length)[0][0].tolist()).split()
        assert share == pytest.approx(1 - len(words_kept) / 35)
    spelt = vocabulary.count_cut(["a zzz cat", "a"], Tokenizer.train(["z a cat"] * 3, 64), 4)
    assert spelt == (0.5, 0.5), "a word that is read in part is lost, and what comes after it"


def test_a_run_on_captions_of_ones_own_knows_which_words_it_has_never_seen(tmp_path):
    run = untrained()
    config = preset("tiny", objects=0, siblings=0, restyle=0, warm_steps=0)
    own_run = Run(run.model, run.tokenizer, config, tmp_path)
    assert finder.unknown_words(own_run,
                                "a purple zebra") == [], "nobody knows, and nothing is said"
    vocabulary.record_words(tmp_path, RECORDS)
    assert finder.unknown_words(own_run, "a purple Zebra, on grass") == ["purple"]
    hit = finder.search_texts(run, Path(__file__).parents[2] / "data" / "tiny" / "example.png",
                              [*CAPTIONS, "a purple zebra"])
    assert "no training caption says 'purple'" in finder.describe_hits(own_run, "example.png",
                                                                       hit)
