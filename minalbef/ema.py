"""The teacher: an exponential moving average of the student (section 3.3)."""
import copy

import torch
from torch import nn


def make_teacher(student: nn.Module) -> nn.Module:
    """A copy that no gradient reaches, without dropout (the original's teacher drops out at random)."""
    return copy.deepcopy(student).requires_grad_(False).eval()


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float):
    """teacher = momentum * teacher + (1 - momentum) * student, in place."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
