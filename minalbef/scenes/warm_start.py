"""A supervised start for the image encoder, as the paper starts from DeiT.

Which objects are in the image?
"""
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from emojiscenes.scenes import Scenes, other_objects, paint
from minalbef.albef import full
from minalbef.config import Config
from minalbef.data import Rows, transform
from minalbef.ema import Trainable
from minalbef.fast.cls import attend_cls
from minalbef.losses import soft_cross_entropy
from minalbef.system import distributed
from minalbef.vision import ConvStem, ViT


@dataclass(frozen=True)
class LabelBatch(Rows):
    """image (b, 3, s, s); labels (b, c): 1 for every kind of object in the image, else 0."""

    image: Tensor
    labels: Tensor


class LabelBatches:
    """Scenes labelled with their objects: step -> the LabelBatch of this process."""

    def __init__(self, config: Config):
        self.config = config
        self.rank = distributed.rank()
        self.world = distributed.world()
        objects: int | tuple[str, ...] = config.objects
        if config.warm_objects == "other":
            objects = other_objects(config.objects)[:config.objects]
        self.scenes = Scenes("train", seed=config.seed, size=config.image_size, epoch=config.epoch,
                             restyle=config.restyle, objects=objects)
        self.classes = {name: i for i, name in enumerate(self.scenes.names)}

    def __call__(self, step: int) -> LabelBatch:
        batch = self.config.batch
        size = self.config.image_size
        rows = range(step * batch, (step + 1) * batch)
        rows = rows[distributed.rank_rows(batch, self.rank, self.world)]
        scenes = [self.scenes.place(i) for i in rows]
        labels = torch.zeros(len(scenes), len(self.classes))
        for row, scene in zip(labels, scenes):
            row[[self.classes[thing.name] for thing in scene.objects]] = 1
        images = [transform(paint(scene, size), size) for scene in scenes]
        return LabelBatch(torch.stack(images), labels)


class WarmStart(Trainable):
    """A ViT and two linear heads, for the time of the warm start.

    One head reads [CLS] of the last layer. The other reads every patch of the stem, and an object
    counts as seen where any patch shows it (multiple-instance learning): labels of whole images
    teach places.
    """

    unused_parts = ()

    def __init__(self, config: Config, classes: int):
        super().__init__()
        self.image_encoder = ViT(config)
        if isinstance(self.image_encoder.patch_embed, ConvStem):
            add_norms(self.image_encoder.patch_embed)
        self.head = nn.Linear(config.image_width, classes)
        self.patch_head = nn.Linear(config.image_width, classes)

    def forward(self, batch: LabelBatch, alpha: float, draws: None
                ) -> tuple[dict[str, Tensor], None]:
        """-> losses by name, and nothing for `after_step`."""
        target = batch.labels / batch.labels.sum(-1, keepdim=True)
        cls, patches = self.logits(batch.image)
        losses = {
            "cls": soft_cross_entropy(cls, target).mean(),
            "patch": soft_cross_entropy(patches.logsumexp(1), target).mean(),
        }
        return losses, None

    def logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores of the whole image (b, c), and of every patch of the stem (b, n, c)."""
        patches = self.image_encoder.patch_embed(image.to(self.head.weight.dtype))
        cls = attend_cls(self.image_encoder, patches)[:, 0]
        return full(self.head(cls)), full(self.patch_head(patches))

    @torch.no_grad()
    def start(self, encoder: ViT) -> None:
        """Copy the weights to ALBEF's image encoder, in place, with BatchNorm folded into it."""
        if isinstance(self.image_encoder.patch_embed, ConvStem):
            fold_norms(self.image_encoder.patch_embed)
        encoder.load_state_dict(self.image_encoder.state_dict())


def add_norms(stem: ConvStem) -> None:
    """Put BatchNorm behind each convolution. In place."""
    for pair in (*stem.down, *stem.same):
        pair[1] = nn.BatchNorm2d(pair[0].out_channels)


def fold_norms(stem: ConvStem) -> None:
    """Merge every BatchNorm, as in evaluation mode, into the convolution before it. In place."""
    for pair in (*stem.down, *stem.same):
        pair[0] = nn.utils.fuse_conv_bn_eval(pair[0].eval(), pair[1].eval())
        pair[1] = nn.Identity()
