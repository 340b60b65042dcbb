"""Image-text retrieval: trained on ITC and ITM, evaluated in two stages (section 5)."""
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.evaluation.intervals import Clusters, in_groups
from minalbef.evaluation.loop import How, Records, encode_images, unique, values_of
from minalbef.evaluation.ranking import Encoded, Scores, encode_texts, rank, score, true_pairs
from minalbef.fast.pretrain import in_form
from minalbef.pretrain import Pretrain, collate
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.base import ALIGNED, Task
from minalbef.tasks.prediction import predict_match

LENGTH = 30                           # tokens of a caption in evaluation, as in the original
CHUNK = 256                           # texts per forward pass of the text encoder
ROWS = 64                             # images fused at a time


class Retrieval(Pretrain):
    """Pretraining without MLM; ITM, the queue and hard negatives are used from the first step.

    All captions with an image's key are its positives in ITC and never its negatives in ITM. The
    original doesn't limit the temperature here: temperature_max=inf.
    """

    def __init__(self, config: Config, **options: Any):
        config = replace(config, match_from=0.0, queue_from=0.0, hard_from=0.0,
                         equal_ids_match=True)
        super().__init__(config, **{"without": ("mlm",), **options})


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


def recall_means(samples: Mapping[str, Tensor | Clusters]) -> dict[str, float]:
    """r_mean by way (itc, rerank, ...): the mean of R@1, 5 and 10 in both directions.

    samples: by name, as `rank` gives them
    """
    means: dict[str, list[float]] = {}
    for name, sample in samples.items():
        way = name.rsplit("_", 2)[0]
        means.setdefault(way, []).append(sample.mean().item())
    return {way: sum(values) / len(values) for way, values in means.items()}


def validation_figures(samples: dict, more: dict) -> dict[str, float]:
    """The figures of validation.csv. The first, r_mean after re-ranking, selects the best weights.

    The original selects by it, too.
    """
    figures = {"rerank_r_mean": more["r_mean"]["rerank"]}
    for way, value in more["r_mean"].items():
        figures[f"{way}_r_mean"] = value
    for name, sample in samples.items():
        figures[name] = sample.mean().item()
    return figures


@torch.no_grad()
def evaluate_retrieval(model: ALBEF, tokenizer: Tokenizer, records: Records, how: How
                       ) -> tuple[dict, dict]:
    """Recall at 1, 5 and 10 in two stages, with names such as rerank_t2i_r5; see `ranking.rank`.

    Captions and images of one match key are right for each other; see `candidates`. Records of a
    group are ranked among themselves. The second stage is by ITM's logit for yes, as in the
    original, or by its log-odds (how.log_odds), and by their sum with the cosine; with
    how.itm=False there is none.
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
    true = true_pairs(torch.tensor([keys[i] for i in images], device=device),
                      torch.tensor([keys[i] for i in captions], device=device))
    image_groups = [groups[i] for i in images]
    text_groups = [groups[i] for i in captions]
    query_groups = {"i2t": image_groups, "t2i": text_groups}
    rivals = torch.ones_like(true)
    if None not in groups:
        rivals = (torch.tensor(image_groups, device=device)[:, None]
                  == torch.tensor(text_groups, device=device))
    scores = score(model, encoded, itm=how.itm, top=how.top, rivals=rivals,
                   yes_alone=not how.log_odds, rows=ROWS, share=True, quiet=how.quiet)
    equal = torch.zeros_like(scores.itc).masked_fill(~rivals, -torch.inf)
    guesses = rank(Scores(equal), true)
    samples = {}
    chance = {}
    for name, value in rank(scores, true, top=how.top).items():
        _, direction, k = name.rsplit("_", 2)
        samples[name] = in_groups(value.cpu(), query_groups[direction])
        chance[name] = guesses[f"itc_{direction}_{k}"].mean().item()
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
    evaluate=evaluate_retrieval,
    validation_figures=validation_figures,
    evaluates=ALIGNED,
    predict=predict_match,
    predict_needs=("fusion", "match_head"),
    text="caption",
)
