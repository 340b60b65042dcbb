"""The image encoder: a ViT, pre-norm, with timm's names (section 3.1)."""
import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minalbef.config import ModelConfig
from minalbef.layers import MLP, Attention, Layer, init_weights

NORM_EPS = 1e-6                       # timm's for ViT; BERT has another


class PatchEmbed(nn.Module):
    """Project each patch of the image to a token: (b, 3, s, s) -> (b, n, d)."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        return rearrange(self.proj(image), "b d y x -> b (y x) d")


class ConvStem(nn.Module):
    """Strided convolutions and a residual block instead of a patch projection.

    (b, 3, s, s) -> (b, n, d). A departure from the paper for small models. The warm start replaces
    each Identity by BatchNorm, and finally merges it into the convolution before it, so that ALBEF
    never sees state in forward.
    """

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        halvings = patch_size.bit_length() - 1
        widths = [3]
        widths += [width * (i + 1) // halvings for i in range(halvings)]
        self.down = nn.ModuleList(self._conv(*pair, stride=2) for pair in zip(widths, widths[1:]))
        self.same = nn.ModuleList(self._conv(width, width, stride=1) for _ in range(2))
        # without a norm, tokens outgrow the positions added to them; its gain is large, so that
        # attention's residuals don't drown the patch
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        nn.init.constant_(self.norm.weight, 2.0)

    @staticmethod
    def _conv(channels: int, width: int, stride: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, width, 3, stride, padding=1), nn.Identity())

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for conv in self.down:
            x = F.relu(conv(x))                                              # halves the side
        x = F.relu(x + self.same[1](F.relu(self.same[0](x))))
        return self.norm(rearrange(x, "b d y x -> b (y x) d"))


class Block(Layer):
    """A pre-norm transformer block: residual attention, then a residual MLP."""

    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """An image to tokens, [CLS] first: (b, 3, s, s) -> (b, 1 + n, d)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.image_width
        self.image_size = config.image_size
        stem = PatchEmbed if config.stem == "patch" else ConvStem
        self.patch_embed = stem(config.patch_size, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * config.init_std)
        positions = torch.randn(1, 1 + config.grid ** 2, width) * config.init_std
        if config.pos_scale:
            positions[:, 1:] = grid_positions(config.grid, width) * config.pos_scale
        self.pos_embed = nn.Parameter(positions)
        mlp_width = int(width * config.image_mlp_ratio)
        self.blocks = nn.ModuleList()
        for _ in range(config.image_depth):
            self.blocks.append(Block(width, config.image_heads, mlp_width))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        init_weights(self.blocks, config.init_std)

    def forward(self, image: Tensor) -> Tensor:
        """Raises ValueError for an image of another size than the model's, or not normalised."""
        if image.dtype == torch.uint8:
            raise ValueError("image is uint8, and the model reads normalised images: call "
                             "batch.to(device), or minalbef.data.normalise(image)")
        size = self.image_size
        if image.ndim != 4 or image.shape[1:] != (3, size, size):
            raise ValueError(f"image has shape {tuple(image.shape)}; this model reads (b, 3, "
                             f"{size}, {size}): use minalbef.data.transform, or resize_positions "
                             "the model")
        return self.attend(self.patch_embed(image))

    def attend(self, patches: Tensor) -> Tensor:
        """Add [CLS] and positions, then run the blocks: (b, n, d) -> (b, 1 + n, d)."""
        cls = self.cls_token.expand(len(patches), -1, -1)
        x = torch.cat([cls, patches], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def grid_positions(grid: int, width: int) -> Tensor:
    """Sines and cosines of row and column, of unit variance: -> (grid * grid, width)."""
    quarter = math.ceil(width / 4)
    frequencies = torch.pi * 2.0 ** (torch.arange(quarter) * 4 / quarter - 1)
    angles = torch.outer(torch.arange(grid) / grid, frequencies)
    waves = torch.cat([angles.sin(), angles.cos()], 1)                       # (grid, 2 quarter)
    rows = waves[:, None].expand(grid, grid, -1)
    both = torch.cat([rows, rows.transpose(0, 1)], 2)                        # (y, x, 4 quarter)
    positions = rearrange(both, "y x d -> (y x) d")[:, :width]
    positions = positions - positions.mean(0)
    return positions / positions.std()


def resize_positions(pos_embed: Tensor, grid: int) -> Tensor:
    """Resize position embeddings to another grid (bicubic), except for [CLS].

    (1, 1 + n, d) -> (1, 1 + grid * grid, d). Raises ValueError if n is not a square.
    """
    cls = pos_embed[:, :1]
    patches = pos_embed[:, 1:]
    side = int(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise ValueError(f"{patches.shape[1]} patch positions are not a square grid")
    if side == grid:
        return pos_embed
    patches = rearrange(patches, "1 (y x) d -> 1 d y x", y=side)
    patches = F.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([cls, rearrange(patches, "1 d y x -> 1 (y x) d")], 1)
