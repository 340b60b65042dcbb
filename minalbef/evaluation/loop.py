"""What every evaluation shares: how to evaluate, and how records are read, in batches.

An evaluation is a task's (`evaluate_retrieval(model, tokenizer, records, how)` and so on), or of
what a pretrained model is measured by as it is (`evaluate_choices(run, records, how)`,
`evaluate_words`, `evaluate_pointing`). Both return samples by name, in the order of the records
and nested as `intervals.summarise` takes them, and what else the report should say, with the
chance level under "chance", nested alike. The records, of whatever set, say what belongs together
(group) and what to report apart (kind). An image that cannot be read is an error: figures on fewer
images compare with nothing.
"""
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import normalise
from minalbef.system import distributed
from minalbef.system.images import open_upright, read_pixels, reads_upright
from minalbef.system.metrics import progress
from minalbef.system.tokenizer import Tokenizer


class Records(Protocol):
    """A Dataset of records of known length."""

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> Any: ...


class Pretrained(Protocol):
    """A pretrained model with its tokenizer and settings, such as minalbef.load returns."""

    model: ALBEF
    tokenizer: Tokenizer
    config: Config

    @property
    def device(self) -> torch.device: ...


@dataclass(frozen=True)
class How:
    """How to evaluate.

    batch: records that are read at once, by each process
    workers: processes that open images ahead, for each
    precision: of products: fp32, bf16, or auto, see distributed.precision_on
    length: tokens at which texts are cut, by default the model's positions, in retrieval 30; words
        as in training
    top: candidates of the second stage
    itm: retrieval has a second stage; False: its match head was never trained
    weight: of similarity over temperature, where it is added to ITM's log-odds
    threshold: ITM's log-odds above which image and text match
    log_odds: retrieval re-ranks by ITM's log-odds, as a Run does, not by its logit for yes, as the
        original
    answers: what VQA may answer; None: it writes freely
    original: score as the original: VQA's first word counts twice, an overlap of boxes no wider
        than a pixel is none
    layer, mode: the map that grounds a text, see grounding.heat_map; layer None: fusion's middle,
        the paper's third of six; "all": each in turn, to choose one
    quiet: no progress bar
    """

    batch: int = 32
    workers: int = 0
    device: torch.device = torch.device("cpu")
    precision: str = "fp32"
    length: int | None = None
    top: int = 128
    itm: bool = True
    weight: float = 0.2
    threshold: float = 0.0
    answers: Sequence[str] | None = None
    log_odds: bool = False
    original: bool = False
    layer: int | str | None = None
    mode: str = "itm"
    quiet: bool = False


def over(model: Any, tokenizer: Tokenizer, records: Records, how: How, collate: Callable[..., Any],
         answer: Callable[[Sequence[Any], Any], Tensor], width: int) -> Tensor:
    """Answers for all records, each process doing its share: -> (n, width).

    answer(records of a batch, the batch) -> (b, width)
    collate(records, tokenizer, size, length): a task's
    """
    config = getattr(model, "albef", model).config
    length = how.length or config.positions
    make = partial(collate, tokenizer=tokenizer, size=config.image_size, length=length)
    both = partial(_with_records, make, reads_upright(records, config))
    mine = range(distributed.rank(), len(records), distributed.world())
    digits = torch.float if how.device.type == "mps" else torch.double  # Apple's GPU lacks float64
    answers = torch.zeros(len(records), width, dtype=digits, device=how.device)
    done = 0
    for part, batch in progress(_loader(records, mine, how, both), "reading", how.quiet):
        rows = torch.tensor(mine[done:done + len(part)])
        answers[rows] = answer(part, batch.to(how.device)).to(answers)
        done += len(part)
    return distributed.total(answers).cpu()


@torch.no_grad()
def encode_images(model: ALBEF, records: Records, rows: Sequence[int], how: How) -> Tensor:
    """The image tokens of some records, in every process: -> (rows, 1 + n, d)."""
    config = model.config
    upright = reads_upright(records, config)
    show = partial(pictures, size=config.image_size, upright=upright)
    loader = _loader(records, rows, how, show, pin_memory=how.device.type == "cuda")
    tokens = []
    for pixels in progress(loader, "images", how.quiet):
        images = pixels.to(how.device, non_blocking=True)
        if images.dtype == torch.uint8:          # else they are tokens already
            images = normalise(images)
        tokens.append(model.encode_image(images))
    return torch.cat(tokens)


def _loader(records: Records, rows: Sequence[int], how: How, collate: Callable[..., Any],
            pin_memory: bool = False) -> DataLoader:
    subset: Subset = Subset(records, rows)       # type: ignore[arg-type]  # torch's has no length
    return DataLoader(subset, how.batch, num_workers=how.workers, collate_fn=collate,
                      pin_memory=pin_memory,
                      generator=torch.Generator())       # the global one is for the model


def _with_records(collate: Callable[[Sequence[Any]], Any], upright: bool,
                  records: list[Any]) -> tuple[list[Any], Any]:
    if upright:
        return records, collate([open_upright(record) for record in records])
    return records, collate(records)


def pictures(records: Sequence[Any], size: int, upright: bool = False) -> Tensor:
    """Records' images: uint8 (b, 3, s, s)."""
    return torch.stack([read_pixels(record.image, size, upright) for record in records])


def grey_image(size: int) -> np.ndarray:
    """What stands for an image in the text-only baseline: (size, size, 3)."""
    return np.full((size, size, 3), 128, np.uint8)


def unique(things: Iterable[Hashable]) -> tuple[list[int], Tensor]:
    """Where each different thing comes first, and the number of each thing among them, (n,)."""
    numbers: dict[Hashable, int] = {}
    first = []
    rows = []
    for i, thing in enumerate(things):
        if thing not in numbers:
            numbers[thing] = len(numbers)
            first.append(i)
        rows.append(numbers[thing])
    return first, torch.tensor(rows, dtype=torch.long)


def values_of(records: Records, *fields: str) -> list[list]:
    """The values of records' fields, a list for each field."""
    values: list[list] = [[] for _ in fields]
    for i in range(len(records)):
        record = records[i]
        for column, name in zip(values, fields):
            column.append(getattr(record, name))
    return values
