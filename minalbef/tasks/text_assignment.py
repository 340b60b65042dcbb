"""Text assignment, which pretrains for NLVR2: which of two images does a text belong to?

Section 5 of the paper.
"""
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Rows, row_generators
from minalbef.ema import Trainable
from minalbef.losses import hard_negatives
from minalbef.pretrain import PretrainBatch, collate
from minalbef.system import distributed
from minalbef.tasks.base import HEADS, Task
from minalbef.tasks.nlvr2 import PairModel

FIRST, SECOND, NEITHER = range(3)     # the labels
OWN_SHARE = 2 / 3                     # of texts with their own image; the rest get two negatives
TEMPERATURE = 0.07                    # of the similarity by which negatives are drawn; not learnt


@dataclass(frozen=True)
class AssignDraws(Rows):
    """The random draws of one step of text assignment, for the rows of one process."""

    case: Tensor                      # (b,) uniform: whether the text's own image is one of the two
    side: Tensor                      # (b,) uniform: on which side
    negative: Tensor                  # (b, B) uniform: negative images
    columns = ("negative",)


class AssignPairs(NamedTuple):
    """Two images for every text, as rows of all processes' batch."""

    first: Tensor                     # (b,)
    second: Tensor                    # (b,)
    labels: Tensor                    # (b,) FIRST, SECOND or NEITHER
    valid: Tensor                     # (b,) bool, False where there were too few negatives


class TextAssignment(Trainable):
    """Which of two images does a text belong to, or neither? On pretraining's data, no teacher.

    In two cases of three, one image is the text's own and the other a negative that resembles it;
    in the third, both are negatives. An image that the text is true of is never a negative, and a
    text with too few negatives in the batch is skipped (the original has no ids, and fails on such
    a batch). The projections and the temperature aren't trained.
    """

    teacher = None
    unused_parts = HEADS

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.student = PairModel(config, nn.Linear(config.text_width, 3))

    def start(self, albef: ALBEF, teacher: ALBEF | None = None) -> None:
        """Load a pretrained ALBEF's weights, in place; the teacher isn't used."""
        self.student.start(albef)

    def draws(self, step: int) -> AssignDraws:
        """The draws of a step, from (seed, step) alone; this process's rows."""
        batch = self.config.batch
        rows = distributed.rank_rows(batch, distributed.rank(), distributed.world())
        blocks = []
        for generator, count, own in row_generators(self.config.seed, step, batch, rows):
            blocks.append(torch.rand(count, 2 + batch, generator=generator)[own])
        uniform = torch.cat(blocks).clamp_(1e-7, 1 - 1e-7)
        return AssignDraws(case=uniform[:, 0], side=uniform[:, 1], negative=uniform[:, 2:])

    def forward(self, batch: PretrainBatch, alpha: float, draws: AssignDraws
                ) -> tuple[dict[str, Tensor], None]:
        """The loss by name, and no state for `after_step`; alpha isn't used."""
        albef = self.student.albef
        image = albef.encode_image(batch.image)                          # (b, 1 + n, i)
        pairs = self.assign(image.detach(), batch, draws)
        images, rows = distributed.fetch(image, torch.cat([pairs.first, pairs.second]),
                                         self.config.hard_negatives)
        rows = rows.unflatten(0, (2, -1)).T                              # (b, 2)
        text = albef.encode_text(batch.tokens, batch.keep)
        logits = self.student.classify((images, rows), text, batch.keep)
        loss = F.cross_entropy(logits, pairs.labels, reduction="none") * pairs.valid
        count = distributed.total(pairs.valid.sum().float()).clamp(min=1) / distributed.world()
        return {"assign": loss.sum() / count}, None

    @torch.no_grad()
    def assign(self, image: Tensor, batch: PretrainBatch, draws: AssignDraws) -> AssignPairs:
        """Draw two images for every text. image: (b, 1 + n, i)"""
        b = len(image)
        begin = distributed.rank() * b
        feature = self.student.albef.image_feature(image)
        ids = distributed.gather(batch.ids)
        # bf16 has too few digits to compare
        with torch.autocast(image.device.type, enabled=False):
            sim = feature @ distributed.gather(feature).T / TEMPERATURE  # (b, B)
        excluded = batch.ids[:, None] == ids
        if batch.match is not None:
            excluded = excluded | batch.match[begin:begin + b]
        if self.config.equal_texts_match and batch.texts is not None:
            excluded = excluded | (batch.texts[:, None] == distributed.gather(batch.texts))
        peers = distributed.peers(self.config.hard_negatives)
        if len(peers) < distributed.world():     # rows of other processes are no negatives
            process = torch.arange(len(ids), device=ids.device) // b
            excluded = excluded | (process < peers.start) | (process >= peers.stop)
        negative1, valid1 = hard_negatives(sim, excluded, draws.negative)
        # with the same uniforms and the first negative excluded, as if drawn after it
        excluded = excluded | F.one_hot(negative1, len(ids)).bool()
        negative2, valid2 = hard_negatives(sim, excluded, draws.negative)
        side = torch.where(draws.side > 0.5, FIRST, SECOND)
        labels = torch.where(draws.case > 1 - OWN_SHARE, side, NEITHER)
        positive = torch.arange(begin, begin + b, device=ids.device)
        first = torch.where(labels == FIRST, positive, negative1)
        second = torch.where(labels == NEITHER, negative2, negative1)
        second = torch.where(labels == SECOND, positive, second)
        valid = torch.where(labels == NEITHER, valid2, valid1)
        return AssignPairs(first, second, labels, valid)


TASK = Task(
    name="text_assignment",
    module=TextAssignment,
    collate=collate,
    presets=("nlvr2-assign",),
    pairs=True,
    lacks=("match_head", "word_head"),
    original_head="ta_head",
    least_rows=3,                        # a text takes up to two negatives
)
