"""What to keep of chapters 09 to 13: five ways to use what pretraining left.

`python notebooks/summary/five_tasks.py` searches and points with the shipped model as it is, and
trains heads and a decoder for a few steps.
"""
import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minalbef
from minalbef.scenes.task_problems import batch, problems
from objectives import ALBEF, scenes_batch


def match_odds(model: ALBEF, images: Tensor, texts: Tensor, keep: Tensor) -> Tensor:
    """ITM: the log-odds that each text belongs to its image, (p,)."""
    return model.match_head(model.fuse(texts, keep, images)[:, 0]).diff()[:, 0]


@torch.no_grad()
def search(model: ALBEF, images: Tensor, text: Tensor, keep: Tensor, top: int) -> Tensor:
    """Retrieval, chapter 09: the `top` most similar images of (i, 1 + n, d), ordered by match."""
    image_feature, text_feature = model.features(images, text)
    best = (image_feature @ text_feature[0]).topk(top).indices
    odds = match_odds(model, images[best], text.expand(top, -1, -1), keep.expand(top, -1))
    return best[odds.argsort(descending=True)]


class Classifier(nn.Module):
    """Entailment, chapter 10: a head on the fused [CLS]. NLVR2, chapter 12: two images.

    Of two images each of fusion's layers stands twice: words look at one, then at the other.
    """

    def __init__(self, albef: ALBEF, width: int, classes: int):
        super().__init__()
        self.albef = albef
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, images: list[Tensor], tokens: Tensor, keep: Tensor) -> Tensor:
        x = self.albef.text_encoder(tokens, keep)
        for i, layer in enumerate(self.albef.fusion.layers):
            x = layer(x, keep, images[i % len(images)][:, 1:])
        return self.head(x[:, 0])


def double(albef: ALBEF) -> ALBEF:
    """A model of two images: each fusion layer and its copy, which share keys and values."""
    albef, layers = copy.deepcopy(albef), nn.ModuleList()
    for layer in albef.fusion.layers:
        second = copy.deepcopy(layer)
        second.cross.k, second.cross.v = layer.cross.k, layer.cross.v
        layers.extend([layer, second])
    albef.fusion.layers = layers
    return albef


class Decoder(nn.Module):
    """VQA, chapter 11: copies of fusion's layers write an answer, and read the fused question."""

    def __init__(self, albef: ALBEF):
        super().__init__()
        self.embeddings = copy.deepcopy(albef.text_encoder.embeddings)
        self.layers = copy.deepcopy(albef.fusion.layers)
        self.word_head = copy.deepcopy(albef.word_head)

    def forward(self, answers: Tensor, keep: Tensor, question: Tensor, seen: Tensor) -> Tensor:
        """The log-probability of each answer (a,), of questions (a, l, d) that `seen` says."""
        table, words = self.embeddings, answers[:, :-1]
        causal = torch.ones(words.shape[1], words.shape[1], dtype=torch.bool).tril()
        x = table.norm(table.word_embed(words) + table.pos_embed.weight[:words.shape[1]]
                       + table.type_embed.weight[0])
        for layer in self.layers:
            x = layer(x, keep[:, None, :-1] & causal, question, seen)
        logits = self.word_head(x, table.word_embed.weight).log_softmax(-1)
        return (logits.gather(2, answers[:, 1:, None])[..., 0] * keep[:, 1:]).sum(1)


def heat_map(model: ALBEF, image: Tensor, texts: Tensor, keep: Tensor, layer: int) -> Tensor:
    """Grounding, chapter 13: attention that raises the match, (n,), the mean over words."""
    attention = model.fusion.layers[layer].cross
    attention.record = []
    yes = model.match_head(model.fuse(texts, keep, image)[:, 0])[:, 1].sum()
    weights, attention.record = attention.record[0], None                 # (1, h, l, n)
    slope, = torch.autograd.grad(yes, weights)
    return (weights * slope.clamp(min=0)).mean(1)[keep].mean(0).detach()


def train(part: nn.Module, loss_of: Callable[[int], Tensor], steps: int = 12) -> str:
    """Train a part by a loss of the step: -> the first and the last loss, in words."""
    optimiser, log = torch.optim.AdamW(part.parameters(), lr=1e-3), []
    for step in range(steps):
        loss = loss_of(step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        log.append(loss.item())
    return f"loss {log[0]:.2f} at first, {log[-1]:.2f} after {steps} steps"


def main() -> None:
    trained = minalbef.load("tiny")
    config, tokenizer = trained.config, trained.tokenizer
    albef = ALBEF(config)
    albef.load_state_dict(trained.model.state_dict())
    torch.manual_seed(0)

    scenes = scenes_batch(trained, 0, 100)
    with torch.no_grad():
        images = albef.image_encoder(scenes.image)
        texts = albef.text_encoder(scenes.tokens, scenes.keep)
    found = [search(albef, images, texts[i:i + 1], scenes.keep[i:i + 1], top=10)[0].item()
             for i in range(100)]
    right = sum(scenes.true[i, j].item() for i, j in enumerate(found))
    print(f"retrieval: the first of 100 images is right for {right} of 100 captions")
    heat = heat_map(albef, images[:1], texts[:1], scenes.keep[:1], layer=0)
    row, column = divmod(heat.argmax().item(), config.grid)
    print(f"grounding: {tokenizer.decode(scenes.tokens[0])!r} is seen most in row {row}, column "
          f"{column} of {config.grid}, both from 0")

    def lesson(task: str, step: int, rows: int):
        source = problems(task, "train", config, 0)
        return batch(task, [source.draw(rows * step + i) for i in range(rows)], tokenizer,
                     config.image_size)

    one = Classifier(copy.deepcopy(albef), config.text_width, 3)
    def entailment(step: int) -> Tensor:
        some = lesson("entailment", step, 18)
        logits = one([one.albef.image_encoder(some.image)], some.tokens, some.keep)
        return F.cross_entropy(logits, some.label)
    print("entailment:", train(one, entailment))

    two = Classifier(double(albef), config.text_width, 2)
    def nlvr2(step: int) -> Tensor:
        some = lesson("nlvr2", step, 16)
        image = two.albef.image_encoder(some.image)
        logits = two([image[rows] for rows in some.pairs.T], some.tokens, some.keep)
        return F.cross_entropy(logits, some.labels)
    print("NLVR2, which text assignment would prepare:", train(two, nlvr2))

    decoder = Decoder(albef)
    def vqa(step: int) -> Tensor:
        some = lesson("vqa", step, 16)
        with torch.no_grad():
            question = albef.fuse(albef.text_encoder(some.tokens, some.keep), some.keep,
                                  albef.image_encoder(some.image))
        rows = torch.arange(16).repeat_interleave(some.counts)
        said = decoder(some.answers, some.answers_keep, question[rows], some.keep[rows])
        return -(said * some.weights).sum() / 16
    print("VQA:", train(decoder, vqa))


if __name__ == "__main__":
    main()
