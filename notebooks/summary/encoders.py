"""What to keep of chapters 02 and 03: two encoders, from pixels and letters to tokens.

`python notebooks/summary/encoders.py` gives them the shipped model's weights, and reads one scene.
"""
import json
from collections import OrderedDict

import torch
from einops import rearrange
from torch import Tensor, nn

import minalbef
from emojiscenes.scenes import Scenes, paint
from minalbef.data import data_folder, transform


class Attention(nn.Module):
    """Every token of x asks, and mixes the values of those of the source whose keys answer."""

    record: list[Tensor] | None = None       # where weights are kept for a map, chapter 13

    def __init__(self, width: int, heads: int, source_width: int | None = None):
        super().__init__()
        self.heads = heads
        self.q, self.proj = nn.Linear(width, width), nn.Linear(width, width)
        self.k, self.v = (nn.Linear(source_width or width, width) for _ in range(2))

    def forward(self, x: Tensor, source: Tensor, keep: Tensor | None = None) -> Tensor:
        q, k, v = (rearrange(part, "b n (h d) -> b h n d", h=self.heads)
                   for part in (self.q(x), self.k(source), self.v(source)))
        scores = q @ k.mT / q.shape[-1] ** 0.5                            # (b, h, n, k)
        if keep is not None:         # (b, k), padding isn't seen; or (b, n, k), nor later words
            mask = keep[:, None] if keep.ndim == 3 else keep[:, None, None]
            scores = scores.masked_fill(~mask, -torch.inf)
        weights = scores.softmax(-1)
        if self.record is not None:
            self.record.append(weights)
        return self.proj(rearrange(weights @ v, "b h n d -> b n (h d)"))


class Layer(nn.Module):
    """The parts of a layer of either encoder; eps is timm's for images, BERT's for text."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(OrderedDict(
            fc1=nn.Linear(width, hidden), gelu=nn.GELU(), fc2=nn.Linear(hidden, width)))


class Block(Layer):
    """Of the image encoder: norms come before attention and MLP."""

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.attn(normed, normed)
        return x + self.mlp(self.norm2(x))


class TextLayer(Layer):
    """Of the text encoder: norms come after each sum."""

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        x = self.norm1(x + self.attn(x, x, keep))
        return self.norm2(x + self.mlp(x))


class ConvStem(nn.Module):
    """Three halvings, then a residual: (b, 3, s, s) -> (b, n, d), a token for 8 x 8 pixels."""

    def __init__(self, width: int):
        super().__init__()
        sizes = (3, width // 3, 2 * width // 3, width)
        self.down = nn.ModuleList(nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1))
                                  for a, b in zip(sizes, sizes[1:]))
        self.same = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 3, padding=1))
                                  for _ in range(2))
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.down:
            x = conv(x).relu()
        x = (x + self.same[1](self.same[0](x).relu())).relu()
        return self.norm(rearrange(x, "b d y x -> b (y x) d"))


class ImageEncoder(nn.Module):
    """(b, 3, s, s) -> (b, 1 + n, d): [CLS], then a token for each patch."""

    def __init__(self, config: minalbef.Config):
        super().__init__()
        width, hidden = config.image_width, int(config.image_width * config.image_mlp_ratio)
        self.patch_embed = ConvStem(width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, config.image_heads, hidden, 1e-6)
                                      for _ in range(config.image_depth)))
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, image: Tensor) -> Tensor:
        cls = self.cls_token.expand(len(image), -1, -1)
        return self.norm(self.blocks(torch.cat([cls, self.patch_embed(image)], 1) + self.pos_embed))


class TextEncoder(nn.Module):
    """Word pieces (b, l) -> (b, l, d), [CLS] first."""

    def __init__(self, config: minalbef.Config):
        super().__init__()
        width, hidden = config.text_width, int(config.text_width * config.text_mlp_ratio)
        self.embeddings = nn.ModuleDict(dict(
            word_embed=nn.Embedding(config.vocab_size, width), norm=nn.LayerNorm(width, 1e-12),
            pos_embed=nn.Embedding(config.positions, width), type_embed=nn.Embedding(2, width)))
        self.layers = nn.ModuleList(TextLayer(width, config.text_heads, hidden, 1e-12)
                                    for _ in range(config.text_depth))

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        table = self.embeddings
        places = table.pos_embed.weight[:tokens.shape[1]] + table.type_embed.weight[0]
        x = table.norm(table.word_embed(tokens) + places)
        for layer in self.layers:
            x = layer(x, keep)
        return x


def pieces(word: str, vocab: dict[str, int]) -> list[str]:
    """WordPiece: the longest piece with which the word begins, and so on; else [UNK]."""
    cut, start = [], 0
    while start < len(word):
        begin = "##" if start else ""
        ends = [end for end in range(len(word), start, -1) if begin + word[start:end] in vocab]
        if not ends:
            return ["[UNK]"]
        cut.append(begin + word[start:ends[0]])
        start = ends[0]
    return cut


@torch.no_grad()
def main() -> None:
    trained = minalbef.load("tiny")
    config, model = trained.config, trained.model
    image_encoder, text_encoder = ImageEncoder(config), TextEncoder(config)
    image_encoder.load_state_dict(model.image_encoder.state_dict())       # the names are equal
    text_encoder.load_state_dict(model.text_encoder.state_dict())

    book = json.loads((data_folder() / "tiny" / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = book["model"]["vocab"]
    drawn = Scenes("test", seed=1, objects=config.objects).draw(0)
    cut = ["[CLS]", *(piece for word in drawn.text.split() for piece in pieces(word, vocab))]
    tokens = torch.tensor([[vocab[piece] for piece in cut]])
    image = transform(paint(drawn.scene, config.image_size), config.image_size)[None]
    seen, read = image_encoder(image), text_encoder(tokens, torch.ones_like(tokens).bool())

    print(f"{cut}: text tokens {tuple(read.shape)}, image tokens {tuple(seen.shape)}")
    theirs = model.encode_image(image), model.encode_text(*trained.tokenizer.encode([drawn.text]))
    off = max((a - b).abs().max().item() for a, b in zip((seen, read), theirs))
    print(f"largest difference from the package's: {off:.0e}")


if __name__ == "__main__":
    main()
