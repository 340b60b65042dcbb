"""Class names are captions for free: an ImageNet classifier's rows as images, their names as texts.

A classifier scores an image by its product with each class's row, so a row lies where the class's
images lie. Pairing rows with names teaches the two projections a thousand words without one image.
(DeViSE, Frome et al. 2013, goes the other way: from images to the vectors of class names.)
"""
from typing import Any

import torch
from torch import Tensor

from minalbef.config import Config
from minalbef.pretrain import Draws, Phase, Pretrain, PretrainBatch
from minalbef.system.tokenizer import Tokenizer
from minalbef.weights.pretrained import read_classifier


class ClassNamesPretrain(Pretrain):
    """Pretraining with one more loss: ITC of class vectors and names, as many as a batch has rows.

    vectors: (c, d) of the image encoder's width; names, names_keep: (c, l) their words
    """

    vectors: Tensor
    names: Tensor
    names_keep: Tensor

    def own_losses(self, batch: PretrainBatch, image: Tensor, text: Tensor, draws: Draws,
                   phase: Phase) -> dict[str, Tensor]:
        """ITC of a random part of the classes, within itself. None in validation."""
        losses = super().own_losses(batch, image, text, draws, phase)
        if not phase.teacher:
            return losses
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + draws.step)
        rows = torch.randperm(len(self.vectors), generator=generator)[:len(image)]
        rows = rows.to(image.device)
        keep = self.names_keep[rows]
        words = self.student.encode_text(self.names[rows], keep)
        names = self.student.text_feature(words, keep)
        classes = self.student.image_feature(self.vectors[rows, None])
        right = torch.eye(len(rows), dtype=torch.bool, device=image.device)
        i2t = self.student.image_to_text(classes, names)
        t2i = self.student.text_to_image(names, classes)
        to_name, to_class = [self.itc_loss(sim, sim.detach(), 0.0, right) for sim in (i2t, t2i)]
        return losses | {"names": (to_name + to_class) / 2}


def add_classes(task: Any, tokenizer: Tokenizer, config: Config) -> None:
    """Give a task its classes' vectors and names, in place; they are no part of its state.

    Raises ValueError for a start without the classes of ImageNet.
    """
    from timm.data import ImageNetInfo
    info = ImageNetInfo()
    vectors = read_classifier(config.image_start)
    if len(vectors) != info.num_classes() or vectors.shape[1] != config.image_width:
        raise ValueError(f"class_names=true: {config.image_start} has class vectors of shape "
                         f"{tuple(vectors.shape)}, and ({info.num_classes()}, {config.image_width})"
                         " is wanted, of ImageNet's classes and image_width; take "
                         "class_names=false")
    names = [info.index_to_description(i).partition(",")[0] for i in range(len(vectors))]
    tokens, keep = tokenizer.encode(names, config.text_length)
    for name, value in {"vectors": vectors, "names": tokens, "names_keep": keep}.items():
        task.register_buffer(name, value, persistent=False)
