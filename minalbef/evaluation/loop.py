"""The loop of evaluation: every record once, in batches, shared by all processes.

A task's evaluate(model, tokenizer, records, how) gives samples by name, in the order of the records and nested as
`intervals.summarise` wants them, and what else the report should say, with what guessing gets right under "chance",
nested alike. A picture that cannot be read is an error: figures on fewer pictures compare with nothing.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from minalbef import distributed
from minalbef.data import hold_upright, reads_upright, transform
from minalbef.metrics import progress
from minalbef.tokenizer import Tokenizer


class Records(Protocol):
    """A Dataset of records of known length."""

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> Any: ...


@dataclass(frozen=True)
class How:
    """How to evaluate.

    batch: records that are read at once, by each process. workers: processes that open pictures ahead, for each
    length: of tokens, at which texts are cut, by default the model's positions, in retrieval 30; words as in training
    top: candidates of the second stage. answers: what VQA may answer; None: it writes freely
    original: score as the original: VQA's first word counts twice, an overlap of boxes no wider than a pixel is none
    layer, mode: the map that grounds a text, see grounding.heat_map; layer None: fusion's middle, the paper's third of
        six; "all": each in turn, to choose one
    quiet: no progress bar
    """

    batch: int = 32
    workers: int = 0
    device: torch.device = torch.device("cpu")
    length: int | None = None
    top: int = 128
    answers: Sequence[str] | None = None
    original: bool = False
    layer: int | str | None = None
    mode: str = "itm"
    quiet: bool = False


def over(model: Any, tokenizer: Tokenizer, records: Records, how: How, collate: Callable[..., Any],
         answer: Callable[[Sequence[Any], Any], Tensor], width: int) -> Tensor:
    """answer(some records, their batch) -> (b, width), for all records, each process doing its share: -> (n, width).

    collate(records, tokenizer, size, length): a task's
    """
    config = getattr(model, "albef", model).config
    make = partial(collate, tokenizer=tokenizer, size=config.image_size, length=how.length or config.positions)
    mine = range(distributed.rank(), len(records), distributed.world())
    digits = torch.float if how.device.type == "mps" else torch.double     # Apple's GPU has no float64
    whole = torch.zeros(len(records), width, dtype=digits, device=how.device)
    share: Subset = Subset(records, mine)                # type: ignore[arg-type]  # torch's Dataset has no length
    both = partial(_both, make, reads_upright(records, config))
    loader = DataLoader(share, how.batch, num_workers=how.workers, collate_fn=both,
                        generator=torch.Generator())     # its own: the global one is for the model
    done = 0
    for some, batch in progress(loader, "reading", how.quiet):
        whole[torch.tensor(mine[done:done + len(some)])] = answer(some, batch.to(how.device)).to(whole)
        done += len(some)
    return distributed.total(whole).cpu()


def _both(collate: Callable[[Sequence[Any]], Any], upright: bool,
          some: list[Any]) -> tuple[list[Any], Any]:
    return some, collate([*map(hold_upright, some)] if upright else some)


def pictures(some: Sequence[Any], size: int, upright: bool = False) -> Tensor:
    """Records' pictures as the model reads them: (b, 3, s, s)."""
    return torch.stack([transform(record.image, size, upright) for record in some])
