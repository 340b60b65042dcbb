"""ALBEF: three encoders, two projections, two heads. No objective in it (section 3.1)."""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minalbef.config import Config, require_config
from minalbef.fusion import Fusion, Images
from minalbef.layers import full, init_weights
from minalbef.text import TextEncoder, WordHead
from minalbef.vision import ViT


@torch.no_grad()
def check_image_encoder(encoder: nn.Module, config: Config) -> None:
    """Raises ValueError unless an encoder maps images (b, 3, s, s) to tokens (b, 1 + n, config.image_width).

    It is asked once, about two black images, in evaluation mode: its state stays as it is.
    """
    name, size, width = type(encoder).__name__, config.image_size, config.image_width
    if not isinstance(encoder, nn.Module):
        raise ValueError(f"image_encoder={name} must be an nn.Module, so that its weights are trained and saved")
    modes = [(module, module.training) for module in encoder.modules()]
    weight = next(encoder.parameters(), torch.zeros(()))
    try:
        tokens = encoder.eval()(torch.zeros(2, 3, size, size, device=weight.device, dtype=weight.dtype))
    finally:
        for module, mode in modes:
            module.training = mode
    shape = tuple(tokens.shape) if isinstance(tokens, Tensor) else f"a {type(tokens).__name__}"
    if not isinstance(tokens, Tensor) or tokens.ndim != 3 or len(tokens) != 2 or tokens.shape[1] < 2:
        raise ValueError(f"image_encoder={name} gives {shape} for images (2, 3, {size}, {size}), and must give tokens "
                         f"(2, 1 + n, {width}), [CLS] first: reshape them, and put a learnt token or their mean first")
    if tokens.shape[2] != width:
        raise ValueError(f"image_encoder={name} gives tokens of width {tokens.shape[2]}, and config.image_width is "
                         f"{width}: end the encoder in nn.Linear({tokens.shape[2]}, {width}), or make the preset with "
                         f"image_width={tokens.shape[2]} and image_heads that divide it")


class ALBEF(nn.Module):
    """Align, then fuse. Axes: b batch, n image tokens, l words, d width, e shared space, v vocabulary."""

    def __init__(self, config: Config, image_encoder: nn.Module | None = None):
        """image_encoder: your own in place of the ViT: (b, 3, s, s) -> (b, 1 + n, config.image_width), first [CLS].

        Raises ValueError for one that gives something else.
        """
        super().__init__()
        require_config(config)
        self.config = config
        if image_encoder is not None:
            check_image_encoder(image_encoder, config)
        self.image_encoder = ViT(config) if image_encoder is None else image_encoder
        self.text_encoder = TextEncoder(config)
        self.fusion = Fusion(config)
        self.image_proj = nn.Linear(config.image_width, config.embed_dim)
        self.text_proj = nn.Linear(config.text_width, config.embed_dim)
        self.match_head = nn.Linear(config.text_width, 2)
        self.word_head = WordHead(config)
        self.temperature = nn.Parameter(torch.tensor(config.temperature))
        for part in (self.image_proj, self.text_proj, self.match_head):
            init_weights(part, config.init_std)

    def start(self, albef: nn.Module) -> None:
        """Take the weights of an ALBEF, in place."""
        self.load_state_dict(albef.state_dict())

    def encode_image(self, image: Tensor) -> Tensor:
        """(b, 3, s, s) -> (b, 1 + n, d), the first token [CLS]."""
        return self.image_encoder(image)

    def encode_text(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """tokens, keep: (b, l) -> (b, l, d), the first token [CLS]."""
        return self.text_encoder(tokens, keep)

    def fuse(self, text_tokens: Tensor, keep: Tensor, image_tokens: Images | None, image_keep: Tensor | None = None,
             **options: Any) -> Tensor:
        """Words that have seen the image: (b, l, d). `pairs`, `queries`, `keys_values`: see Fusion.forward."""
        return self.fusion(text_tokens, keep, image_tokens, image_keep, **options)

    def image_feature(self, image_tokens: Tensor) -> Tensor:
        """[CLS] in the shared space: (b, 1 + n, d) -> (b, e), of unit length."""
        return F.normalize(full(self.image_proj(image_tokens[:, 0])), dim=-1)

    def text_feature(self, text_tokens: Tensor) -> Tensor:
        """[CLS] in the shared space: (b, l, d) -> (b, e), of unit length."""
        return F.normalize(full(self.text_proj(text_tokens[:, 0])), dim=-1)

    def match_logits(self, fused: Tensor) -> Tensor:
        """Does the text belong to the image? (b, l, d) -> (b, 2): no, yes."""
        return full(self.match_head(fused[:, 0]))

    def word_logits(self, fused: Tensor) -> Tensor:
        """Which word stands here? (..., d) -> (..., v)."""
        return full(self.word_head(fused, self.text_encoder.embeddings.word_embed.weight))
