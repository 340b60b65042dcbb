"""The multimodal encoder: words attend to words, then to the image (section 3.1).

The paper calls it an encoder; it is built as a transformer decoder without the causal mask.
"""
from collections.abc import Sequence

from torch import Tensor, nn

from minalbef.config import ModelConfig
from minalbef.layers import MLP, Attention, Layer, init_weights
from minalbef.text import NORM_EPS

# keys and values of an image, for every layer
KeysValues = list[tuple[Tensor, Tensor]]
# an image's tokens; for NLVR2 all images' tokens, and pairs of rows
Images = Tensor | tuple[Tensor, Tensor]


class FusionLayer(Layer):
    """Self-attention, cross-attention to the image, MLP; each with its own sum and norm."""

    def __init__(self, width: int, heads: int, mlp_width: int, image_width: int, dropout: float):
        super().__init__()
        self.attn = Attention(width, heads, dropout=dropout)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.cross = Attention(width, heads, image_width, dropout)
        self.norm_cross = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, mlp_width)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keep: Tensor, keys_values: tuple[Tensor, Tensor],
                image_keep: Tensor | None = None, texts: Tensor | None = None,
                images: Tensor | None = None, queries: int | None = None) -> Tensor:
        """Self-attention, then cross-attention and MLP: (b, l, d) -> (p, queries or l, d).

        texts: rows (p,) of the self-attention's output that go on
        images: rows (p,) of keys_values and image_keep that they attend to. Both are gathered here,
            so that activation checkpointing keeps none of them
        queries: only so many of the first words ask
        """
        asking = x[:, :queries]
        x = self.norm1(asking + self.dropout(self.attn(asking, x, keep)))        # words to words
        if texts is not None or images is not None:
            x, keys_values, image_keep = take_rows(x, keys_values, image_keep, texts, images)
        attended = self.cross(x, keep=image_keep, keys_values=keys_values)       # to the image
        x = self.norm_cross(x + self.dropout(attended))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Fusion(nn.Module):
    """Text tokens take up the image: (b, l, d) and (b, 1 + n, i) -> (b, l, d)."""

    layers: Sequence[FusionLayer]

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.image_width = config.image_width
        self.first = 0 if config.fuse_cls else 1         # of the image's tokens, which [CLS] leads
        mlp_width = int(config.text_width * config.text_mlp_ratio)
        layers = nn.ModuleList()
        for _ in range(config.fusion_depth):
            layers.append(FusionLayer(config.text_width, config.text_heads, mlp_width,
                                      config.image_width, config.dropout))
        self.layers = layers                             # type: ignore[assignment]
        init_weights(self, config.init_std)

    def keys_values(self, image_tokens: Tensor) -> KeysValues:
        """The image's keys and values for every layer, for several passes: from (b, 1 + n, i).

        Raises ValueError for tokens of another width than the model's.
        """
        if image_tokens.shape[-1] != self.image_width:
            raise ValueError(f"image tokens have shape {tuple(image_tokens.shape)}; fusion reads "
                             f"(b, 1 + n, {self.image_width}), as config.image_width says")
        pairs = []
        for layer in self.layers:
            # sliced for each layer: with one slice for all, gradients sum in another order, and
            # a run's losses are others in the sixth digit
            image = image_tokens[:, self.first:]
            pairs.append((layer.cross.k(image), layer.cross.v(image)))
        return pairs

    def forward(self, text_tokens: Tensor, keep: Tensor, image_tokens: Images | None,
                image_keep: Tensor | None = None, pairs: tuple[Tensor, Tensor] | None = None,
                queries: int | None = None, keys_values: KeysValues | None = None) -> Tensor:
        """Fuse row by row, or the named pairs.

        pairs: rows of text and rows of image, each (p,): every text's first self-attention and
            every image's keys and values are computed once, for all its pairs  -> (p, l, d)
        queries: the last layer computes the first so many words alone  -> (b, queries, d)
        keys_values: what `keys_values` gave, in place of image_tokens
        """
        x = text_tokens
        if image_keep is not None:
            image_keep = image_keep[:, self.first:]
        if not keys_values:
            keys_values = self.keys_values(image_tokens)     # type: ignore[arg-type]  # or a pair's
        texts, images = (None, None) if pairs is None else pairs
        for layer, image in zip(self.layers, keys_values):
            last = layer is self.layers[-1]
            x = layer(x, keep, image, image_keep, texts, images, queries if last else None)
            if texts is not None:                            # from here on, a row is a pair
                keep = keep[texts]
                texts = None
        return x


def take_rows(x: Tensor, keys_values: tuple[Tensor, Tensor], image_keep: Tensor | None,
              texts: Tensor | None, images: Tensor | None
              ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor | None]:
    """Rows `texts` of the words, and rows `images` of what they attend to; None: all."""
    if texts is not None:
        x = x.index_select(0, texts)             # in the backward pass, indexing with [] is slow
    if images is not None:
        keys, values = keys_values
        keys_values = keys.index_select(0, images), values.index_select(0, images)
        if image_keep is not None:
            image_keep = image_keep[images]
    return x, keys_values, image_keep
