"""Image-text retrieval: trained on ITC and ITM, evaluated in two stages (section 5)."""
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from minalbef import distributed
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.evaluation.intervals import Clusters, in_groups
from minalbef.evaluation.loop import How, Records, encode_images, values_of
from minalbef.evaluation.ranking import Encoded, best, match_odds, recall, rerank, similarity
from minalbef.metrics import progress
from minalbef.tasks.base import ALIGNED, Task
from minalbef.tasks.prediction import predict_match
from minalbef.tasks.pretrain import Pretrain, collate
from minalbef.tokenizer import Tokenizer

LENGTH = 30                           # of captions in evaluation, as the original; other tasks' texts are not cut
CHUNK = 256                           # texts that are encoded at once


class Retrieval(Pretrain):
    """Pretraining without masked words, and without its gentle beginning: queue and hard negatives from the start.

    All captions of a picture, known by its id, are positives in ITC and no negatives in ITM. The original lets the
    temperature run free here: temperature_max=inf.
    """

    def __init__(self, config: Config):
        config = replace(config, match_from=0.0, queue_from=0.0, hard_from=0.0, equal_ids_match=True)
        super().__init__(config, without=("mlm",))


def two_stage(model: ALBEF, encoded: Encoded, top: int = 128, rows: int = 64, how: How = How(quiet=True),
              rivals: Tensor | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """Scores of all texts for every image (i, t) and of all images for every text (t, i), by name.

    itc: cosine. rerank: of each query's `top` best by that ITM's logit for yes (its log-odds with
    how.log_odds), -inf for all others (the original's -100). rerank_plus: that logit plus the
    cosine, as later models of the family rank.
    top: the original takes 128 on Flickr30k, 256 on COCO. rows: images that are fused at a time
    rivals: (i, t) bool, which pairs compete; all others score -inf. None: all do
    The pairs to match are shared by all processes.
    """
    sim = similarity(model, encoded)[0]                                          # (i, t)
    if rivals is not None:
        sim = sim.masked_fill(~rivals, -torch.inf)
    pairs = best(sim, top) | best(sim.T, top).T
    if rivals is not None:
        pairs &= rivals
    image, text = pairs.nonzero(as_tuple=True)
    # pictures stay together: what they offer to fusion is computed once
    mine = image * distributed.world() // len(sim) == distributed.rank()
    image, text, match = image[mine], text[mine], torch.zeros_like(sim)
    for some in progress(image.unique().split(rows) if len(image) else (), "matching", how.quiet):
        here = (image >= some[0]) & (image <= some[-1])
        near = replace(encoded, image=encoded.image[some[0]:some[-1] + 1])
        odds = match_odds(model, near, image[here] - some[0], text[here], yes_alone=not how.log_odds)
        match[image[here], text[here]] = odds
    match = distributed.total(match)
    if rivals is not None:
        match = match.masked_fill(~rivals, -torch.inf)
    scores = {"itc": (sim, sim.T)}
    for name, score in (("rerank", match), ("rerank_plus", match + sim)):
        scores[name] = rerank(sim, score, top), rerank(sim.T, score.T, top)
    return scores


def recalls(i2t: Tensor, t2i: Tensor, image_ids: Tensor, text_ids: Tensor) -> dict[str, Tensor]:
    """Recall at 1, 5 and 10, a sample a query: i2t (i, t), t2i (t, i); ids (i,) and (t,), alike where both match.

    Any of an image's captions counts. Ties count by chance; the original leaves them to numpy's sort.
    Raises ValueError for an image or a text that has no partner.
    """
    true = image_ids[:, None] == text_ids
    for what, ids, found in (("image", image_ids, true.any(1)), ("text", text_ids, true.any(0))):
        if not found.all():
            raise ValueError(f"{what} ids {ids[~found].tolist()[:10]} have no partner on the other side, so nothing "
                             "right can be found for them; leave them out")
    return {f"{way}_r{k}": recall(scores, right, k)
            for way, scores, right in (("i2t", i2t, true), ("t2i", t2i, true.T)) for k in (1, 5, 10)}


def recall_means(samples: Mapping[str, Tensor | Clusters]) -> dict[str, float]:
    """r_mean by each way to score: the mean of R@1, 5 and 10 of both directions, as the original has it.

    samples: those of `evaluate`
    """
    means: dict[str, list[float]] = {}
    for name, sample in samples.items():
        means.setdefault(name.rsplit("_", 2)[0], []).append(sample.mean().item())
    return {way: sum(values) / len(values) for way, values in means.items()}


def validation_figures(samples: dict, more: dict) -> dict[str, float]:
    """What validation.csv says, from `evaluate`: r_mean after re-ranking decides, as in the original."""
    means = {f"{way}_r_mean": value for way, value in more["r_mean"].items()}
    return {"rerank_r_mean": means.pop("rerank_r_mean")} | means | {
        name: sample.mean().item() for name, sample in samples.items()}


@torch.no_grad()
def evaluate(model: ALBEF, tokenizer: Tokenizer, records: Records, how: How) -> tuple[dict, dict]:
    """`recalls` of every caption and every image, by each way to score of `two_stage`.

    Their names are such as rerank_t2i_r5. Captions of one image share its id; any of them is right
    for it. Records of a group are ranked among themselves. Beside them: `recall_means`.
    -> samples, what else to report; see evaluation.loop
    """
    texts, ids, groups = values_of(records, "text", "id", "group")
    first: dict[int, int] = {}                           # an image's first record, by its id
    for i, id in enumerate(ids):
        first.setdefault(id, i)
    device = how.device
    # every process encodes all: most time goes to the pairs
    image = encode_images(model, records, list(first.values()), how)
    length = how.length or min(LENGTH, model.config.positions)
    tokens, keep = (x.to(device) for x in tokenizer.encode(texts, length))
    parts = zip(tokens.split(CHUNK), keep.split(CHUNK))
    encoded = Encoded(image, torch.cat([model.encode_text(*part) for part in parts]), keep)
    image_ids, text_ids = torch.tensor(list(first), device=device), torch.tensor(ids, device=device)
    query_groups = {"i2t": [groups[i] for i in first.values()], "t2i": groups}
    rivals = None
    if None not in groups:
        image_groups, text_groups = (torch.tensor(values, device=device) for values in query_groups.values())
        rivals = image_groups[:, None] == text_groups
    scores = two_stage(model, encoded, how.top, how=how, rivals=rivals)
    nothing = torch.zeros(len(first), len(ids), device=device)
    if rivals is not None:
        nothing = nothing.masked_fill(~rivals, -torch.inf)
    guesses = recalls(nothing, nothing.T, image_ids, text_ids)
    samples, chance = {}, {}
    for name, (i2t, t2i) in scores.items():
        for query, value in recalls(i2t, t2i, image_ids, text_ids).items():
            samples[f"{name}_{query}"] = in_groups(value.cpu(), query_groups[query[:3]])
            chance[f"{name}_{query}"] = guesses[query].mean().item()
    return samples, {"pictures": len(first), "captions": len(texts), "top": how.top,
                     "r_mean": recall_means(samples), "chance": chance}


TASK = Task(
    name="retrieval",
    module=Retrieval,
    collate=collate,
    presets=("retrieval-coco", "retrieval-flickr"),
    preset_of_set={"flickr30k": "retrieval-flickr"},
    lacks=("word_head",),
    evaluate=evaluate,
    validation_figures=validation_figures,
    evaluates=ALIGNED,
    predict=predict_match,
    predict_needs=("fusion", "match_head"),
    text="caption",
)
