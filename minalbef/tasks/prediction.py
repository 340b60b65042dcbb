"""A prediction for one text and the user's own images: what a task's `predict` is asked and says.

Its Grad-CAM maps are those of fusion's middle layer, the paper's third of six, averaged over the
text.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minalbef.albef import ALBEF
from minalbef.evaluation.gradcam import Score, match_score, pair_relevance, relevance, text_map
from minalbef.system.tokenizer import Tokenizer


@dataclass(frozen=True)
class Query:
    """Images and a text, as a model reads them."""

    image: Tensor                                # (i, 3, s, s)
    text: str
    size: tuple[int, int]                        # (height, width) of the first image, in pixels
    candidates: Sequence | Tensor | None = None  # answers or boxes to choose among, if any
    place: tuple[str, int] | None = None         # mode and layer of the map; None: the middle layer


@dataclass(frozen=True)
class Answer:
    """What a model says of a query."""

    answer: str
    probabilities: dict[str, float]              # by answer, the likeliest first
    maps: tuple[Tensor, ...]                     # (g, g) for each image: Grad-CAM of `explained`
    explained: str
    similarity: float | None = None              # cosine in the shared space
    written: str | None = None                   # the open-ended answer, beside candidates
    boxes: Tensor | None = None                  # (k, 4) candidates
    scores: Tensor | None = None                 # (k,)
    box: Tensor | None = None                    # (4,) the best one; None where none scores above 0


def encode(albef: ALBEF, tokenizer: Tokenizer, query: Query) -> tuple[Tensor, Tensor, Tensor]:
    """-> image tokens (i, 1 + n, d), text tokens (1, l, d), keep (1, l)."""
    tokens, keep = tokenizer.encode([query.text], albef.config.text_length, truncate=False)
    return albef.encode_image(query.image), albef.encode_text(tokens, keep), keep


def grad_cam(albef: ALBEF, image_tokens: Tensor, text_tokens: Tensor, keep: Tensor,
             score: Score | None = None) -> tuple[Tensor, ...]:
    """A map of each image: tokens (1 or 2, 1 + n, d), (1, l, d), (1, l) -> (g, g) each.

    score: what the maps explain, by default the match: see gradcam.relevance
    """
    layer = (albef.config.fusion_depth - 1) // 2         # never the last: there only [CLS] counts
    score = score or match_score(albef)
    heats: tuple[Tensor, ...]
    if len(image_tokens) == 2:
        left, right = image_tokens.chunk(2)
        heats = pair_relevance(albef, (left, right), text_tokens, keep, score, layer)
    else:
        heats = (relevance(albef, image_tokens, text_tokens, keep, score, layer),)
    return tuple(text_map(heat, keep)[0].unflatten(0, (albef.config.grid, -1)) for heat in heats)


def sort_by_probability(names: Sequence[str], probability: Tensor) -> dict[str, float]:
    """Probabilities (c,) by name, the likeliest first."""
    order = probability.argsort(descending=True, stable=True).tolist()
    return {names[i]: probability[i].item() for i in order}


@torch.no_grad()
def predict_match(model: ALBEF, tokenizer: Tokenizer, query: Query) -> Answer:
    """Whether image and text match, by ITM, and their similarity, by ITC."""
    image_tokens, text_tokens, keep = encode(model, tokenizer, query)
    logits = model.match_logits(model.fuse(text_tokens, keep, image_tokens, queries=1))
    probabilities = sort_by_probability(("no match", "match"), logits.softmax(-1)[0])
    similarity = model.image_feature(image_tokens) @ model.text_feature(text_tokens, keep).T
    maps = grad_cam(model, image_tokens, text_tokens, keep)
    return Answer(next(iter(probabilities)), probabilities, maps, explained="match",
                  similarity=similarity.item())


@torch.no_grad()
def predict_class(model: Any, tokenizer: Tokenizer, query: Query, labels: Sequence[str]) -> Answer:
    """The likeliest label by a classifier over the fused [CLS]; the maps explain that label."""
    albef: ALBEF = model.albef
    image_tokens, text_tokens, keep = encode(albef, tokenizer, query)
    images: Tensor | tuple[Tensor, Tensor] = image_tokens
    if len(image_tokens) == 2:
        images = image_tokens, torch.tensor([[0, 1]])
    logits = model.head(albef.fuse(text_tokens, keep, images, queries=1)[:, 0])
    probabilities = sort_by_probability(labels, logits.softmax(-1)[0])
    label = next(iter(probabilities))

    def score(fused: Tensor) -> Tensor:
        return model.head(fused[:, 0])[:, labels.index(label)]

    maps = grad_cam(albef, image_tokens, text_tokens, keep, score)
    return Answer(label, probabilities, maps, explained=label)
