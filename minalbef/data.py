"""From images and captions to batches."""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from minalbef.system.images import Source, read_pixels
from minalbef.system.tokenizer import Tokenizer

# CLIP's mean and standard deviation, which the original uses for all its images
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
BLOCK = 64                              # rows of a batch that share a generator

_MEAN = 255 * torch.tensor(MEAN)[:, None, None]                              # (3, 1, 1)
_STD = 255 * torch.tensor(STD)[:, None, None]


def data_folder() -> Path:
    """The embedded data: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).parent
    if (package / "_data").is_dir():
        return package / "_data"
    return package.parent / "data"


@dataclass(frozen=True)
class Record:
    """An image and its caption.

    id: of the image; of prepared records a hash of its content
    match: the match key: of records that share it, each caption is true of each image; None: the id
    kind: evaluation also reports the figures of each kind
    group: records that share images or texts, which intervals count as one cluster; retrieval
        ranks within a group
    """

    image: "Source"
    text: str
    id: int
    match: int | None = field(default=None, kw_only=True)
    kind: str = field(default="", kw_only=True)
    group: int | None = field(default=None, kw_only=True)

    @property
    def match_key(self) -> int:
        """The key by which training and every evaluation tell what belongs together."""
        return self.id if self.match is None else self.match


@dataclass(frozen=True)
class Rows:
    """A dataclass of tensors with a row for each example: moved and split all together."""

    columns: ClassVar[tuple[str, ...]] = ()      # fields whose columns are examples, too

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Apply a function to every tensor."""
        values = {}
        for name, value in vars(self).items():
            values[name] = change(value) if isinstance(value, Tensor) else value
        return type(self)(**values)

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device, see `move`."""
        tensors = {name: x for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **{name: move(x, device) for name, x in tensors.items()})

    def pin_memory(self) -> Self:
        """Copy to pinned memory; a DataLoader calls this."""
        return self.map(Tensor.pin_memory)

    def part(self, i: int, n: int, rows: int) -> Self:
        """Micro-batch i of n: an equal part of a process's `rows` rows.

        Where a tensor has the rows of all processes, it keeps this part of each process's.
        """
        def split(x: Tensor, dim: int) -> Tensor:
            index = torch.arange(x.shape[dim]).view(-1, n, rows // n)        # (processes, n, rows)
            return x.index_select(dim, index[:, i].flatten())
        values = {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                value = split(value, 0)
                if name in self.columns:
                    value = split(value, 1)
            values[name] = value
        return type(self)(**values)


def row_generators(seed: int, step: int, batch: int, rows: slice
                   ) -> Iterator[tuple[torch.Generator, int, slice]]:
    """Generators from (seed, step) and a row alone, so that a resumed run needs no state.

    rows: those of a process, of the step's batch
    -> for each block of BLOCK rows its generator, how many rows to draw, and which of them are the
       process's: a row is drawn alike in whatever process it is, and no process draws all
    """
    for first in range(rows.start - rows.start % BLOCK, rows.stop, BLOCK):
        count = min(BLOCK, batch - first)
        own = slice(max(0, rows.start - first), rows.stop - first)
        # torch takes 32 bits of a seed; the golden ratio's keep the seeds of blocks far apart
        block_seed = seed * 1_000_003 + step + first // BLOCK * 0x9E37_79B9
        yield torch.Generator().manual_seed(block_seed), count, own


def move(x: Tensor, device: torch.device | str) -> Tensor:
    """Copy to a device; to a GPU asynchronously, through pinned memory."""
    if torch.device(device).type != "cuda":
        return x.to(device)
    if not x.is_cuda:
        x = x.contiguous().pin_memory()          # a strided copy would wait
    return x.to(device, non_blocking=True)


@dataclass(frozen=True)
class Batch(Rows):
    """image (b, 3, s, s), tokens (b, l), keep (b, l) bool, ids (b,)

    ids: of images with their captions the match keys, see Record
    Images are uint8 from `collate` on, a quarter of the bytes; `to` normalises them.
    """

    image: Tensor
    tokens: Tensor
    keep: Tensor
    ids: Tensor

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device, see Rows, and normalise the images there."""
        batch = super().to(device)
        if batch.image.dtype != torch.uint8:                     # they are normalised already
            return batch
        return replace(batch, image=normalise(batch.image))


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (..., 3, s, s) -> what the image encoder reads, on the same device."""
    mean, std = _mean_and_std(pixels.device)
    return (pixels - mean) / std


@lru_cache
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """Copied to a device once, since each copy would wait for the GPU."""
    return _MEAN.to(device), _STD.to(device)


def transform(image: Source, size: int, upright: bool = False) -> Tensor:
    """An image -> (3, s, s), resized (bicubic) and normalised for the encoder.

    upright: see `open_image`; for a run, its config.upright
    """
    return normalise(read_pixels(image, size, upright))


def collate(records: Sequence[Record], tokenizer: Tokenizer, size: int, length: int = 25) -> Batch:
    """Records -> a Batch: images (3, size, size), and captions of at most `length` tokens.

    Images are uint8; `Batch.to` normalises them.
    """
    tokens, keep = tokenizer.encode([record.text for record in records], length)
    images = torch.stack([read_pixels(record.image, size) for record in records])
    return Batch(images, tokens, keep, torch.tensor([record.match_key for record in records]))
