"""What `train.fit` trains."""
from collections.abc import Collection
from typing import Any

from torch import nn


class Trainable(nn.Module):
    """What `train.fit` trains, the base of every task: a module with a student.

    forward(batch, alpha, draws) -> losses by name, and what `after_step` takes; it changes nothing.
    alpha: weight of the teacher's soft targets. The rest has defaults, for a task that needs none.
    """

    student: Any
    # the student's parts that no step trains, such as heads of other tasks, where every step trains
    # all the others; None where that isn't so: several GPUs are then a little slower
    unused_parts: Collection[str] | None = None

    def draws(self, step: int) -> Any:
        """The random draws of a step: none."""

    def prepare(self, passes: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """A step's micro-batches and their draws, made ready on the CPU."""
        return passes

    def weights(self, step: int) -> dict[str, float]:
        """Of losses by name, in their sum at a step; those not listed weigh 1."""
        return {}

    def after_step(self, carry: Any) -> None:
        """What changes after the optimiser's step: nothing."""
