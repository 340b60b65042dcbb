"""fusion: against BERT's layers with cross-attention,
and its fast forms against the plain one."""
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers.models.bert.modeling_bert import BertLayer

from helpers import copy_weights, disturb, gradients, same_dropout, small, texts
from hugging_face import bert_config, layer_pairs
from minalbef.fusion import Fusion

CONFIG = small(fusion_depth=3, text_mlp_ratio=3.0)


def inputs():
    """4 texts of unequal lengths, 3 images of 10 tokens: counts and widths differ,
    so that no swap goes unseen."""
    torch.manual_seed(1)
    return (torch.randn(4, 9, 48, requires_grad=True),
            texts(4, 9)[1], torch.randn(3, 10, 32, requires_grad=True))


def fusion() -> Fusion:
    torch.manual_seed(0)
    return disturb(Fusion(CONFIG))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_fusion_equals_berts_cross_attention_layers(dropout):
    torch.manual_seed(0)
    config = replace(CONFIG, dropout=dropout)
    model = disturb(Fusion(config))
    text, keep, image = inputs()
    text = text[:3]
    keep = keep[:3]
    image_keep = torch.arange(10) < torch.tensor([10, 4, 1])[:, None]
    x = text
    masks = [torch.where(k, 0.0, -1e9)[:, None, None] for k in (keep, image_keep)]
    layers = [BertLayer(bert_config(config, 1, is_decoder=True, add_cross_attention=True),
                        layer_idx=0)
              for _ in model.layers]
    for layer, reference in zip(model.layers, layers):
        cross = reference.crossattention
        cross.self.key = nn.Linear(32, 48)
        cross.self.value = nn.Linear(32, 48)          # the image has its own width
        copy_weights((part, weight) for weight, part in [
            *layer_pairs(layer, reference), (layer.cross.q, cross.self.query),
            (layer.cross.k, cross.self.key),
            (layer.cross.v, cross.self.value), (layer.cross.proj, cross.output.dense),
            (layer.norm_cross, cross.output.LayerNorm)])
    with same_dropout():
        for layer in layers:
            x = layer(x, masks[0], image, masks[1])
            x = x[0] if isinstance(x, tuple) else x
    with same_dropout():
        y = model(text, keep, image, image_keep)
    assert_close(y[keep], x[keep], atol=1e-5, rtol=1e-5)
    mask = keep[..., None]
    assert_close(gradients(y * mask, text, image),
                 gradients(x * mask, text, image), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(model(text, keep, image)[keep], x[keep], atol=1e-3), (
        "blind to the image's mask")


PAIRS = (torch.tensor([0, 0, 3, 1, 2]), torch.tensor([0, 2, 1, 1, 0]))
AS_MANY_PAIRS_AS_TEXTS = (torch.tensor([3, 0, 2, 0]), torch.tensor([0, 2, 1, 1]))


def same(y, y2, leaves):
    assert_close(y, y2, atol=1e-5, rtol=1e-5)
    for a, b in zip(gradients(y, *leaves), gradients(y2, *leaves)):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pairs", [PAIRS, AS_MANY_PAIRS_AS_TEXTS])
def test_pairs_equal_the_plain_form(pairs):
    f = fusion()
    text, keep, image = inputs()
    image_keep = torch.arange(10) < torch.tensor([10, 4, 7])[:, None]
    leaves = (text, image, *f.parameters())
    texts, images = pairs
    for image_mask in (None, image_keep):
        plain = f(text[texts], keep[texts], image[images],
                  None if image_mask is None else image_mask[images])
        same(f(text, keep, image, image_mask, pairs=pairs), plain, leaves)


@pytest.mark.parametrize("pairs", [None, PAIRS])
def test_without_fuse_cls_words_see_every_patch_and_not_cls(pairs):
    """As in the shipped preset: image and mask lose their first token."""
    f = fusion()
    text, keep, image = inputs()
    of_patches = Fusion(replace(CONFIG, fuse_cls=False))
    of_patches.load_state_dict(f.state_dict())
    if pairs is None:
        text = text[:3]
        keep = keep[:3]
    image_keep = torch.ones(3, 10, dtype=torch.bool)
    image_keep[0, 9] = image_keep[1, 0] = image_keep[2, 1] = False
    for mask, mask_of_patches in ((None, None), (image_keep, image_keep[:, 1:])):
        y = of_patches(text, keep, image, mask, pairs)
        same(y, f(text, keep, image[:, 1:], mask_of_patches, pairs), (text, image))
    unmasked = of_patches(text, keep, image, pairs=pairs)
    ready = of_patches(text, keep, None, pairs=pairs, keys_values=of_patches.keys_values(image))
    same(ready, unmasked, (text, image))
    assert not torch.allclose(y, unmasked, atol=1e-3), "blind to the image's mask"
    (gradient,) = gradients(unmasked, image)
    assert gradient[:, 0].eq(0).all() and gradient[:, 1:].abs().amax(-1).min() > 0


def test_queries_of_pairs_with_ready_keys_equal_the_plain_form():
    f = fusion()
    text, keep, image = inputs()
    plain = f(text[PAIRS[0]], keep[PAIRS[0]], image[PAIRS[1]])[:, :1]
    y = f(text, keep, None, pairs=PAIRS, queries=1, keys_values=f.keys_values(image))
    same(y, plain, (text, image, *f.parameters()))
