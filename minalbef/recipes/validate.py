"""What a run is validated on while it trains, and by which figures."""
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minalbef import checkpoint, distributed
from minalbef.config import Config
from minalbef.datasets.loader import ValidationBatches
from minalbef.datasets.store import Records, place_of, read_about
from minalbef.evaluation.loop import How
from minalbef.evaluation.validation import Validation
from minalbef.recipes.provenance import hash_of, hashes_of, record_training, trained_on
from minalbef.tasks import retrieval
from minalbef.tasks.pretrain import make_draws
from minalbef.tasks.table import TASKS
from minalbef.tokenizer import Tokenizer

LOG = logging.getLogger("minalbef")
SPLIT, OWN = "validation", "pairs"    # OWN: the name of sets of your own pictures
MOST = 5_000                          # captions on which pretraining is validated
STEPS, COST = 50, 25                  # at least, between validations: steps, records per validation record
NOTHING = ("nothing is validated, and the weights of the last step are kept: %s has no validation "
           "split, or it is trained on")


def validation_records(task: str, data: Sequence[str | Path]) -> Records | None:
    """The validation split of the first set that has one for the task and isn't trained on it."""
    trained = [place_of(one) for one in data]
    for folder, _ in trained:
        if SPLIT in read_about(folder)["splits"] and (folder, SPLIT) not in trained:
            records = Records(folder, SPLIT)
            if records.kind is TASKS[task].records[0]:
                return records
    return None


def validated_on(task: str, data: Sequence[str | Path], config: Config) -> dict[str, str]:
    """For a run's origin: the hash of what it is validated on. Figures of two sets don't compare."""
    records = validation_records(task, data) if config.validate_every else None
    return {"validation": hash_of(Path(records.path).parent, SPLIT)} if records else {}


def check_validated(task: str, config: Config, data: Sequence[str | Path]) -> None:
    """Raises ValueError where the settings ask for a validation that there is none of."""
    if not config.validate_every:
        return
    said = f"validate_every={config.validate_every:g}"
    if not data:
        raise ValueError(f"{said} is for prepared sets, which --data names; scenes are new in every "
                         "batch, so the training losses are validation losses: leave it out")
    if task != "pretrain" and not TASKS[task].validation_figures:
        raise ValueError(f"{said}: {task} has no validation, as in the original; leave it out, and "
                         "evaluate the finished run")


def validate_task(task: str, data: Sequence[str | Path], config: Config, tokenizer: Tokenizer,
                  folder: Path, source: str | Path, workers: int = 0) -> Validation | None:
    """A fine-tuning run's validation: the task's evaluation of the whole split, as in the original.

    None where nothing is validated; a line says why.
    """
    if not config.validate_every:
        return None
    records = validation_records(task, data)
    if records is None:
        if distributed.rank() == 0:
            LOG.info(NOTHING, place_of(data[0])[0])
        return None
    device = distributed.device_of(config.device)
    evaluate, figures = TASKS[task].evaluate, TASKS[task].validation_figures
    assert evaluate and figures
    how = How(workers=workers, device=device, top=config.top, quiet=True)
    def measure(module: Any) -> dict[str, float]:
        return figures(*evaluate(module.student, tokenizer, records, how))
    splits, before, unreached = hashes_of(data), trained_on(source), checkpoint.untrained_parts(source)
    def keep(module: Any, best: Path, untrained: Collection[str]) -> None:
        untrained = [part for part in untrained if part in unreached]
        checkpoint.save(best, module.student, tokenizer, getattr(module, "teacher", None), task, untrained)
        record_training(best, "tuned", splits, before, folder)
    return Validation(measure, keep, config, folder)


def validation_interval(config: Config, data: Sequence[str | Path]) -> float:
    """Epochs between the validations of pretraining: of public sets 0, none, as in the original.

    Of your own pictures so many that validation takes a few percent of the time: STEPS steps, and
    COST records for each one to validate on.
    """
    if any(read_about(place_of(one)[0])["set"] != OWN for one in data):
        return 0.0
    records = validation_records("pretrain", data)
    count = min(MOST, len(records)) if records else 0
    return float(math.ceil(max(1, STEPS * config.batch / config.epoch, COST * count / config.epoch)))


def validate_pretraining(data: Sequence[str | Path], config: Config, tokenizer: Tokenizer,
                         folder: Path, workers: int = 0) -> Validation | None:
    """A pretraining run's validation: recall by ITC, whose mean decides, and the losses.

    Recall decides since ranking is what the model is for, and as in the original's retrieval. A
    loss also counts how sure the model is of its mistakes, and masked words outweigh the rest.
    None where nothing is validated; a line says why.
    """
    if not config.validate_every:
        return None
    records = validation_records("pretrain", data)
    if records is None:
        if distributed.rank() == 0:
            LOG.info(NOTHING, place_of(data[0])[0])
        return None
    batches = ValidationBatches(records, retrieval.collate, config, tokenizer, MOST, workers)
    device, splits = distributed.device_of(config.device), hashes_of(data)
    def measure(task: Any) -> dict[str, float]:
        return pretraining_figures(task, batches, device)
    def keep(task: Any, best: Path, untrained: Collection[str]) -> None:
        teacher = getattr(task, "teacher", None)
        checkpoint.save(best, task.student, tokenizer, teacher, untrained=untrained)
        record_training(best, "pretrained", splits, {"pretrained": {}, "tuned": {}}, folder)
    return Validation(measure, keep, config, folder)


def pretraining_figures(task: Any, batches: ValidationBatches,
                        device: torch.device) -> dict[str, float]:
    """What validation.csv says of pretraining: recall by ITC among all batches, and mean losses."""
    config = replace(task.config, batch=batches.size, accumulate=1)
    losses: list[Tensor] = []
    features: list[tuple[Tensor, Tensor, Tensor]] = []
    for i, batch in enumerate(batches):
        draws = make_draws(i, config, distributed.rank(), distributed.world())
        batch = batch.to(device)
        values, (image, text, _) = task.validate(batch, draws.to(device))
        losses.append(torch.stack([*values.values()]))
        features.append((image, text, distributed.gather(batch.ids)))
    image, text, ids = map(torch.cat, zip(*features))
    first = first_rows(ids)                                      # a picture for each id
    sim = image[first] @ text.T                                  # (pictures, captions)
    samples = {f"itc_{name}": sample
               for name, sample in retrieval.recalls(sim, sim.T, ids[first], ids).items()}
    recalls = {name: sample.mean().item() for name, sample in samples.items()}
    means = distributed.total(torch.stack(losses).mean(0)) / distributed.world()
    return {"itc_r_mean": retrieval.recall_means(samples)["itc"], **recalls,
            **dict(zip([f"loss_{name}" for name in values], means.tolist())),
            "loss": means.sum().item()}


def first_rows(ids: Tensor) -> Tensor:
    """The first row of each id, in the ids' order."""
    values, inverse = ids.unique(return_inverse=True)
    rows = torch.arange(len(ids), device=ids.device)
    return rows.new_full(values.shape, len(ids)).scatter_reduce(0, inverse, rows, "amin")
