"""The pointing game (Zhang et al. 2018): does a noun's Grad-CAM map peak in its object?"""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minalbef.data import Record
from minalbef.evaluation.loop import How, Pretrained, encode_images, unique
from minalbef.evaluation.words import hide, word_maps


@dataclass(frozen=True)
class PointingRecord(Record):
    """An image, its caption, and an object that some of its words name.

    words: their indices. box: the object's, as its centre x, y and width, height, in shares of the
    image's sides
    """

    words: tuple[int, ...] = ()
    box: tuple[float, float, float, float] = (0.5, 0.5, 1.0, 1.0)


def patches_in_box(box: tuple[float, float, float, float], grid: int) -> Tensor:
    """Patches whose centre is in the box: (n,) bool, row-major. box: see PointingRecord"""
    x, y, width, height = box
    centre = (torch.arange(grid) + 0.5) / grid
    near_y = (centre - y).abs() <= height / 2
    near_x = (centre - x).abs() <= width / 2
    return (near_y[:, None] & near_x).flatten()


def evaluate_pointing(run: Pretrained, records: Sequence[PointingRecord], how: How,
                      scores: Sequence[str] = ("itm", "mlm")) -> tuple[dict, dict]:
    """Does the maximum of the words' map lie in the object? -> samples by score; see loop.

    scores: what the map explains, see `word_maps`. "chance" is the part of the patches inside
    """
    first, rows = unique(record.id for record in records)
    texts = [records[i].text for i in first]
    spans = list(zip(rows.tolist(), [record.words for record in records]))
    hidden = hide(run, texts, spans)
    image = encode_images(run.model, records, first, how)
    inside = torch.stack([patches_in_box(record.box, run.config.grid) for record in records])
    inside = inside.float()                                      # (w, n)
    samples = {"chance": inside.mean(1)}
    for score in scores:
        maps = word_maps(run, hidden, image, score).cpu()
        # a flat map points everywhere, at chance level
        top = (maps == maps.amax(1, keepdim=True)).float()
        samples[score] = (inside * top).sum(1) / top.sum(1)
    return samples, {}
