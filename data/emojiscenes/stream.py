"""Random numbers for scenes, the same on every machine and in every version of Python."""
import hashlib
import random
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Stream:
    """Random numbers that stay the same for ever: equal arguments, equal numbers, in every version
    of Python.

    Only `random.Random.random()` is promised to be stable, so all else is made from it here.
    """

    __slots__ = ("random",)

    def __init__(self, *seed: int | str):
        text = "/".join(map(str, seed))
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        self.random = random.Random(int.from_bytes(digest, "big")).random

    def uniform(self, a: float = 0.0, b: float = 1.0) -> float:
        """A number from a to b."""
        return a + (b - a) * self.random()

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        return int(n * self.random())

    def pick(self, values: Sequence[T]) -> T:
        """One of the values."""
        return values[int(len(values) * self.random())]

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self.random() < p

    def shuffle(self, values: Iterable[T]) -> list[T]:
        """The values in a new order; the argument stays as it is."""
        values = list(values)
        for i in range(len(values) - 1, 0, -1):
            j = int((i + 1) * self.random())
            values[i], values[j] = values[j], values[i]
        return values
