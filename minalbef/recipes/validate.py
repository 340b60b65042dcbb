"""What a run is validated on while it trains, and by which figures."""
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minalbef.config import Config
from minalbef.data import Record
from minalbef.datasets.catalogue import OWN
from minalbef.datasets.loader import ValidationBatches
from minalbef.datasets.store import Records, place_of, read_about
from minalbef.evaluation.loop import How
from minalbef.evaluation.ranking import Scores, inner_products, rank, true_pairs
from minalbef.evaluation.validation import Validation
from minalbef.pretrain import PretrainBatch, make_draws
from minalbef.recipes.provenance import hash_of, hashes_of, record_training, trained_on
from minalbef.system import checkpoint, distributed
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import retrieval
from minalbef.tasks.table import TASKS

LOG = logging.getLogger("minalbef")
SPLIT = "validation"
MOST = 5_000                          # captions on which pretraining is validated
# between two validations, at least: steps, and records to train on per record to validate on
STEPS = 50
COST = 25
NO_RECORDS = ("nothing is validated, and the weights of the last step are kept: %s has no "
              "validation split, or it is trained on")


def validation_records(task: str, data: Sequence[str | Path]) -> Records | None:
    """The validation split of the first set that has one for the task and isn't trained on it."""
    places = [place_of(name) for name in data]
    for folder, _ in places:
        if SPLIT in read_about(folder)["splits"] and (folder, SPLIT) not in places:
            records = Records(folder, SPLIT)
            if records.kind is TASKS[task].records[0]:
                return records
    return None


def records_or_note(task: str, data: Sequence[str | Path], config: Config) -> Records | None:
    """`validation_records`, if the run is to be validated. Logs a line if there are none."""
    if not config.validate_every:
        return None
    records = validation_records(task, data)
    if records is None and distributed.rank() == 0:
        LOG.info(NO_RECORDS, place_of(data[0])[0])
    return records


def validation_hash(task: str, data: Sequence[str | Path], config: Config) -> dict[str, str]:
    """The hash of what a run is validated on, for its origin: figures of two sets don't compare."""
    records = validation_records(task, data) if config.validate_every else None
    if records is None:
        return {}
    return {"validation": hash_of(Path(records.path).parent, SPLIT)}


def check_validation(task: str, config: Config, data: Sequence[str | Path]) -> None:
    """Raises ValueError if the settings ask for a validation that doesn't exist."""
    if not config.validate_every:
        return
    setting = f"validate_every={config.validate_every:g}"
    if not data:
        raise ValueError(f"{setting} is for prepared sets, which --data names; scenes are new in "
                         "every batch, so the training losses are validation losses: leave it out")
    if task != "pretrain" and not TASKS[task].validation_figures:
        raise ValueError(f"{setting}: {task} has no validation, as in the original; leave it out, "
                         "and evaluate the finished run")


def validate_task(task: str, data: Sequence[str | Path], config: Config, tokenizer: Tokenizer,
                  folder: Path, source: str | Path, workers: int = 0) -> Validation | None:
    """A fine-tuning run's validation: the task's evaluation of the whole split, as in the original.

    None if nothing is validated; a line of the log says why.
    """
    records = records_or_note(task, data, config)
    if records is None:
        return None
    device = distributed.device_of(config.device)
    evaluate = TASKS[task].evaluate
    figures = TASKS[task].validation_figures
    assert evaluate and figures
    how = How(workers=workers, device=device, top=config.top, quiet=True)
    splits = hashes_of(data)
    before = trained_on(source)
    source_untrained = checkpoint.untrained_parts(source)

    def measure(module: Any) -> dict[str, float]:
        return figures(*evaluate(module.student, tokenizer, records, how))

    def keep(module: Any, best: Path, untrained: Collection[str]) -> None:
        untrained = [part for part in untrained if part in source_untrained]
        teacher = getattr(module, "teacher", None)
        checkpoint.save(best, module.student, tokenizer, teacher, task, untrained)
        record_training(best, "tuned", splits, before, folder)
    return Validation(measure, keep, config, folder)


def is_own(data: Sequence[str | Path]) -> bool:
    """Whether all sets are your own images or the shipped clip art: no paper has their recipe."""
    return all(read_about(place_of(name)[0])["set"] in OWN for name in data)


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


def validate_pretraining(data: Sequence[str | Path], config: Config, tokenizer: Tokenizer,
                         folder: Path, workers: int = 0) -> Validation | None:
    """A pretraining run's validation: recall by ITC, whose mean decides, and the losses.

    Recall decides since the model is for ranking, and as in the original's retrieval. A loss also
    measures how sure the model is of its mistakes, and masked words outweigh the rest.
    None if nothing is validated; a line of the log says why.
    """
    records = records_or_note("pretrain", data, config)
    if records is None:
        return None
    batches = ValidationBatches(records, collate, config, tokenizer, MOST, workers)
    device = distributed.device_of(config.device)
    splits = hashes_of(data)

    def measure(task: Any) -> dict[str, float]:
        return pretraining_figures(task, batches, device)

    def keep(task: Any, best: Path, untrained: Collection[str]) -> None:
        teacher = getattr(task, "teacher", None)
        checkpoint.save(best, task.student, tokenizer, teacher, untrained=untrained)
        record_training(best, "pretrained", splits, {"pretrained": {}, "tuned": {}}, folder)
    return Validation(measure, keep, config, folder)


def pretraining_figures(task: Any, batches: ValidationBatches,
                        device: torch.device) -> dict[str, float]:
    """Pretraining's row of validation.csv: recall by ITC among all batches, and mean losses."""
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
