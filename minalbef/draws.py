"""Random numbers from a seed, the same on every machine."""
import hashlib
import random

import torch


def seed_random(*seed: int | str) -> random.Random:
    """Python's generator for a seed of several parts, such as ("dropout", 0, step).

    Equal parts give equal numbers.
    """
    digest = hashlib.blake2b("/".join(map(str, seed)).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))


def step_generator(seed: int, step: int) -> torch.Generator:
    """A generator from (seed, step) alone, alike on every process: a resumed run needs no state."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)
