"""What several successors share: ITC within the batch, as CLIP's (Radford et al. 2021, 2103.00020).

Changes: both features of a pair are the student's, with their gradients; ALBEF's keys are its
teacher's, without. So there is neither a teacher nor a queue.
Leaves out: CLIP has no ITM and no MLM; here they stay as they are. The recipe `in-batch` is this
alone: the control of SigLIP, FILIP and X-VLM, whose papers have no teacher and no queue either.
"""
from typing import Any

import torch
from torch import nn

from minalbef.pretrain import Keys, Phase
from minalbef.scenes.pretrain import FastScenePretrain


class InBatch(FastScenePretrain):
    """Pretraining whose pairs are contrasted with their own batch alone."""

    def make_teacher(self, student: nn.Module) -> Any:
        """An empty module: there is no teacher to move, to save or to ask."""
        return nn.Module()

    def phase(self, step: int) -> Phase:
        """See Pretrain.phase."""
        return super().phase(step)._replace(queue=False, teacher=False)

    @torch.no_grad()
    def after_step(self, carry: Keys) -> None:
        """After the optimiser: clamp the temperature, and nothing else."""
        self.student.temperature.clamp_(self.config.temperature_min, self.config.temperature_max)
