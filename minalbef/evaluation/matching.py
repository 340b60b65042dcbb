"""Does the text belong to the image? ITM's answer to single pairs, true ones and several kinds of
negatives, and the threshold of its log-odds."""
from collections.abc import Sequence

import torch
from torch import Tensor

from minalbef.data import Record
from minalbef.evaluation import ranking
from minalbef.evaluation.intervals import by_kind
from minalbef.evaluation.loop import How, Pretrained, encode_images, unique
from minalbef.evaluation.ranking import Encoded

TRUE = "true"     # the kind of records whose text and image belong together; others are negatives


@torch.no_grad()
def encode_pairs(run: Pretrained, records: Sequence[Record], how: How
                 ) -> tuple[Encoded, Tensor, Tensor]:
    """The different images (by id) and texts, encoded, and the rows of each pair in them, (p,)
    and (p,)."""
    first, images = unique(record.id for record in records)
    first_texts, texts = unique(record.text for record in records)
    tokens, keep = run.tokenizer.encode([records[i].text for i in first_texts],
                                        how.length or run.config.positions)
    image = encode_images(run.model, records, first, how)
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
    """Of `rejected`, every kind of negative weighted alike: -> (p,), p pairs of each kind."""
    count = min(map(len, rejected.values()))
    negatives = [share[:count] for kind, share in rejected.items() if kind != TRUE]
    wrong = torch.stack(negatives).mean(0)
    return (1 - rejected[TRUE][:count] + wrong) / 2


def best_threshold(odds: dict[str, Tensor], steps: int = 201) -> float:
    """The threshold of log-odds by kind with the highest balanced accuracy, of their quantiles."""
    quantiles = torch.cat([*odds.values()]).quantile(torch.linspace(0, 1, steps))
    def accuracy(threshold: float) -> float:
        return balanced_accuracy(rejected(odds, threshold)).mean().item()
    return max(quantiles.tolist(), key=accuracy)


def evaluate(run: Pretrained, records: Sequence[Record], how: How) -> tuple[dict, dict]:
    """Rejections by kind, and `balanced_accuracy`: -> samples, what else to report; see loop."""
    refused = rejections(run, records, how)
    return ({"refused": refused, "balanced_accuracy": balanced_accuracy(refused)},
            {"chance": {"balanced_accuracy": 0.5}, "threshold": how.threshold})
