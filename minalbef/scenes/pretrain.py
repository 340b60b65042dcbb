"""Pretraining on scenes: the paper's task, and an ITM loss for minimal pairs (not the paper's).

An example of how to extend `Pretrain`: a batch that knows more, and two steps overridden.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minalbef import distributed
from minalbef.tasks.pretrain import Draws, MaskedDraws, Pairs, Pretrain, PretrainBatch, Step

LESSON = 10.0       # weight of siblings in the lesson: see notebooks/experiments/tried.md


@dataclass(frozen=True)
class SceneBatch(PretrainBatch):
    """A PretrainBatch in which some rows are halves of minimal pairs: siblings, i and i ^ 1."""

    siblings: Tensor | None = None    # (b,) bool; None: there are none


@dataclass(frozen=True)
class SceneDraws(MaskedDraws):
    """MaskedDraws with the rows that are siblings and the others, counted on the CPU."""

    siblings: Tensor | None = None    # (s,) rows of the batch; None: there are none
    others: Tensor | None = None      # (b - s,)


class ScenePretrain(Pretrain):
    """Siblings have an ITM loss of their own, and are no hard negatives of each other.

    Each sibling's text is matched with its own image and with the other's: minimal pairs.
    """

    def weights(self, step: int) -> dict[str, float]:
        """Per-loss weights; losses not listed weigh 1. In the lesson siblings outweigh all else."""
        return {"siblings": LESSON} if self.config.in_lesson(step) else {}

    def needs_preparing(self, batch: PretrainBatch) -> bool:
        """Also for siblings, whose rows `prepare` finds."""
        siblings = isinstance(batch, SceneBatch) and batch.siblings is not None
        return siblings or super().needs_preparing(batch)

    def prepare(self, passes: list[tuple[PretrainBatch, Draws]]
                ) -> list[tuple[PretrainBatch, MaskedDraws]]:
        """Also find the siblings' rows, on the CPU: on a GPU, that would wait for it."""
        prepared: list[tuple[PretrainBatch, MaskedDraws]] = []
        for batch, words in super().prepare(passes):
            siblings = others = None
            if isinstance(batch, SceneBatch) and batch.siblings is not None:
                siblings = batch.siblings.nonzero()[:, 0]
                others = (~batch.siblings).nonzero()[:, 0]
            draws = SceneDraws(**vars(words), siblings=siblings, others=others)
            prepared.append((batch, draws))
        return prepared

    def pair(self, image: Tensor, text: Tensor, keep: Tensor, sims: Sequence[Tensor],
             positives: Sequence[Tensor], draws: Draws, hard: bool) -> Pairs:
        """ITM's pairs, and behind them each sibling's text with the other's image.

        With sibling_negatives=False these are a sibling's only wrong pairs.
        """
        if not isinstance(draws, SceneDraws) or draws.siblings is None:
            return super().pair(image, text, keep, sims, positives, draws, hard)
        assert draws.others is not None
        siblings = draws.siblings
        first = distributed.rank() * len(image)
        apart = torch.zeros_like(positives[0])
        apart[siblings, first + (siblings ^ 1)] = True               # they have a loss of their own
        positives = [positive | apart for positive in positives]
        pairs = super().pair(image, text, keep, sims, positives, draws, hard)
        if not self.config.sibling_negatives:
            pairs = drop_negatives(pairs, draws.others)
        texts, images = pairs.rows
        texts = torch.cat([texts, siblings ^ 1])
        images = torch.cat([images, siblings])
        return pairs._replace(rows=(texts, images))

    def match(self, step: Step) -> dict[str, Tensor]:
        """ITM on its own pairs, and on the siblings."""
        siblings = siblings_of(step.draws)
        if siblings is None:
            return super().match(step)
        assert step.pairs is not None
        labels, valid = step.pairs.labels, step.pairs.valid
        count = len(labels)
        logits = self.match_logits(step)
        itm = self.itm_loss(logits[:count], labels, valid, self.per_process(valid))
        return {"itm": itm, "siblings": self.sibling_loss(logits[siblings], logits[count:])}

    def sibling_loss(self, true: Tensor, false: Tensor) -> Tensor:
        """ITM on minimal pairs: logits (s, 2) of each image with its text, and its sibling's."""
        label = torch.ones(len(true), dtype=torch.long, device=true.device)
        count = (2 * self.per_process(label)).clamp(min=2 / distributed.world())
        labels = torch.cat([label, 0 * label])
        return self.itm_loss(torch.cat([true, false]), labels, labels >= 0, count)


def drop_negatives(pairs: Pairs, others: Tensor) -> Pairs:
    """ITM's pairs without the wrong ones of siblings, whose own halves are wrong enough.

    others: rows of the batch that are no siblings
    """
    batch = len(pairs.labels) // 3
    rows = torch.arange(batch, device=others.device)
    kept = torch.cat([rows, batch + others, 2 * batch + others])
    texts, images = pairs.rows
    return pairs._replace(rows=(texts[kept], images[kept]), labels=pairs.labels[kept],
                          valid=pairs.valid[kept])


def siblings_of(draws: Draws) -> Tensor | None:
    """The rows that are siblings, (s,); None where the batch has none."""
    return draws.siblings if isinstance(draws, SceneDraws) else None
