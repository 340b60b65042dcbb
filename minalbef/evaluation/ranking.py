"""Retrieval: one score of images and texts by ITC and ITM, re-ranking in two stages, recall@k."""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minalbef.albef import ALBEF
from minalbef.system import distributed
from minalbef.system.metrics import progress

KS = (1, 5, 10)                       # the paper's recalls


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


# scores


@dataclass(frozen=True)
class Scores:
    """How well images and texts fit, (i, t) each; -inf for pairs that don't compete.

    itc: cosine in the shared space, or cosine over temperature
    itm: log-odds of a match, -inf where they weren't computed; None: ITC alone
    """

    itc: Tensor
    itm: Tensor | None = None

    def both(self, weight: float | Tensor) -> Tensor:
        """ITM's log-odds plus `weight` times ITC's similarity; -inf where ITM has no score."""
        assert self.itm is not None
        total = self.itm + weight * self.itc
        return total.masked_fill(self.itm == -torch.inf, -torch.inf)

    def over(self, temperature: float | Tensor) -> "Scores":
        """The same, with ITC's similarity over temperature."""
        return Scores(self.itc / temperature, self.itm)


@torch.no_grad()
def score(model: ALBEF, encoded: Encoded, *, itm: bool = True, top: int | None = None,
          rivals: Tensor | None = None, yes_alone: bool = False, rows: int = 500,
          share: bool = False, quiet: bool = True) -> Scores:
    """Every image with every text, by ITC and by ITM.

    itm: False for ITC alone, which is one product
    top: ITM scores each image's and each text's `top` best by ITC alone; None: all pairs
    rivals: (i, t) bool, which pairs compete; all others score -inf. None: all do
    yes_alone, rows: see `match_odds`
    share: the processes share ITM's pairs; all of them call this alike
    """
    itc = similarity(model, encoded)
    if rivals is None:
        rivals = torch.ones_like(itc, dtype=torch.bool)
    itc = itc.masked_fill(~rivals, -torch.inf)
    if not itm:
        return Scores(itc)
    pairs = rivals
    if top is not None:
        pairs = rivals & (best(itc, top) | best(itc.T, top).T)
    image, text = pairs.nonzero(as_tuple=True)
    if share:            # an image's pairs stay in one process: its keys and values are shared
        local = image * distributed.world() // len(itc) == distributed.rank()
        image = image[local]
        text = text[local]
    odds = torch.zeros_like(itc)
    odds[image, text] = match_odds(model, encoded, image, text, rows=rows, yes_alone=yes_alone,
                                   quiet=quiet)
    if share:
        odds = distributed.total(odds)
    return Scores(itc, odds.masked_fill(~pairs, -torch.inf))


@torch.no_grad()
def similarity(model: ALBEF, encoded: Encoded) -> Tensor:
    """ITC's cosine of every image with every text: -> (i, t)."""
    image = model.image_feature(encoded.image)
    text = model.text_feature(encoded.text, encoded.keep)
    return inner_products(image, text)


def inner_products(image: Tensor, text: Tensor) -> Tensor:
    """Features of unit length (i, e) and (t, e), in fp32: -> (i, t)."""
    # in bf16 scores would tie
    with torch.autocast(image.device.type, enabled=False):
        return image @ text.T


@torch.no_grad()
def match_odds(model: ALBEF, encoded: Encoded, images: Tensor, texts: Tensor, chunk: int = 256,
               rows: int = 500, yes_alone: bool = False, quiet: bool = True) -> Tensor:
    """ITM's log-odds that text and image belong together: -> (p,). Above 0 is a match.

    images, texts: each pair's rows in encoded, (p,) and (p,)
    chunk: pairs that are fused at a time. rows: images whose keys and values are in memory at once
    yes_alone: the logit for yes, by which the original ranks
    """
    odds = model.temperature.new_empty(len(texts))       # in fp32, also where tokens are bf16
    blocks: Sequence[Tensor] = images.unique().split(rows) if len(images) else ()
    for block in progress(blocks, "matching", quiet):
        keys_values = model.fusion.keys_values(encoded.image[block])
        here = torch.isin(images, block).nonzero()[:, 0]
        by_text = here[texts[here].argsort(stable=True)]         # so that a chunk has few texts
        for pairs in by_text.split(chunk):
            text, place = texts[pairs].unique(return_inverse=True)
            image = torch.searchsorted(block, images[pairs])
            fused = model.fuse(encoded.text[text], encoded.keep[text], None, queries=1,
                               pairs=(place, image), keys_values=keys_values)
            no, yes = model.match_logits(fused).T
            odds[pairs] = yes if yes_alone else yes - no
    return odds


# ranks


def best(scores: Tensor, top: int) -> Tensor:
    """Where each row has its `top` best: (..., q, c) -> bool."""
    chosen = scores.topk(min(top, scores.shape[-1])).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, chosen, True)


def rerank(sim: Tensor, score: Tensor, top: int = 10) -> Tensor:
    """The `top` best of each row by `sim`, ordered by `score`; all others behind them.

    sim, score: (..., q, c)  ->  the same shape
    """
    return score.masked_fill(~best(sim, top), -torch.inf)


def two_stage(scores: Scores, top: int = 128, weight: float = 1.0
              ) -> dict[str, tuple[Tensor, Tensor]]:
    """Scores of texts for every image (i, t) and of images for every text (t, i), by name.

    itc: by ITC. rerank: each query's `top` best by ITC, re-ranked by ITM; -inf for all others (the
    original's -100). rerank_plus: the same by `Scores.both`, as later models of the family rank.

    top: the original takes 128 on Flickr30k, 256 on COCO
    """
    ways = {"itc": (scores.itc, scores.itc.T)}
    if scores.itm is not None:
        for name, second in (("rerank", scores.itm), ("rerank_plus", scores.both(weight))):
            ways[name] = rerank(scores.itc, second, top), rerank(scores.itc.T, second.T, top)
    return ways


def rank(scores: Scores, true: Tensor, ks: Sequence[int] = KS, top: int = 128,
         weight: float = 1.0) -> dict[str, Tensor]:
    """Recall@k of each query by every way of `two_stage`: by name such as itc_t2i_r1, (q,) each.

    i2t: image to text; t2i: text to image. true: (i, t) bool
    """
    figures = {}
    for name, (i2t, t2i) in two_stage(scores, top, weight).items():
        for k in ks:
            figures[f"{name}_i2t_r{k}"] = recall(i2t, true, k)
        for k in ks:
            figures[f"{name}_t2i_r{k}"] = recall(t2i, true.T, k)
    return figures


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


def true_pairs(image_ids: Tensor, text_ids: Tensor) -> Tensor:
    """Which images and texts match, by ids that are then equal: (i,), (t,) -> (i, t) bool.

    Raises ValueError for an image without a text, and for a text without an image.
    """
    true = image_ids[:, None] == text_ids
    for side, ids, matched in (("image", image_ids, true.any(1)), ("text", text_ids, true.any(0))):
        if not matched.all():
            raise ValueError(f"{side} ids {ids[~matched].tolist()[:10]} have no partner on the "
                             "other side, so no answer to them can be right; leave them out")
    return true
