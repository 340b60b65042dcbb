"""`minalbef doctor`: what is wrong with a run, and what to do about it.

docs/losses.md says what losses are normal.
"""
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minalbef.config import Config
from minalbef.data import Record
from minalbef.datasets.loader import order
from minalbef.datasets.store import open_records
from minalbef.evaluation.intervals import Clusters, interval
from minalbef.evaluation.loop import unique
from minalbef.evaluation.ranking import Scores, encode_texts, inner_products, rank, true_pairs
from minalbef.recipes.pretrain import still_guesses
from minalbef.recipes.provenance import hashes_of, trained_on
from minalbef.recipes.sets import SPLIT, validation_records
from minalbef.recipes.vocabulary import count_words
from minalbef.scenes import questions
from minalbef.scenes.records import image_of
from minalbef.system import checkpoint
from minalbef.system.images import open_image, reads_upright
from minalbef.system.metrics import read_numbers
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.run import Run, load

LEAST = 20                            # images; a search among fewer says nothing
COLLAPSED = 0.2                       # different first answers, over as many as there could be
UNKNOWN = 0.001                       # share of the words
NO_LOSSES = ("step", "samples", "seconds", "lr", "alpha", "samples_per_second")


@dataclass
class Diagnosis:
    """What is wrong with a run; notes: what was looked at, and what couldn't be. A line each."""

    title: str
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        findings = [f"{number}. {line}" for number, line in enumerate(self.findings, 1)]
        if not findings:
            findings = ["Nothing is wrong that can be seen in what was looked at."]
        notes = [f"- {line}" for line in self.notes]
        return "\n".join([self.title, "", *findings, "", *notes])


def examine(run: str | Path, data: Sequence[str | Path] = (), number: int = 500) -> Diagnosis:
    """Look at a run's log and at samples of its captions, and search among their images.

    data: the prepared sets of its training; none for a run of scenes
    number: how many pairs to look at, of training and of validation
    Raises ValueError for a run that can't be read.
    """
    folder = checkpoint.run_folder(run)
    config, task, tokenizer, _, step = checkpoint.open_run(folder)
    progress = f"{config.steps:,} steps"
    if step is not None:
        progress = f"step {step:,} of {progress}: training hasn't ended"
    diagnosis = Diagnosis(f"{folder}: {task}, preset {config.name}, {progress}")
    note = diagnosis.notes.append
    look_at_log(diagnosis, folder, config)
    if task not in ("pretrain", "retrieval"):
        note(f"no captions, images and search: a run of {task} doesn't learn from pairs")
        return diagnosis
    if not data and not config.objects:
        note("no captions, images and search: name its set with --data")
        return diagnosis
    pairs: dict[str, Sequence[Record]] = {}
    if data:
        hashes = trained_on(folder)
        own = {*(hashes["pretrained"] or {}).values(), *hashes["tuned"].values()}
        if own and own.isdisjoint(hashes_of(data).values()):
            note(f"not its own training pairs: {', '.join(map(str, data))} isn't what it was "
                 "trained on, or was prepared again since")
        trained = open_records("retrieval", data, config.data_fraction)
        pairs["train"] = sample(trained, config, number)
        held_out = validation_records("retrieval", data)
        if held_out is None:
            note(f"no search among {SPLIT} pairs: the set has none, or the run was trained on them")
        else:
            pairs[SPLIT] = sample(held_out, config, number)
        look_at_words(diagnosis, [record.text for record in pairs["train"]], tokenizer)
    try:
        model = load(folder)
        model.require("image_proj", "text_proj")
    except ValueError as error:
        note(f"no search: {error}")
        return diagnosis
    if not data:
        for split in ("train", SPLIT):
            scenes = questions.plain(model, split, config.seed, number)
            pairs[split] = [Record(image_of(example.scene, config.image_size), example.text, i)
                            for i, example in enumerate(scenes)]
    look_at_searches(diagnosis, model, pairs)
    return diagnosis


def look_at_log(diagnosis: Diagnosis, folder: Path, config: Config) -> None:
    """The losses' means over the last tenth of the run: do ITC and ITM still guess?"""
    rows = read_numbers(folder / "metrics.csv")
    if not rows:
        diagnosis.notes.append(f"no log: {folder} has no metrics.csv")
        return
    losses = {}
    for name in dict.fromkeys(name for row in rows for name in row if name not in NO_LOSSES):
        values = [row[name] for row in rows if name in row]
        losses[name] = fmean(values[-max(1, len(values) // 10):])
    listing = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
    diagnosis.notes.append(f"the log, {len(rows):,} rows up to step {rows[-1]['step']:,.0f}; "
                           f"losses of its last tenth: {listing}")
    keys = config.batch // config.accumulate
    if config.queue_from < 1:
        keys += min(config.queue_size, config.steps * config.batch)
    if losses.get("itc", 0) >= 0.95 * math.log(keys):
        diagnosis.findings.append(
            f"ITC guesses: its loss ended at {losses['itc']:.2f}, and ln of the {keys:,} keys is "
            f"{math.log(keys):.2f}; train longer, try another lr (now {config.lr:g}), or begin "
            "with weights that know images (--vit)")
    if warning := still_guesses(folder):
        diagnosis.findings.append(warning)


def sample(records: Any, config: Config, number: int) -> list[Record]:
    """So many random records, always the same ones, without those whose image can't be read.

    Training lists these, in unreadable.txt.
    """
    upright = reads_upright(records, config)
    readable = []
    for i in order(len(records), 0, 0)[:number]:
        record = records[int(i)]
        try:
            open_image(record.image, upright)
        except ValueError:
            continue
        readable.append(record)
    return readable


def look_at_words(diagnosis: Diagnosis, texts: Sequence[str], tokenizer: Tokenizer) -> None:
    """Words that are read as [UNK]."""
    counts = count_words(texts)
    unknown = Counter({word: count for word, count in counts.items()
                       if "[UNK]" in tokenizer.tokens(word)})
    share = unknown.total() / max(1, counts.total())
    diagnosis.notes.append(f"{len(texts):,} training captions, {unknown.total():,} of their "
                           f"{counts.total():,} words unknown")
    if share > UNKNOWN:
        names = ", ".join(repr(word) for word, _ in unknown.most_common(3))
        diagnosis.findings.append(
            f"unknown words: {share:.1%} of the captions' words are read as [UNK], such as "
            f"{names}; without --vocab, `minalbef pretrain --data` learns word pieces from your "
            "captions")


class Search(NamedTuple):
    """Each caption of a sample searches the sample's images by ITC."""

    text: str                         # what was found, in words
    at_chance: bool                   # whether chance may give such a recall
    collapsed: bool                   # whether different captions find the same images


@torch.no_grad()
def search(run: Run, records: Sequence[Record]) -> Search:
    """Search the images of some pairs by each of their captions."""
    texts = [record.text for record in records]
    first, own = unique(record.id for record in records)
    image = run.embed_images([records[i].image for i in first])
    tokens, keep = run.tokenizer.encode(texts, run.config.text_length)
    text = run.model.text_feature(*encode_texts(run.model, tokens, keep))
    scores = Scores(inner_products(image, text).cpu())
    keys = torch.tensor([record.match_key for record in records])
    true = true_pairs(keys[first], keys)
    k = max(1, min(10, len(first) // 10))
    hits = rank(scores, true, (k,))[f"itc_t2i_r{k}"]
    guesses = rank(Scores(torch.zeros_like(scores.itc)), true, (k,))
    chance = guesses[f"itc_t2i_r{k}"].mean().item()
    low, _ = interval(Clusters(hits, own))       # captions of one image hang together
    rows, _ = unique(texts)                      # equal captions find equal images
    firsts = different_firsts(scores.itc.T[rows])
    words = (f"{len(rows):,} different captions find {firsts:,} different images first, of "
             f"{len(first):,}; R@{k} {hits.mean():.2f} (chance {chance:.2f})")
    at_chance = low <= chance + 1e-4             # an interval has four digits
    return Search(words, at_chance, firsts <= COLLAPSED * min(len(rows), len(first)))


def different_firsts(scores: Tensor) -> int:
    """How many different candidates come first for a query: (q, c) -> 1 to q."""
    return scores.argmax(1).unique().numel()


def look_at_searches(diagnosis: Diagnosis, run: Run, pairs: dict[str, Sequence[Record]]) -> None:
    """Is nothing found beyond chance, are only training pairs found, has ITC collapsed?"""
    searches = {}
    for split, records in pairs.items():
        images = len({record.id for record in records})
        if images < LEAST:
            diagnosis.notes.append(f"no search among {split} pairs: {images} images are too few")
            continue
        searches[split] = search(run, records)
        diagnosis.notes.append(f"a search among {split} pairs: {searches[split].text}")
    if SPLIT in searches and searches[SPLIT].at_chance:
        advice = "train longer, or try another lr"
        if "train" in searches and not searches["train"].at_chance:
            advice = ("training pairs are found, so they are memorised. Are captions shuffled, or "
                      "shifted by a row? Look at some beside their images. If they fit, it takes "
                      "more pairs, or trained weights to begin with")
        diagnosis.findings.append("nothing is learnt that holds for unseen pairs: "
                                  f"{searches[SPLIT].text}; {advice}")
    last = searches.get(SPLIT) or searches.get("train")
    if last is not None and last.collapsed:
        diagnosis.findings.append(f"ITC has collapsed: {last.text}; train longer, or take a lower "
                                  "lr or a larger batch")
