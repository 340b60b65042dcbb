"""Training on prepared sets: batches, validation, and what a run records of its sets."""
import logging
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Record
from minalbef.datasets.catalogue import OWN
from minalbef.datasets.loader import RecordBatches, ValidationBatches, count_unreadable
from minalbef.datasets.store import (
    Folders,
    Records,
    check_upright,
    folders_of,
    open_records,
    place_of,
    read_about,
    sets_upright,
)
from minalbef.datasets.tokens import with_tokens
from minalbef.evaluation.loop import How
from minalbef.evaluation.ranking import Scores, inner_products, rank, true_pairs
from minalbef.evaluation.validation import BEST, Validation
from minalbef.pretrain import PretrainBatch, make_draws
from minalbef.recipes import ranking
from minalbef.recipes.provenance import hash_of, hashes_of, record_training, trained_on
from minalbef.recipes.vocabulary import (
    cut_warning,
    record_words,
    sample_texts,
    trained_words,
    vocabulary_warning,
)
from minalbef.system import checkpoint, distributed
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import retrieval
from minalbef.tasks.run import load
from minalbef.tasks.table import TASKS

LOG = logging.getLogger("minalbef")
SPLIT = "validation"
MOST = 5_000                          # captions on which pretraining is validated
# between two validations, at least: steps, and records to train on per record to validate on
STEPS = 50
COST = 25
RANKING = ("pretrain", "retrieval")    # tasks whose runs search
FEW = 1000                            # steps; `tiny` takes 1,900, and 1,250 for a task of scenes
NO_TRAINING: dict[str, Any] = {"pretrained": {}, "tuned": {}}


class TrainingSets:
    """The prepared sets of a training: of pretraining, or of fine-tuning a run for a task."""

    def __init__(self, task: str, data: Folders, config: Config, tokenizer: Tokenizer,
                 folder: Path, source: Path | None = None):
        """folder: the run's. source: the run that fine-tuning begins from"""
        self.task = task
        self.data = folders_of(data)
        self.config = config
        self.tokenizer = tokenizer
        self.folder = folder
        self.source = source
        check_upright(config, self.data)
        self.records = open_records(task, self.data, config.data_fraction)
        self.hashes = hashes_of(self.data)       # now: a set may be prepared again meanwhile
        self.held_out = validation_records(task, self.data) if config.validate_every else None

    def compute_tokens(self, model: ALBEF, quiet: bool = False) -> None:
        """Read a frozen image encoder's tokens in place of images, see datasets.tokens."""
        size = self.config.image_size
        self.records = with_tokens(self.records, model, size, quiet)
        if self.held_out is not None:
            self.held_out = with_tokens(self.held_out, model, size, quiet)

    def batches(self, workers: int, most_bad: float) -> RecordBatches:
        """step -> a batch of this process."""
        return RecordBatches(self.records, TASKS[self.task].collate, self.config, self.tokenizer,
                             workers, most_bad, self.folder)

    def origin(self) -> dict[str, str]:
        """Hashes of what is trained and validated on: figures of two sets don't compare."""
        if self.held_out is None:
            return self.hashes
        return self.hashes | {"validation": hash_of(self.held_out.path.parent, SPLIT)}

    def announce(self) -> None:
        """Log the steps to come, and warn of captions that are cut and words that a run lacks."""
        config = self.config
        line = (f"{self.task}: {config.epoch:,} examples an epoch, epochs={config.epochs:g}, "
                f"{config.steps:,} steps of batch={config.batch}; image_size={config.image_size}, "
                f"lr={config.lr:g}")
        if config.steps < FEW and not (config.image_start and config.text_start):
            line += (f"\nWarning: {config.steps:,} steps teach hardly anything; "
                     f"epochs={enough_epochs(config)} makes them at least {FEW:,}")
        LOG.info(line)
        warnings = [cut_warning(self.records, self.tokenizer, self.config.text_length)]
        if self.source:
            texts = sample_texts(self.records, self.config.seed)
            warnings.append(vocabulary_warning(self.tokenizer, texts, self.source))
        for warning in filter(None, warnings):
            LOG.warning(warning)

    def validation(self, workers: int) -> Validation | None:
        """The run's validation. Without records for it, a line of the log, and None."""
        config = self.config
        if self.held_out is None:
            if config.validate_every and distributed.rank() == 0:
                LOG.info("nothing is validated, and the weights of the last step are kept: %s has "
                         "no validation split, or it is trained on", place_of(self.data[0])[0])
            return None
        device = distributed.device_of(config.device)
        if self.source is None:
            batches = ValidationBatches(self.held_out, collate, config, self.tokenizer, MOST,
                                        workers)
            return Validation(lambda task: pretraining_figures(task, batches, device), self.keep,
                              config, self.folder)
        evaluate = TASKS[self.task].evaluate     # of the whole split, as in the original
        figures = TASKS[self.task].validation_figures
        assert evaluate and figures
        how = How(workers=workers, device=device, top=config.top, quiet=True)

        def measure(module: Any) -> dict[str, float]:
            return figures(*evaluate(module.student, self.tokenizer, self.held_out, how))
        return Validation(measure, self.keep, config, self.folder)

    def keep(self, module: Any, best: Path, untrained: Collection[str]) -> None:
        """Save the best weights so far in the folder `best`."""
        if self.source:
            before = checkpoint.untrained_parts(self.source)
            untrained = [part for part in untrained if part in before]
        teacher = getattr(module, "teacher", None)
        checkpoint.save(best, module.student, self.tokenizer, teacher, self.task, untrained)
        self.record(best)

    def record(self, folder: Path) -> None:
        """Record in a run's folder which splits it is trained on."""
        phase = "tuned" if self.source else "pretrained"
        before = trained_on(self.source) if self.source else NO_TRAINING
        record_training(folder, phase, self.hashes, before, self.folder)

    def choose_ranking(self) -> None:
        """Note in the run's folder and in its best weights' by what each of them ranks best."""
        if self.task not in RANKING or self.held_out is None:
            return
        for folder in (self.folder, self.folder / BEST):
            run = load(folder)
            run.model.to(distributed.device_of(self.config.device))
            ranking.write(folder, ranking.choose(run, self.held_out))

    def finish(self, validation: Validation | None) -> None:
        """Record sets and words of a trained run, and log its best weights and lost images."""
        self.record(self.folder)
        words: frozenset[str] | None = frozenset()
        if self.source:
            words = trained_words(self.source, checkpoint.read_run(self.source)[0])
        record_words(self.folder, self.records, words)
        if validation:
            record_words(self.folder / BEST, self.records, words)
            LOG.info(validation.account())
            self.choose_ranking()
        unreadable = count_unreadable(self.folder)
        if unreadable:
            LOG.warning(f"{unreadable} images could not be read and were replaced by others; they "
                        f"are listed in {self.folder}/unreadable*.txt")


# settings


def pretraining_settings(config: Config, data: Folders, changed: Mapping[str, str]) -> Config:
    """A preset's settings to pretrain on prepared sets, except for what a user changed.

    An epoch is all their records. Of your own sets and the shipped clip art there are so many
    epochs that FEW steps are made.
    """
    data = folders_of(data)
    if "epoch" not in changed:
        config = replace(config, epoch=len(open_records("pretrain", data, config.data_fraction)))
    if "upright" not in changed:
        config = replace(config, upright=sets_upright(data))
    check_upright(config, data)
    config = replace(config, objects=0)
    scratch = not (config.image_start and config.text_start)
    if "epochs" not in changed and is_own(data) and config.steps < FEW and scratch:
        epochs = enough_epochs(config)
        if os.environ.get("RANK", "0") == "0":
            LOG.info("epochs=%d in place of the preset's %g: %d steps, since fewer teach hardly "
                     "anything", epochs, config.epochs, FEW)
        config = replace(config, epochs=float(epochs))
    if "validate_every" not in changed:
        config = replace(config, validate_every=validation_interval(config, data))
    return config


def enough_epochs(config: Config) -> int:
    """The epochs that make FEW steps."""
    return math.ceil(FEW * config.batch / config.epoch)


def is_own(data: Sequence[str | Path]) -> bool:
    """Whether all sets are your own images or the shipped clip art: no paper has their recipe."""
    return all(read_about(place_of(name)[0])["set"] in OWN for name in data)


# validation


def validation_records(task: str, data: Sequence[str | Path]) -> Records | None:
    """The validation split of the first set that has one for the task and isn't trained on it."""
    places = [place_of(name) for name in data]
    for folder, _ in places:
        if SPLIT in read_about(folder)["splits"] and (folder, SPLIT) not in places:
            records = Records(folder, SPLIT)
            if records.kind is TASKS[task].records[0]:
                return records
    return None


def validation_interval(config: Config, data: Sequence[str | Path]) -> float:
    """Epochs between the validations of pretraining: 0, none, for public sets, as in the original.

    For your own images and the shipped clip art it's so many that validation takes a few percent of
    the time: STEPS steps, and COST records for each one to validate on.
    """
    if not is_own(data):
        return 0.0
    records = validation_records("pretrain", data)
    count = min(MOST, len(records)) if records else 0
    steps = STEPS * config.batch / config.epoch
    return float(math.ceil(max(1, steps, COST * count / config.epoch)))


@dataclass(frozen=True)
class ValidationBatch(PretrainBatch):
    """A PretrainBatch that also tells which images and captions are one candidate of retrieval."""

    image_ids: Tensor | None = None   # (b,)
    matched: Tensor | None = None     # (b,) bool: the record has a match key


def collate(records: Sequence[Record], tokenizer: Tokenizer, size: int, length: int
            ) -> ValidationBatch:
    """As pretraining's: records -> a batch."""
    batch = retrieval.collate(records, tokenizer, size, length)
    return ValidationBatch(**vars(batch),
                           image_ids=torch.tensor([record.id for record in records]),
                           matched=torch.tensor([record.match is not None for record in records]))


def pretraining_figures(task: Any, batches: ValidationBatches,
                        device: torch.device) -> dict[str, float]:
    """Pretraining's row of validation.csv: recall by ITC among all batches, and mean losses.

    Recall decides which weights are best, since the model is for ranking, and as in the original's
    retrieval: a loss also measures how sure the model is of its mistakes.
    """
    config = replace(task.config, batch=batches.size, accumulate=1)
    losses: list[Tensor] = []
    features: list[tuple[Tensor, ...]] = []
    names: list[str] = []
    for i, rows in enumerate(batches):
        draws = make_draws(i, config, distributed.rank(), distributed.world())
        batch: Any = rows.to(device)             # a ValidationBatch
        values, (image, text, _) = task.validate(batch, draws.to(device))
        names = [*values]
        losses.append(torch.stack([*values.values()]))
        known = (batch.ids, batch.image_ids, batch.texts, batch.matched)
        features.append((image, text, *map(distributed.gather, known)))
    image, text, keys, ids, texts, matched = map(torch.cat, zip(*features))
    matches = [key if has_key else None for key, has_key in zip(keys.tolist(), matched.tolist())]
    images, captions = retrieval.candidates(ids.tolist(), texts.tolist(), matches)
    scores = Scores(inner_products(image[images], text[captions]))
    samples = rank(scores, true_pairs(keys[images], keys[captions]))
    figures = {"itc_r_mean": retrieval.recall_means(samples)["itc"]}
    for name, sample in samples.items():
        figures[name] = sample.mean().item()
    means = distributed.total(torch.stack(losses).mean(0)) / distributed.world()
    for name, mean in zip(names, means.tolist()):
        figures[f"loss_{name}"] = mean
    figures["loss"] = means.sum().item()
    return figures
