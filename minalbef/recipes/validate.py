"""What a run is validated on while it trains, and by which figures."""
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from minalbef import checkpoint, distributed
from minalbef.config import Config
from minalbef.datasets.store import Records, place_of, read_about
from minalbef.evaluation.loop import How
from minalbef.evaluation.validation import Validation
from minalbef.recipes.provenance import hash_of, hashes_of, record_training, trained_on
from minalbef.tasks.base import TASKS
from minalbef.tokenizer import Tokenizer

LOG = logging.getLogger("minalbef")
SPLIT = "validation"


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
    if task != "pretrain" and not TASKS[task].figures:
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
            LOG.info("nothing is validated, and the weights of the last step are kept: %s has no "
                     "validation split, or it is trained on", place_of(data[0])[0])
        return None
    entry, device = TASKS[task], distributed.device_of(config.device)
    assert entry.evaluate and entry.figures
    evaluate, figures = entry.evaluate, entry.figures
    how = How(workers=workers, device=device, top=config.top, quiet=True)
    def measure(module: Any) -> dict[str, float]:
        return figures(*evaluate(module.student, tokenizer, records, how))
    splits, before, unreached = hashes_of(data), trained_on(source), checkpoint.untrained_parts(source)
    def keep(module: Any, best: Path, untrained: Collection[str]) -> None:
        untrained = [part for part in untrained if part in unreached]
        checkpoint.save(best, module.student, tokenizer, getattr(module, "teacher", None), task, untrained)
        record_training(best, "tuned", splits, before, folder)
    return Validation(measure, keep, config, folder)
