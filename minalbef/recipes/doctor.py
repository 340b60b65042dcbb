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
from minalbef.recipes.vocabulary import count_cut, count_words, describe_cut
from minalbef.scenes import questions
from minalbef.scenes.records import image_of
from minalbef.system import checkpoint
from minalbef.system.images import open_image, reads_upright
from minalbef.system.metrics import read_numbers
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.run import Run, load

SEARCHABLE = ("pretrain", "retrieval")           # tasks whose model is for ranking
LEAST = 20                            # images; a search among fewer says nothing
COLLAPSED = 0.2                       # different first answers, over as many as there could be
UNKNOWN = 0.001                       # share of the words
UNUSUAL = 0.02                        # share of the captions
NAMES = 3                             # examples in a line
NO_LOSSES = ("step", "samples", "seconds", "lr", "alpha", "samples_per_second")


@dataclass
class Diagnosis:
    """What is wrong with a run; notes: what was looked at, and what couldn't be. A line each."""

    folder: Path
    task: str
    config: Config
    step: int | None                  # of the weights, if training hasn't ended
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        progress = f"{self.config.steps:,} steps"
        if self.step is not None:
            progress = f"step {self.step:,} of {progress}: training hasn't ended"
        lines = [f"{self.folder}: {self.task}, preset {self.config.name}, {progress}", ""]
        for number, line in enumerate(self.findings, 1):
            lines.append(f"{number}. {line}")
        if not self.findings:
            lines.append("Nothing is wrong that can be seen in what was looked at.")
        lines.append("")
        for line in self.notes:
            lines.append(f"- {line}")
        return "\n".join(lines)


def examine(run: str | Path, data: Sequence[str | Path] = (), number: int = 500) -> Diagnosis:
    """Look at a run's log, at samples of its captions and images, and search among these.

    data: the prepared sets of its training; none for a run of scenes
    number: how many pairs to look at, of training and of validation
    Raises ValueError for a run that can't be read.
    """
    folder = checkpoint.run_folder(run)
    config, task, tokenizer, _, step = checkpoint.open_run(folder)
    diagnosis = Diagnosis(folder, task, config, step)
    note = diagnosis.notes.append
    look_at_log(diagnosis)
    if task not in SEARCHABLE:
        note(f"no captions, images and search: a run of {task} doesn't learn from pairs")
        return diagnosis
    pairs: dict[str, list[Record]] = {}
    if data:
        hashes = trained_on(folder)
        own = {*(hashes["pretrained"] or {}).values(), *hashes["tuned"].values()}
        if own and own.isdisjoint(hashes_of(data).values()):
            note(f"not its own training pairs: {', '.join(map(str, data))} isn't what it was "
                 "trained on, or was prepared again since")
        trained = open_records("retrieval", data, config.data_fraction)
        pairs["train"] = sample(diagnosis, trained, number)
        held_out = validation_records("retrieval", data)
        if held_out is None:
            note(f"no search among {SPLIT} pairs: the set has none, or the run was trained on them")
        else:
            pairs[SPLIT] = sample(diagnosis, held_out, number)
        look_at_captions(diagnosis, [record.text for record in pairs["train"]], tokenizer)
    elif not config.objects:
        note("no captions, images and search: name its set with --data")
        return diagnosis
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


def look_at_log(diagnosis: Diagnosis) -> None:
    """The losses' means over the last tenth of the run: do ITC and ITM still guess?"""
    config = diagnosis.config
    rows = read_numbers(diagnosis.folder / "metrics.csv")
    if not rows:
        diagnosis.notes.append(f"no log: {diagnosis.folder} has no metrics.csv")
        return
    losses = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if name not in NO_LOSSES:
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
    if warning := still_guesses(diagnosis.folder):
        diagnosis.findings.append(warning)


def sample(diagnosis: Diagnosis, records: Any, number: int) -> list[Record]:
    """So many random records, always the same ones, without those whose image can't be read."""
    upright = reads_upright(records, diagnosis.config)
    readable = []
    errors = []
    for i in order(len(records), 0, 0)[:number]:
        record = records[int(i)]
        try:
            open_image(record.image, upright)
        except ValueError as error:
            errors.append(error)
        else:
            readable.append(record)
    if errors:
        diagnosis.findings.append(
            f"unreadable images: {len(errors):,} of {len(errors) + len(readable):,} records, such "
            f"as {errors[0]}; training leaves them out: mend them, and prepare the set again")
    return readable


def look_at_captions(diagnosis: Diagnosis, texts: Sequence[str], tokenizer: Tokenizer) -> None:
    """Words that are read as [UNK], and captions that are longer than the model reads."""
    counts = count_words(texts)
    length = diagnosis.config.text_length
    unknown = Counter({word: count for word, count in counts.items()
                       if "[UNK]" in tokenizer.tokens(word)})
    share = unknown.total() / max(1, counts.total())
    diagnosis.notes.append(f"{len(texts):,} training captions, {unknown.total():,} of their "
                           f"{counts.total():,} words unknown")
    if share > UNKNOWN:
        names = ", ".join(repr(word) for word, _ in unknown.most_common(NAMES))
        diagnosis.findings.append(
            f"unknown words: {share:.1%} of the captions' words are read as [UNK], such as "
            f"{names}; without --vocab, `minalbef pretrain --data` learns word pieces from your "
            "captions")
    cut = count_cut(texts, tokenizer, length)
    if cut.texts > UNUSUAL:
        diagnosis.findings.append(
            f"captions are cut: {describe_cut(cut, length)}; write what tells images apart at "
            "the beginning, or several captions for an image")


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
    name = f"itc_t2i_r{k}"
    hits = rank(scores, true, (k,))[name]
    chance = rank(Scores(torch.zeros_like(scores.itc)), true, (k,))[name].mean().item()
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


def look_at_searches(diagnosis: Diagnosis, run: Run, pairs: dict[str, list[Record]]) -> None:
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
