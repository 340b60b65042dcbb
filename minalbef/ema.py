"""The teacher: an exponential moving average of the student (section 3.3)."""
import copy
from collections.abc import Callable, Collection
from typing import Any, Generic, Self, TypeVar

import torch
from torch import nn

from minalbef.config import Config

M = TypeVar("M", bound=nn.Module)


def make_teacher(student: M) -> M:
    """A copy that no gradient reaches, without dropout (the original's teacher uses dropout)."""
    return copy.deepcopy(student).requires_grad_(False).eval()


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher = momentum * teacher + (1 - momentum) * student, in place.

    Buffers are copied: BatchNorm's running statistics are averages already. ALBEF has none; an
    image encoder of yours may.
    """
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
    for average, current in zip(teacher.buffers(), student.buffers(), strict=True):
        average.copy_(current)


class Trainable(nn.Module):
    """What `train.fit` trains, the base of every task: a module with a student.

    forward(batch, alpha, draws) -> losses by name, and what `after_step` takes; it changes nothing.
    alpha: weight of the teacher's soft targets. The rest has defaults, for a task that needs none.
    """

    student: Any
    # the student's parts that no step trains, such as heads of other tasks, where every step trains
    # all the others; None where that isn't so: several GPUs are then a little slower
    unused_parts: Collection[str] | None = None
    loaded: Collection[str] = ()      # the student's weights that come from what it starts from

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


class Distilled(Trainable, Generic[M]):
    """A student and its teacher: the base of every task that learns with momentum distillation."""

    make_teacher: Callable[..., Any] = staticmethod(make_teacher)
    update_teacher: Callable[..., None] = staticmethod(update_teacher)

    def __init__(self, config: Config, student: M):
        super().__init__()
        self.config = config
        self.student = student
        self.teacher: M = self.make_teacher(student)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.eval()           # the original's teacher uses dropout, too
        for part in self.student.modules():      # what is frozen gives the same tokens each time
            trained = [p.requires_grad for p in part.parameters()]
            if trained and not any(trained):
                part.eval()
        return self

    def start(self, albef: nn.Module, teacher: nn.Module | None = None) -> None:
        """Begin from a trained ALBEF and its teacher, or from a copy of the student without one."""
        # a task's model has start, which nn.Module does not know
        self.student.start(albef)
        self.teacher = self.make_teacher(self.student)
        if teacher is not None:
            self.teacher.start(teacher)                  # type: ignore[operator]

    def after_step(self, carry: Any) -> None:
        """After the optimiser's step: move the teacher."""
        self.update_teacher(self.teacher, self.student, self.config.teacher_momentum)
