"""Attention and MLP: the two parts of every layer in all three encoders."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """nn.Dropout in less time on a CPU, where torch draws slowly; p is rounded to the nearest 1 / 65536."""

    def forward(self, x: Tensor) -> Tensor:
        if not (x.is_cpu and self.training and 0 < self.p < 1):
            return super().forward(x)
        four = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-2 ** 63, None)        # 16-bit numbers
        kept = four.view(torch.int16)[:x.numel()].view(x.shape) >= round(self.p * 2 ** 16) - 2 ** 15
        return x * kept.to(x.dtype).mul_(1 / (1 - self.p))


class Attention(nn.Module):
    """Each of `x` asks, each of `source` answers: self-attention, or cross-attention where source is given.

    x: (b, n, d), source: (b, k, s) -> (b, n, d). Section 3.1; widths of x and source may differ.
    """

    record: list[Tensor] | None = None       # see `record_weights`

    def __init__(self, width: int, heads: int, source_width: int | None = None, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, Dropout(dropout)
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(source_width or width, width)
        self.v = nn.Linear(source_width or width, width)
        self.proj = nn.Linear(width, width)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """What the source offers: (b, k, s) -> keys and values, each (b, k, d); rows of them can be chosen quickly."""
        return self.k(source), self.v(source)

    def forward(self, x: Tensor, source: Tensor | None = None, keep: Tensor | None = None,
                keys_values: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """keep: attention mask, True = visible; (b, k) or (b, n, k). keys_values: computed before, for the source."""
        offered = keys_values or self.keys_values(x if source is None else source)
        q, k, v = (rearrange(part, "b n (h d) -> b h n d", h=self.heads) for part in (self.q(x), *offered))
        mask = None if keep is None else keep[:, None] if keep.ndim == 3 else keep[:, None, None, :]
        dropout = self.dropout.p if self.training else 0.0
        if self.record is None and not (dropout and x.is_cpu):                   # no CPU fuses attention with dropout
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        else:
            scores = q / q.shape[-1] ** 0.5 @ k.mT                               # (b, h, n, k)
            weights = (scores if mask is None else scores.masked_fill(~mask, -float("inf"))).softmax(-1)
            if self.record is not None:
                self.record.append(weights)
            y = self.dropout(weights) @ v
        return self.proj(rearrange(y, "b h n d -> b n (h d)"))


@contextmanager
def record_weights(module: nn.Module, name: str = "") -> Iterator[list[Tensor]]:
    """Collect, for Grad-CAM and figures, the weights (b, h, n, k) that attention in a module computes, call by call.

    name: "attn" or "cross", to record self-attention or cross-attention alone
    """
    weights: list[Tensor] = []
    recorded = [part for path, part in module.named_modules() if isinstance(part, Attention) and path.endswith(name)]
    for attention in recorded:
        attention.record = weights
    try:
        yield weights
    finally:
        for attention in recorded:
            attention.record = None


class MLP(nn.Module):
    """Two linear layers with an exact GELU between: (..., d) -> (..., d)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def full(x: Tensor) -> Tensor:
    """Upcast to fp32 before a loss: autocast leaves bf16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def init_weights(module: nn.Module, std: float) -> None:
    """Every weight's start, in place: matrices and embeddings normal(0, std), biases 0, norms 1 and 0.

    Convolutions of a stem keep torch's start, which minds their fan-in; parameters that stand alone
    (cls_token, pos_embed, temperature) are started where they are made.
    """
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight[part.padding_idx])
