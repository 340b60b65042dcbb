"""The words that a run was trained on, recorded beside its weights, and gaps in its vocabulary."""
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from emojiscenes.scenes import Scenes
from minalbef.checkpoint import WORDS
from minalbef.config import Config
from minalbef.datasets.loader import order
from minalbef.evaluation.loop import Records
from minalbef.tokenizer import Tokenizer, clean
from minalbef.writing import check_texts, read_json, write_atomically

SAMPLE = 10_000                       # texts that show what a vocabulary lacks
MOST = 200_000                        # texts whose words are recorded in seconds; of more none
SCENES = 5000                         # whose captions contain every word of the grammar
FEW = 0.1                             # share of words without a piece that is usual; BERT's is 7%
NAMES = 8                             # words that a warning lists


def sample_texts(records: Records, seed: int, count: int = SAMPLE) -> list[str]:
    """Texts of so many random records of a set; of a VQA record it is the question."""
    texts = []
    for i in order(len(records), seed, 0)[:count]:
        record = records[int(i)]
        texts.append(getattr(record, "text", "") or getattr(record, "question", ""))
    return texts


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
    text = json.dumps(words, indent=0) + "\n"
    write_atomically(folder / WORDS, lambda path: path.write_text(text, encoding="utf-8"))


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
