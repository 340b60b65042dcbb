"""ALBEF: three encoders, two projections, two heads. No objective in it (section 3.1)."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minalbef.config import Config, require_config
from minalbef.fusion import Fusion, Images
from minalbef.layers import full, init_weights
from minalbef.text import TextEncoder, WordHead
from minalbef.vision import ViT


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode, and each of its parts back into its own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


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
    if not is_batch or tokens.shape[1] < 2:
        raise ValueError(
            f"image_encoder={name} gives {shape_of(tokens)} for images (2, 3, {size}, {size}), and "
            f"must give tokens (2, 1 + n, {width}), [CLS] first: reshape them, and put a learnt "
            "token or their mean first")
    token_width = tokens.shape[2]
    if token_width != width:
        raise ValueError(
            f"image_encoder={name} gives tokens of width {token_width}, and config.image_width is "
            f"{width}: end the encoder in nn.Linear({token_width}, {width}), or make the preset "
            f"with image_width={token_width} and image_heads that divide it")


@torch.no_grad()
def check_text_encoder(encoder: Any, config: Config) -> None:
    """Raises ValueError unless an encoder maps word ids (b, l) to tokens (b, l, config.text_width).

    It also needs what TextEncoder has: pool(x, keep) and word_table(). Each of the three is called
    once, on two texts of [PAD], in evaluation mode: the encoder's state stays as it is.
    """
    require_module("text_encoder", encoder)
    name = type(encoder).__name__
    length = config.text_length
    width = config.text_width
    words = config.vocab_size
    for method in ("pool", "word_table"):
        if not callable(getattr(encoder, method, None)):
            raise ValueError(
                f"text_encoder={name} has no {method}(): ALBEF calls pool(x, keep) for the vector "
                f"that stands for each text, (b, {width}), and word_table() for the embeddings "
                f"that the word head is tied to, ({words}, {width})")
    device = next(encoder.parameters(), torch.zeros(())).device
    tokens = torch.zeros(2, length, dtype=torch.long, device=device)
    keep = torch.ones(2, length, dtype=torch.bool, device=device)
    with evaluation_mode(encoder):
        x = encoder(tokens, keep)
        require_shape(f"text_encoder={name}", x, (2, length, width))
        require_shape(f"text_encoder={name}: pool(x, keep)", encoder.pool(x, keep), (2, width))
        require_shape(f"text_encoder={name}: word_table()", encoder.word_table(), (words, width))


def require_shape(what: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raises ValueError for another shape, the last dimension of which is config.text_width."""
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        raise ValueError(
            f"{what} gives {shape_of(value)}, and must give {shape}. The sizes are those of the "
            f"config (text_width={shape[-1]}, vocab_size): end the encoder in an nn.Linear, or "
            "make the preset with the encoder's sizes")


class ALBEF(nn.Module):
    """Align, then fuse.

    Axes: b batch, n image tokens, l words, d width, e shared space, v vocabulary.
    """

    def __init__(self, config: Config, image_encoder: nn.Module | None = None,
                 text_encoder: nn.Module | None = None):
        """image_encoder: in place of the ViT: (b, 3, s, s) -> (b, 1 + n, config.image_width),
            the first token [CLS]
        text_encoder: in place of TextEncoder: (b, l) -> (b, l, config.text_width), with its methods
            `pool` and `word_table`
        Raises ValueError for an encoder that gives something else.
        """
        super().__init__()
        require_config(config)
        self.config = config
        if image_encoder is not None:
            check_image_encoder(image_encoder, config)
        if text_encoder is not None:
            check_text_encoder(text_encoder, config)
        self.image_encoder = ViT(config) if image_encoder is None else image_encoder
        self.text_encoder: Any = TextEncoder(config) if text_encoder is None else text_encoder
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
        return self.image_encoder(image.to(self.image_proj.weight.dtype))

    def encode_text(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """tokens, keep: (b, l) -> (b, l, d)."""
        return self.text_encoder(tokens, keep)

    def fuse(self, text_tokens: Tensor, keep: Tensor, image_tokens: Images | None,
             image_keep: Tensor | None = None, **options: Any) -> Tensor:
        """Words that have seen the image: (b, l, d).

        options: `pairs`, `queries` and `keys_values`, see Fusion.forward
        """
        return self.fusion(text_tokens, keep, image_tokens, image_keep, **options)

    def image_feature(self, image_tokens: Tensor) -> Tensor:
        """[CLS] in the shared space: (b, 1 + n, d) -> (b, e), of unit length."""
        return F.normalize(full(self.image_proj(image_tokens[:, 0])), dim=-1)

    def text_feature(self, text_tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """The text in the shared space: (b, l, d) -> (b, e), of unit length.

        keep: (b, l), which a text encoder of yours may need to find the last word
        """
        return F.normalize(full(self.text_proj(self.text_encoder.pool(text_tokens, keep))), dim=-1)

    def match_logits(self, fused: Tensor) -> Tensor:
        """Does the text belong to the image? (b, l, d) -> (b, 2): no, yes."""
        return full(self.match_head(fused[:, 0]))

    def word_logits(self, fused: Tensor) -> Tensor:
        """Which word stands here? (..., d) -> (..., v)."""
        return full(self.word_head(fused, self.text_encoder.word_table()))
