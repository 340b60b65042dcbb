"""ALBEF: three encoders, two projections, two heads. No objective in it (section 3.1)."""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minalbef.config import Config
from minalbef.fusion import Fusion, Images
from minalbef.layers import init_weights
from minalbef.system import encoders
from minalbef.system.settings import require_config
from minalbef.text import WordHead


class ALBEF(nn.Module):
    """Align, then fuse.

    Axes: b batch, n image tokens, l words, d width, e shared space, v vocabulary.
    """

    def __init__(self, config: Config, image_encoder: nn.Module | None = None,
                 text_encoder: nn.Module | None = None):
        """image_encoder, text_encoder: in place of those that the config names, see encoders.py

        Raises ValueError for an encoder that doesn't fit.
        """
        super().__init__()
        self.config = require_config(config)
        self.image_encoder = encoders.image_encoder(config, image_encoder)
        self.text_encoder: Any = encoders.text_encoder(config, text_encoder)
        self.fusion = Fusion(config)
        self.image_proj = encoders.projection(config.image_width, config.embed_dim,
                                              config.image_proj_dropout)
        text_width = getattr(self.text_encoder, "pooled_width", config.text_width)
        self.text_proj = encoders.projection(text_width, config.embed_dim,
                                             config.text_proj_dropout)
        self.match_head = nn.Linear(config.text_width, 2)
        self.word_head = WordHead(config)
        self.temperature = nn.Parameter(torch.tensor(config.temperature))
        for part in (self.image_proj, self.text_proj, self.match_head):
            init_weights(part, config.init_std)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.temperature.device

    @property
    def mean_temperature(self) -> Tensor:
        """(): what evaluation divides by; an ALBEF of yours may have a temperature per direction."""
        return self.temperature.mean()

    def start(self, albef: nn.Module) -> None:
        """Load the weights of an ALBEF, in place."""
        self.load_state_dict(albef.state_dict())

    def encode_image(self, image: Tensor) -> Tensor:
        """(b, 3, s, s) -> (b, 1 + n, d), the first token [CLS].

        Of an encoder that is frozen, tokens that were computed before may come in their place.
        """
        image = image.to(self.image_proj.weight.dtype)
        return image if image.ndim == 3 else self.image_encoder(image)

    def encode_text(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """tokens, keep: (b, l) -> (b, l, d)."""
        return self.text_encoder(tokens, keep)

    def fuse(self, text_tokens: Tensor, keep: Tensor, image_tokens: Images | None,
             image_keep: Tensor | None = None, **options: Any) -> Tensor:
        """Words that have seen the image: (b, l, d).

        options: `pairs`, `queries` and `keys_values`, see Fusion.forward
        """
        words = text_tokens[..., :self.config.text_width]        # an encoder may add features
        return self.fusion(words, keep, image_tokens, image_keep, **options)

    def image_feature(self, image_tokens: Tensor) -> Tensor:
        """[CLS] in the shared space: (b, 1 + n, d) -> (b, e), of unit length."""
        return F.normalize(full(self.image_proj(image_tokens[:, 0])), dim=-1)

    def text_feature(self, text_tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """The text in the shared space: (b, l, d) -> (b, e), of unit length.

        keep: (b, l), needed by encoders that pool at the last word, such as a causal LM
        """
        pool = getattr(self.text_encoder, "pool", None)      # a text encoder of yours may have one
        pooled = text_tokens[:, 0] if pool is None else pool(text_tokens, keep)
        return F.normalize(full(self.text_proj(pooled)), dim=-1)

    def image_to_text(self, image: Tensor, texts: Tensor) -> Tensor:
        """ITC's similarity over temperature: features (b, e) and (k, e) -> (b, k)."""
        with torch.autocast(image.device.type, enabled=False):   # bf16 has too few digits here
            return image @ texts.T / self.temperature

    def text_to_image(self, text: Tensor, images: Tensor) -> Tensor:
        """The same with texts as queries: features (b, e) and (k, e) -> (b, k)."""
        with torch.autocast(text.device.type, enabled=False):
            return text @ images.T / self.temperature

    def match_logits(self, fused: Tensor) -> Tensor:
        """Does the text belong to the image? (b, l, d) -> (b, 2): no, yes."""
        return full(self.match_head(fused[:, 0]))

    def word_logits(self, fused: Tensor) -> Tensor:
        """Which word stands here? (..., d) -> (..., v)."""
        word_table = self.text_encoder.word_table()
        return full(self.word_head(fused, word_table))


def full(x: Tensor) -> Tensor:
    """Upcast to fp32 before a loss: mixed precision leaves bf16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
