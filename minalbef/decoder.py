"""A decoder that writes text word by word from a question's or an image's tokens (section 5)."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minalbef.albef import ALBEF, full
from minalbef.config import ModelConfig
from minalbef.fusion import FusionLayer, KeysValues
from minalbef.layers import init_weights
from minalbef.text import Embeddings, WordHead


class Decoder(nn.Module):
    """Fusion's layers with a causal mask, and cross-attention to the tokens of a source."""

    layers: Sequence[FusionLayer]

    def __init__(self, config: ModelConfig, source_width: int | None = None):
        """source_width: of the tokens it reads; without it they are as wide as the text's."""
        super().__init__()
        width = config.text_width
        heads = config.text_heads
        mlp_width = int(width * config.text_mlp_ratio)
        self.embeddings = Embeddings(config)
        self.dropout = nn.Dropout(config.dropout)
        layers = []
        for _ in range(config.fusion_depth):
            layer = FusionLayer(width, heads, mlp_width, source_width or width, config.dropout)
            layers.append(layer)
        self.layers = nn.ModuleList(layers)      # type: ignore[assignment]
        self.word_head = WordHead(config)
        init_weights(self, config.init_std)

    def start(self, albef: ALBEF) -> None:
        """Begin, in place, from fusion's layers, word embeddings and head of a trained ALBEF.

        Fusion reads image tokens. Where the source's tokens have another width, the weights that
        read them stay as they are.
        """
        sources: dict[str, Any] = {
            "embeddings": albef.text_encoder.embeddings,
            "layers": albef.fusion.layers,
            "word_head": albef.word_head,
        }
        for name, source in sources.items():
            part = getattr(self, name)
            weights = source.state_dict()
            for key, value in part.state_dict().items():
                if weights[key].shape != value.shape:
                    weights[key] = value
            part.load_state_dict(weights)

    def keys_values(self, source: Tensor) -> KeysValues:
        """The source's keys and values, computed once for several passes: (b, k, s).

        -> for each layer keys and values, (b, k, d)
        """
        return [(layer.cross.k(source), layer.cross.v(source)) for layer in self.layers]

    def forward(self, tokens: Tensor, keep: Tensor, keys_values: KeysValues,
                source_keep: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """Each word attends to those before it and to the source: (a, m) -> (a, m, d).

        tokens, keep: (a, m); keys_values: from `keys_values`
        source_keep: (b, k) bool, False where the source is padded; without it all of it is visible
        rows: (a,) the row of the source for each text; without it text i reads row i
        """
        length = tokens.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        x = self.dropout(self.embeddings(tokens))
        for layer, layer_keys_values in zip(self.layers, keys_values):
            x = layer(x, keep[:, None] & causal, layer_keys_values, source_keep, images=rows)
        return x

    def word_logits(self, x: Tensor) -> Tensor:
        """Which word comes next? (..., d) -> (..., v)."""
        return full(self.word_head(x, self.embeddings.word_embed.weight))
