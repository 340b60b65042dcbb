"""ALBEF (Align before Fuse, Li et al., NeurIPS 2021) in one file: model, losses, teacher, queue, loop.

Copy it: it needs torch alone. `python notebooks/albef.py` trains it on minalbef's scenes, in minutes.
A test holds its losses to those of the package, whose files say more and whose recipe does more.
Axes: b batch, n image tokens, l words, d width, e shared space, k keys, m masked words, v vocabulary.
"""
import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Config:
    """The paper's numbers."""

    image_size: int = 256
    patch_size: int = 16
    image_width: int = 768
    image_depth: int = 12
    image_heads: int = 12
    vocab_size: int = 30_522
    positions: int = 512
    text_width: int = 768
    text_depth: int = 6
    text_heads: int = 12
    fusion_depth: int = 6
    mlp_ratio: float = 4.0
    dropout: float = 0.1
    embed_dim: int = 256
    init_std: float = 0.02
    temperature: float = 0.07
    temperature_min: float = 0.001
    temperature_max: float = 0.5
    queue_size: int = 65_536
    teacher_momentum: float = 0.995
    alpha: float = 0.4                    # weight of the teacher's soft targets
    mask_rate: float = 0.15
    special: tuple[int, ...] = (0, 1, 2, 3, 4)    # ids that are never masked
    mask: int = 4                         # the id of [MASK]
    seed: int = 0
    batch: int = 512
    steps: int = 300_000
    epoch_steps: int = 10_000             # over the first of which alpha rises
    lr: float = 1e-4
    lr_start: float = 1e-5
    lr_end: float = 1e-5
    warmup_steps: int = 2_000
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass
class Batch:
    image: Tensor                         # (b, 3, s, s), normalised
    tokens: Tensor                        # (b, l), the first [CLS]
    keep: Tensor                          # (b, l) bool, False at padding
    ids: Tensor                           # (b,) of images: equal ones are no negatives


# The model (section 3.1)


class Attention(nn.Module):
    """Tokens of x attend to tokens of `source`: (b, n, d), (b, k, s) -> (b, n, d)."""

    def __init__(self, width: int, heads: int, source_width: int | None = None):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(source_width or width, width)
        self.v = nn.Linear(source_width or width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor, keep: Tensor | None = None, dropout: float = 0.0):
        """keep: (b, k) bool, True where a token may be seen"""
        q, k, v = [y.unflatten(2, (self.heads, -1)).transpose(1, 2)
                   for y in (self.q(x), self.k(source), self.v(source))]         # (b, h, n, d / h)
        mask = None if keep is None else keep[:, None, None]
        dropout = dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout)
        return self.proj(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class PatchEmbed(nn.Module):
    def __init__(self, patch_size: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).mT                                    # (b, n, d)


class Block(nn.Module):
    """Pre-norm."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """(b, 3, s, s) -> (b, 1 + n, d), [CLS] first."""

    def __init__(self, config: Config):
        super().__init__()
        width, patches = config.image_width, (config.image_size // config.patch_size) ** 2
        self.patch_embed = PatchEmbed(config.patch_size, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * config.init_std)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + patches, width) * config.init_std)
        hidden = int(width * config.mlp_ratio)
        self.blocks = nn.ModuleList(Block(width, config.image_heads, hidden)
                                    for _ in range(config.image_depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, image: Tensor) -> Tensor:
        cls = self.cls_token.expand(len(image), -1, -1)
        x = torch.cat([cls, self.patch_embed(image)], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Embeddings(nn.Module):
    """Word, position and type, summed and normed."""

    def __init__(self, config: Config):
        super().__init__()
        self.word_embed = nn.Embedding(config.vocab_size, config.text_width, padding_idx=0)
        self.pos_embed = nn.Embedding(config.positions, config.text_width)
        self.type_embed = nn.Embedding(2, config.text_width)
        self.norm = nn.LayerNorm(config.text_width, eps=1e-12)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = self.pos_embed.weight[:tokens.shape[1]]
        return self.norm(self.word_embed(tokens) + positions + self.type_embed.weight[0])


class TextLayer(nn.Module):
    """Post-norm."""

    def __init__(self, config: Config):
        super().__init__()
        width = config.text_width
        self.attn = Attention(width, config.text_heads)
        self.norm1 = nn.LayerNorm(width, eps=1e-12)
        self.mlp = MLP(width, int(width * config.mlp_ratio))
        self.norm2 = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.attn(x, x, keep, self.dropout.p)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class TextEncoder(nn.Module):
    """BERT's lower layers: (b, l) -> (b, l, d), [CLS] first."""

    def __init__(self, config: Config):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.text_depth))

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        x = self.dropout(self.embeddings(tokens))
        for layer in self.layers:
            x = layer(x, keep)
        return x


class FusionLayer(TextLayer):
    """A text layer with cross-attention to the image in its middle."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.cross = Attention(config.text_width, config.text_heads, config.image_width)
        self.norm_cross = nn.LayerNorm(config.text_width, eps=1e-12)

    def forward(self, x: Tensor, keep: Tensor, image: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.attn(x, x, keep, self.dropout.p)))
        x = self.norm_cross(x + self.dropout(self.cross(x, image, None, self.dropout.p)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Fusion(nn.Module):
    """BERT's upper layers: (b, l, d) words and (b, 1 + n, i) image tokens -> (b, l, d)."""

    def __init__(self, config: Config):
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(config) for _ in range(config.fusion_depth))

    def forward(self, x: Tensor, keep: Tensor, image: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, keep, image)
        return x


class WordHead(nn.Module):
    """(..., d) -> (..., v); its last matrix is the table of word embeddings."""

    def __init__(self, config: Config):
        super().__init__()
        self.dense = nn.Linear(config.text_width, config.text_width)
        self.norm = nn.LayerNorm(config.text_width, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.dense(x))), words, self.bias)


class ALBEF(nn.Module):
    """Two encoders, fusion, two projections, two heads."""

    def __init__(self, config: Config):
        super().__init__()
        self.image_encoder = ViT(config)
        self.text_encoder = TextEncoder(config)
        self.fusion = Fusion(config)
        self.image_proj = nn.Linear(config.image_width, config.embed_dim)
        self.text_proj = nn.Linear(config.text_width, config.embed_dim)
        self.match_head = nn.Linear(config.text_width, 2)
        self.word_head = WordHead(config)
        self.temperature = nn.Parameter(torch.tensor(config.temperature))
        for part in self.modules():
            if isinstance(part, (nn.Linear, nn.Embedding)):
                nn.init.normal_(part.weight, std=config.init_std)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)

    def image_feature(self, image: Tensor) -> Tensor:
        return F.normalize(self.image_proj(image[:, 0]), dim=-1)                 # (b, e)

    def text_feature(self, text: Tensor) -> Tensor:
        return F.normalize(self.text_proj(text[:, 0]), dim=-1)

    def match_logits(self, fused: Tensor) -> Tensor:
        return self.match_head(fused[:, 0])                                      # (b, 2): no, yes

    def word_logits(self, fused: Tensor) -> Tensor:
        return self.word_head(fused, self.text_encoder.embeddings.word_embed.weight)


# The objectives (sections 3.2 and 3.3)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * F.log_softmax(logits, -1)).sum(-1)


def itc_loss(sim: Tensor, teacher_sim: Tensor, alpha: float) -> Tensor:
    """Each query's own key is the i-th of k; the teacher's soft targets count by alpha (eq. 6)."""
    own = torch.eye(*sim.shape, device=sim.device)
    target = alpha * teacher_sim.softmax(-1) + (1 - alpha) * own
    return soft_cross_entropy(sim, target).mean()


def hard_negatives(sim: Tensor, same: Tensor, uniform: Tensor) -> Tensor:
    """One wrong key for each query, with probability softmax(sim): (b, k) -> (b,)."""
    sim = sim.masked_fill(same, -torch.inf)
    return (sim - torch.log(-torch.log(uniform))).argmax(-1)                     # Gumbel's way


def mask_words(tokens: Tensor, config: Config, choose: Tensor, kind: Tensor, words: Tensor):
    """80% of the masked words become [MASK], 10% another word, 10% stay: -> tokens, where."""
    special = torch.isin(tokens, torch.tensor(config.special, device=tokens.device))
    masked = (choose < config.mask_rate) & ~special
    tokens = torch.where(masked & (kind < 0.8), config.mask, tokens)
    return torch.where(masked & (kind >= 0.8) & (kind < 0.9), words, tokens), masked


class Queue(nn.Module):
    """The teacher's last features, with their ids; only what has been pushed counts."""

    def __init__(self, size: int, embed_dim: int):
        super().__init__()
        self.register_buffer("image", torch.zeros(size, embed_dim))
        self.register_buffer("text", torch.zeros(size, embed_dim))
        self.register_buffer("count", torch.tensor(0))

    def keys(self) -> tuple[Tensor, Tensor]:
        filled = min(int(self.count), len(self.image))
        return self.image[:filled], self.text[:filled]

    def push(self, image: Tensor, text: Tensor) -> None:
        slots = (self.count + torch.arange(len(image), device=image.device)) % len(self.image)
        self.image[slots], self.text[slots] = image, text
        self.count += len(image)


class Pretrain(nn.Module):
    """Student, teacher and queue under the three objectives. `forward` changes nothing."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.student = ALBEF(config)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.queue = Queue(config.queue_size, config.embed_dim)

    def forward(self, batch: Batch, alpha: float, generator: torch.Generator):
        student, teacher, config, b = self.student, self.teacher.eval(), self.config, len(batch.ids)

        # 1. encode each modality by itself
        image = student.image_encoder(batch.image)                               # (b, 1 + n, d)
        text = student.text_encoder(batch.tokens, batch.keep)                    # (b, l, d)
        image_feature, text_feature = student.image_feature(image), student.text_feature(text)

        # 2. ask the teacher: its features are the keys, before those of its queue
        with torch.no_grad():
            teacher_image = teacher.image_encoder(batch.image)
            teacher_text = teacher.text_encoder(batch.tokens, batch.keep)
            new_image = teacher.image_feature(teacher_image)
            new_text = teacher.text_feature(teacher_text)
            queue_image, queue_text = self.queue.keys()
            image_keys = torch.cat([new_image, queue_image])                     # (k, e)
            text_keys = torch.cat([new_text, queue_text])
            teacher_i2t = new_image @ text_keys.T / student.temperature          # (b, k)
            teacher_t2i = new_text @ image_keys.T / student.temperature

        # 3. ITC: align image and text before they are fused (eq. 1, 2, 6)
        i2t = image_feature @ text_keys.T / student.temperature
        t2i = text_feature @ image_keys.T / student.temperature
        itc = (itc_loss(i2t, teacher_i2t, alpha) + itc_loss(t2i, teacher_t2i, alpha)) / 2

        # 4. ITM: each pair, each text with a hard wrong image, each image with a hard wrong text
        uniforms = draw(config, generator, b, batch.tokens.shape[1])
        same = batch.ids[:, None] == batch.ids
        wrong_text = hard_negatives(i2t[:, :b].detach(), same, uniforms["text"].to(image.device))
        wrong_image = hard_negatives(t2i[:, :b].detach(), same, uniforms["image"].to(image.device))
        rows = torch.arange(b, device=image.device)
        texts = torch.cat([rows, rows, wrong_text])
        images = torch.cat([rows, wrong_image, rows])
        fused = student.fusion(text[texts], batch.keep[texts], image[images])
        labels = (torch.arange(3 * b, device=image.device) < b).long()
        itm = F.cross_entropy(student.match_logits(fused), labels)

        # 5. MLM: masked words, with the help of the image (eq. 3, 7)
        words = [uniforms[name].to(image.device) for name in ("choose", "kind", "words")]
        masked, where = mask_words(batch.tokens, config, *words)
        fused = student.fusion(student.text_encoder(masked, batch.keep), batch.keep, image)
        logits = student.word_logits(fused[where])                               # (m, v)
        with torch.no_grad():
            fused = teacher.text_encoder(masked, batch.keep)
            fused = teacher.fusion(fused, batch.keep, teacher_image)
            soft = teacher.word_logits(fused[where]).softmax(-1)
        hard_loss = F.cross_entropy(logits, batch.tokens[where], reduction="none")
        mlm = (1 - alpha) * hard_loss + alpha * soft_cross_entropy(logits, soft)
        mlm = mlm.sum() / max(len(mlm), 1)
        return {"itc": itc, "itm": itm, "mlm": mlm}, (new_image, new_text)

    @torch.no_grad()
    def after_step(self, keys: tuple[Tensor, Tensor]) -> None:
        """After the optimiser: clamp the temperature, move the teacher, fill the queue."""
        config = self.config
        self.student.temperature.clamp_(config.temperature_min, config.temperature_max)
        for teacher, student in zip(self.teacher.parameters(), self.student.parameters()):
            teacher.lerp_(student, 1 - config.teacher_momentum)
        self.queue.push(*keys)


def draw(config: Config, generator: torch.Generator, b: int, length: int) -> dict[str, Tensor]:
    """All that is random in a step."""
    def uniform(width: int) -> Tensor:
        return torch.rand(b, width, generator=generator).clamp_(1e-7, 1 - 1e-7)

    return {"choose": uniform(length), "kind": uniform(length),
            "words": torch.randint(config.vocab_size, (b, length), generator=generator),
            "image": uniform(b), "text": uniform(b)}


# Training (section 3.5)


def lr_at(step: int, config: Config) -> float:
    if step < config.warmup_steps:
        return config.lr_start + (config.lr - config.lr_start) * step / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * progress)) / 2


def make_optimiser(task: Pretrain, config: Config) -> torch.optim.AdamW:
    """Matrices decay; norms, biases, the temperature, [CLS] and positions don't."""
    groups: dict[bool, list] = {True: [], False: []}
    for name, p in task.student.named_parameters():
        groups[p.ndim > 1 and not name.endswith(("cls_token", "pos_embed"))].append(p)
    return torch.optim.AdamW([{"params": groups[True], "weight_decay": config.weight_decay},
                              {"params": groups[False], "weight_decay": 0.0}], betas=config.betas)


def train(task: Pretrain, batches, config: Config, device: str = "cpu"):
    """Yield each step's losses. batches(step) -> image, tokens, keep and ids, see Batch."""
    task.to(device).train()
    optimiser = make_optimiser(task, config)
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = lr_at(step, config)
        batch = Batch(*[part.to(device) for part in batches(step)])
        alpha = config.alpha * min(1.0, step / config.epoch_steps)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        losses, keys = task(batch, alpha, generator)
        sum(losses.values()).backward()
        optimiser.step()
        optimiser.zero_grad()
        task.after_step(keys)
        yield {name: loss.item() for name, loss in losses.items()}


if __name__ == "__main__":
    from minalbef import load, preset  # for scenes and a tokenizer of their words
    from minalbef.scenes.batches import SceneBatches

    tokenizer = load("tiny").tokenizer
    scenes = SceneBatches(preset("tiny", siblings=0.0, bucket=1), tokenizer)
    small = Config(48, 8, 96, 2, 3, len(tokenizer), 32, 96, 3, 3, 2, 2.0, 0.0, 64, 0.05, batch=64,
                   queue_size=256, teacher_momentum=0.99, mask_rate=0.5, steps=1000,
                   epoch_steps=500, lr=1e-3, warmup_steps=50, mask=tokenizer.mask)

    def scene_batch(step: int) -> tuple:
        batch = scenes(step).to("cpu")
        return batch.image, batch.tokens, batch.keep, batch.ids

    for step, losses in enumerate(train(Pretrain(small), scene_batch, small)):
        if step % 50 == 0:
            print(step, {name: round(loss, 3) for name, loss in losses.items()}, flush=True)
