"""What to keep of chapters 04 to 07: fusion, and the three losses with their teacher and queue.

`python notebooks/summary/objectives.py` computes them for the shipped model on one batch.
"""
import copy
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minalbef
from emojiscenes.scenes import Scenes, paint, truth
from encoders import Attention, ImageEncoder, TextEncoder, TextLayer
from minalbef.data import transform


class FusionLayer(TextLayer):
    """Words attend to words, then to the image's patches: chapter 06."""

    def __init__(self, width: int, heads: int, hidden: int, image_width: int):
        super().__init__(width, heads, hidden, 1e-12)
        self.cross = Attention(width, heads, image_width)
        self.norm_cross = nn.LayerNorm(width, 1e-12)

    def forward(self, x: Tensor, keep: Tensor, source: Tensor, seen: Tensor | None = None
                ) -> Tensor:
        x = self.norm1(x + self.attn(x, x, keep))
        x = self.norm_cross(x + self.cross(x, source, seen))
        return self.norm2(x + self.mlp(x))


class WordHead(nn.Module):
    """Which word stood here? Its last matrix is the table of word embeddings: chapter 07."""

    def __init__(self, config: minalbef.Config):
        super().__init__()
        self.dense = nn.Linear(config.text_width, config.text_width)
        self.norm = nn.LayerNorm(config.text_width, 1e-12)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(x))) @ table.T + self.bias


class ALBEF(nn.Module):
    """Two encoders, fusion, two projections, two heads, and the temperature."""

    def __init__(self, config: minalbef.Config):
        super().__init__()
        width, hidden = config.text_width, int(config.text_width * config.text_mlp_ratio)
        self.image_encoder, self.text_encoder = ImageEncoder(config), TextEncoder(config)
        self.fusion = nn.ModuleDict(dict(layers=nn.ModuleList(
            FusionLayer(width, config.text_heads, hidden, config.image_width)
            for _ in range(config.fusion_depth))))
        self.image_proj = nn.Linear(config.image_width, config.embed_dim)
        self.text_proj = nn.Linear(width, config.embed_dim)
        self.match_head, self.word_head = nn.Linear(width, 2), WordHead(config)
        self.temperature = nn.Parameter(torch.tensor(config.temperature))

    def features(self, image_tokens: Tensor, text_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """[CLS] of both in the shared space: each (b, e), of length 1."""
        return (F.normalize(self.image_proj(image_tokens[:, 0]), dim=-1),
                F.normalize(self.text_proj(text_tokens[:, 0]), dim=-1))

    def fuse(self, text_tokens: Tensor, keep: Tensor, image_tokens: Tensor) -> Tensor:
        x = text_tokens
        for layer in self.fusion.layers:
            x = layer(x, keep, image_tokens[:, 1:])
        return x

    def word_logits(self, fused: Tensor) -> Tensor:
        return self.word_head(fused, self.text_encoder.embeddings.word_embed.weight)


class Batch(NamedTuple):
    """Rows of images and captions, and `true`: whether caption i is true of image j."""
    image: Tensor                    # (b, 3, s, s)
    tokens: Tensor                   # (b, l)
    keep: Tensor                     # (b, l)
    true: Tensor                     # (b, b)


def soft_cross_entropy(logits: Tensor, target: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """Cross-entropy to the target and, with weight alpha, to what the teacher says: chapter 05."""
    target = (1 - alpha) * target + alpha * teacher.softmax(-1)
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


def draw_negatives(sim: Tensor, true: Tensor, uniform: Tensor) -> Tensor:
    """A false key for each query, by similarity: Gumbel's way to draw from a softmax."""
    return (sim.masked_fill(true, -torch.inf) - (-uniform.log()).log()).argmax(-1)


def mask_words(tokens: Tensor, special: tuple[int, ...], rate: float, uniform: Tensor,
               words: Tensor) -> tuple[Tensor, Tensor]:
    """BERT's: of the chosen words 80% become [MASK], 10% another word: -> tokens, and chosen."""
    chosen = (uniform[0] < rate) & ~torch.isin(tokens, torch.tensor(special))
    hidden = tokens.masked_fill(chosen & (uniform[1] < 0.8), special[-1])
    return torch.where(chosen & (0.8 <= uniform[1]) & (uniform[1] < 0.9), words, hidden), chosen


def losses(student: ALBEF, teacher: ALBEF, queue: tuple[Tensor, Tensor], batch: Batch, alpha: float,
           masked: tuple[Tensor, Tensor], uniform: Tensor) -> tuple[dict, tuple[Tensor, Tensor]]:
    """ITC, ITM and MLM, and the teacher's features for the queue.

    queue: (k, e) of images and of texts; masked: what `mask_words` gave; uniform: (2, b, b)
    """
    rows, images = torch.arange(len(batch.image)), student.image_encoder(batch.image)
    texts = student.text_encoder(batch.tokens, batch.keep)
    with torch.no_grad():
        image_of_teacher = teacher.image_encoder(batch.image)
        text_of_teacher = teacher.text_encoder(batch.tokens, batch.keep)
        keys = teacher.features(image_of_teacher, text_of_teacher)

    itc, wrong = 0.0, []
    own = student.features(images, texts)
    for side, true in ((0, batch.true.T), (1, batch.true)):        # image to text, text to image
        others = torch.cat([keys[1 - side], queue[1 - side]]).T / student.temperature
        sim, opinion = own[side] @ others, (keys[side] @ others).detach()
        target = F.pad(true / true.sum(1, keepdim=True), (0, len(queue[0])))
        itc = itc + soft_cross_entropy(sim, target, opinion, alpha) / 2
        wrong.append(draw_negatives(sim[:, :len(rows)].detach(), true, uniform[side]))

    text_rows, image_rows = torch.cat([rows, rows, wrong[0]]), torch.cat([rows, wrong[1], rows])
    fused = student.fuse(texts[text_rows], batch.keep[text_rows], images[image_rows])
    itm = F.cross_entropy(student.match_head(fused[:, 0]), (torch.arange(3 * len(rows))
                                                            < len(rows)).long())

    hidden, chosen = masked
    fused = student.fuse(student.text_encoder(hidden, batch.keep), batch.keep, images)
    with torch.no_grad():
        soft = teacher.fuse(teacher.text_encoder(hidden, batch.keep), batch.keep, image_of_teacher)
        soft = teacher.word_logits(soft[chosen])
    logits, words = student.word_logits(fused[chosen]), batch.tokens[chosen]
    mlm = soft_cross_entropy(logits, F.one_hot(words, logits.shape[-1]), soft, alpha)
    return {"itc": itc, "itm": itm, "mlm": mlm}, keys


def scenes_batch(trained: minalbef.Run, first: int, rows: int) -> Batch:
    """Rows of the embedded scenes, from number `first` on."""
    size = trained.config.image_size
    source = Scenes("train", seed=8, size=size, objects=trained.config.objects)
    drawn = [source.draw(i) for i in range(first, first + rows)]
    image = torch.stack([transform(paint(one.scene, size), size) for one in drawn])
    return Batch(image, *trained.tokenizer.encode([one.text for one in drawn]),
                 torch.from_numpy(truth(drawn)))


def draw_masks(tokens: Tensor, trained: minalbef.Run) -> tuple[Tensor, Tensor]:
    """`mask_words` with the paper's rate and new random numbers."""
    words = torch.randint(trained.config.vocab_size, tokens.shape)
    return mask_words(tokens, trained.tokenizer.special, 0.15, torch.rand(2, *tokens.shape), words)


def main() -> None:
    trained = minalbef.load("tiny")
    student = ALBEF(trained.config)
    student.load_state_dict(trained.model.state_dict())
    teacher = copy.deepcopy(student).requires_grad_(False)
    torch.manual_seed(0)
    batch, old = scenes_batch(trained, 0, 32), scenes_batch(trained, 32, 32)
    with torch.no_grad():
        queue = teacher.features(teacher.image_encoder(old.image),
                                 teacher.text_encoder(old.tokens, old.keep))
    masked = draw_masks(batch.tokens, trained)
    found, _ = losses(student, teacher, queue, batch, 0.4, masked, torch.rand(2, 32, 32))
    guesses = {"itc": math.log(64), "itm": math.log(2), "mlm": math.log(trained.config.vocab_size)}
    for name, loss in found.items():
        print(f"{name}: {loss:.2f}, and {guesses[name]:.2f} for who knows nothing")


if __name__ == "__main__":
    main()
