"""Image-text retrieval: trained on ITC and ITM, evaluated in two stages (section 5)."""
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from minalbef import distributed
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.evaluation.intervals import Clusters, in_groups
from minalbef.evaluation.loop import How, Records, encode_images, unique, values_of
from minalbef.evaluation.ranking import (
    Encoded,
    best,
    encode_texts,
    match_odds,
    recall,
    rerank,
    similarity,
)
from minalbef.fast.pretrain import in_form
from minalbef.metrics import progress
from minalbef.pretrain import Pretrain, collate
from minalbef.tasks.base import ALIGNED, Task
from minalbef.tasks.prediction import predict_match
from minalbef.tokenizer import Tokenizer

LENGTH = 30                           # tokens of a caption in evaluation, as in the original
CHUNK = 256                           # texts per forward pass of the text encoder


class Retrieval(Pretrain):
    """Pretraining without MLM; ITM, the queue and hard negatives are used from the first step.

    All captions with an image's key are its positives in ITC and never its negatives in ITM. The
    original doesn't limit the temperature here: temperature_max=inf.
    """

    def __init__(self, config: Config, **options: Any):
        config = replace(config, match_from=0.0, queue_from=0.0, hard_from=0.0,
                         equal_ids_match=True)
        super().__init__(config, **{"without": ("mlm",), **options})


def two_stage(model: ALBEF, encoded: Encoded, top: int = 128, rows: int = 64,
              how: How = How(quiet=True), rivals: Tensor | None = None
              ) -> dict[str, tuple[Tensor, Tensor]]:
    """Scores of texts for every image (i, t) and of images for every text (t, i), by name.

    itc: cosine. rerank: ITM's logit for yes (its log-odds with how.log_odds) for each query's `top`
    best by cosine; -inf for all others (the original's -100). rerank_plus: that logit plus the
    cosine, as later models of the family rank.

    top: the original takes 128 on Flickr30k, 256 on COCO
    rows: images fused at a time
    rivals: (i, t) bool, which pairs compete; all others score -inf. None: all do
    The processes share the pairs to fuse.
    """
    sim = similarity(model, encoded)[0]                                          # (i, t)
    if rivals is not None:
        sim = sim.masked_fill(~rivals, -torch.inf)
    pairs = best(sim, top) | best(sim.T, top).T
    if rivals is not None:
        pairs &= rivals
    image, text = pairs.nonzero(as_tuple=True)
    # an image's pairs stay in one process: its keys and values are computed once
    local = image * distributed.world() // len(sim) == distributed.rank()
    image = image[local]
    text = text[local]
    match = torch.zeros_like(sim)
    match[image, text] = _match_odds(model, encoded, image, text, rows, how)
    match = distributed.total(match)
    if rivals is not None:
        match = match.masked_fill(~rivals, -torch.inf)
    scores = {"itc": (sim, sim.T)}
    for name, score in (("rerank", match), ("rerank_plus", match + sim)):
        scores[name] = rerank(sim, score, top), rerank(sim.T, score.T, top)
    return scores


def _match_odds(model: ALBEF, encoded: Encoded, image: Tensor, text: Tensor, rows: int, how: How
                ) -> Tensor:
    """ITM's score of each pair, (p,).

    image, text: the pairs' rows in encoded, (p,) and (p,), sorted by image
    rows: images fused at a time
    """
    odds = model.temperature.new_empty(len(text))
    blocks: Sequence[Tensor] = ()
    if len(image):
        blocks = image.unique().split(rows)
    for block in progress(blocks, "matching", how.quiet):
        first = block[0]
        last = block[-1]
        pairs = (image >= first) & (image <= last)
        images = replace(encoded, image=encoded.image[first:last + 1])
        odds[pairs] = match_odds(model, images, image[pairs] - first, text[pairs],
                                 yes_alone=not how.log_odds)
    return odds


def candidates(ids: Sequence[int], texts: Sequence[Hashable], matches: Sequence[int | None]
               ) -> tuple[list[int], list[int]]:
    """The records whose images, and those whose captions, are ranked: -> (images, captions).

    ids, texts, matches: of each record
    An image of several captions is one candidate, and so is a caption of many images that are all
    right for it, such as a label: ten labels are ten captions. Captions that are equal by accident,
    without a match key, are each a candidate, as in the original.
    """
    images, _ = unique(ids)
    names: list[Hashable] = []
    for i, (text, match) in enumerate(zip(texts, matches)):
        names.append(i if match is None else (text, match))
    captions, _ = unique(names)
    return images, captions


def recalls(i2t: Tensor, t2i: Tensor, image_ids: Tensor, text_ids: Tensor) -> dict[str, Tensor]:
    """Recall at 1, 5 and 10 of each query, by name.

    i2t, t2i: scores (i, t) and (t, i)
    image_ids, text_ids: (i,) and (t,), equal where image and text match

    Any of an image's captions counts. Ties are broken at random; the original leaves them to
    numpy's sort. Raises ValueError for an image without a text, and for a text without an image.
    """
    true = image_ids[:, None] == text_ids
    for side, ids, matched in (("image", image_ids, true.any(1)), ("text", text_ids, true.any(0))):
        if not matched.all():
            raise ValueError(f"{side} ids {ids[~matched].tolist()[:10]} have no partner on the "
                             "other side, so no answer to them can be right; leave them out")
    figures = {}
    for k in (1, 5, 10):
        figures[f"i2t_r{k}"] = recall(i2t, true, k)
    for k in (1, 5, 10):
        figures[f"t2i_r{k}"] = recall(t2i, true.T, k)
    return figures


def recall_means(samples: Mapping[str, Tensor | Clusters]) -> dict[str, float]:
    """r_mean by score (itc, rerank, ...): the mean of R@1, 5 and 10 in both directions.

    samples: from `evaluate`
    """
    means: dict[str, list[float]] = {}
    for name, sample in samples.items():
        score = name.rsplit("_", 2)[0]
        means.setdefault(score, []).append(sample.mean().item())
    return {score: sum(values) / len(values) for score, values in means.items()}


def validation_figures(samples: dict, more: dict) -> dict[str, float]:
    """The figures of validation.csv. The first, r_mean after re-ranking, selects the best weights.

    The original selects by it, too.
    """
    figures = {"rerank_r_mean": more["r_mean"]["rerank"]}
    for score, value in more["r_mean"].items():
        figures[f"{score}_r_mean"] = value
    for name, sample in samples.items():
        figures[name] = sample.mean().item()
    return figures


@torch.no_grad()
def evaluate(model: ALBEF, tokenizer: Tokenizer, records: Records, how: How) -> tuple[dict, dict]:
    """`recalls` by every score of `two_stage`, with names such as rerank_t2i_r5; `recall_means`.

    Captions and images of one match key are right for each other; see `candidates`. Records of a
    group are ranked among themselves.
    -> samples, and what else to report; see evaluation.loop
    """
    texts, ids, matches, keys, groups = values_of(records, "text", "id", "match", "match_key",
                                                  "group")
    images, captions = candidates(ids, list(zip(texts, groups)), matches)
    device = how.device
    # every process encodes everything: most of the time goes to ITM
    image = encode_images(model, records, images, how)
    length = how.length or min(LENGTH, model.config.positions)
    tokens, keep = tokenizer.encode([texts[i] for i in captions], length)
    encoded = Encoded(image, *encode_texts(model, tokens, keep, CHUNK))
    image_keys = torch.tensor([keys[i] for i in images], device=device)
    text_keys = torch.tensor([keys[i] for i in captions], device=device)
    image_groups = [groups[i] for i in images]
    text_groups = [groups[i] for i in captions]
    query_groups = {"i2t": image_groups, "t2i": text_groups}
    equal_scores = torch.zeros(len(images), len(captions), device=device)
    rivals = None
    if None not in groups:
        rivals = (torch.tensor(image_groups, device=device)[:, None]
                  == torch.tensor(text_groups, device=device))
        equal_scores = equal_scores.masked_fill(~rivals, -torch.inf)
    scores = two_stage(model, encoded, how.top, how=how, rivals=rivals)
    guesses = recalls(equal_scores, equal_scores.T, image_keys, text_keys)
    samples = {}
    chance = {}
    for name, (i2t, t2i) in scores.items():
        for query, value in recalls(i2t, t2i, image_keys, text_keys).items():
            samples[f"{name}_{query}"] = in_groups(value.cpu(), query_groups[query[:3]])
            chance[f"{name}_{query}"] = guesses[query].mean().item()
    more = {"pictures": len(images), "captions": len(captions), "top": how.top,
            "r_mean": recall_means(samples), "chance": chance}
    return samples, more


TASK = Task(
    name="retrieval",
    module=lambda config: in_form(Retrieval, config)(config),
    collate=collate,
    presets=("retrieval-coco", "retrieval-flickr"),
    preset_of_set={"flickr30k": "retrieval-flickr"},
    least_rows=2,
    lacks=("word_head",),
    evaluate=evaluate,
    validation_figures=validation_figures,
    evaluates=ALIGNED,
    predict=predict_match,
    predict_needs=("fusion", "match_head"),
    text="caption",
)
