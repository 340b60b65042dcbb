"""The encoders that a config names: the paper's, timm's, or your own, checked once.

image_encoder="vit" is the paper's, "timm:NAME" a model of timm's, "yourmodule:YourClass" a class
of yours, which is called with the Config. So a run's config.json says how its model is built again.
"""
import importlib
import os
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minalbef.config import Config, ModelConfig
from minalbef.data import MEAN, STD
from minalbef.system.modes import evaluation_mode
from minalbef.system.writing import restate
from minalbef.text import TextEncoder
from minalbef.vision import ViT


def image_encoder(config: Config, encoder: nn.Module | None = None) -> nn.Module:
    """What config.image_encoder names, or `encoder` in its place.

    It maps (b, 3, s, s) to tokens (b, 1 + n, config.image_width), the first of them [CLS].
    Raises ValueError for one that doesn't, and for a name that can't be imported.
    """
    name = config.image_encoder
    if encoder is None and name == "vit":
        return ViT(config)
    if encoder is None and name.startswith("timm:"):
        encoder = TimmEncoder(config, name.removeprefix("timm:"))
    if encoder is None:
        encoder = import_class("image_encoder", name)(config)
    check_image_encoder(encoder, config)
    return encoder


def text_encoder(config: Config, encoder: nn.Module | None = None) -> nn.Module:
    """What config.text_encoder names, or `encoder` in its place.

    It maps (b, l) to (b, l, config.text_width), and has TextEncoder's `word_table`.
    Raises ValueError for one that doesn't, and for a name that can't be imported.
    """
    name = config.text_encoder
    if encoder is None and name in ("bert", "bert-words"):
        return TextEncoder(config) if name == "bert" else WordsTextEncoder(config)
    if encoder is None:
        encoder = import_class("text_encoder", name)(config)
    check_text_encoder(encoder, config)
    return encoder


class TimmEncoder(nn.Module):
    """A model of timm's: its feature map or tokens, their mean as [CLS], mapped to the width.

    Images are normalised anew, as the model's weights on timm's hub expect.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, config: Config, name: str):
        super().__init__()
        with restate(f"image_encoder=timm:{name} needs the library timm",
                     "pip install 'minalbef[starts]' brings it", ImportError):
            import timm
        size = config.image_size
        options: Any = {}
        if "vit" in name or "swin" in name:      # transformers are built for a size
            options["img_size"] = size
        try:
            self.model: Any = timm.create_model(name, num_classes=0, **options)
        except RuntimeError as error:
            raise ValueError(f"image_encoder=timm:{name}: {error}; timm.list_models() lists the "
                             "names") from error
        wanted: Any = self.model.pretrained_cfg
        std = torch.tensor(wanted["std"])[:, None, None]
        shift = torch.tensor(MEAN)[:, None, None] - torch.tensor(wanted["mean"])[:, None, None]
        self.register_buffer("scale", torch.tensor(STD)[:, None, None] / std, persistent=False)
        self.register_buffer("shift", shift / std, persistent=False)
        with torch.no_grad(), evaluation_mode(self.model):
            width = self.tokens(torch.zeros(1, 3, size, size)).shape[2]
        self.proj: nn.Module = nn.Identity()
        if width != config.image_width:
            self.proj = nn.Linear(width, config.image_width)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(self.tokens(image))

    def tokens(self, image: Tensor) -> Tensor:
        """(b, 3, s, s) -> (b, 1 + n, timm's width), the first the mean unless it has a [CLS]."""
        image = image * self.scale + self.shift
        image = image.contiguous(memory_format=torch.channels_last)      # a third of the time
        if hasattr(self.model, "conv_head") and hasattr(self.model, "blocks"):
            return stages(self.model, image)
        x = self.model.forward_features(image)
        if x.ndim == 4:                          # a feature map, (b, d, y, x)
            x = x.flatten(2).mT
        if getattr(self.model, "num_prefix_tokens", 0):
            extra = self.model.num_prefix_tokens
            return torch.cat([x[:, :1], x[:, extra:]], 1)
        return torch.cat([x.mean(1, keepdim=True), x], 1)


def stages(model: Any, image: Tensor) -> Tensor:
    """An EfficientNet's tokens from three depths: (b, 3, s, s) -> (b, 1 + n, d), first the mean.

    Its head was trained for ImageNet's classes alone, and drawings that are none of them differ
    more in the stages before it: the last but one, with its maximum for [CLS], and the one before.
    """
    x = model.bn1(model.conv_stem(image))
    maps = []
    for block in model.blocks:
        x = block(x)
        maps.append(x)
    x = model.bn2(model.conv_head(x))
    late, middle = maps[-2], maps[-3]
    places = [F.adaptive_avg_pool2d(part, x.shape[-2:]) for part in (late, middle)]
    tokens = torch.cat([x, *places, places[0]], 1).flatten(2).mT         # (b, n, d)
    mean = tokens.mean(1)[:, :-late.shape[1]]
    return torch.cat([torch.cat([mean, late.amax((2, 3))], 1)[:, None], tokens], 1)


class WordsTextEncoder(TextEncoder):
    """The paper's text encoder, whose ITC reads the mean of the words in place of [CLS], as sentence encoders do.

    A token has its word's embedding behind it, (b, l, 2d): the mean of these is a bag of words.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.pooled_width = 2 * config.text_width

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        return torch.cat([super().forward(tokens, keep), self.embeddings(tokens)], -1)

    def pool(self, x: Tensor, keep: Tensor) -> Tensor:
        """(b, l, 2d) -> (b, 2d)."""
        return (x * keep[:, :, None]).sum(1) / keep.sum(1, keepdim=True)


class Projection(nn.Linear):
    """A linear layer on standardised features, (..., d) -> (..., e), for frozen encoders.

    mean, std: of the features, (d,), measured once on the training set, see weights.frozen
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, embed_dim: int, dropout: float):
        super().__init__(width, embed_dim)
        self.dropout = dropout
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        return super().forward(F.dropout(x, self.dropout, self.training))


def projection(width: int, embed_dim: int, dropout: float) -> nn.Linear:
    """A linear layer; with dropout, on standardised features."""
    return Projection(width, embed_dim, dropout) if dropout else nn.Linear(width, embed_dim)


def import_class(field: str, name: str) -> Any:
    """The class that "module:Class" names. Raises ValueError for what can't be imported."""
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:              # the command's own path lacks it
        sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{field}={name}: {error}; the module must be in the folder where you "
                         "call, or on Python's path") from error


def shape_of(value: Any) -> str:
    """A tensor's shape, or what a value is instead, for messages."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    return f"a {type(value).__name__}"


def require_module(part: str, encoder: Any) -> None:
    """Raises ValueError for an encoder that is no nn.Module."""
    if not isinstance(encoder, nn.Module):
        raise ValueError(f"{part}={type(encoder).__name__} must be an nn.Module, so that its "
                         "weights are trained and saved")


@torch.no_grad()
def check_image_encoder(encoder: nn.Module, config: Config) -> None:
    """Raises ValueError unless an encoder maps images to tokens of config.image_width.

    (b, 3, s, s) -> (b, 1 + n, d), the first token [CLS]. The encoder is called once, on two black
    images, in evaluation mode: its state stays as it is.
    """
    require_module("image_encoder", encoder)
    name = type(encoder).__name__
    size = config.image_size
    width = config.image_width
    weight = next(encoder.parameters(), torch.zeros(()))
    with evaluation_mode(encoder):
        tokens = encoder(torch.zeros(2, 3, size, size, device=weight.device, dtype=weight.dtype))
    is_batch = isinstance(tokens, Tensor) and tokens.ndim == 3 and len(tokens) == 2
    if not is_batch or tokens.shape[1] < 2 or tokens.shape[2] != width:
        raise ValueError(
            f"image_encoder={name} gives {shape_of(tokens)} for images (2, 3, {size}, {size}), and "
            f"must give tokens (2, 1 + n, {width}), [CLS] first: reshape them, put a learnt token "
            "or their mean first, and end the encoder in an nn.Linear to config.image_width, or "
            "make the preset with its image_width, and image_heads that divide it")


@torch.no_grad()
def check_text_encoder(encoder: Any, config: Config) -> None:
    """Raises ValueError unless an encoder maps word ids (b, l) to tokens (b, l, config.text_width).

    It also needs TextEncoder's word_table(), and may have pool(x, keep) -> (b, d), the vector that
    stands for each text; else that is the first token. All are called once, on two texts of [PAD],
    in evaluation mode: the encoder's state stays as it is.
    """
    require_module("text_encoder", encoder)
    name = type(encoder).__name__
    length = config.text_length
    width = config.text_width
    words = config.vocab_size
    if not callable(getattr(encoder, "word_table", None)):
        raise ValueError(
            f"text_encoder={name} has no word_table(): ALBEF calls it for the embeddings that the "
            f"word head is tied to, ({words}, {width})")
    device = next(encoder.parameters(), torch.zeros(())).device
    tokens = torch.zeros(2, length, dtype=torch.long, device=device)
    keep = torch.ones(2, length, dtype=torch.bool, device=device)
    with evaluation_mode(encoder):
        x = encoder(tokens, keep)
        require_shape(f"text_encoder={name}", x, (2, length, width))
        if hasattr(encoder, "pool"):
            require_shape(f"text_encoder={name}: pool(x, keep)", encoder.pool(x, keep), (2, width))
        require_shape(f"text_encoder={name}: word_table()", encoder.word_table(), (words, width))


def require_shape(what: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raises ValueError for another shape, the last dimension of which is config.text_width."""
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        raise ValueError(
            f"{what} gives {shape_of(value)}, and must give {shape}. The sizes are those of the "
            f"config (text_width={shape[-1]}, vocab_size): end the encoder in an nn.Linear, or "
            "make the preset with the encoder's sizes")
