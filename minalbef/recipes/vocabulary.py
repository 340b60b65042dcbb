"""The words of captions: recorded beside a run's weights, lacking in its vocabulary, or cut."""
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from emojiscenes.scenes import Scenes
from minalbef.config import Config
from minalbef.datasets.loader import order
from minalbef.evaluation.loop import Records
from minalbef.system.checkpoint import WORDS
from minalbef.system.tokenizer import Tokenizer, clean
from minalbef.system.writing import check_texts, read_json, write_text

SAMPLE = 10_000                       # texts that show what a vocabulary lacks
LOOKED_AT = 4_000                     # captions whose length is looked at
MOST = 200_000                        # texts whose words are recorded in seconds; of more none
SCENES = 5000                         # whose captions contain every word of the grammar
FEW = 0.1                             # share of words without a piece that is usual; BERT's is 7%
NAMES = 8                             # words that a warning lists


def sample_texts(records: Records, seed: int, count: int = SAMPLE) -> list[str]:
    """Texts of so many random records of a set; of a VQA record it is the question."""
    texts: list[str] = []
    for i in order(len(records), seed, 0)[:count]:
        record: Any = records[int(i)]
        if hasattr(record, "texts"):             # a choice's
            texts += record.texts
        else:
            texts.append(record.text if hasattr(record, "text") else record.question)
    return texts


class Cut(NamedTuple):
    """What a model doesn't read of its texts, as shares."""

    texts: float                      # that are longer than it reads
    words: float                      # that are lost by it, of all words


def count_cut(texts: Iterable[str], tokenizer: Tokenizer, length: int) -> Cut:
    """What Tokenizer.encode cuts of texts, at 30 words and at `length` tokens, [CLS] included."""
    pieces: dict[str, int] = {}
    count = cut = total = lost = 0
    for text in texts:
        room = length - 1
        read = 0
        for word in clean(text).split():
            if word not in pieces:
                pieces[word] = len(tokenizer.tokens(word))
            room -= pieces[word]
            if room < 0:
                break
            read += 1
        words = len(clean(text, len(text)).split())
        count += 1
        cut += words > read
        total += words
        lost += words - read
    return Cut(cut / max(count, 1), lost / max(total, 1))


def cut_warning(records: Records, tokenizer: Tokenizer, length: int) -> str:
    """A warning if a set's texts are longer than `length` tokens or 30 words, or "".

    Of a large set, LOOKED_AT records are looked at.
    """
    cut = count_cut(sample_texts(records, 0, LOOKED_AT), tokenizer, length)
    if not cut.texts:
        return ""
    sample = f" (of {LOOKED_AT:,} records)" if len(records) > LOOKED_AT else ""
    return (f"{cut.texts:.1%} of the texts are cut, and {cut.words:.1%} of their words lost: at "
            f"most 30 words and {length} tokens are read, so texts that differ only behind them "
            f"are the same to the model{sample}")


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs in the texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(clean(text).split())
    return counts


def vocabulary_warning(tokenizer: Tokenizer, texts: Iterable[str], source: str | Path) -> str:
    """A warning if a run's vocabulary lacks many words of the texts, or "".

    source: the run
    """
    counts = count_words(texts)
    split: Counter[str] = Counter()
    unknown = 0
    for word, count in counts.items():
        pieces = tokenizer.tokens(word)
        if pieces != [word]:
            split[word] = count
        if "[UNK]" in pieces:
            unknown += count
    total = counts.total()
    if split.total() <= FEW * total:
        return ""
    names = ", ".join(repr(word) for word, _ in split.most_common(NAMES))
    return (f"{split.total() / total:.0%} of the words of these texts have no piece in the "
            f"vocabulary of {source}, such as {names}: {unknown / total:.0%} are read as [UNK], "
            "the others are spelt in pieces, whose meaning is learnt from scratch; "
            "`minalbef pretrain --data` learns a vocabulary from your captions")


def record_words(folder: Path, records: Records,
                 before: frozenset[str] | None = frozenset()) -> None:
    """Write the words of a run's training texts into its folder, unless there are too many texts.

    before: words that its source was trained on; if they are unknown (None), nothing is written
    """
    if before is None or len(records) > MOST:
        return
    words = sorted(before | count_words(sample_texts(records, 0, MOST)).keys())
    write_text(folder / WORDS, json.dumps(words, indent=0) + "\n")


def trained_words(run: str | Path, config: Config,
                  scenes: int = SCENES) -> frozenset[str] | None:
    """All words that a run was trained on, as it recorded them or by its scenes' captions.

    None if they are unknown. Raises ValueError for a damaged file.
    """
    path = Path(run) / WORDS
    if path.exists():
        return frozenset(read_json(path, "remove it, or copy it again", check_texts))
    if not config.objects:
        return None
    source = Scenes("train", seed=config.seed, objects=config.objects)
    return frozenset(count_words(source.draw(i).text for i in range(scenes)))
