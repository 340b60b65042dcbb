"""Weakly supervised grounding: trained as retrieval; a map of the expression chooses among proposals (section 5).

Boxes are (x, y, width, height) in pixels of the picture, as in RefCOCO+; sizes are (height, width).
"""
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef import data
from minalbef.albef import ALBEF
from minalbef.data import Batch, Record
from minalbef.evaluation.intervals import Clusters, figures_by_kind, in_groups
from minalbef.evaluation.loop import How, Records, over, values_of
from minalbef.gradcam import Score, image_relevance, relevance, text_map, word_score
from minalbef.tasks.base import ALIGNED, Task
from minalbef.tasks.prediction import Answer, Query, predict_match
from minalbef.tasks.retrieval import Retrieval, collate
from minalbef.tokenizer import Tokenizer

Box = tuple[float, float, float, float]
RIGHT = 0.5                           # the least overlap of a chosen box with the true one that counts as right
EXPLAINED = {"itm": "match", "itc": "similarity", "mlm": "its words"}    # by a map's mode


@dataclass(frozen=True)
class GroundingRecord(Record):
    """A picture, its id, an expression, and what evaluation needs. Boxes are (x, y, width, height) in pixels."""

    box: Box
    proposals: tuple[Box, ...]        # none where no file of them was given
    size: tuple[int, int]             # (height, width)
    split: str                        # val, testA, testB
    ref: int                          # of the thing meant; several expressions share it

Place = TypeVar("Place")


def heat_map(model: ALBEF, image: Tensor, tokens: Tensor, keep: Tensor, layer: int, mode: str = "itm",
             words: Tensor | None = None, mask: int | None = None) -> Tensor:
    """Where each picture shows what its own text says: (b, 3, s, s), (b, l), (b, l) -> (b, g, g), by Grad-CAM.

    mode: "itm" explains the match by that layer of fusion's, "itc" the similarity by that block of the image encoder's,
        "mlm" masked words by that layer of fusion's, and wants mask, `tokenizer.mask`
    layer: an index, from 0; the paper takes 2, the third of fusion's six. Choose it by `sweep`
    words: (b, l) bool, at least one in each row. "itm" takes the mean of their maps; "mlm" masks them together, a word
        of several pieces or a phrase. None: "itm" takes the whole text, "mlm" masks each piece in turn; again the mean
    """
    if mode not in ("itm", "itc", "mlm"):
        raise ValueError(f"mode={mode!r} is none of itm, itc, mlm")
    layers: Any = model.image_encoder.blocks if mode == "itc" else model.fusion.layers
    if not -len(layers) <= layer < len(layers):
        raise ValueError(f"layer={layer}: mode {mode!r} of this model has {len(layers)}, from 0 to {len(layers) - 1}")
    if words is not None:
        check_words(words, keep)
    if mode == "itc":
        if words is not None:
            raise ValueError("mode 'itc' explains the text as a whole; leave out words, or take mode 'itm' or 'mlm'")
        return image_relevance(model, image, tokens, keep, layer).unflatten(1, (model.config.grid, -1))
    with torch.no_grad():
        image_tokens = model.encode_image(image)
    def maps(tokens: Tensor, score: Score | None = None) -> Tensor:
        with torch.no_grad():
            text_tokens = model.encode_text(tokens, keep)
        return relevance(model, image_tokens, text_tokens, keep, score, layer)                  # (b, l, n)
    if mode == "itm":
        return text_map(maps(tokens), keep if words is None else words).unflatten(1, (model.config.grid, -1))
    if mask is None:
        raise ValueError("mode 'mlm' masks words and needs what to put in their place: mask=tokenizer.mask")
    places = torch.eye(keep.shape[1], dtype=torch.bool, device=keep.device)[1:, None] & keep
    hidden = places if words is None else words[None]                                           # (places or 1, b, l)
    heat = reduce(torch.add, (text_map(maps(tokens.masked_fill(one, mask), word_score(model, tokens, one)), one)
                              for one in hidden.unbind()))
    return (heat / hidden.any(2).sum(0)[:, None].clamp(min=1)).unflatten(1, (model.config.grid, -1))


def check_words(words: Tensor, keep: Tensor) -> None:
    """Raises ValueError unless words are (b, l) bool as keep, some in each row, and neither padding nor [CLS]."""
    if words.shape != keep.shape or words.dtype != torch.bool:
        raise ValueError(f"words are {tuple(words.shape)} of {words.dtype}; they must be {tuple(keep.shape)} of "
                         "torch.bool, True where a piece belongs to them")
    wrong = ~words.any(1) | words[:, 0] | (words & ~keep).any(1)
    if wrong.any():
        raise ValueError(f"words: row {int(wrong.nonzero()[0])} names none, or [CLS], or padding; "
                         f"{int(wrong.sum())} of {len(words)} rows do; words=None takes all")


def score_boxes(heat: Tensor, boxes: Tensor, size: tuple[int, int], power: float = 0.5) -> Tensor:
    """What of a map lies in each box, over area ** power: (g, g), (k, 4) -> (k,).

    power: 0 favours the largest box, 1 the smallest. Raises ValueError for boxes that are none of the picture's.
    """
    check_boxes(boxes, size)
    heat = F.interpolate(heat[None, None], size=tuple(size), mode="bicubic")[0, 0]              # (height, width)
    # whole pixels, as the original cuts; but a box that begins left of the picture is cut there and not wrapped round
    corners = [[max(0, int(edge)) for edge in (y, y + h, x, x + w)] for x, y, w, h in boxes.tolist()]
    inside = torch.stack([heat[top:bottom, left:right].sum() for top, bottom, left, right in corners])
    return inside / boxes[:, 2:].prod(1) ** power


def choose_box(scores: Tensor, boxes: Tensor) -> Tensor:
    """The best of the boxes: (k,), (k, 4) -> (4,). All 0, a box that meets no other, where no score is positive."""
    return boxes[scores.argmax()] if (scores > 0).any() else torch.zeros_like(boxes[0])


def check_boxes(boxes: Tensor, size: tuple[int, int]) -> None:
    """Raises ValueError for boxes (k, 4) that have a `box_fault`, and for boxes of another shape."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise ValueError(f"boxes have shape {tuple(boxes.shape)}; they must be (k, 4), at least one")
    for i, box in enumerate(boxes.tolist()):
        if fault := box_fault(box, size):
            raise ValueError(f"box {i} of {len(boxes)}, {box}, {fault}")


def box_fault(box: object, size: tuple[float, float]) -> str:
    """What is wrong with (x, y, width, height) in a picture of (height, width), or "". It may overhang the edge."""
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(
            isinstance(value, (int, float)) and math.isfinite(value) for value in box):
        return "is not four finite numbers: x, y, width, height"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return "has no area; boxes are x, y, width, height"
    if x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0:
        return f"lies outside the picture of {size[1]} x {size[0]} pixels"
    return ""


def iou(a: Tensor, b: Tensor, least: float = 0.0) -> Tensor:
    """Shared area over joint area: (..., 4) twice -> (...).

    least: an overlap no wider or no higher than this counts as none; the original takes 1, a pixel
    """
    sides = torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    shared = torch.where((sides > least).all(-1), sides.prod(-1), 0)
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)


def pointing(heat: Tensor, box: Tensor, size: tuple[int, int]) -> float:
    """Does the map's highest patch have its centre in the box? (g, g), (4,) -> 0 or 1; between where patches tie."""
    check_boxes(box[None], size)
    y, x = (heat == heat.max()).nonzero(as_tuple=True)
    centres = torch.stack([(x + 0.5) * size[1] / heat.shape[1], (y + 0.5) * size[0] / heat.shape[0]], 1)
    return ((centres >= box[:2]) & (centres <= box[:2] + box[2:])).all(1).float().mean().item()


def sweep(evaluate: Callable[[Place], float], places: Iterable[Place]) -> tuple[Place, dict[Place, float]]:
    """Try every place, a layer or a tuple such as (mode, layer), on validation.

    evaluate: place -> a figure, the higher the better  -> the best place, the first of equals; all figures by place
    """
    figures = {place: evaluate(place) for place in places}
    if not figures:
        raise ValueError("no place to try; name at least one layer")
    return max(figures, key=figures.__getitem__), figures


def evaluate(model: ALBEF, tokenizer: Tokenizer, records: Records, how: How) -> tuple[dict, dict]:
    """Does the chosen proposal overlap the true box by half, and does the map's highest patch lie
    in it?

    By split, where the records name one. Baseline: the largest proposal. Without proposals only the
    second is measured. how.layer="all" tries every layer of fusion's and reports each; the figures
    are then those of the best, so choose on validation, not on the test set.
    -> samples, what else to report; see evaluation.loop
    """
    depth = model.config.fusion_depth
    if how.layer == "all":
        return evaluate_layers(model, tokenizer, records, how)
    layer = (depth - 1) // 2 if how.layer is None else int(how.layer)
    judgements = judge_maps(model, tokenizer, records, replace(how, layer=layer))
    splits, kinds, groups = values_of(records, "split", "kind", "group")
    samples: dict = {}
    largest: dict = {}
    chance: dict = {}
    for split in dict.fromkeys(splits):
        rows = [i for i, name in enumerate(splits) if name == split]
        split_kinds, split_groups = ([values[i] for i in rows] for values in (kinds, groups))
        point, chosen, largest_box, random_box, area = judgements[rows].unbind(1)
        pointed = in_groups(point, split_groups)
        with_boxes = ~chosen.isnan()
        samples[split] = {"pointing": pointed, "proposals": in_groups(chosen, split_groups)[with_boxes],
                          **figures_by_kind(pointed, split_kinds)}
        largest[split] = {"proposals": in_groups(largest_box, split_groups)[with_boxes]}
        chance[split] = {"pointing": area.mean().item()}
        if with_boxes.any():
            chance[split]["proposals"] = random_box.nanmean().item()
    if set(splits) == {""}:
        samples, largest, chance = samples[""], largest[""], chance[""]
    count = int((~judgements[:, 1].isnan()).sum())
    return samples | {"baselines": {"largest_box": largest}}, {
        "layer": layer, "proposals": count, "chance": chance}


def evaluate_layers(model: ALBEF, tokenizer: Tokenizer, records: Records, how: How
                    ) -> tuple[dict, dict]:
    """`evaluate` by every layer of fusion's: that of the best, and each layer's figure as "layers"."""
    by_layer = {layer: evaluate(model, tokenizer, records, replace(how, layer=layer))
                for layer in range(model.config.fusion_depth)}

    def figure(layer: int) -> float:
        samples, _ = by_layer[layer]
        return next(iter(validation_figures(samples, {}).values()))

    best, figures = sweep(figure, by_layer)
    samples, more = by_layer[best]
    return samples, more | {"layers": {str(layer): figure for layer, figure in figures.items()}}


def validation_figures(samples: dict, more: dict) -> dict[str, float]:
    """What validation.csv says, from `evaluate`, of all splits together.

    The share of right proposals decides, as in the original; without proposals pointing does.
    """
    splits = [samples] if "pointing" in samples else [
        figures for split, figures in samples.items() if split != "baselines"]
    figures = {}
    for name in ("proposals", "pointing"):
        parts = []
        for split in splits:
            samples_of_split = split[name]
            if isinstance(samples_of_split, Clusters):
                samples_of_split = samples_of_split.values
            parts.append(samples_of_split)
        whole = torch.cat(parts)
        if len(whole):
            figures[name] = whole.mean().item()
    return figures


def judge_maps(model: ALBEF, tokenizer: Tokenizer, records: Records, how: How) -> Tensor:
    """Pointing; is the chosen box right, the largest, a random one (nan without any); the true box's share: (n, 5)."""
    layer = how.layer
    assert isinstance(layer, int)
    def answer(some: Sequence[GroundingRecord], batch: Batch) -> Tensor:
        rows = []
        maps = heat_map(model, batch.image, batch.tokens, batch.keep, layer, how.mode, mask=tokenizer.mask).cpu()
        for record, heat in zip(some, maps):
            box, boxes = torch.tensor(record.box), torch.tensor(record.proposals)
            def meets(chosen: Tensor) -> float:
                return float(iou(chosen, box, float(how.original)) >= RIGHT)
            hits = [torch.nan] * 3
            if len(boxes):
                scores = score_boxes(heat, boxes, record.size)
                hits = [meets(choose_box(scores, boxes)), meets(boxes[boxes[:, 2:].prod(1).argmax()]),
                        sum(map(meets, boxes)) / len(boxes)]
            (x, y, w, h), (height, width) = record.box, record.size                 # the box may overhang the picture
            inside = (min(x + w, width) - max(x, 0)) * (min(y + h, height) - max(y, 0))
            rows.append([pointing(heat, box, record.size), *hits, inside / (height * width)])
        return torch.tensor(rows)
    return over(model, tokenizer, records, how, data.collate, answer, 5).float()


@torch.no_grad()
def predict(model: ALBEF, tokenizer: Tokenizer, query: Query) -> Answer:
    """The map of the match and its maximum; with boxes, the one that scores best on the map."""
    boxes = None
    if query.candidates is not None:
        boxes = torch.as_tensor(query.candidates, dtype=torch.float)
        check_boxes(boxes, query.size)
    answer = predict_match(model, tokenizer, query)
    if query.place:
        mode, layer = query.place
        tokens, keep = tokenizer.encode([query.text], model.config.text_length)
        heat = heat_map(model, query.image, tokens, keep, layer, mode, mask=tokenizer.mask)
        answer = replace(answer, maps=tuple(heat), explained=EXPLAINED[mode])
    heat, = answer.maps
    if boxes is None:
        return replace(answer, answer=name_maximum(heat, query.size))
    scores = score_boxes(heat, boxes, query.size)
    if not (scores > 0).any():
        return replace(answer, answer="none of the boxes", boxes=boxes, scores=scores)
    box = choose_box(scores, boxes)
    name = "the box at x {:g}, y {:g}, {:g} wide and {:g} high".format(*box.tolist())
    return replace(answer, answer=name, boxes=boxes, scores=scores, box=box)


def name_maximum(heat: Tensor, size: tuple[int, int]) -> str:
    """Where a map (g, g) is highest, in pixels of an image of size (height, width), in words."""
    if heat.max() <= 0:
        return "nowhere"
    row, column = divmod(int(heat.argmax()), len(heat))
    x = (column + 0.5) * size[1] / len(heat)
    y = (row + 0.5) * size[0] / len(heat)
    return f"around x {x:.0f}, y {y:.0f}"


TASK = Task(
    name="grounding",
    module=Retrieval,
    collate=collate,
    records=(GroundingRecord, Record),
    presets=("grounding",),
    lacks=("word_head",),
    evaluate=evaluate,
    validation_figures=validation_figures,
    evaluates=ALIGNED,
    predict=predict,
    candidates="boxes",
    predict_needs=("fusion", "match_head"),
    text="expression",
)
