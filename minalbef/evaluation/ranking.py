"""Retrieval scoring: ITC similarity, ITM re-ranking, recall@k with several right answers."""
from dataclasses import dataclass

import torch
from torch import Tensor

from minalbef.albef import ALBEF


@dataclass(frozen=True)
class Encoded:
    """Images and texts, each encoded once.

    image: (i, 1 + n, d); text: (t, l, d); keep: (t, l) bool
    """

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
    """Cosine in the shared space: -> (g, i, t).

    block: within blocks of so many images and as many texts; None: of all with all, g = 1
    """
    image = model.image_feature(encoded.image)
    text = model.text_feature(encoded.text, encoded.keep)
    blocks = (1, -1) if block is None else (-1, block)
    return inner_products(image.unflatten(0, blocks), text.unflatten(0, blocks))


def inner_products(image: Tensor, text: Tensor) -> Tensor:
    """Features of unit length (..., i, e) and (..., t, e), in fp32: -> (..., i, t)."""
    # in bf16 scores would tie
    with torch.autocast(image.device.type, enabled=False):
        return image @ text.mT


@torch.no_grad()
def match_odds(model: ALBEF, encoded: Encoded, images: Tensor, texts: Tensor, chunk: int = 256,
               rows: int = 500, yes_alone: bool = False) -> Tensor:
    """ITM's log-odds that text and image belong together: -> (p,). Above 0 is a match.

    images, texts: each pair's rows in encoded, (p,) and (p,)
    chunk: pairs that are fused at a time. rows: images whose keys and values are in memory at once
    yes_alone: the logit for yes, by which the original ranks
    """
    odds = model.temperature.new_empty(len(texts))       # in fp32, also where tokens are bf16
    for first in range(0, len(encoded.image), rows):
        in_memory = (images >= first) & (images < first + rows)
        here = in_memory.nonzero()[:, 0]
        if not len(here):
            continue
        keys_values = model.fusion.keys_values(encoded.image[first:first + rows])
        by_text = here[texts[here].argsort(stable=True)]         # so that a chunk has few texts
        for pairs in by_text.split(chunk):
            text, place = texts[pairs].unique(return_inverse=True)
            fused = model.fuse(encoded.text[text], encoded.keep[text], None, queries=1,
                               pairs=(place, images[pairs] - first), keys_values=keys_values)
            no, yes = model.match_logits(fused).T
            odds[pairs] = yes if yes_alone else yes - no
    return odds


def best(scores: Tensor, top: int) -> Tensor:
    """Where each row has its `top` best: (..., q, c) -> bool."""
    chosen = scores.topk(min(top, scores.shape[-1])).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, chosen, True)


def match_best(model: ALBEF, encoded: Encoded, sim: Tensor, top: int = 10) -> Tensor:
    """ITM's log-odds for the `top` best of every image and every text, -inf for all others.

    sim: (g, i, t)  ->  the same shape
    """
    _, i, t = sim.shape
    candidates = best(sim, top) | best(sim.mT, top).mT
    block, image, text = candidates.nonzero(as_tuple=True)
    odds = torch.full_like(sim, -torch.inf)
    odds[candidates] = match_odds(model, encoded, block * i + image, block * t + text)
    return odds


def rerank(sim: Tensor, score: Tensor, top: int = 10) -> Tensor:
    """The `top` best of each row by `sim`, ordered by `score`; all others behind them.

    sim, score: (..., q, c)  ->  the same shape
    """
    return score.masked_fill(~best(sim, top), -torch.inf)


def recall(scores: Tensor, true: Tensor, k: int = 1) -> Tensor:
    """The probability that a right answer is among each query's k best.

    Any right answer counts. Ties are broken at random, so equal scores for all are at chance level.
    scores: (..., q, c); true: bool, alike  ->  (..., q), 0 to 1
    """
    best_right = scores.masked_fill(~true, -torch.inf).amax(-1, keepdim=True)
    ahead = (scores > best_right).sum(-1)
    tied = scores == best_right
    wrong = (tied & ~true).sum(-1)
    alike = tied.sum(-1)
    miss = torch.ones_like(best_right[..., 0])
    for j in range(k):        # ranks are filled from those that tie, while any is left
        wrong_again = (wrong - j).clamp(min=0) / (alike - j).clamp(min=1)
        miss = torch.where(ahead + j < k, miss * wrong_again, miss)
    return 1 - miss
