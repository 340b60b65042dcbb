"""WordPiece tokenizer, trained on your captions or with BERT's vocabulary (section 3.1)."""
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from minalbef.system.writing import require_file, restate

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NORMALISER = normalizers.BertNormalizer(lowercase=True)
LONG_WORD = re.compile(r"\S{101,}")   # unknown to WordPiece; training on it takes quadratic time
SURROGATE = re.compile("[\ud800-\udfff]")
EXCERPT = 60                          # letters of a text in an error


def clean(text: str, words: int = 30) -> str:
    """Lower-case, without punctuation, `-` and `/` as spaces, at most `words` words.

    As the original's pre_caption.
    """
    text = re.sub(r"[,.'!?\"()*#:;~]", "", text.lower())
    text = text.replace("-", " ").replace("/", " ").replace("<person>", "person")
    text = re.sub(r"\s{2,}", " ", text).strip()
    return " ".join(text.split(" ")[:words])


def has_words(text: str) -> bool:
    """Whether a text has any word pieces, once control and zero-width characters are removed.

    Raises ValueError for half of a surrogate pair, which JSON can hold and UTF-8 cannot.
    """
    if SURROGATE.search(text):
        raise ValueError(f"the text {excerpt(text)} has half of a surrogate pair, which is not a "
                         "character; leave it out or correct it")
    return bool(NORMALISER.normalize_str(text).strip())


def excerpt(text: str) -> str:
    """The beginning of a text, in quotes, for an error message."""
    if len(text) <= EXCERPT:
        return repr(text)
    return f"{text[:EXCERPT]!r}... ({len(text):,} letters)"


class Tokenizer:
    """WordPiece with BERT's normaliser. Make one with `train`, `load` or `from_vocab`.

    pad, unk, cls, sep, mask: ids of the special tokens, which `special` has together
    len(tokenizer): the size of its vocabulary
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.special = _special_ids(core.get_vocab())
        self.pad, self.unk, self.cls, self.sep, self.mask = self.special

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn at most `vocab_size` word pieces; the same captions give the same pieces."""
        captions = []
        for text in map(clean, texts):
            if has_words(text):
                captions.append(LONG_WORD.sub("", NORMALISER.normalize_str(text)))
        letters = sorted(set("".join(captions)) - {" "})
        # the trainer would number inner letters in the order of a hash table, and breaks ties by
        # number; as special tokens they get fixed numbers
        alphabet = [*SPECIALS, *letters]
        alphabet += ["##" + letter for letter in letters]
        if len(alphabet) > vocab_size:
            raise ValueError(f"vocab_size={vocab_size} has no room for the {len(alphabet)} letters "
                             "and special tokens of these captions; "
                             f"take at least {len(alphabet)}")
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size, special_tokens=alphabet, show_progress=False)
        core = _bert(models.WordPiece(unk_token="[UNK]"))
        core.train_from_iterator(captions, trainer)
        return cls._from_pieces(core.get_vocab(with_added_tokens=True))

    @classmethod
    def from_vocab(cls, path: str | Path) -> "Tokenizer":
        """Read BERT's vocab.txt, which has a piece per line. Raises ValueError for another file."""
        way_out = "give BERT's vocab.txt, which has each piece once"
        with restate(f"{path}: no readable vocabulary", way_out, OSError, ValueError):
            text = Path(path).read_text(encoding="utf-8")
            vocab: dict[str, int] = {}
            for i, piece in enumerate(text.removesuffix("\n").split("\n")):
                if not piece or piece in vocab:
                    raise ValueError(f"line {i + 1} is {piece!r}, empty or there before")
                vocab[piece] = i
            return cls._from_pieces(vocab)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer.json. Raises ValueError if it is missing or can't be read."""
        # the library raises nothing narrower
        with restate(f"{path} is damaged", "copy it again", Exception):
            require_file(Path(path))
            core = Core.from_str(Path(path).read_text(encoding="utf-8"))
            # not the file's normaliser and the like, which `digest` doesn't cover
            return cls._from_pieces(core.get_vocab())

    def save(self, path: str | Path) -> None:
        """Write tokenizer.json, in the format of Hugging Face's tokenizers."""
        Path(path).write_text(self._core.to_str(pretty=True), encoding="utf-8")

    def encode(self, texts: list[str], length: int = 25, truncate: bool = True, raw: bool = False,
               sep: bool = False) -> tuple[Tensor, Tensor]:
        """Captions -> tokens (b, l) and keep (b, l), False at padding; l is the longest's length.

        length: at most so many tokens, [CLS] included
        raw: skip `clean`, so that punctuation makes pieces: as BERT, and as the original for
            VQA's answers
        sep: end each text with [SEP], as those answers and BERT do
        Raises ValueError for a caption without words; with truncate=False, also if one is too long.
        """
        _check_texts(texts)
        words = 30 if truncate else max(30, length)
        cleaned = [text if raw else clean(text, words) for text in texts]
        for original, text in zip(texts, cleaned):
            if not has_words(text):
                raise ValueError(f"caption {excerpt(original)} has no words; give it at least one")
        end = [self.sep] if sep else []
        rows = []
        encodings = self._core.encode_batch(cleaned, add_special_tokens=False)
        for text, encoding in zip(texts, encodings):
            ids = [self.cls, *encoding.ids, *end]
            if len(ids) > length:
                if not truncate:
                    raise ValueError(f"caption {excerpt(text)} has {len(ids)} tokens, [CLS] "
                                     f"included, and the limit is {length}; shorten it")
                ids = ids[:length - len(end)] + end
            rows.append(ids)
        longest = max(map(len, rows), default=0)
        padded = [ids + [self.pad] * (longest - len(ids)) for ids in rows]
        tokens = torch.tensor(padded, dtype=torch.long).view(len(rows), longest)
        return tokens, tokens != self.pad

    def decode(self, ids: Iterable[int]) -> str:
        """The ids of a text -> its words, without special tokens."""
        return self._core.decode([int(i) for i in ids])

    def tokens(self, text: str) -> list[str]:
        """The word pieces of a caption; "##" marks those inside a word. No special tokens."""
        return self._core.encode(clean(text), add_special_tokens=False).tokens

    def __len__(self) -> int:
        return self._core.get_vocab_size()

    def digest(self) -> str:
        """A hash of the word pieces and their ids, equal for tokenizers that give equal ids."""
        pieces = sorted(self._core.get_vocab().items(), key=lambda item: item[1])
        text = "\n".join(f"{i} {piece}" for piece, i in pieces)
        return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()

    @classmethod
    def _from_pieces(cls, vocab: dict[str, int]) -> "Tokenizer":
        special = dict(zip(SPECIALS, _special_ids(vocab)))
        core = _bert(models.WordPiece(vocab, unk_token="[UNK]"))
        core.add_special_tokens(list(special))
        core.post_processor = processors.TemplateProcessing(
            single="[CLS] $A", special_tokens=list(special.items()))
        return cls(core)


def _check_texts(texts: list[str]) -> None:
    """Raises ValueError for what is not a list of strings."""
    if isinstance(texts, str):
        raise ValueError(f"{excerpt(texts)} is a text, and must be a list of texts; write [text]")
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"text {text!r} is of type {type(text).__name__} and must be a str")


def _special_ids(vocab: dict[str, int]) -> tuple[int, ...]:
    """The ids of SPECIALS, in that order."""
    missing = [token for token in SPECIALS if token not in vocab]
    if missing:
        raise ValueError(f"the vocabulary lacks {', '.join(missing)}; "
                         f"it needs {', '.join(SPECIALS)}")
    return tuple(vocab[token] for token in SPECIALS)


def _bert(model: models.Model) -> Core:
    """A tokenizer that normalises and splits as BERT's."""
    core = Core(model)
    core.normalizer = NORMALISER
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    return core
