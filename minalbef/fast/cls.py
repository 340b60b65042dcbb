"""[CLS] alone: the same as an encoder's first token, but the last layer computes no other."""
from typing import Any

import torch
from torch import Tensor

from minalbef.text import TextEncoder, TextLayer
from minalbef.vision import Block, ViT


def image_cls(model: Any, image: Tensor) -> Tensor:
    """model.encode_image(image)[:, :1] to rounding: (b, 3, s, s) -> (b, 1, d).

    An encoder that isn't a ViT gives all its tokens.
    """
    encoder = model.image_encoder
    if type(encoder) is not ViT or image.ndim == 3:
        return model.encode_image(image)
    return attend_cls(encoder, encoder.patch_embed(image.to(model.image_proj.weight.dtype)))


def attend_cls(encoder: Any, patches: Tensor) -> Tensor:
    """The first token of a ViT's `attend`: patches (b, n, d) -> (b, 1, d).

    An encoder that isn't a ViT gives all of them, (b, 1 + n, d).
    """
    if type(encoder) is not ViT:
        return encoder.attend(patches)
    cls = encoder.cls_token.expand(len(patches), -1, -1)
    x = torch.cat([cls, patches], 1) + encoder.pos_embed
    blocks: Any = encoder.blocks
    for layer in blocks[:-1]:
        x = layer(x)
    return encoder.norm(first_of_block(blocks[-1], x))


def first_of_block(block: Block, x: Tensor) -> Tensor:
    """The first token of `Block`: (b, n, d) -> (b, 1, d)."""
    normed = block.norm1(x)
    first = x[:, :1] + block.attn(normed[:, :1], normed)
    return first + block.mlp(block.norm2(first))


def text_cls(encoder: Any, tokens: Tensor, keep: Tensor) -> Tensor:
    """encoder(tokens, keep)[:, :1] to rounding: (b, l) -> (b, 1, d).

    An encoder that isn't a TextEncoder gives all its tokens.
    """
    if type(encoder) is not TextEncoder or not encoder.layers:
        return encoder(tokens, keep)
    x = encoder.dropout(encoder.embeddings(tokens))
    layers: Any = encoder.layers
    for layer in layers[:-1]:
        x = layer(x, keep)
    return first_of_layer(layers[-1], x, keep)


def first_of_layer(layer: TextLayer, x: Tensor, keep: Tensor) -> Tensor:
    """The first token of `TextLayer`: (b, l, d) -> (b, 1, d)."""
    first = x[:, :1]
    first = layer.norm1(first + layer.dropout(layer.attn(first, x, keep)))
    return layer.norm2(first + layer.dropout(layer.mlp(first)))
