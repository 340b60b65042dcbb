"""vision: the ViT against timm's, the stem and its folding, positions on other grids."""
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from helpers import copy_weights, disturb, gradients, small
from minalbef.vision import ConvStem, ViT, resize_positions


def timms(config) -> nn.Module:
    return timm.models.vision_transformer.VisionTransformer(
        img_size=config.image_size, patch_size=config.patch_size, embed_dim=config.image_width,
        depth=config.image_depth, num_heads=config.image_heads,
        mlp_ratio=config.image_mlp_ratio, num_classes=0,
        global_pool="", qkv_bias=True)


@torch.no_grad()
def take_timms(vit: ViT, reference: nn.Module):
    vit.cls_token.copy_(reference.cls_token)
    vit.pos_embed.copy_(reference.pos_embed)
    copy_weights([(vit.patch_embed.proj, reference.patch_embed.proj),
                  (vit.norm, reference.norm)])
    for block, peer in zip(vit.blocks, reference.blocks, strict=True):
        copy_weights([(block.norm1, peer.norm1), (block.norm2, peer.norm2),
                      (block.attn.proj, peer.attn.proj),
                      (block.mlp.fc1, peer.mlp.fc1), (block.mlp.fc2, peer.mlp.fc2)])
        for part, weight, bias in zip((block.attn.q, block.attn.k, block.attn.v),
                                      peer.attn.qkv.weight.chunk(3),
                                      peer.attn.qkv.bias.chunk(3)):
            part.weight.copy_(weight)
            part.bias.copy_(bias)


# faint tokens show the eps of the first norm
@pytest.mark.parametrize("faint", [1.0, 1e-3])
def test_vit_equals_timms_in_outputs_and_gradients(faint):
    torch.manual_seed(0)
    config = small(stem="patch", image_mlp_ratio=3.0)
    reference = disturb(timms(config))
    vit = ViT(config)
    with torch.no_grad():
        for p in (reference.cls_token, reference.pos_embed,
                  reference.patch_embed.proj.weight, reference.patch_embed.proj.bias):
            p *= faint
    take_timms(vit, reference)
    image = torch.randn(3, 3, 24, 24, requires_grad=True)
    y = vit(image)
    y2 = reference.forward_features(image)
    assert y.shape == (3, 1 + 9, 32)
    assert_close(y, y2, atol=1e-5, rtol=1e-5)
    assert_close(gradients(y, image, vit.pos_embed, vit.blocks[0].mlp.fc1.weight),
                 gradients(y2, image, reference.pos_embed, reference.blocks[0].mlp.fc1.weight),
                 atol=1e-4, rtol=1e-4)
    for block in vit.blocks:
        block.norm1.eps = 1e-5
    assert not torch.allclose(vit(image), y2, atol=1e-5, rtol=1e-5) or faint == 1, (
        "the check is blind to eps")


def test_conv_stem_gives_one_token_a_patch_row_by_row():
    torch.manual_seed(0)
    stem = ConvStem(8, 32)
    image = torch.zeros(1, 3, 48, 48)
    changed = image.clone()
    # in row 2, column 4 of a 6 x 6 grid
    changed[:, :, 16, 32] = 5.0
    moved = (stem(changed) != stem(image))[0].any(-1).reshape(6, 6)
    assert moved[2, 4]
    assert moved[:5, 2:].all(), "a token sees two patches around its own"
    assert not moved[5].any() and not moved[:, :2].any()


@pytest.mark.parametrize("shape", [(3, 3, 32, 32), (3, 1, 24, 24), (3, 24, 24), (3, 24, 24, 3)])
def test_a_picture_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="this model reads .b, 3, 24, 24."):
        ViT(small())(torch.zeros(shape))


def test_positions_resize_as_timms_and_keep_the_class_token():
    pos = torch.randn(1, 1 + 9, 32)
    assert resize_positions(pos, 3) is pos
    bigger = resize_positions(pos, 5)
    reference = timm.layers.resample_abs_pos_embed(pos, [5, 5], antialias=False)
    assert_close(bigger, reference, atol=1e-5, rtol=1e-5)
    assert_close(bigger[:, 0], pos[:, 0])
    row = F.interpolate(pos[:, 1:].reshape(1, 3, 3, 32).permute(0, 3, 1, 2),
                        size=(5, 5), mode="bicubic")[0, :, 0, 4]
    # the first row's last patch is token 4
    assert_close(bigger[0, 1 + 4], row)
    with pytest.raises(ValueError, match="8 patch positions are not a square grid"):
        resize_positions(pos[:, :-1], 5)
