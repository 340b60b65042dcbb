"""The image encoder: a ViT, pre-norm, with timm's names (section 3.1)."""
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minalbef.config import Config
from minalbef.layers import MLP, Attention, init_weights

NORM_EPS = 1e-6                       # timm's for ViT; BERT has another


class PatchEmbed(nn.Module):
    """Cut the picture into patches, each a token: (b, 3, s, s) -> (b, n, d)."""

    def __init__(self, patch_size: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        return rearrange(self.proj(image), "b d y x -> b (y x) d")


class ConvStem(nn.Module):
    """Small convolutions in place of one big one, then a residual block: (b, 3, s, s) -> (b, n, d).

    A departure from the paper for small models. The warm start puts BatchNorm where an Identity stands, and merges it
    into the convolution when it ends, so ALBEF itself never sees state in forward.
    """

    def __init__(self, patch_size: int, width: int):
        super().__init__()
        halvings = patch_size.bit_length() - 1
        sizes = [3] + [width * (i + 1) // halvings for i in range(halvings)]
        def conv(a: int, b: int, stride: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.Identity())
        self.down = nn.ModuleList(conv(a, b, 2) for a, b in zip(sizes, sizes[1:]))
        self.same = nn.ModuleList(conv(width, width, 1) for _ in range(2))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)            # else tokens outgrow the positions added to them;
        nn.init.constant_(self.norm.weight, 2.0)                 # large, so that a patch stays itself, not a mixture

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for conv in self.down:
            x = F.relu(conv(x))                                                  # half the side each time
        x = F.relu(x + self.same[1](F.relu(self.same[0](x))))
        return self.norm(rearrange(x, "b d y x -> b (y x) d"))


class Block(nn.Module):
    """Pre-norm: attention and MLP each add to what they read."""

    def __init__(self, width: int, heads: int, mlp_width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Picture to tokens, the first of them [CLS]: (b, 3, s, s) -> (b, 1 + n, d)."""

    def __init__(self, config: Config):
        super().__init__()
        width = config.image_width
        self.image_size = config.image_size
        self.patch_embed = (PatchEmbed if config.stem == "patch" else ConvStem)(config.patch_size, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * config.init_std)
        start = torch.randn(1, 1 + config.grid ** 2, width) * config.init_std
        if config.pos_scale:
            start[:, 1:] = grid_positions(config.grid, width) * config.pos_scale
        self.pos_embed = nn.Parameter(start)
        self.blocks = nn.ModuleList(Block(width, config.image_heads, int(width * config.image_mlp_ratio))
                                    for _ in range(config.image_depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        init_weights(self.blocks, config.init_std)

    def forward(self, image: Tensor) -> Tensor:
        """Raises ValueError for a picture of another size than the model's."""
        if image.ndim != 4 or image.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(f"image has shape {tuple(image.shape)}; this model reads (b, 3, {self.image_size}, "
                             f"{self.image_size}): use minalbef.data.transform, or resize_positions the model")
        return self.attend(self.patch_embed(image))

    def attend(self, patches: Tensor) -> Tensor:
        """[CLS], positions and blocks, from the patches' tokens on: (b, n, d) -> (b, 1 + n, d)."""
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def grid_positions(grid: int, width: int) -> Tensor:
    """Sines and cosines of row and column, of unit variance: -> (grid * grid, width)."""
    quarter = -(-width // 4)
    waves = torch.outer(torch.arange(grid) / grid, torch.pi * 2.0 ** (torch.arange(quarter) * 4 / quarter - 1))
    side = torch.cat([waves.sin(), waves.cos()], 1)                              # (grid, 2 quarter)
    rows = side[:, None].expand(grid, grid, -1)
    both = rearrange(torch.cat([rows, rows.transpose(0, 1)], 2), "y x d -> (y x) d")[:, :width]
    both = both - both.mean(0)
    return both / both.std()


def resize_positions(pos_embed: Tensor, grid: int) -> Tensor:
    """Position embeddings for another grid, bicubic, [CLS]'s kept: (1, 1 + n, d) -> (1, 1 + grid * grid, d)."""
    cls, patches = pos_embed[:, :1], pos_embed[:, 1:]
    side = int(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise ValueError(f"{patches.shape[1]} patch positions are no square grid")
    if side == grid:
        return pos_embed
    patches = rearrange(patches, "1 (y x) d -> 1 d y x", y=side)
    patches = F.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([cls, rearrange(patches, "1 d y x -> 1 (y x) d")], 1)
