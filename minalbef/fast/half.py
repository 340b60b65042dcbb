"""bf16 copies of all weights at once, in place of autocast's one by one."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from minalbef.layers import Layer


class CastWeights(torch.autograd.Function):
    """bf16 copies of weights, and their gradients as fp32: a kernel or two for all of them."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        copies = [torch.empty_like(weight, dtype=torch.bfloat16) for weight in weights]
        torch._foreach_copy_(copies, weights)
        return tuple(copies)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        half = [grad for grad in grads if grad is not None]
        full = [torch.empty_like(grad, dtype=torch.float32) for grad in half]
        torch._foreach_copy_(full, half)
        copies = iter(full)
        return tuple(None if grad is None else next(copies) for grad in grads)


@contextmanager
def half_weights(module: nn.Module) -> Iterator[None]:
    """Meanwhile the module computes in bf16, with copies of its weights; parameters stay in fp32.

    Their gradients arrive in fp32. Tokens are bf16 from layer to layer, sums in norms and softmax
    are fp32 inside their kernels, and losses upcast before they compare (`albef.full`). Autocast
    would cast each weight by a kernel of its own, a teacher's anew at every use, and tokens back
    and forth around each norm: nearly half of a step's kernels, and a tenth of its memory.

    Numbers (the temperature) have no copy, nor has BatchNorm, whose running statistics are fp32.
    """
    places = []
    for parts in parts_by_layer(module):
        names = [(part, name) for part in parts for name in weight_names(part)]
        copies = CastWeights.apply(*[part._parameters[name] for part, name in names])
        for (part, name), copy in zip(names, copies):
            part.__dict__[name] = copy           # Python finds it before nn.Module's parameter
        places += names
    try:
        yield
    finally:
        for part, name in places:
            del part.__dict__[name]


def parts_by_layer(module: nn.Module) -> list[list[nn.Module]]:
    """The modules of each Layer, and those outside of layers.

    A layer's copies are made together, and not the whole model's: in the backward pass DDP sends a
    layer's gradients while those of the next are computed.
    """
    outside: list[nn.Module] = []
    groups = [outside]
    seen: set[nn.Module] = set()

    def walk(part: nn.Module, group: list[nn.Module]) -> None:
        if part in seen:
            return
        seen.add(part)
        if isinstance(part, Layer):
            group = []
            groups.append(group)
        group.append(part)
        for child in part.children():
            walk(child, group)

    walk(module, outside)
    return groups


def weight_names(part: nn.Module) -> list[str]:
    """A module's own parameters that are copied."""
    if part._buffers:                            # named_buffers() takes milliseconds a step
        return []
    return [name for name, p in part._parameters.items() if p is not None and p.ndim]
