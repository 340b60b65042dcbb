"""The multimodal encoder: words attend to words, then to the image (section 3.1).

The paper calls it an encoder; it is built as a transformer decoder without the causal mask.
"""
from collections.abc import Sequence

from torch import Tensor, nn

from minalbef.config import Config
from minalbef.layers import MLP, Attention, Dropout, init_weights
from minalbef.text import NORM_EPS

KeysValues = list[tuple[Tensor, Tensor]]                 # keys and values of an image, for every layer
Images = Tensor | tuple[Tensor, Tensor]                  # tokens; for NLVR2 all images' tokens, and pairs of rows


class FusionLayer(nn.Module):
    """Self-attention, cross-attention to the image, MLP; each with its own sum and norm."""

    def __init__(self, width: int, heads: int, mlp_width: int, image_width: int, dropout: float):
        super().__init__()
        self.attn = Attention(width, heads, dropout=dropout)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.cross = Attention(width, heads, image_width, dropout)
        self.norm_cross = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, mlp_width)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, keep: Tensor, keys_values: tuple[Tensor, Tensor], image_keep: Tensor | None = None,
                texts: Tensor | None = None, images: Tensor | None = None, queries: int | None = None) -> Tensor:
        """Read, then look: (b, l, d) -> (p, queries or l, d).

        texts: rows (p,) of what was read, which look; images: rows (p,) of keys_values and image_keep, to look at.
            They are gathered here, so that activation checkpointing keeps none of them
        """
        x = self.read(x, keep, queries)
        x = x if texts is None else x.index_select(0, texts)         # backward, indexing with [] is slow
        if images is not None:
            keys_values = keys_values[0].index_select(0, images), keys_values[1].index_select(0, images)
            image_keep = None if image_keep is None else image_keep[images]
        return self.look(x, keys_values, image_keep)

    def read(self, x: Tensor, keep: Tensor, queries: int | None = None) -> Tensor:
        """Words attend to words; with `queries`, only the first so many ask: (b, l, d) -> (b, queries or l, d)."""
        asking = x[:, :queries]
        return self.norm1(asking + self.dropout(self.attn(asking, x, keep)))

    def look(self, x: Tensor, keys_values: tuple[Tensor, Tensor], image_keep: Tensor | None) -> Tensor:
        """Words attend to the image, then the MLP: (b, l, d) -> (b, l, d)."""
        x = self.norm_cross(x + self.dropout(self.cross(x, keep=image_keep, keys_values=keys_values)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Fusion(nn.Module):
    """Text tokens take up the image: (b, l, d) and (b, 1 + n, i) -> (b, l, d)."""

    layers: Sequence[FusionLayer]

    def __init__(self, config: Config):
        super().__init__()
        self.image_width = config.image_width
        self.first = 0 if config.fuse_cls else 1         # of the image's tokens, which [CLS] leads
        self.layers = nn.ModuleList(                     # type: ignore[assignment]  # torch cannot say of which layers
            FusionLayer(config.text_width, config.text_heads, int(config.text_width * config.text_mlp_ratio),
                        config.image_width, config.dropout) for _ in range(config.fusion_depth))
        init_weights(self, config.init_std)

    def keys_values(self, image_tokens: Tensor) -> KeysValues:
        """What the image offers to every layer, to be used in several passes: (b, 1 + n, i) -> (keys, values) each.

        Raises ValueError for tokens of another width than the model's.
        """
        if image_tokens.shape[-1] != self.image_width:
            raise ValueError(f"image tokens have shape {tuple(image_tokens.shape)}; fusion reads "
                             f"(b, 1 + n, {self.image_width}), as config.image_width says")
        return [layer.cross.keys_values(image_tokens[:, self.first:]) for layer in self.layers]

    def forward(self, text_tokens: Tensor, keep: Tensor, image_tokens: Images | None, image_keep: Tensor | None = None,
                pairs: tuple[Tensor, Tensor] | None = None, queries: int | None = None,
                keys_values: KeysValues | None = None) -> Tensor:
        """Fuse row by row, or the named pairs.

        pairs: rows of text and rows of image, each (p,): every text's first self-attention and every image's keys
            and values are computed once, however many pairs they stand in  -> (p, l, d)
        queries: only the first so many words are wanted, so the last layer computes no others  -> (b, queries, d)
        keys_values: what `keys_values` gave, in place of image_tokens
        """
        x = text_tokens
        image_keep = None if image_keep is None else image_keep[:, self.first:]
        seen = keys_values or self.keys_values(image_tokens)     # type: ignore[arg-type]  # a subclass reads pairs
        for i, layer in enumerate(self.layers):
            texts, images = (None, None) if pairs is None else (pairs[0] if i == 0 else None, pairs[1])
            wanted = queries if layer is self.layers[-1] else None
            x = layer(x, keep, seen[i], image_keep, texts, images, wanted)
            keep = keep if texts is None else keep[texts]
        return x
