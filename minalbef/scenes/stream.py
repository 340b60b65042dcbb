"""Random numbers for scenes, the same on every machine and in every version of Python."""
from collections.abc import Iterable, Sequence
from typing import TypeVar

from minalbef.draws import seed_random

T = TypeVar("T")


class Stream:
    """Random numbers that stay the same for ever: equal arguments, equal numbers, in every version of Python.

    Only `random.Random.random()` is promised to be stable, so all else is made from it here.
    """

    __slots__ = ("random",)

    def __init__(self, *seed: int | str):
        self.random = seed_random(*seed).random

    def uniform(self, a: float = 0.0, b: float = 1.0) -> float:
        return a + (b - a) * self.random()

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        return int(n * self.random())

    def pick(self, values: Sequence[T]) -> T:
        return values[int(len(values) * self.random())]

    def chance(self, p: float) -> bool:
        return self.random() < p

    def shuffle(self, values: Iterable[T]) -> list[T]:
        """The values in a new order; the argument stays as it is."""
        values = list(values)
        for i in range(len(values) - 1, 0, -1):
            j = int((i + 1) * self.random())
            values[i], values[j] = values[j], values[i]
        return values
