"""Retrieval scoring: ITC similarity, ITM re-ranking, and recall@k where several answers are right."""
from dataclasses import dataclass

import torch
from torch import Tensor

from minalbef.albef import ALBEF


@dataclass(frozen=True)
class Encoded:
    """Pictures and texts, each encoded once: image (i, 1 + n, d), text (t, l, d), keep (t, l) bool."""

    image: Tensor
    text: Tensor
    keep: Tensor


@torch.no_grad()
def encode(model: ALBEF, image: Tensor, tokens: Tensor, keep: Tensor, chunk: int = 128) -> Encoded:
    """Encode on the model's device, `chunk` at a time, from any device.

    image: (i, 3, s, s); tokens, keep: (t, l)
    """
    device = model.temperature.device
    image_tokens = [model.encode_image(part.to(device)) for part in image.split(chunk)]
    return Encoded(torch.cat(image_tokens), *encode_texts(model, tokens, keep, chunk))


@torch.no_grad()
def encode_texts(model: ALBEF, tokens: Tensor, keep: Tensor, chunk: int = 128
                 ) -> tuple[Tensor, Tensor]:
    """Texts (t, l) alone: -> their tokens (t, l, d), and keep on the model's device."""
    device = model.temperature.device
    tokens = tokens.to(device)
    keep = keep.to(device)
    parts = zip(tokens.split(chunk), keep.split(chunk))
    return torch.cat([model.encode_text(*part) for part in parts]), keep


@torch.no_grad()
def similarity(model: ALBEF, encoded: Encoded, block: int | None = None) -> Tensor:
    """Cosine in the shared space, within blocks of so many pictures and as many texts (all in one): -> (g, i, t)."""
    image, text = model.image_feature(encoded.image), model.text_feature(encoded.text, encoded.keep)
    blocks = (1, -1) if block is None else (-1, block)
    return image.unflatten(0, blocks) @ text.unflatten(0, blocks).mT


@torch.no_grad()
def match_odds(model: ALBEF, encoded: Encoded, images: Tensor, texts: Tensor, chunk: int = 256, rows: int = 500,
               yes_alone: bool = False) -> Tensor:
    """ITM's log-odds that text and picture belong together, for pairs of rows (p,) and (p,): -> (p,).

    One number ranks and decides: over 0 is a match. yes_alone: the logit for yes, by which the original ranks.
    `chunk` pairs are fused at a time, and what `rows` pictures offer to every layer is in memory at a time.
    """
    odds = encoded.text.new_empty(len(texts))
    for first in range(0, len(encoded.image), rows):
        here = ((images >= first) & (images < first + rows)).nonzero()[:, 0]
        if not len(here):
            continue
        keys_values = model.fusion.keys_values(encoded.image[first:first + rows])
        for some in here[texts[here].argsort(stable=True)].split(chunk):         # by text, so that a chunk reads few
            read, place = texts[some].unique(return_inverse=True)
            fused = model.fuse(encoded.text[read], encoded.keep[read], None, queries=1,
                               pairs=(place, images[some] - first), keys_values=keys_values)
            no, yes = model.match_logits(fused).T
            odds[some] = yes if yes_alone else yes - no
    return odds


def best(scores: Tensor, top: int) -> Tensor:
    """Where each row has its `top` best: (..., q, c) -> bool."""
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, scores.topk(min(top, scores.shape[-1])).indices, True)


def match_best(model: ALBEF, encoded: Encoded, sim: Tensor, top: int = 10) -> Tensor:
    """ITM's log-odds for the `top` best of every picture and every text, -inf for all others: sim, (g, i, t) alike."""
    g, i, t = sim.shape
    wanted = best(sim, top) | best(sim.mT, top).mT
    block, image, text = wanted.nonzero(as_tuple=True)
    odds = torch.full_like(sim, -torch.inf)
    odds[wanted] = match_odds(model, encoded, block * i + image, block * t + text)
    return odds


def rerank(sim: Tensor, score: Tensor, top: int = 10) -> Tensor:
    """The `top` best of each row by `sim`, ordered by `score`; all others behind them: (..., q, c) -> the same."""
    return score.masked_fill(~best(sim, top), -torch.inf)


def recall(scores: Tensor, true: Tensor, k: int = 1) -> Tensor:
    """Chance that a right answer is among each query's k best: (..., q, c) and bool alike -> (..., q), 0 to 1.

    Any right answer counts; ties are broken at random, so a model that says the same of all scores chance.
    """
    first = scores.masked_fill(~true, -torch.inf).amax(-1, keepdim=True)         # the best of the right ones
    ahead, tied = (scores > first).sum(-1), scores == first
    wrong, alike = (tied & ~true).sum(-1), tied.sum(-1)
    miss = torch.ones_like(first[..., 0])
    for j in range(k):                # drawn one after the other from those that tie with it, while there is room
        drawn = (wrong - j).clamp(min=0) / (alike - j).clamp(min=1)
        miss = torch.where(ahead + j < k, miss * drawn, miss)
    return 1 - miss
