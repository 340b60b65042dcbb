"""A supervised start for the image encoder, as the paper starts from DeiT: which objects are in the picture?"""
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from emojiscenes.scenes import Scenes, other_objects, paint
from minalbef import distributed
from minalbef.config import Config
from minalbef.data import Rows, transform
from minalbef.layers import full
from minalbef.losses import soft_cross_entropy
from minalbef.vision import ConvStem, ViT


@dataclass(frozen=True)
class LabelBatch(Rows):
    """image (b, 3, s, s); labels (b, c): 1 for every kind of object in the picture, else 0."""

    image: Tensor
    labels: Tensor


class LabelBatches:
    """Scenes of named kinds of objects, with labels for captions: step -> the LabelBatch of this process."""

    def __init__(self, config: Config):
        self.config, self.rank, self.world = config, distributed.rank(), distributed.world()
        objects = config.objects if config.warm_objects == "same" else other_objects(config.objects)[:config.objects]
        self.scenes = Scenes("train", seed=config.seed, size=config.image_size, epoch=config.epoch,
                             restyle=config.restyle, objects=objects)
        self.classes = {name: i for i, name in enumerate(self.scenes.names)}

    def __call__(self, step: int) -> LabelBatch:
        batch, size = self.config.batch, self.config.image_size
        mine = range(step * batch, (step + 1) * batch)[distributed.own_rows(batch, self.rank, self.world)]
        drawn = [self.scenes.place(i) for i in mine]
        labels = torch.zeros(len(drawn), len(self.classes))
        for row, scene in zip(labels, drawn):
            row[[self.classes[thing.name] for thing in scene.objects]] = 1
        return LabelBatch(torch.stack([transform(paint(scene, size), size) for scene in drawn]), labels)


class WarmStart(nn.Module):
    """A ViT and two linear heads, for the time of the warm start.

    One head reads [CLS] of the last layer. The other reads every patch of the stem, and an object counts as found where
    any patch finds it (multiple-instance learning): labels of whole pictures teach places.
    """

    def __init__(self, config: Config, classes: int):
        super().__init__()
        self.image_encoder = ViT(config)
        if isinstance(self.image_encoder.patch_embed, ConvStem):
            add_norms(self.image_encoder.patch_embed)
        self.head = nn.Linear(config.image_width, classes)
        self.patch_head = nn.Linear(config.image_width, classes)

    def draws(self, step: int) -> None:
        """Nothing here is left to chance."""

    def forward(self, batch: LabelBatch, alpha: float, draws: None):
        """-> losses by name, and nothing for `after_step`."""
        target = batch.labels / batch.labels.sum(-1, keepdim=True)
        cls, patches = self.logits(batch.image)
        return {"cls": soft_cross_entropy(cls, target).mean(),
                "patch": soft_cross_entropy(patches.logsumexp(1), target).mean()}, None

    def logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores of the whole picture (b, c), and of every patch of the stem (b, n, c)."""
        patches = self.image_encoder.patch_embed(image)
        return full(self.head(self.image_encoder.attend(patches)[:, 0])), full(self.patch_head(patches))

    def after_step(self, carry: None):
        """Nothing to do."""

    @torch.no_grad()
    def start(self, encoder: ViT):
        """Give what was learnt to ALBEF's image encoder, BatchNorm folded into the convolutions. In place."""
        if isinstance(self.image_encoder.patch_embed, ConvStem):
            fold_norms(self.image_encoder.patch_embed)
        encoder.load_state_dict(self.image_encoder.state_dict())


def add_norms(stem: ConvStem) -> None:
    """Put BatchNorm behind each convolution. In place."""
    for pair in (*stem.down, *stem.same):
        pair[1] = nn.BatchNorm2d(pair[0].out_channels)


def fold_norms(stem: ConvStem) -> None:
    """Merge every BatchNorm, as it computes in evaluation, into the convolution before it. In place."""
    for pair in (*stem.down, *stem.same):
        pair[0] = nn.utils.fuse_conv_bn_eval(pair[0].eval(), pair[1].eval())
        pair[1] = nn.Identity()
