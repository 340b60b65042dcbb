import json
import subprocess
import sys

import pytest
import torch
from transformers import BertTokenizer

from minalbef.tokenizer import SPECIALS, Tokenizer, clean

CAPTIONS = ["a small lemon above a big donut", "On a red background, an apple to the left of two cats.",
            "there are three crabs in the top left corner", "a lemon is below an apple"]
WORDS = """the a cat dog un ##aff ##able run ##ning caf ##e i ##s ##n ##t well known 中 文 ##中 2 ##0 ##2 ##1 $ & < > [ ]
mask man riding wave u ß strasse o ##ne ^ `"""
AWKWARD = ["The cat!", "unaffable running", "Café CAFÉ cafe\u0301", "Isn't it well-known?", "中文 the 中", "2021 $20 & <b>",
           "tab\tand\nline", "a\u200bcat \u00a0dog", "straße", "[MASK] a [CLS] cat", "🍎 cat", "x" * 120, "^`_{|}", "i's #1"]


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIALS, *WORDS.split()]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("sep", [False, True])
def test_ids_are_those_of_transformers(vocab, sep):
    bert, ours = BertTokenizer(vocab=str(vocab)), Tokenizer.from_vocab(vocab, sep=sep)
    for text in AWKWARD:
        ids = bert(clean(text))["input_ids"]
        assert ids[-1] == bert.sep_token_id
        assert ours.encode([text])[0][0].tolist() == (ids if sep else ids[:-1]), text
    known = ours.encode(AWKWARD)[0]
    assert (known > 4).sum() > 40, "the check is blind: all unknown"


def test_captions_are_cleaned_as_by_the_original():
    """Its own answers, recorded from salesforce/ALBEF at b9727e4."""
    dog = "  The <person>'s \"dog\" (brown) is  running... fast; #happy ~ * : ?"
    assert clean(dog) == "the persons dog brown is running fast happy"
    assert clean(dog, words=3) == "the persons dog"
    assert clean("A man, riding a wave -- on top/of a surfboard!\n") == "a man riding a wave on top of a surfboard"
    assert clean("Isn't it a well-known U.S. place?") == "isnt it a well known us place"
    assert len(clean("word " * 40).split()) == 30


def test_a_trained_tokenizer_has_the_fixed_ids_and_gives_words_back():
    ours = Tokenizer.train(CAPTIONS * 9, 200)
    assert (ours.pad, ours.unk, ours.cls, ours.sep, ours.mask) == (0, 1, 2, 3, 4)
    tokens, keep = ours.encode(CAPTIONS[:2])
    assert tokens.dtype == torch.int64 and keep.dtype == torch.bool
    assert (tokens[:, 0] == 2).all() and not (tokens == 3).any()
    assert tokens.shape == (2, 13) and keep.sum(1).tolist() == [8, 13]          # the longest of the batch, no more
    assert [ours.decode(row) for row in tokens] == [clean(text) for text in CAPTIONS[:2]]
    assert ours.tokens("lemons") == ["lemon", "##s"]
    assert len(ours) <= 200


def test_training_gives_the_same_pieces_in_every_process():
    """The library's trainer alone does not: it numbers letters in the order of a hash table."""
    code = f"""import json; from minalbef import tokenizer
print(json.dumps(tokenizer.Tokenizer.train({CAPTIONS!r}, 110)._core.get_vocab(), sort_keys=True))"""
    outs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            for _ in range(2)}
    assert len(outs) == 1
    assert sorted(json.loads(outs.pop()).values()) == list(range(110))


def test_saved_and_loaded_it_is_the_same(tmp_path, vocab):
    for ours in (Tokenizer.train(CAPTIONS, 110), Tokenizer.from_vocab(vocab, sep=True)):
        ours.save(tmp_path / "tokenizer.json")
        again = Tokenizer.load(tmp_path / "tokenizer.json")
        assert torch.equal(ours.encode(CAPTIONS)[0], again.encode(CAPTIONS)[0])
        assert len(again) == len(ours)


def test_long_captions_are_cut_or_refused(vocab):
    ours = Tokenizer.from_vocab(vocab)
    assert ours.encode(["the cat " * 9], length=7)[0].shape == (1, 7)
    with_sep = Tokenizer.from_vocab(vocab, sep=True).encode(["the cat " * 9], length=7)[0][0]
    assert len(with_sep) == 7 and with_sep[-1] == 3
    with pytest.raises(ValueError, match="19 tokens.*limit is 7"):
        ours.encode(["the cat " * 9], length=7, truncate=False)


@pytest.mark.parametrize("empty", ["", "  ", "?!", "-/-", "\u200b"])
def test_a_caption_without_words_is_refused(vocab, empty):
    with pytest.raises(ValueError, match="no words"):
        Tokenizer.from_vocab(vocab).encode(["a cat", empty])


def test_files_that_are_no_vocabulary_are_refused(tmp_path):
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{")
    for path in (broken, tmp_path / "missing.json"):
        with pytest.raises(ValueError, match=path.name):
            Tokenizer.load(path)
    broken.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\ncat\n")
    with pytest.raises(ValueError, match=r"lacks \[MASK\]"):
        Tokenizer.from_vocab(broken)
    with pytest.raises(ValueError, match="no room"):
        Tokenizer.train(CAPTIONS, 20)
