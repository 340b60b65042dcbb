"""Retrieval within groups: which of a group's captions fits each of its images, and the reverse.

Ranked by ITC, by ITM among ITC's best, and by both; baselines' scores are ranked the same way.
"""
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from minalbef.data import Record
from minalbef.evaluation import ranking
from minalbef.evaluation.loop import How, Pretrained, encode_images
from minalbef.evaluation.ranking import Encoded, recall, rerank


@dataclass(frozen=True)
class RankingRecord(Record):
    """An image and its caption, which compete with those of the other records of their group.

    A group's records stand in a row, and all groups have the same size.
    fits: ids of all images of the group that the caption is true of
    """

    fits: tuple[int, ...] = ()


@dataclass(frozen=True)
class Contest:
    """Scores of images and captions within groups: (g, image, text) each.

    sim: similarity over temperature
    odds: ITM's log-odds, -inf where it was not computed
    true: the caption is true of the image
    baselines: scores of baselines, by name
    """

    sim: Tensor
    odds: Tensor
    true: Tensor
    baselines: dict[str, Tensor] = field(default_factory=dict)

    @property
    def mT(self) -> "Contest":
        """The same with captions as queries: (g, text, image) each."""
        baselines = {name: scores.mT for name, scores in self.baselines.items()}
        return Contest(self.sim.mT, self.odds.mT, self.true.mT, baselines)


@torch.no_grad()
def compete(run: Pretrained, records: Sequence[RankingRecord], how: How,
            match: bool = True) -> Contest:
    """Score the captions of each group against its images; match=False: without ITM."""
    size = sum(record.group == records[0].group for record in records)
    assert len(records) % size == 0, "groups of unequal size"
    groups = [records[i:i + size] for i in range(0, len(records), size)]
    texts = [record.text for record in records]
    tokens, keep = run.tokenizer.encode(texts, how.length or run.config.positions)
    image = encode_images(run.model, records, range(len(records)), how)
    encoded = Encoded(image, *ranking.encode_texts(run.model, tokens, keep))
    sim = ranking.similarity(run.model, encoded, size) / run.model.temperature.item()
    odds = torch.full_like(sim, -torch.inf)
    if match:
        odds = ranking.match_best(run.model, encoded, sim, how.top)
    return Contest(sim.cpu(), odds.cpu(), torch.stack([truth(group) for group in groups]))


def truth(group: Sequence[RankingRecord]) -> Tensor:
    """Which of a group's captions are true of which of its images: (image, text) bool."""
    rows = {record.id: i for i, record in enumerate(group)}
    true = torch.eye(len(group), dtype=torch.bool)
    for text, record in enumerate(group):
        for image in record.fits:
            true[rows[image], text] = True
    return true


def hits(contest: Contest, weight: float, ks: Sequence[int] = (1,), top: int = 10
         ) -> dict[str, Tensor]:
    """Recall@k of each query: by name (g, query), 0 to 1.

    i2t: image-to-text; t2i: text-to-image; baselines and the chance level: the mean of both
    itc: ranked by similarity
    rerank: the `top` best of itc re-ranked by ITM's log-odds
    rerank_plus: the same by log-odds plus `weight` times similarity over temperature
    """
    values = {}
    both_ways: dict[str, list[Tensor]] = {}
    for way, scores_of_way in (("i2t", contest), ("t2i", contest.mT)):
        sim = scores_of_way.sim
        true = scores_of_way.true
        reranked = {"rerank": rerank(sim, scores_of_way.odds, top),
                    "rerank_plus": rerank(sim, scores_of_way.odds + weight * sim, top)}
        for k in ks:
            values[f"itc_{way}_r{k}"] = recall(sim, true, k)
            for name, scores in reranked.items():
                if k < top:                      # among all `top`, order doesn't matter
                    values[f"{name}_{way}_r{k}"] = recall(scores, true, k)
            baselines = scores_of_way.baselines | {"chance": torch.zeros_like(sim)}
            for name, scores in baselines.items():
                both_ways.setdefault(f"{name}_r{k}", []).append(recall(scores, true, k))
    for name, recalls in both_ways.items():
        values[name] = torch.stack(recalls).mean(0)
    return values
