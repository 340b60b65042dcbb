"""What `minalbef doctor` reads of a run: its log, settings, captions, images, and a search.

Nothing is judged here; recipes/doctor.py does that.
"""
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minalbef import checkpoint
from minalbef.checkpoint import part_of
from minalbef.config import Config
from minalbef.data import Record, Upright, changes_upright, open_image, reads_upright
from minalbef.datasets.loader import order
from minalbef.datasets.store import open_records, place_of, read_about
from minalbef.evaluation import ranking
from minalbef.evaluation.loop import unique
from minalbef.evaluation.validation import TABLE
from minalbef.masking import mask_rates
from minalbef.metrics import read_table
from minalbef.recipes.provenance import hash_of, hashes_of, trained_on
from minalbef.recipes.validate import SPLIT, validation_records
from minalbef.recipes.vocabulary import Cut, count_cut, count_words
from minalbef.run import Run, load
from minalbef.scenes import questions
from minalbef.scenes.records import image_of
from minalbef.tokenizer import Tokenizer
from minalbef.writing import restate

PREPARED = Path("prepared")           # where `minalbef prepare` writes without --out
SEARCHABLE = ("pretrain", "retrieval")           # tasks whose model is for ranking
LEAST = 20                            # images and captions; a search among fewer says nothing
BLANK = 4                             # grey levels: an image whose colours spread less is blank
Row = dict[str, float]


@dataclass(frozen=True)
class Words:
    """A sample of the training captions, as the run's tokenizer reads them."""

    captions: int
    total: int                        # words
    unknown: Counter[str]             # those that are read as [UNK], and how often
    entropy: float                    # of the words that MLM masks, in nats
    cut: Cut = Cut(0, 0)              # what training doesn't read of them


@dataclass(frozen=True)
class Images:
    """A sample of the training images, by file name."""

    opened: int
    transparent: tuple[str, ...]
    blank: tuple[str, ...]            # nearly one colour, once opened as in training
    tiny: tuple[str, ...]             # enlarged to more than twice their size


@dataclass(frozen=True)
class Search:
    """Each caption searches the images of a sample by ITC's similarity.

    Its own image competes with those that it isn't true of.
    """

    texts: int                        # different captions
    images: int
    firsts: int                       # different images that came first
    favourite: float                  # share of the captions that found the commonest of them
    place: float                      # of a caption's image, on average, from 1
    recall: float                     # share of captions with their image among the first k
    k: int
    right: float = 1.0                # images that a caption is true of, on average


@dataclass(frozen=True)
class Evidence:
    """What was read of a run; None, or no rows: it couldn't be read, `missing` says why."""

    folder: Path
    task: str
    config: Config
    step: int | None                  # of the weights, if training hasn't ended
    temperature: float | None = None
    log: Sequence[Row] = ()           # metrics.csv
    validation: Sequence[Row] = ()    # validation.csv
    words: Words | None = None
    images: Images | None = None
    seen: Search | None = None        # among training pairs
    unseen: Search | None = None      # among validation pairs
    missing: dict[str, str] = field(default_factory=dict)


def read_evidence(run: str | Path, data: Sequence[str | Path] = (), number: int = 500) -> Evidence:
    """Read a run, and samples of what it was trained and validated on.

    data: the prepared sets of its training; by default those in prepared/ that it names
    number: how many captions, and how many images, to look at
    Raises ValueError for a run that can't be read.
    """
    folder = checkpoint.run_folder(run)
    config, task, tokenizer, weights, step = checkpoint.open_run(folder)
    missing: dict[str, str] = {}
    known: dict[str, Any] = {
        "log": read_numbers(folder / "metrics.csv"),
        "validation": read_numbers(folder / TABLE),
    }
    for name, value in weights.items():
        if part_of(name) == "temperature":
            known["temperature"] = value.item()
    if not known["log"]:
        missing["the log"] = f"{folder} has no metrics.csv"
    if not known["validation"]:
        missing["validation.csv"] = "nothing was validated during training"
    if task in SEARCHABLE:
        known |= read_pairs(folder, config, tokenizer, data, number, missing)
    else:
        missing["captions, images and a search"] = f"a run of {task} doesn't learn from pairs"
    return Evidence(folder, task, config, step, missing=missing, **known)


def read_numbers(path: Path) -> list[Row]:
    """A table's rows as numbers, without the cells that are empty; no rows without the file.

    Raises ValueError for a damaged file.
    """
    with restate(f"{path} is damaged", "copy it again, or remove it", ValueError):
        rows = read_table(path, ("step",))
        return [{name: float(value) for name, value in row.items() if value} for row in rows]


# the pairs


def read_pairs(folder: Path, config: Config, tokenizer: Tokenizer, data: Sequence[str | Path],
               number: int, missing: dict[str, str]) -> dict[str, Any]:
    """Words, images and searches, as fields of Evidence, of the pairs that a run knows.

    missing: what isn't there, and why; this function adds to it
    """
    run = None
    try:
        run = load(folder)
        run.require("image_proj", "text_proj")
    except ValueError as error:                  # with an encoder of yours, say
        missing["a search"] = str(error)
    known: dict[str, Any] = {}
    train: list[Record] | None = None
    validation: list[Record] | None = None
    if config.objects and not data:
        if run is not None:
            train, validation = [scene_pairs(run, split, number) for split in ("train", SPLIT)]
    elif data := find_sets(folder, data, missing):
        train = sample(open_records("retrieval", data, config.share), config, number)
        validation = held_out_pairs(data, config, number, missing)
        known["images"] = inspect_images(train, config)
    if train:
        known["words"] = read_words([record.text for record in train], tokenizer, config)
    if run is not None:
        known["seen"] = search(run, train, missing, "training")
        known["unseen"] = search(run, validation, missing, "validation")
    return known


def find_sets(folder: Path, data: Sequence[str | Path], missing: dict[str, str]
              ) -> Sequence[str | Path]:
    """The prepared sets that a run was trained on: `data`, or those in prepared/ with its records.

    missing: see `read_pairs`
    """
    record = trained_on(folder)
    hashes = {*(record["pretrained"] or {}).values(), *record["tuned"].values()}
    if data:
        if hashes and not hashes & {*hashes_of(data).values()}:
            missing["its own training pairs"] = (
                f"{', '.join(map(str, data))} isn't what it was trained on, or was prepared again "
                "since")
        return data
    found = []
    for about in sorted(PREPARED.glob("*/about.json")):
        with suppress(ValueError, OSError):      # a damaged set, which is none of ours
            for split in read_about(about.parent)["splits"]:
                if hash_of(about.parent, split) in hashes:
                    found.append(about.parent / split)
    if not found:
        missing["captions, images and a search"] = (
            f"nothing in {PREPARED}/ is what it was trained on; name its set with --data")
    return found


def held_out_pairs(data: Sequence[str | Path], config: Config, number: int,
                   missing: dict[str, str]) -> list[Record] | None:
    """A sample of the validation split that goes with a run's training sets; None without one.

    missing: see `read_pairs`
    """
    records = validation_records("retrieval", data)
    if records is None:
        missing["a search among validation pairs"] = (
            f"{place_of(data[0])[0]} has no validation split, or the run was trained on it")
        return None
    return sample(records, config, number)


def scene_pairs(run: Run, split: str, number: int) -> list[Record]:
    """Embedded scenes with their captions."""
    size = run.config.image_size
    examples = questions.plain(run, split, run.config.seed, number)
    return [Record(image_of(example.scene, size), example.text, i)
            for i, example in enumerate(examples)]


def sample(records: Any, config: Config, number: int) -> list[Record]:
    """So many random records, always the same ones, without those whose image can't be read."""
    upright = reads_upright(records, config)
    readable = []
    for i in order(len(records), 0, 0)[:number]:
        record = records[int(i)]
        with suppress(ValueError):               # training replaces and lists them
            open_image(record.image, upright)
            readable.append(record)
    return readable


# what is measured of them


def read_words(texts: Sequence[str], tokenizer: Tokenizer, config: Config) -> Words:
    """Words that are read as [UNK] or cut, and the entropy of the words that MLM masks."""
    counts = count_words(texts)
    unknown = Counter({word: count for word, count in counts.items()
                       if "[UNK]" in tokenizer.tokens(word)})
    tokens, keep = tokenizer.encode(list(texts), config.text_length)
    rates = mask_rates(tokens, keep, len(tokenizer), config.mask_rate, config.mask_power)
    masked = rates * torch.bincount(tokens[keep], minlength=len(tokenizer))
    masked[list(tokenizer.special)] = 0
    share = masked[masked > 0] / masked.sum()
    entropy = -(share * share.log()).sum().item()
    return Words(len(texts), counts.total(), unknown, entropy,
                 count_cut(texts, tokenizer, config.text_length))


def inspect_images(records: Sequence[Record], config: Config) -> Images:
    """Which images may be transparent, blank once they are opened, or tiny."""
    transparent, blank, tiny = [], [], []
    images = dict.fromkeys(record.image for record in records)
    for image in images:
        source: Any = image.source if isinstance(image, Upright) else image
        name = str(getattr(source, "name", source))
        picture = open_image(image, config.upright)
        if changes_upright(source)[0]:
            transparent.append(name)
        if np.asarray(picture).std((0, 1)).max() < BLANK:
            blank.append(name)
        if 2 * min(picture.size) < config.image_size:
            tiny.append(name)
    return Images(len(images), tuple(transparent), tuple(blank), tuple(tiny))


@torch.no_grad()
def search(run: Run, records: Sequence[Record] | None, missing: dict[str, str], split: str
           ) -> Search | None:
    """Search a sample of a split's pairs; None where there are none, or too few.

    missing: see `read_pairs`
    """
    if records is None:
        return None
    texts = [record.text for record in records]
    first, own = unique(record.id for record in records)
    if len(first) < LEAST:
        missing[f"a search among {split} pairs"] = f"{len(first)} images are too few"
        return None
    image = run.embed_images([records[i].image for i in first])
    tokens, keep = run.tokenizer.encode(texts, run.config.text_length)
    text = run.model.text_feature(*ranking.encode_texts(run.model, tokens, keep))
    keys = torch.tensor([record.match_key for record in records])
    return places(ranking.inner_products(text, image), own, texts, keys[:, None] == keys[first])


def places(sim: Tensor, own: Tensor, texts: Sequence[str], true: Tensor | None = None) -> Search:
    """What a search found.

    sim: (t, i); own: (t,), each text's image
    true: (t, i) bool, the text is true of the image; None: of its own alone
    """
    t, i = sim.shape
    if true is None:
        true = own[:, None] == torch.arange(i)
    score = sim.gather(1, own[:, None])
    wrong = ~true
    ahead = (wrong & (sim > score)).sum(1)
    tied = (wrong & (sim == score)).sum(1)
    place = 1 + ahead + tied / 2                                                 # (t,)
    rows, _ = unique(texts)                      # equal captions find equal images
    counts = Counter(sim[rows].argmax(1).tolist())
    k = max(1, min(10, i // 10))
    hits = ((k - ahead) / (tied + 1)).clamp(0, 1)                # ties in random order
    return Search(len(rows), i, len(counts), counts.most_common(1)[0][1] / len(rows),
                  place.mean().item(), hits.mean().item(), k, true.sum(1).float().mean().item())
