"""Text assignment, a pretraining for NLVR2: to which of two pictures does a text belong? (section 5)"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minalbef import distributed
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Rows
from minalbef.draws import step_generator
from minalbef.losses import hard_negatives
from minalbef.tasks.base import Task
from minalbef.tasks.nlvr2 import PairModel
from minalbef.tasks.pretrain import PretrainBatch, collate

FIRST, SECOND, NEITHER = range(3)     # the labels
OWN_SHARE = 2 / 3                     # of the texts, that see their own picture; the others see two wrong ones
TEMPERATURE = 0.07                    # of the pictures' similarity, by which wrong ones are drawn; not learnt


@dataclass(frozen=True)
class AssignDraws(Rows):
    """The random draws of one step of text assignment, for the rows of one process."""

    case: Tensor                      # (b,) uniform: whether the text's own picture is shown
    side: Tensor                      # (b,) uniform: on which side
    negative: Tensor                  # (b, B) uniform: wrong pictures
    columns = ("negative",)


class TextAssignment(nn.Module):
    """To which of two pictures does a text belong, or to neither? On pretraining's data, without a teacher.

    In two cases of three the text's own picture stands on one side or the other, beside a wrong one that resembles it;
    in the third, both are wrong. A picture that the text is true of is never taken for a wrong one, and a text for
    which not enough wrong ones are left is skipped (the original knows no ids, and fails on such a batch).
    The projections and the temperature learn nothing here.
    """

    teacher = None

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.student = PairModel(config, nn.Linear(config.text_width, 3))

    def start(self, albef: ALBEF, teacher: ALBEF | None = None) -> None:
        """Begin from a pretrained ALBEF; a teacher is of no use here. In place."""
        self.student.start(albef)

    def draws(self, step: int) -> AssignDraws:
        """From (seed, step) alone, cut for this process."""
        whole, generator = self.config.batch, step_generator(self.config.seed, step)
        mine = distributed.rank_rows(whole, distributed.rank(), distributed.world())
        uniform = torch.rand(whole, 2 + whole, generator=generator).clamp(1e-7, 1 - 1e-7)[mine]
        return AssignDraws(uniform[:, 0], uniform[:, 1], uniform[:, 2:])

    def forward(self, batch: PretrainBatch, alpha: float, draws: AssignDraws) -> tuple[dict[str, Tensor], None]:
        """-> the loss by name, and nothing for `after_step`. Changes nothing; alpha is of no use here."""
        albef = self.student.albef
        image = albef.encode_image(batch.image)                                  # (b, 1 + n, i)
        left, right, labels, valid = self.assign(image.detach(), batch, draws)
        pool, rows = distributed.fetch(image, torch.cat([left, right]), self.config.hard_negatives == "local")
        text = albef.encode_text(batch.tokens, batch.keep)
        logits = self.student.classify((pool, rows.unflatten(0, (2, -1)).T), text, batch.keep)
        count = distributed.total(valid.sum().float()).clamp(min=1) / distributed.world()
        return {"assign": (F.cross_entropy(logits, labels, reduction="none") * valid).sum() / count}, None

    @torch.no_grad()
    def assign(self, image: Tensor, batch: PretrainBatch, draws: AssignDraws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Two pictures for every text: (b, 1 + n, i) -> rows of the global batch, twice, labels, valid, each (b,)."""
        b, begin = len(image), distributed.rank() * len(image)
        feature, ids = self.student.albef.image_feature(image), distributed.gather(batch.ids)
        with torch.autocast(image.device.type, enabled=False):                   # bf16 has too few digits to compare
            sim = feature @ distributed.gather(feature).T / TEMPERATURE          # (b, B)
        true = batch.ids[:, None] == ids
        if batch.match is not None:
            true = true | batch.match[begin:begin + b]
        if self.config.equal_texts_match and batch.texts is not None:
            true = true | (batch.texts[:, None] == distributed.gather(batch.texts))
        if self.config.hard_negatives == "local":
            true = true | (torch.arange(len(ids), device=ids.device) // b != distributed.rank())
        one, some = hard_negatives(sim, true, draws.negative)
        # the same uniforms again, without the winner: its runner-up, as if drawn after it
        two, more = hard_negatives(sim, true | F.one_hot(one, len(ids)).bool(), draws.negative)
        labels = torch.where(draws.case > 1 - OWN_SHARE, torch.where(draws.side > 0.5, FIRST, SECOND), NEITHER)
        own = torch.arange(begin, begin + b, device=ids.device)
        left = torch.where(labels == FIRST, own, one)
        right = torch.where(labels == SECOND, own, torch.where(labels == NEITHER, two, one))
        return left, right, labels, torch.where(labels == NEITHER, more, some)

    def after_step(self, carry: None) -> None:
        """Nothing to do."""


TASK = Task(
    name="text_assignment",
    module=TextAssignment,
    collate=collate,
    presets=("nlvr2-assign",),
    pairs=True,
    lacks=("match_head", "word_head"),
    original_head="ta_head",
    least_batch=3,                       # each text takes two negative images
)
