"""Does the text belong to the image? ITM on single pairs, and the threshold of its log-odds.

Pairs are true ones and several kinds of negatives.
"""
from collections.abc import Sequence

import torch
from torch import Tensor

from minalbef.data import Record
from minalbef.evaluation import ranking
from minalbef.evaluation.intervals import by_kind
from minalbef.evaluation.loop import How, Pretrained, encode_images, unique
from minalbef.evaluation.ranking import Encoded

TRUE = "true"     # the kind of matched pairs; records of all other kinds are negatives


@torch.no_grad()
def encode_pairs(run: Pretrained, records: Sequence[Record], how: How
                 ) -> tuple[Encoded, Tensor, Tensor]:
    """The different images (by id) and texts, encoded.

    -> with each pair's row among the images, (p,), and among the texts, (p,)
    """
    first_images, images = unique(record.id for record in records)
    first_texts, texts = unique(record.text for record in records)
    length = how.length or run.config.positions
    tokens, keep = run.tokenizer.encode([records[i].text for i in first_texts], length)
    image = encode_images(run.model, records, first_images, how)
    encoded = Encoded(image, *ranking.encode_texts(run.model, tokens, keep))
    return encoded, images.to(how.device), texts.to(how.device)


def match_odds(run: Pretrained, records: Sequence[Record], how: How) -> Tensor:
    """ITM's log-odds of each pair: -> (p,), on the CPU."""
    encoded, images, texts = encode_pairs(run, records, how)
    return ranking.match_odds(run.model, encoded, images, texts).cpu()


def similarity(run: Pretrained, records: Sequence[Record], how: How) -> Tensor:
    """ITC's cosine of each pair: -> (p,), on the CPU."""
    encoded, images, texts = encode_pairs(run, records, how)
    return ranking.similarity(run.model, encoded)[0, images, texts].cpu()


def rejections(run: Pretrained, records: Sequence[Record], how: How) -> dict[str, Tensor]:
    """Which pairs ITM classifies as no match, at how.threshold: by kind (p,), 0 or 1."""
    return rejected(match_odds_by_kind(run, records, how), how.threshold)


def match_odds_by_kind(run: Pretrained, records: Sequence[Record], how: How
                       ) -> dict[str, Tensor]:
    """ITM's log-odds of each pair: by kind (p,)."""
    return by_kind(match_odds(run, records, how), [record.kind for record in records])


def rejected(odds: dict[str, Tensor], threshold: float) -> dict[str, Tensor]:
    """Which pairs are no match at a threshold: by kind (p,), 0 or 1."""
    return {kind: (value <= threshold).float() for kind, value in odds.items()}


def balanced_accuracy(rejected: dict[str, Tensor]) -> Tensor:
    """Of `rejected`, every kind of negative weighted equally: -> (p,), p pairs of each kind."""
    count = min(map(len, rejected.values()))
    negatives = [values[:count] for kind, values in rejected.items() if kind != TRUE]
    wrong = torch.stack(negatives).mean(0)
    return (1 - rejected[TRUE][:count] + wrong) / 2


def best_threshold(odds: dict[str, Tensor], steps: int = 201) -> float:
    """The threshold with the highest balanced accuracy, among quantiles of the log-odds.

    odds: ITM's log-odds of pairs by kind
    """
    quantiles = torch.cat([*odds.values()]).quantile(torch.linspace(0, 1, steps))

    def accuracy(threshold: float) -> float:
        return balanced_accuracy(rejected(odds, threshold)).mean().item()

    return max(quantiles.tolist(), key=accuracy)
