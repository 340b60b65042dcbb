"""The text encoder: embeddings and the lower BERT layers, post-norm (section 3.1)."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minalbef.config import ModelConfig
from minalbef.layers import MLP, Attention, Layer, init_weights

NORM_EPS = 1e-12                      # BERT's


class Embeddings(nn.Module):
    """Word, position and type, summed and normed: (b, l) -> (b, l, d). The type is the first."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.word_embed = nn.Embedding(config.vocab_size, config.text_width, padding_idx=0)
        self.pos_embed = nn.Embedding(config.positions, config.text_width)
        self.type_embed = nn.Embedding(2, config.text_width)
        self.norm = nn.LayerNorm(config.text_width, eps=NORM_EPS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Raises ValueError for a text longer than the position embeddings."""
        if tokens.shape[1] > len(self.pos_embed.weight):
            raise ValueError(f"{tokens.shape[1]} tokens are more than the model's "
                             f"{len(self.pos_embed.weight)} positions; cut the text, or build the "
                             "model with more positions")
        places = self.pos_embed.weight[:tokens.shape[1]]
        return self.norm(self.word_embed(tokens) + places + self.type_embed.weight[0])


class TextLayer(Layer):
    """Post-norm: the norm comes after each sum."""

    def __init__(self, width: int, heads: int, mlp_width: int, dropout: float):
        super().__init__()
        self.attn = Attention(width, heads, dropout=dropout)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, mlp_width)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.attn(x, keep=keep)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class TextEncoder(nn.Module):
    """Word ids to tokens, the first of them [CLS]: (b, l) -> (b, l, d)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.dropout = nn.Dropout(config.dropout)
        width = config.text_width
        mlp_width = int(width * config.text_mlp_ratio)
        self.layers = nn.ModuleList()
        for _ in range(config.text_depth):
            self.layers.append(TextLayer(width, config.text_heads, mlp_width, config.dropout))
        init_weights(self, config.init_std)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """keep: (b, l) bool, False where padded; padding cannot be seen."""
        x = self.dropout(self.embeddings(tokens))
        for layer in self.layers:
            x = layer(x, keep)
        return x

    def word_table(self) -> Tensor:
        """The word embeddings, to which the word head is tied: (v, d)."""
        return self.embeddings.word_embed.weight


class WordHead(nn.Module):
    """Which word stood here: (..., d) -> (..., v).

    Its last matrix is the table of word embeddings, so that is passed in.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.text_width, config.text_width)
        self.norm = nn.LayerNorm(config.text_width, eps=NORM_EPS)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        init_weights(self, config.init_std)

    def forward(self, x: Tensor, word_table: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.dense(x))), word_table, self.bias)
