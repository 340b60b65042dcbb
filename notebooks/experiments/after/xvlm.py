"""X-VLM's boxes (Zeng, Zhang, Li 2022, 2111.08276): phrases belong to boxes of the image.

Changes: of each scene one object is named by a phrase, such as "a small apple". Its box is the
patches that it overlaps, and their mean. ITC and ITM also match boxes with phrases, and from the
phrase and the whole image a head predicts the box, by L1 and generalised IoU. No teacher, no queue,
as in the paper.
Leaves out: MLM of phrases, which have three words; regions of several objects, with descriptions.
The paper's boxes are people's annotations; here the scene knows them, which no caption says.
"""
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from emojiscenes.grammar import phrase, size_of
from emojiscenes.language import Noun, Object, Scene, fits
from emojiscenes.stream import Stream
from in_batch import InBatch
from minalbef import ALBEF, Config
from minalbef.layers import init_weights
from minalbef.losses import itc_loss
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.pretrain import SceneBatch
from minalbef.scenes.records import box_of
from minalbef.tasks.pretrain import Objective, Phase, Step


@dataclass(frozen=True)
class BoxBatch(SceneBatch):
    """A SceneBatch with a phrase and a box of one object of each scene."""

    phrases: Tensor | None = None     # (b, w) and (b, w) bool
    phrase_keep: Tensor | None = None
    boxes: Tensor | None = None       # (b, 4) centre x, y, width, height, in shares of the sides
    alone: Tensor | None = None       # (b,) bool: no other object has its name
    fits: Tensor | None = None        # (b, B) bool: phrase i may be said of object j
    columns = ("match", "fits")


class BoxBatches(SceneBatches):
    """The embedded scenes with boxes: step -> the BoxBatch."""

    def __call__(self, step: int) -> BoxBatch:
        batch = super().__call__(step)
        drawn = self.batches[step % self.config.bucket]
        things = [choose(each.scene, Stream("box", self.config.seed, each.id)) for each in drawn]
        nouns = [Noun(thing.name, size_of(thing)) for thing in things]
        tokens, keep = self.tokenizer.encode([phrase(noun) for noun in nouns])
        names = [[other.name for other in each.scene.objects] for each in drawn]
        alone = [part.count(thing.name) == 1 for part, thing in zip(names, things)]
        may_fit = [[fits(noun, thing) is not False for thing in things] for noun in nouns]
        return BoxBatch(**vars(batch), phrases=tokens, phrase_keep=keep,
                        boxes=torch.tensor([box_of(thing) for thing in things]),
                        alone=torch.tensor(alone), fits=torch.tensor(may_fit))


def choose(scene: Scene, stream: Stream) -> Object:
    """One of a scene's objects, if it can be one whose name no other has."""
    names = [thing.name for thing in scene.objects]
    alone = [thing for thing in scene.objects if names.count(thing.name) == 1]
    return stream.pick(alone or scene.objects)


def patches_under(boxes: Tensor, grid: int) -> Tensor:
    """Patches that each box overlaps: (b, 4) -> (b, n) bool, row-major."""
    centre = (torch.arange(grid, device=boxes.device) + 0.5) / grid
    reach = (boxes[:, 2:] + 1 / grid) / 2
    near_x = (centre - boxes[:, :1]).abs() < reach[:, :1]
    near_y = (centre - boxes[:, 1:2]).abs() < reach[:, 1:]
    return (near_y[:, :, None] & near_x[:, None]).flatten(1)


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes with boxes, row by row: (b, 4) twice -> (b,) twice."""
    low_a, high_a = a[:, :2] - a[:, 2:] / 2, a[:, :2] + a[:, 2:] / 2
    low_b, high_b = b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2
    shared = (high_a.minimum(high_b) - low_a.maximum(low_b)).clamp(min=0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - shared
    around = (high_a.maximum(high_b) - low_a.minimum(low_b)).prod(1)
    iou = shared / union
    return iou, iou - (around - union) / around


class XVLM(ALBEF):
    """ALBEF with a head for boxes."""

    def __init__(self, config: Config):
        super().__init__(config)
        width = config.text_width
        self.box_head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 4))
        init_weights(self.box_head, config.init_std)

    def predict_boxes(self, text: Tensor, keep: Tensor, image: Tensor) -> Tensor:
        """Where is what the text names? -> (b, 4), see BoxBatch."""
        return self.box_head(self.fuse(text, keep, image, queries=1)[:, 0]).sigmoid()


class XVLMPretrain(InBatch):
    """Pretraining with boxes."""

    def __init__(self, config: Config, **options: Any):
        super().__init__(config, student=XVLM(config), **options)

    def objectives(self, phase: Phase) -> list[Objective]:
        """Boxes begin where ITM and MLM do."""
        return [*super().objectives(phase), *([self.locate] if phase.match else [])]

    def locate(self, step: Step) -> dict[str, Tensor]:
        """ITC and ITM of boxes and phrases, and the boxes themselves."""
        model, batch, image = self.student, step.batch, step.student.image
        text, keep = model.encode_text(batch.phrases, batch.phrase_keep), batch.phrase_keep
        inside = patches_under(batch.boxes, self.config.grid)
        mean = (image[:, 1:] * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)
        regions = torch.cat([mean[:, None], image[:, 1:]], 1)
        sim = model.image_feature(regions) @ model.text_feature(text, keep).T / model.temperature
        positives = batch.fits.T, batch.fits             # of images as queries, and of phrases
        itc = (itc_loss(sim, sim, 0.0, positives[0]) + itc_loss(sim.T, sim.T, 0.0, positives[1]))

        sims = sim.detach(), sim.T.detach()
        pairs = self.pair(regions, text, keep, sims, positives, step.draws, step.phase.hard)
        seen = torch.cat([torch.ones_like(inside[:, :1]), inside], 1)
        fused = model.fuse(pairs.texts, pairs.keep, pairs.images, seen, pairs=pairs.rows, queries=1)
        itm = self.itm_loss(model.match_logits(fused), pairs.labels, pairs.valid,
                            self.per_process(pairs.valid))

        found = model.predict_boxes(text, keep, image)
        distance = (found - batch.boxes).abs().sum(1) + 1 - overlaps(found, batch.boxes)[1]
        box = (distance * batch.alone).sum() / batch.alone.sum().clamp(min=1)
        return {"itc_box": itc / 2, "itm_box": itm, "box": box}
