"""X-VLM's boxes (Zeng, Zhang, Li 2022, 2111.08276): phrases belong to boxes of the image.

Changes: of each scene one object is named by a phrase, such as "a small apple". Its box is the
patches that it overlaps, and their mean. ITC and ITM also match boxes with phrases, and from the
phrase and the whole image a head predicts the box, by L1 and generalised IoU. No teacher, no queue,
as in the paper.
Leaves out: MLM of phrases, which have three words; regions of several objects, with descriptions.
The paper's boxes are people's annotations; here the scene knows them (boxes.py), and no caption
says them.
"""
from typing import Any

import torch
from torch import Tensor, nn

from in_batch import InBatch
from minalbef import ALBEF, Config
from minalbef.layers import MLP, init_weights
from minalbef.losses import itc_loss
from minalbef.pretrain import Draws, Negatives, Phase


def patches_under(boxes: Tensor, grid: int) -> Tensor:
    """Patches that each box overlaps: (b, 4) -> (b, n) bool, row-major."""
    centre = (torch.arange(grid, device=boxes.device) + 0.5) / grid
    reach = (boxes[:, 2:, None] + 1 / grid) / 2
    overlaps = (centre - boxes[:, :2, None]).abs() < reach                   # (b, x and y, grid)
    return (overlaps[:, 1, :, None] & overlaps[:, 0, None]).flatten(1)


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes, less the share of the box around both that neither has: (b, 4) twice -> (b,)"""
    low, high = [torch.stack([box[:, :2] + side * box[:, 2:] / 2 for box in (a, b)])
                 for side in (-1, 1)]
    shared = (high.amin(0) - low.amax(0)).clamp(min=0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - shared
    around = (high.amax(0) - low.amin(0)).prod(1)
    return shared / union - (around - union) / around


class XVLM(ALBEF):
    """ALBEF with a head for boxes."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.box_head = MLP(config.text_width, config.text_width)
        self.box_head.fc2 = nn.Linear(config.text_width, 4)
        init_weights(self.box_head, config.init_std)

    def predict_boxes(self, text: Tensor, keep: Tensor, image: Tensor) -> Tensor:
        """Where is what the text names? -> (b, 4), see BoxBatch."""
        return self.box_head(self.fuse(text, keep, image, queries=1)[:, 0]).sigmoid()


class XVLMPretrain(InBatch):
    """Pretraining with boxes."""

    def __init__(self, config: Config, **options: Any):
        super().__init__(config, student=XVLM(config), **options)

    def own_losses(self, batch: Any, image: Tensor, text: Tensor, draws: Draws, phase: Phase
                   ) -> dict[str, Tensor]:
        """ITC and ITM of boxes and phrases, and the boxes; they begin where ITM and MLM do."""
        if not phase.match:
            return {}
        model = self.student
        keep = batch.phrase_keep
        text = model.encode_text(batch.phrases, keep)
        inside = patches_under(batch.boxes, self.config.grid)
        mean = (image[:, 1:] * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)
        regions = torch.cat([mean[:, None], image[:, 1:]], 1)
        sim = model.image_feature(regions) @ model.text_feature(text, keep).T / model.temperature
        positives = batch.fits.T, batch.fits             # of images as queries, and of phrases
        itc = itc_loss(sim, sim, 0.0, positives[0]) + itc_loss(sim.T, sim.T, 0.0, positives[1])

        sim = sim.detach() * phase.hard
        phrase, has_phrase = self.hard_negatives(sim, positives[0], draws.negative_text)
        region, has_region = self.hard_negatives(sim.T, positives[1], draws.negative_image)
        pairs = self.pair(Negatives(phrase, region, has_phrase, has_region), batch)
        seen = torch.cat([torch.ones_like(inside[:, :1]), inside], 1)
        fused = model.fuse(text, keep, regions, seen, pairs=(pairs.texts, pairs.images), queries=1)
        itm = self.itm_losses(model.match_logits(fused), pairs, batch)["itm"]

        boxes = model.predict_boxes(text, keep, image)
        distance = (boxes - batch.boxes).abs().sum(1) + 1 - generalised_iou(boxes, batch.boxes)
        box = (distance * batch.alone).sum() / batch.alone.sum().clamp(min=1)
        return {"itc_box": itc / 2, "itm_box": itm, "box": box}
