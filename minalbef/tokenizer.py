"""Words to numbers: lower-case WordPiece, trained on your captions or read from BERT's vocabulary (section 3.1)."""
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from minalbef.writing import explain

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NORMALISER = normalizers.BertNormalizer(lowercase=True)
LONG_WORD = re.compile(r"\S{101,}")   # WordPiece reads no such word, and training on it takes quadratic time
SURROGATE = re.compile("[\ud800-\udfff]")
SHOWN = 60                            # letters of a text in an error


def clean(text: str, words: int = 30) -> str:
    """Lower-case, without punctuation, `-` and `/` as spaces, cut after so many words: as the original cleans."""
    text = re.sub(r"[,.'!?\"()*#:;~]", "", text.lower())
    text = text.replace("-", " ").replace("/", " ").replace("<person>", "person")
    text = re.sub(r"\s{2,}", " ", text).strip()
    return " ".join(text.split(" ")[:words])


def has_words(text: str) -> bool:
    """Whether word pieces are left of a text, which has lost its marks, control and zero-width characters.

    Raises ValueError for half of a surrogate pair, which JSON can hold and UTF-8 cannot.
    """
    if SURROGATE.search(text):
        raise ValueError(f"the text {excerpt(text)} has half of a surrogate pair, which is no character; "
                         "leave it out or mend it")
    return bool(NORMALISER.normalize_str(text).strip())


def excerpt(text: str) -> str:
    """How an error shows a text: its beginning, in quotes."""
    return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}... ({len(text):,} letters)"


class Tokenizer:
    """WordPiece with BERT's normaliser. Make one with `train`, `load` or `from_vocab`.

    pad, unk, cls, sep, mask: ids of the special tokens; len(tokenizer): the size of its vocabulary
    """

    def __init__(self, core: Core):
        self._core = core
        self.pad, self.unk, self.cls, self.sep, self.mask = self.special = _special_ids(core.get_vocab())

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn at most `vocab_size` word pieces from captions; the same captions give the same pieces."""
        texts = [NORMALISER.normalize_str(text) for text in map(clean, texts) if has_words(text)]
        texts = [LONG_WORD.sub("", text) for text in texts]
        core = _bert(models.WordPiece(unk_token="[UNK]"))
        letters = sorted(set("".join(texts)) - {" "})
        # the trainer numbers inner letters in the order of a hash table, and breaks ties by number: fix the numbers
        first = [*SPECIALS, *letters, *("##" + letter for letter in letters)]
        if len(first) > vocab_size:
            raise ValueError(f"vocab_size={vocab_size} has no room for the {len(first)} letters and special tokens of "
                             f"these captions; take at least {len(first)}")
        core.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=first,
                                                                  show_progress=False))
        return cls._from_pieces(core.get_vocab(with_added_tokens=True))

    @classmethod
    def from_vocab(cls, path: str | Path) -> "Tokenizer":
        """Read BERT's vocab.txt, one piece a line. Raises ValueError, which names the line, for a file that is none."""
        with explain(f"{path}: no readable vocabulary", "give BERT's vocab.txt", OSError, UnicodeError):
            pieces = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        lines: dict[str, int] = {}
        for i, piece in enumerate(pieces):
            if not piece or lines.setdefault(piece, i) != i:
                problem = f"repeats {piece!r} of line {lines[piece] + 1}" if piece else "is empty"
                raise ValueError(f"{path}: line {i + 1} {problem}; a vocabulary has one piece a line, each once")
        try:
            return cls._from_pieces(lines)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer.json. Raises ValueError where there is none that can be read."""
        with explain(f"{path}: no readable tokenizer.json", "copy it again", Exception):   # it raises nothing narrower
            return cls(Core.from_str(Path(path).read_text(encoding="utf-8")))

    def save(self, path: str | Path) -> None:
        """Write tokenizer.json, which Hugging Face's tokenizers read too."""
        Path(path).write_text(self._core.to_str(pretty=True), encoding="utf-8")

    def encode(self, texts: list[str], length: int = 25, truncate: bool = True, raw: bool = False,
               sep: bool = False) -> tuple[Tensor, Tensor]:
        """Captions -> tokens (b, l) and keep (b, l), False where padded; l is the longest of them, at most `length`.

        raw: leave out `clean`, so that punctuation makes pieces: BERT's way, and the original's for VQA's answers
        sep: end each text in [SEP], as those answers do, and as BERT does
        Raises ValueError for a caption without words and, with truncate=False, for one that is too long.
        """
        if isinstance(texts, str):
            raise ValueError(f"{excerpt(texts)} is one text, where a list of them is read; write [text]")
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"text {text!r} is of type {type(text).__name__} and must be a str")
        end, rows = [self.sep] if sep else [], []
        cleaned = [text if raw else clean(text, 30 if truncate else max(30, length)) for text in texts]
        if missing := [text for text, rest in zip(texts, cleaned) if not has_words(rest)]:
            raise ValueError(f"caption {excerpt(missing[0])} has no words; give it at least one")
        for text, encoded in zip(texts, self._core.encode_batch(cleaned, add_special_tokens=False)):
            ids = [self.cls, *encoded.ids, *end]
            if len(ids) > length and not truncate:
                raise ValueError(f"caption {excerpt(text)} has {len(ids)} tokens, [CLS] included, and the limit is "
                                 f"{length}; shorten it")
            rows.append(ids if len(ids) <= length else ids[:length - len(end)] + end)
        tokens = torch.full((len(rows), max(map(len, rows), default=0)), self.pad)
        for row, ids in zip(tokens, rows):
            row[:len(ids)] = torch.tensor(ids)
        return tokens, tokens != self.pad

    def decode(self, ids: Iterable[int]) -> str:
        """Ids of one text -> its words, without special tokens."""
        return self._core.decode([int(i) for i in ids])

    def tokens(self, text: str) -> list[str]:
        """The word pieces of a caption, without special tokens: "##" marks one that continues a word."""
        return self._core.encode(clean(text), add_special_tokens=False).tokens

    def __len__(self) -> int:
        return self._core.get_vocab_size()

    def digest(self) -> str:
        """A hash of the word pieces and their ids: equal where two tokenizers give the same ids."""
        pieces = sorted(self._core.get_vocab().items(), key=lambda item: item[1])
        text = "\n".join(f"{i} {piece}" for piece, i in pieces)
        return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()

    @classmethod
    def _from_pieces(cls, vocab: dict[str, int]) -> "Tokenizer":
        special = dict(zip(SPECIALS, _special_ids(vocab)))
        core = _bert(models.WordPiece(vocab, unk_token="[UNK]"))
        core.add_special_tokens(list(special))
        core.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=list(special.items()))
        return cls(core)


def _special_ids(vocab: dict[str, int]) -> tuple[int, ...]:
    if missing := [token for token in SPECIALS if token not in vocab]:
        raise ValueError(f"the vocabulary lacks {', '.join(missing)}; it needs {', '.join(SPECIALS)}")
    return tuple(vocab[token] for token in SPECIALS)


def _bert(model: models.Model) -> Core:
    core = Core(model)
    core.normalizer = NORMALISER
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    return core
