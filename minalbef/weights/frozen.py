"""Pretraining on frozen encoders: two projections learn, from features that are computed once.

What stands still needs no teacher: the keys are the batch's own features. Class names are captions
for free: an ImageNet classifier scores an image by its product with each class's row, so a row lies
where the class's images lie. Pairing rows with names teaches a thousand words without one image.
(DeViSE, Frome et al. 2013, goes the other way: from images to the vectors of class names.)
"""
from typing import Any

import torch
from torch import Tensor

from minalbef.config import Config
from minalbef.pretrain import Draws, Phase, Pretrain, PretrainBatch
from minalbef.system.encoders import Projection
from minalbef.system.modes import evaluation_mode
from minalbef.system.tokenizer import Tokenizer
from minalbef.weights.pretrained import read_classifier

MOST = 20_000                         # texts that are remembered, and examples that are measured
PROMPTS = ("{}", "a photo of a {}")   # of a class: all its names, and the first


class FrozenPretrain(Pretrain):
    """Pretraining of what frozen encoders leave over, with one more loss for class names.

    vectors: (c, d) the rows of the image start's classifier, standardised; none without class_names
    names, names_keep: (prompts, c, l) their words
    """

    vectors: Tensor
    names: Tensor
    names_keep: Tensor

    def phase(self, step: int) -> Phase:
        """As the paper's, without a teacher."""
        return super().phase(step)._replace(teacher=False)

    def own_losses(self, batch: PretrainBatch, image: Tensor, text: Tensor, draws: Draws,
                   phase: Phase) -> dict[str, Tensor]:
        """ITC of the classes within themselves, with each prompt in turn. None in validation."""
        losses = super().own_losses(batch, image, text, draws, phase)
        if not self.config.class_names or not torch.is_grad_enabled():
            return losses
        proj: Any = self.student.image_proj
        prompt = draws.step % len(PROMPTS)
        keep = self.names_keep[prompt]
        words = self.student.encode_text(self.names[prompt], keep)
        names = self.student.text_feature(words, keep)
        classes = self.student.image_feature((proj.mean + self.vectors * proj.std)[:, None])
        right = torch.eye(len(names), dtype=torch.bool, device=names.device)
        sims = self.student.image_to_text(classes, names)
        to_name, to_class = [self.itc_loss(sim, sim.detach(), 0.0, right)
                             for sim in (sims, sims.T)]
        return losses | {"names": (to_name + to_class) / 2}

    @torch.no_grad()
    def measure(self, records: Any, tokenizer: Tokenizer) -> None:
        """Standardise what the projections read by the training set, in place.

        The text's projection begins with the principal axes of its features, so that at first the
        similarity of two captions is the text encoder's own.
        records: see datasets.tokens; the first MOST are measured
        """
        rows = [records[i] for i in range(min(MOST, len(records)))]
        images = {record.id: torch.tensor(record.image[:, 0]) for record in rows
                  if getattr(record.image, "ndim", 0) == 3}
        texts = list(dict.fromkeys(record.text for record in rows))
        tokens, keep = tokenizer.encode(texts, self.config.text_length)
        student = self.student
        student.encode_text = Remembered(student.text_encoder)
        device = student.device
        pooled = []
        with evaluation_mode(student):
            for part, mask in zip(tokens.to(device).split(1), keep.to(device).split(1)):
                words = student.encode_text(part, mask)
                pooled.append(student.text_encoder.pool(words, mask).cpu())
        standardise(student.image_proj, torch.cat(list(images.values())).float())
        standardise(student.text_proj, torch.cat(pooled))
        axes = principal_axes(student.text_proj, torch.cat(pooled))
        student.text_proj.weight[:len(axes)] = axes.to(device)
        student.text_proj.bias.zero_()


def standardise(proj: Projection, features: Tensor) -> None:
    """Note the mean and deviation of features (n, d) in a projection, in place."""
    proj.mean.copy_(features.mean(0))
    proj.std.copy_(features.std(0) + 1e-3)


def principal_axes(proj: Projection, features: Tensor) -> Tensor:
    """The directions in which standardised features (n, d) vary most: (<= e, d)."""
    x = (features.double() - proj.mean.cpu()) / proj.std.cpu()
    _, axes = torch.linalg.eigh(x.T @ x)                 # ascending
    axes = axes.flip(1)[:, :proj.out_features].T
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()    # eigh's are of no meaning
    return (axes * signs).float()


class Remembered:
    """A frozen text encoder that encodes each text once, by itself, and remembers it.

    By itself: so a text's tokens don't depend on the batch in which it came first.
    """

    def __init__(self, encoder: Any):
        self.encoder = encoder
        self.texts: dict[bytes, Tensor] = {}

    def __call__(self, tokens: Tensor, keep: Tensor) -> Tensor:
        rows = []
        for row, mask in zip(tokens, keep):
            ids = row[mask]
            key = ids.cpu().numpy().tobytes()
            x = self.texts.get(key)
            if x is None:
                x = self.encoder(ids[None], torch.ones_like(ids[None], dtype=torch.bool))[0]
                if len(self.texts) < MOST:
                    self.texts[key] = x
            rows.append(x)
        result = rows[0].new_zeros(*tokens.shape, rows[0].shape[-1])
        result[keep] = torch.cat(rows)
        return result


def add_classes(task: Any, tokenizer: Tokenizer, config: Config) -> None:
    """Give a task its classes' vectors and names, in place; they are no part of its state.

    Raises ValueError for a start without the classes of ImageNet.
    """
    from timm.data import ImageNetInfo
    info = ImageNetInfo()
    rows = read_classifier(config.image_start)
    width = config.image_width
    if len(rows) != info.num_classes() or rows.shape[1] > width:
        raise ValueError(f"class_names=true: {config.image_start} has class vectors of shape "
                         f"{tuple(rows.shape)}, and ({info.num_classes()}, at most {width}) is "
                         "wanted, of ImageNet's classes and image_width; take class_names=false")
    rows = rows - rows.mean(0)
    vectors = torch.zeros(len(rows), width)
    vectors[:, :rows.shape[1]] = rows / rows.std(0)
    names = [info.index_to_description(i) for i in range(len(rows))]
    texts = [PROMPTS[0].format(name) for name in names]
    texts += [PROMPTS[1].format(name.partition(",")[0]) for name in names]
    tokens, keep = tokenizer.encode(texts, config.text_length)
    task.register_buffer("vectors", vectors, persistent=False)
    for name, value in (("names", tokens), ("names_keep", keep)):
        task.register_buffer(name, value.view(len(PROMPTS), len(rows), -1), persistent=False)


def check_recipe(config: Config) -> None:
    """Raises ValueError for parts of this recipe without the others."""
    both = config.image_proj_dropout > 0 and config.text_proj_dropout > 0
    either = config.image_proj_dropout > 0 or config.text_proj_dropout > 0
    frozen = {"image", "text"} <= set(config.freeze.split(","))
    if (either or config.class_names) and not (both and frozen):
        raise ValueError("image_proj_dropout, text_proj_dropout and class_names=true are of one "
                         "recipe, for frozen encoders: set both dropouts above 0 and "
                         "freeze=image,text, as preset pictures does, or none of them")
    if either and config.text_encoder != "bert-words":
        raise ValueError(f"text_encoder={config.text_encoder!r}: with text_proj_dropout it must be "
                         "bert-words, whose means of words are standardised")
