"""Random numbers from a seed, the same on every machine."""
import hashlib
import math
import random
from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 64                            # rows of a batch that share a generator


def seed_random(*seed: int | str) -> random.Random:
    """Python's generator for a seed of several parts, such as ("dropout", 0, step).

    Equal parts give equal numbers.
    """
    digest = hashlib.blake2b("/".join(map(str, seed)).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))


def step_generator(seed: int, step: int, block: int = 0) -> torch.Generator:
    """A generator from (seed, step, block) alone: a resumed run needs no state.

    torch takes 32 bits of a seed; the golden ratio's of them keep the seeds of blocks far apart.
    """
    return torch.Generator().manual_seed(seed * 1_000_003 + step + block * 0x9E37_79B9)


def draw_rows(seed: int, step: int, batch: int, rows: slice,
              draw: Callable[[torch.Generator, int], tuple[Tensor, ...]]) -> list[Tensor]:
    """Random tensors of a step for some rows of its batch, the same in whatever process they are.

    draw: (generator, n) -> tensors of n rows
    A process draws the blocks of BLOCK rows in which its rows are, not the whole batch.
    """
    first = rows.start // BLOCK
    blocks = []
    for block in range(first, math.ceil(rows.stop / BLOCK)):
        count = min(BLOCK, batch - block * BLOCK)
        blocks.append(draw(step_generator(seed, step, block), count))
    begin = rows.start - first * BLOCK
    end = rows.stop - first * BLOCK
    return [torch.cat(parts)[begin:end] for parts in zip(*blocks)]
