"""Pretraining on scenes: the paper's task, and an ITM loss for minimal pairs (not the paper's).

An example of how to extend `Pretrain`: a batch that knows more, and three methods overridden.
"""
from dataclasses import dataclass, replace
from typing import Any, Self, TypeGuard

import torch
from torch import Tensor

from minalbef.data import move
from minalbef.fast.pretrain import fast_form
from minalbef.pretrain import Negatives, Pairs, Pretrain, PretrainBatch

LESSON = 10.0       # weight of siblings in the lesson: see notebooks/experiments/tried.md


@dataclass(frozen=True)
class SceneBatch(PretrainBatch):
    """A PretrainBatch in which some rows are halves of minimal pairs: siblings, i and i ^ 1."""

    siblings: Tensor | None = None    # (b,) bool; None: there are none
    # (s,) and (b - s,) rows that are siblings, and the others; `to` finds them
    rows: tuple[Tensor, Tensor] | None = None

    def to(self, device: torch.device | str) -> Self:
        """See Batch.to. The siblings' rows are found before: on a GPU that would wait for it."""
        if self.siblings is None or self.rows is not None:
            return super().to(device)
        siblings, others = self.sibling_rows()
        rows = move(siblings, device), move(others, device)
        return replace(super().to(device), rows=rows)

    def part(self, i: int, n: int, rows: int) -> Self:
        """See Rows.part."""
        part = super().part(i, n, rows)
        return replace(part, rows=None)          # they were rows of the whole

    def sibling_rows(self) -> tuple[Tensor, Tensor]:
        """Which rows are siblings, and which aren't: (s,) and (b - s,)."""
        if self.rows is not None:
            return self.rows
        assert self.siblings is not None
        return self.siblings.nonzero()[:, 0], (~self.siblings).nonzero()[:, 0]


class ScenePretrain(Pretrain):
    """Siblings have an ITM loss of their own, and are no hard negatives of each other.

    Each sibling's text is matched with its own image and with the other's: minimal pairs.
    """

    def weights(self, step: int) -> dict[str, float]:
        """Per-loss weights; losses not listed weigh 1. In the lesson siblings outweigh all else."""
        return {"siblings": LESSON} if self.config.in_lesson(step) else {}

    def positives(self, batch: PretrainBatch, ids: Tensor, rows: int | None = None
                  ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """See Pretrain.positives; of ITM's negatives siblings are left to their own loss."""
        positive, excluded = super().positives(batch, ids, rows)
        if not has_siblings(batch):
            return positive, excluded
        siblings, _ = batch.sibling_rows()
        apart = torch.zeros_like(excluded[0])
        apart[siblings, self.rank * len(apart) + (siblings ^ 1)] = True
        return positive, (excluded[0] | apart, excluded[1] | apart)

    def pair(self, negatives: Negatives, batch: PretrainBatch) -> Pairs:
        """ITM's pairs, and behind them each sibling's text with the other's image.

        With sibling_negatives=False these are a sibling's only wrong pairs.
        """
        pairs = super().pair(negatives, batch)
        if not has_siblings(batch):
            return pairs
        siblings, others = batch.sibling_rows()
        if not self.config.sibling_negatives:
            pairs = drop_negatives(pairs, others)
        return pairs._replace(texts=torch.cat([pairs.texts, siblings ^ 1]),
                              images=torch.cat([pairs.images, siblings]))

    def itm_losses(self, logits: Tensor, pairs: Pairs, batch: PretrainBatch) -> dict[str, Tensor]:
        """ITM on its own pairs, and on the siblings, whose wrong pairs are behind them."""
        count = len(pairs.labels)
        losses = super().itm_losses(logits[:count], pairs, batch)
        if has_siblings(batch):
            siblings = pairs.images[count:]
            losses["siblings"] = self.sibling_loss(logits[siblings], logits[count:])
        return losses

    def sibling_loss(self, true: Tensor, false: Tensor) -> Tensor:
        """ITM on minimal pairs: logits (s, 2) of each image with its text, and its sibling's."""
        label = torch.ones(len(true), dtype=torch.long, device=true.device)
        count = (2 * self.per_process(label)).clamp(min=2 / self.world)
        labels = torch.cat([label, 0 * label])
        return self.itm_loss(torch.cat([true, false]), labels, labels >= 0, count)


FastScenePretrain: Any = fast_form(ScenePretrain)


def has_siblings(batch: PretrainBatch) -> TypeGuard[SceneBatch]:
    """Whether a batch has minimal pairs."""
    return isinstance(batch, SceneBatch) and batch.siblings is not None


def drop_negatives(pairs: Pairs, others: Tensor) -> Pairs:
    """ITM's pairs without the wrong ones of siblings, whose own halves are wrong enough.

    others: rows of the batch that are no siblings
    """
    batch = len(pairs.labels) // 3
    rows = torch.arange(batch, device=others.device)
    kept = torch.cat([rows, batch + others, 2 * batch + others])
    return Pairs(*(part[kept] for part in pairs))
