"""Weakly supervised grounding: trained as retrieval; Grad-CAM ranks the proposals (section 5).

Boxes are (x, y, width, height) in pixels of the image, as in RefCOCO+; sizes are (height, width).
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
from minalbef.evaluation.gradcam import Score, image_relevance, relevance, text_map, word_score
from minalbef.evaluation.intervals import Clusters, figures_by_kind, in_groups
from minalbef.evaluation.loop import How, Records, over, values_of
from minalbef.fast.pretrain import in_form
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.base import ALIGNED, Task
from minalbef.tasks.prediction import Answer, Query, predict_match
from minalbef.tasks.retrieval import Retrieval, collate

Box = tuple[float, float, float, float]
RIGHT = 0.5                           # the least IoU of a right box with the true one
EXPLAINED = {"itm": "match", "itc": "similarity", "mlm": "its words"}    # by a map's mode
Place = TypeVar("Place")


@dataclass(frozen=True)
class GroundingRecord(Record):
    """An image with an expression, and what evaluation needs."""

    box: Box
    proposals: tuple[Box, ...]        # may be empty
    size: tuple[int, int]             # (height, width)
    split: str                        # val, testA, testB
    ref: int                          # id of the object; several expressions share it


def heat_map(model: ALBEF, image: Tensor, tokens: Tensor, keep: Tensor, layer: int,
             mode: str = "itm", words: Tensor | None = None, mask: int | None = None) -> Tensor:
    """Where each image shows what its text says, by Grad-CAM: (b, g, g).

    image: (b, 3, s, s); tokens, keep: (b, l)
    layer: index from 0; the paper takes 2, the third of fusion's six. Choose it by `sweep`
    mode: what the map explains and through what. "itm": the match, through a layer of fusion;
        "itc": the similarity, through a block of the image encoder; "mlm": masked words, through a
        layer of fusion
    words: (b, l) bool, at least one in each row. "itm" averages their maps; "mlm" masks them
        together, such as a word of several pieces or a phrase. None: "itm" averages over the whole
        text; "mlm" masks one piece at a time and averages
    mask: `tokenizer.mask`, for "mlm"
    """
    layers: Any = model.image_encoder.blocks if mode == "itc" else model.fusion.layers
    if mode not in EXPLAINED or not -len(layers) <= layer < len(layers):
        raise ValueError(f"mode={mode!r}, layer={layer}: the modes are {', '.join(EXPLAINED)}, and "
                         f"in mode {mode!r} this model has {len(layers)}, from 0 to "
                         f"{len(layers) - 1}")
    grid = model.config.grid
    if mode == "itc":
        assert words is None, "itc explains the text as a whole"
        return image_relevance(model, image, tokens, keep, layer).unflatten(1, (grid, -1))
    with torch.no_grad():
        image_tokens = model.encode_image(image)

    def word_maps(tokens: Tensor, score: Score | None = None) -> Tensor:     # (b, l, n)
        with torch.no_grad():
            text_tokens = model.encode_text(tokens, keep)
        return relevance(model, image_tokens, text_tokens, keep, score, layer)

    if mode == "itm":
        heat = text_map(word_maps(tokens), keep if words is None else words)
        return heat.unflatten(1, (grid, -1))
    assert mask is not None
    if words is not None:
        masks = words[None]                                              # (1, b, l)
    else:
        positions = torch.eye(keep.shape[1], dtype=torch.bool, device=keep.device)
        masks = positions[1:, None] & keep                               # (l - 1, b, l)
    heats = []
    for hidden in masks:
        maps = word_maps(tokens.masked_fill(hidden, mask), word_score(model, tokens, hidden))
        heats.append(text_map(maps, hidden))
    count = masks.any(2).sum(0)                                          # (b,)
    heat = reduce(torch.add, heats) / count[:, None].clamp(min=1)
    return heat.unflatten(1, (grid, -1))


def score_boxes(heat: Tensor, boxes: Tensor, size: tuple[int, int], power: float = 0.5
                ) -> Tensor:
    """The sum of a map in each box, over area ** power: (g, g), (k, 4) -> (k,).

    boxes: see `check_boxes`. power: 0 favours the largest box, 1 the smallest
    """
    heat = F.interpolate(heat[None, None], size=tuple(size), mode="bicubic")[0, 0]
    sums = []
    for x, y, width, height in boxes.tolist():
        # whole pixels, as in the original; but a negative corner doesn't index from the other end
        rows = slice(max(0, int(y)), max(0, int(y + height)))
        columns = slice(max(0, int(x)), max(0, int(x + width)))
        sums.append(heat[rows, columns].sum())
    return torch.stack(sums) / boxes[:, 2:].prod(1) ** power


def choose_box(scores: Tensor, boxes: Tensor) -> Tensor:
    """The box with the highest score: (k,), (k, 4) -> (4,).

    Where no score is positive: all 0, a box that overlaps no other.
    """
    if not (scores > 0).any():
        return torch.zeros_like(boxes[0])
    return boxes[scores.argmax()]


def check_boxes(boxes: Tensor, size: tuple[int, int]) -> None:
    """Raises ValueError for boxes (k, 4) of which one has a `box_fault`."""
    for i, box in enumerate(boxes.tolist()):
        if fault := box_fault(box, size):
            raise ValueError(f"box {i} of {len(boxes)}, {box}, {fault}")


def box_fault(box: object, size: tuple[float, float]) -> str:
    """What is wrong with a box (x, y, width, height) in an image of (height, width), or "".

    It may extend over the edge of the image.
    """
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(map(_is_finite, box)):
        return "is not four finite numbers: x, y, width, height"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return "has no area; boxes are x, y, width, height"
    if x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0:
        return f"lies outside the image of {size[1]} x {size[0]} pixels"
    return ""


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def iou(a: Tensor, b: Tensor, least: float = 0.0) -> Tensor:
    """Intersection over union of boxes: (..., 4), (..., 4) -> (...).

    least: an intersection no wider or no higher than this counts as none; the original takes 1
    """
    starts = torch.maximum(a[..., :2], b[..., :2])
    ends = torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    sides = ends - starts
    intersection = torch.where((sides > least).all(-1), sides.prod(-1), 0)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - intersection
    return intersection / union


def pointing(heat: Tensor, box: Tensor, size: tuple[int, int]) -> float:
    """Whether the centre of the map's highest patch is in the box: (g, g), (4,) -> 0 or 1.

    Where patches tie, the fraction of them that is.
    """
    row, column = (heat == heat.max()).nonzero(as_tuple=True)
    x = (column + 0.5) * size[1] / heat.shape[1]
    y = (row + 0.5) * size[0] / heat.shape[0]
    centres = torch.stack([x, y], 1)
    inside = (centres >= box[:2]) & (centres <= box[:2] + box[2:])
    return inside.all(1).float().mean().item()


def sweep(evaluate: Callable[[Place], float], places: Iterable[Place]
          ) -> tuple[Place, dict[Place, float]]:
    """Evaluate every place, a layer or a tuple such as (mode, layer), on validation.

    evaluate: place -> a figure, the higher the better
    -> the best place, the first of equals; all figures by place
    """
    figures = {place: evaluate(place) for place in places}
    return max(figures, key=figures.__getitem__), figures


def evaluate_grounding(model: ALBEF, tokenizer: Tokenizer, records: Records, how: How
                       ) -> tuple[dict, dict]:
    """By split: "proposals", whether the best one has an IoU of 0.5 with the true box; `pointing`.

    Baseline: the largest proposal. Without proposals only pointing is measured. Records without
    splits are evaluated together. how.layer="all" evaluates every layer of fusion and reports the
    figures of the best, so choose on validation, not on the test set.
    -> samples, and what else to report; see evaluation.loop
    """
    if how.layer == "all":
        return evaluate_layers(model, tokenizer, records, how)
    layer = (model.config.fusion_depth - 1) // 2
    if how.layer is not None:
        layer = int(how.layer)
    scores = judge_maps(model, tokenizer, records, replace(how, layer=layer))
    splits, kinds, groups = values_of(records, "split", "kind", "group")
    samples: dict = {}
    largest: dict = {}
    chance: dict = {}
    for split in dict.fromkeys(splits):
        rows = [i for i, name in enumerate(splits) if name == split]
        row_groups = [groups[i] for i in rows]
        point, best_box, largest_box, random_box, area = scores[rows].unbind(1)
        has_proposals = ~best_box.isnan()
        points = in_groups(point, row_groups)
        samples[split] = {
            "pointing": points,
            "proposals": in_groups(best_box, row_groups)[has_proposals],
            **figures_by_kind(points, [kinds[i] for i in rows]),
        }
        largest[split] = {"proposals": in_groups(largest_box, row_groups)[has_proposals]}
        chance[split] = {"pointing": area.mean().item()}
        if has_proposals.any():
            chance[split]["proposals"] = random_box.nanmean().item()
    if set(splits) == {""}:
        samples = samples[""]
        largest = largest[""]
        chance = chance[""]
    samples = samples | {"baselines": {"largest_box": largest}}
    count = int((~scores[:, 1].isnan()).sum())
    return samples, {"layer": layer, "proposals": count, "chance": chance}


def evaluate_layers(model: ALBEF, tokenizer: Tokenizer, records: Records, how: How
                    ) -> tuple[dict, dict]:
    """`evaluate_grounding` by the best layer of fusion, and each layer's figure as "layers"."""
    results = {}
    for layer in range(model.config.fusion_depth):
        results[layer] = evaluate_grounding(model, tokenizer, records, replace(how, layer=layer))

    def figure(layer: int) -> float:
        return next(iter(validation_figures(*results[layer]).values()))

    best, figures = sweep(figure, results)
    samples, more = results[best]
    return samples, more | {"layers": {str(layer): figure for layer, figure in figures.items()}}


def validation_figures(samples: dict, more: dict) -> dict[str, float]:
    """The figures of validation.csv, of all splits together.

    Accuracy on proposals selects the best weights, as in the original; without any, pointing.
    """
    splits = [samples]
    if "pointing" not in samples:
        splits = [samples[split] for split in samples if split != "baselines"]
    figures = {}
    for name in ("proposals", "pointing"):
        parts = []
        for split in splits:
            part = split[name]
            parts.append(part.values if isinstance(part, Clusters) else part)
        values = torch.cat(parts)
        if len(values):
            figures[name] = values.mean().item()
    return figures


def judge_maps(model: ALBEF, tokenizer: Tokenizer, records: Records, how: How) -> Tensor:
    """What `evaluate` reports of each record: (n, 5).

    The columns are `pointing`, the three of `_score_proposals`, and the fraction of the image that
    the true box covers.
    """
    layer = how.layer
    assert isinstance(layer, int)

    def answer(rows: Sequence[GroundingRecord], batch: Batch) -> Tensor:
        maps = heat_map(model, batch.image, batch.tokens, batch.keep, layer, how.mode,
                        mask=tokenizer.mask)
        scores = []
        for record, heat in zip(rows, maps.cpu()):
            proposals = _score_proposals(heat, record, float(how.original))
            point = pointing(heat, torch.tensor(record.box), record.size)
            scores.append([point, *proposals, _box_fraction(record.box, record.size)])
        return torch.tensor(scores)

    return over(model, tokenizer, records, how, data.collate, answer, 5).float()


def _score_proposals(heat: Tensor, record: GroundingRecord, least: float) -> list[float]:
    """Whether the best box by the map is right, the largest, and a random one; nan without any."""
    if not len(record.proposals):
        return [torch.nan] * 3
    box = torch.tensor(record.box)
    boxes = torch.tensor(record.proposals)

    def is_right(proposal: Tensor) -> float:
        return float(iou(proposal, box, least) >= RIGHT)

    best = choose_box(score_boxes(heat, boxes, record.size), boxes)
    largest = boxes[boxes[:, 2:].prod(1).argmax()]
    return [is_right(best), is_right(largest), sum(map(is_right, boxes)) / len(boxes)]


def _box_fraction(box: Box, size: tuple[int, int]) -> float:
    """The fraction of an image that a box covers; the box may extend over the edge."""
    x, y, box_width, box_height = box
    height, width = size
    inside_width = min(x + box_width, width) - max(x, 0)
    inside_height = min(y + box_height, height) - max(y, 0)
    return inside_width * inside_height / (height * width)


@torch.no_grad()
def predict(model: ALBEF, tokenizer: Tokenizer, query: Query) -> Answer:
    """The Grad-CAM map of the match and where it is highest; or the box that it scores best."""
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
    answer = replace(answer, answer="none of the boxes", boxes=boxes, scores=scores)
    box = choose_box(scores, boxes)
    if not box.any():
        return answer
    name = "the box at x {:g}, y {:g}, {:g} wide and {:g} high".format(*box.tolist())
    return replace(answer, answer=name, box=box)


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
    module=lambda config: in_form(Retrieval, config)(config),
    collate=collate,
    records=(GroundingRecord, Record),
    presets=("grounding",),
    least_rows=2,
    lacks=("word_head",),
    evaluate=evaluate_grounding,
    validation_figures=validation_figures,
    evaluates=ALIGNED,
    predict=predict,
    candidates="boxes",
    predict_needs=("fusion", "match_head"),
    text="expression",
)
