"""Which words a run was trained on, recorded beside its weights; and what new texts say that its tokenizer lacks."""
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from emojiscenes.scenes import Scenes
from minalbef.checkpoint import WORDS
from minalbef.config import Config
from minalbef.datasets.loader import order
from minalbef.tokenizer import Tokenizer, clean
from minalbef.writing import explain, write_atomically

SAMPLE = 10_000                       # texts that show what a vocabulary lacks
MOST = 200_000                        # texts whose words are recorded, a matter of seconds; of more sets nothing is
SCENES = 5000                         # whose captions say every word of the grammar
FEW = 0.1                             # share of words without a piece below which nothing is said; BERT's lacks 7%
NAMED = 8                             # words that a warning names


def sample_texts(records: Sequence, seed: int, count: int = SAMPLE) -> list[str]:
    """Texts of so many records of a set, drawn by its seed; of a VQA record it is the question."""
    drawn = [records[int(i)] for i in order(len(records), seed, 0)[:count]]
    return [getattr(record, "text", None) or record.question for record in drawn]


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word stands in the texts."""
    return Counter(word for text in texts for word in clean(text).split())


def lacking(tokenizer: Tokenizer, texts: Sequence[str], source: str | Path) -> str:
    """A warning where a run's vocabulary has no piece of their own for many words of the texts; else ""."""
    counts = count_words(texts)
    strange: Counter[str] = Counter()
    unread = 0
    for word, count in counts.items():
        pieces = tokenizer.tokens(word)
        if pieces != [word]:
            strange[word] = count
        if "[UNK]" in pieces:
            unread += count
    total = counts.total()
    if strange.total() <= FEW * total:
        return ""
    named = ", ".join(repr(word) for word, _ in strange.most_common(NAMED))
    return (f"{strange.total() / total:.0%} of the words of these texts have no piece in the vocabulary of {source}, "
            f"such as {named}: {unread / total:.0%} are read as [UNK], the others are spelt in pieces, whose meaning "
            "is learnt from scratch; `minalbef pretrain --data` learns a vocabulary from your captions")


def record_words(folder: Path, records: Sequence, before: frozenset[str] | None = frozenset()) -> None:
    """Write the words of a run's training texts into its folder, unless they are too many.

    before: words that its source was trained on; None if they are unknown, and nothing is written
    """
    if before is None or len(records) > MOST:
        return
    words = sorted(before | count_words(sample_texts(records, 0, MOST)).keys())
    write_atomically(folder / WORDS, lambda path: path.write_text(json.dumps(words, indent=0) + "\n", "utf-8"))


def trained_words(run: str | Path, config: Config, scenes: int = SCENES) -> frozenset[str] | None:
    """All words that a run was trained on, as it recorded or as the scenes say; None where that is unknown.

    Raises ValueError for a damaged file.
    """
    path = Path(run) / WORDS
    if path.exists():
        with explain(f"{path} cannot be read", "remove it, or copy it again", OSError, ValueError, TypeError):
            return frozenset(json.loads(path.read_text(encoding="utf-8")))
    if not config.objects:
        return None
    source = Scenes("train", seed=config.seed, objects=config.objects)
    return frozenset(count_words(source.draw(i).text for i in range(scenes)))
