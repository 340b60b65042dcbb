"""Mixed precision: a step computes in bf16, with copies of the weights that are made together."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from minalbef.layers import Layer


class _Cast(torch.autograd.Function):
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
    are fp32 inside their kernels, and losses upcast before they compare (`layers.full`). Autocast
    would cast each weight by a kernel of its own, a teacher's anew at every use, and tokens back
    and forth around each norm: half of a step's kernels, and a quarter of its memory.

    Numbers (the temperature) have no copy, nor has BatchNorm, whose running statistics are fp32.
    """
    places = []
    for parts in parts_by_layer(module):
        names = [(part, name) for part in parts for name in weight_names(part)]
        copies = _Cast.apply(*[getattr(part, name) for part, name in names])
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
    layers = [layer for layer in module.modules() if isinstance(layer, Layer)]
    groups = [list(layer.modules()) for layer in layers]
    inside = {part for parts in groups for part in parts}
    return [*groups, [part for part in module.modules() if part not in inside]]


def weight_names(part: nn.Module) -> list[str]:
    """A module's own parameters that are copied."""
    if next(part.buffers(recurse=False), None) is not None:
        return []
    return [name for name, weight in part.named_parameters(recurse=False) if weight.ndim]
