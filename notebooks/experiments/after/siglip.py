"""SigLIP's loss (Zhai et al. 2023, 2303.15343): each pair of a batch is right or wrong by itself.

Changes: a sigmoid for every pair of image and text in place of a softmax over the row, with a
learnt bias that begins at -10, and a temperature that begins at 0.1 (the paper's t = 10). No pair
needs another, so the paper computes it in blocks, in batches up to a million. No teacher, no queue.
Leaves out: the blocks; its batch of 32 thousand; here it is 64. SigLIP has no fusion. We keep ITM
and MLM, so that compared with `in-batch` one thing changes.
"""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from in_batch import InBatch
from minalbef import ALBEF, Config

CHANGES = {"temperature": 0.1}


def sigmoid_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Of each pair, whether it is right: (b, k) and bool (b, k) -> the sum over all, per row."""
    sign = 2.0 * positive - 1
    return -F.logsigmoid(sign * logits).sum() / len(logits)


class SigLIP(ALBEF):
    """ALBEF with the bias of the sigmoid."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.bias = nn.Parameter(torch.tensor(-10.0))


class SigLIPPretrain(InBatch):
    """Pretraining with a sigmoid ITC."""

    def __init__(self, config: Config, **options: Any):
        super().__init__(config, student=SigLIP(config), **options)

    def itc_loss(self, sim: Tensor, teacher_sim: Tensor, alpha: float, positive: Tensor) -> Tensor:
        """One loss of all pairs, whether images or texts are the queries. There is no teacher."""
        return sigmoid_loss(sim + self.student.bias, positive)
