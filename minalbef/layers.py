"""Attention and MLP, which make up the layers of all three encoders, and the layers' base class."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minalbef.fast.gelu import GeluLinear


class Layer(nn.Module):
    """A layer of an encoder: what training may compile, and compute again in the backward pass."""


class Attention(nn.Module):
    """Tokens of `x` attend to tokens of `source`, or to each other where source is None.

    Self-attention or cross-attention, section 3.1: x (b, n, d), source (b, k, s) -> (b, n, d).
    """

    record: list[Tensor] | None = None       # see `record_weights`

    def __init__(self, width: int, heads: int, source_width: int | None = None,
                 dropout: float = 0.0):
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout)
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(source_width or width, width)
        self.v = nn.Linear(source_width or width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor | None = None, keep: Tensor | None = None,
                keys_values: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """keep: attention mask, True = visible; (b, k) or (b, n, k)

        keys_values: k(source) and v(source), where they serve several calls
        """
        if keys_values is None:
            source = x if source is None else source
            keys_values = self.k(source), self.v(source)
        keys, values = keys_values
        q = rearrange(self.q(x), "b n (h d) -> b h n d", h=self.heads)
        k = rearrange(keys, "b k (h d) -> b h k d", h=self.heads)
        v = rearrange(values, "b k (h d) -> b h k d", h=self.heads)
        mask = None
        if keep is not None:
            mask = keep[:, None] if keep.ndim == 3 else keep[:, None, None, :]   # (b, 1, n or 1, k)
        p = self.dropout.p if self.training else 0.0
        if self.record is None and not (p and x.is_cpu):         # a fused kernel
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        else:
            scores = q / q.shape[-1] ** 0.5 @ k.mT                               # (b, h, n, k)
            if mask is not None:
                scores = scores.masked_fill(~mask, -float("inf"))
            weights = scores.softmax(-1)
            if self.record is not None:
                self.record.append(weights)
            y = self.dropout(weights) @ v
        return self.proj(rearrange(y, "b h n d -> b n (h d)"))


@contextmanager
def record_weights(module: nn.Module, name: str = "") -> Iterator[list[Tensor]]:
    """Record a module's attention weights (b, h, n, k), call by call, for Grad-CAM and figures.

    name: "attn" or "cross", to record self-attention or cross-attention alone
    """
    weights: list[Tensor] = []
    parts = []
    for path, part in module.named_modules():
        if isinstance(part, Attention) and path.endswith(name):
            parts.append(part)
    for attention in parts:
        attention.record = weights
    try:
        yield weights
    finally:
        for attention in parts:
            attention.record = None


class MLP(nn.Module):
    """Two linear layers with an exact GELU between: (..., d) -> (..., d)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        if self.fc2.weight.dtype == torch.bfloat16:      # mixed precision
            return GeluLinear.apply(hidden, self.fc2.weight, self.fc2.bias)
        return self.fc2(F.gelu(hidden))


def init_weights(module: nn.Module, std: float) -> None:
    """Initialise all weights in place: matrices and embeddings normal(0, std), biases 0.

    A stem's convolutions keep torch's initialisation, which accounts for their fan-in, and norms
    theirs of 1 and 0. Parameters outside of such modules (cls_token, pos_embed, temperature) are
    initialised where they are made.
    """
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight[part.padding_idx])
