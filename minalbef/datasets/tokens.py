"""A frozen encoder's tokens, computed once: a set's images as the rows of one file beside it."""
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Subset

from minalbef.albef import ALBEF
from minalbef.data import normalise
from minalbef.datasets.store import Records
from minalbef.system import distributed
from minalbef.system.checkpoint import digest_of
from minalbef.system.images import read_pixels
from minalbef.system.metrics import progress
from minalbef.system.modes import evaluation_mode
from minalbef.system.writing import write_atomically
from minalbef.tasks.nlvr2 import NLVR2Record

LOG = logging.getLogger("minalbef")
FOLDER = "tokens"                     # in the folder of a prepared set


class TokenRecords:
    """Prepared records whose images are tokens: float16 (2, 1 + n, d), plain and mirrored.

    An image that can't be read stays what it was, and its reader says why.
    """

    def __init__(self, records: Any, tokens: np.ndarray, rows: dict[int, int]):
        """tokens: (images, 2, 1 + n, d); rows: an image's content hash -> its row"""
        self.records = records
        self.tokens = tokens
        self.rows = rows

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, i: int) -> Any:
        record = self.records[i]
        row = self.rows.get(record.image.hash)
        if row is None:
            return record
        vars(record)["image"] = self.tokens[row]         # of a record made just now, for us alone
        return record

    def __getattr__(self, name: str) -> Any:
        return getattr(self.records, name)


def with_tokens(records: Any, model: ALBEF, size: int, quiet: bool = False,
                begin: bool = True) -> Any:
    """The records with tokens for images, if the model's image encoder is frozen; else as they are.

    Tokens are kept beside the set, keyed by the encoder's weights and each image's content, so that
    the next run, another split and a set that has grown compute what is new alone.
    records: see store.open_records; each must have a single image
    begin: False: only for a set that has some of this encoder's already
    """
    if any(p.requires_grad for p in model.image_encoder.parameters()):
        return records
    if isinstance(records, Records) and records.kind is NLVR2Record:     # of two images
        return records
    if isinstance(records, ConcatDataset):
        return ConcatDataset([with_tokens(part, model, size, quiet, begin)
                              for part in records.datasets])
    if isinstance(records, Subset):
        return Subset(with_tokens(records.dataset, model, size, quiet, begin), records.indices)
    key = f"{digest_of(model.image_encoder.state_dict())[:16]}-{size}-{model.config.image_width}"
    folder = records.path.parent / FOLDER
    if not begin and not (folder / f"{key}.hashes.npy").exists():
        return records
    if distributed.rank() == 0:
        write_new(records, model.image_encoder, folder / key, size, quiet)
    distributed.longest(0)                       # the other processes wait for them
    return TokenRecords(records, *read(folder / key))


def read(path: Path) -> tuple[np.ndarray, dict[int, int]]:
    """The tokens that are kept, mapped to memory, and each image's row by its content hash."""
    hashes = np.load(path.with_suffix(".hashes.npy"))
    tokens = np.load(path.with_suffix(".npy"), mmap_mode="r")
    return tokens, {int(image): row for row, image in enumerate(hashes)}


@torch.no_grad()
def write_new(records: Records, encoder: nn.Module, path: Path, size: int, quiet: bool) -> None:
    """Compute the tokens of images that aren't kept yet, and write them behind the others."""
    known: dict[int, int] = {}
    old = None
    if path.with_suffix(".hashes.npy").exists():
        old, known = read(path)
    new: dict[int, Any] = {}
    for i in range(len(records)):
        image = records[i].image
        if image.hash not in known:
            new.setdefault(image.hash, image)
    if not new:
        return
    path.parent.mkdir(exist_ok=True)
    rows = list(encode(encoder, new, size, records.upright, quiet))
    hashes = [*known, *(image for image, _ in rows)]
    values = np.stack([tokens for _, tokens in rows])
    if old is not None:
        values = np.concatenate([old, values])
    # tokens first: with the hashes of fewer images, the rows behind them are computed again
    write_atomically(path.with_suffix(".npy"), lambda file: save(file, values))
    write_atomically(path.with_suffix(".hashes.npy"), lambda file: save(file, np.array(hashes)))


def save(file: Path, values: np.ndarray) -> None:
    """np.save, to a file of any name."""
    with open(file, "wb") as opened:
        np.save(opened, values)


def encode(encoder: nn.Module, images: dict[int, Any], size: int, upright: bool, quiet: bool
           ) -> Iterator[tuple[int, np.ndarray]]:
    """Each image's hash and its tokens, plain and mirrored: (2, 1 + n, d), float16.

    One image at a time, so that an image's tokens don't depend on which others were new with it.
    """
    weight = next(encoder.parameters())
    with evaluation_mode(encoder):
        for key, image in progress(list(images.items()), "tokens of images", quiet):
            try:
                pixels = read_pixels(image, size, upright)
            except ValueError as error:
                LOG.debug("no tokens: %s", error)
                continue
            both = torch.stack([pixels, pixels.flip(-1)])
            tokens = encoder(normalise(both.to(weight.device)).to(weight.dtype))
            yield key, tokens.cpu().numpy().astype(np.float16)
