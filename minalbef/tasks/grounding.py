"""Weakly supervised grounding: trained as retrieval, without boxes; a map of the expression chooses among proposals
(section 5).

Boxes are (x, y, width, height) in pixels of the picture, as in RefCOCO+; sizes are (height, width).
"""
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef.albef import ALBEF
from minalbef.gradcam import Score, image_relevance, relevance, text_map, word_score


def heat_map(model: ALBEF, image: Tensor, tokens: Tensor, keep: Tensor, layer: int, mode: str = "itm",
             over: str = "text", words: Tensor | None = None, mask: int | None = None) -> Tensor:
    """Where each picture shows what its own text says: (b, 3, s, s), (b, l), (b, l) -> (b, g, g), by Grad-CAM.

    mode: "itm" explains the match by that layer of fusion's, "itc" the similarity by that block of the image encoder's,
        "mlm" masked words by that layer of fusion's, and wants mask, `tokenizer.mask`
    layer: from 0; the paper takes the third of fusion's six. Choose it by `sweep`: small models differ
    over: what "itm" takes the mean of, see gradcam.text_map
    words: (b, l) bool, at least one in each row. "itm" takes the mean of their maps, whatever `over` says; "mlm" masks them
        together, a word of several pieces or a phrase. None: "mlm" masks each piece in turn and takes the mean of all
    """
    if mode not in ("itm", "itc", "mlm"):
        raise ValueError(f"mode={mode!r} is none of itm, itc, mlm")
    depth = len(model.image_encoder.blocks if mode == "itc" else model.fusion.layers)
    if not -depth <= layer < depth:
        raise ValueError(f"layer={layer}: mode {mode!r} of this model has {depth}, from 0 to {depth - 1}")
    if mode == "mlm" and mask is None:
        raise ValueError("mode 'mlm' masks words and needs what to put in their place: mask=tokenizer.mask")
    if words is not None:
        if mode == "itc":
            raise ValueError("mode 'itc' explains the text as a whole; leave out words, or take mode 'itm' or 'mlm'")
        check_words(words, keep)
    if mode == "itc":
        return image_relevance(model, image, tokens, keep, layer).unflatten(1, (model.config.grid, -1))
    with torch.no_grad():
        image_tokens = model.encode_image(image)
    def maps(tokens: Tensor, score: Score | None = None) -> Tensor:
        with torch.no_grad():
            text_tokens = model.encode_text(tokens, keep)
        return relevance(model, image_tokens, text_tokens, keep, score, layer)                  # (b, l, n)
    if mode == "itm":
        heat = text_map(maps(tokens), keep, over) if words is None else text_map(maps(tokens), words)
    else:
        places = torch.eye(keep.shape[1], dtype=torch.bool, device=keep.device)[1:, None] & keep
        hidden = places if words is None else words[None]                                       # (places or 1, b, l)
        heat = sum(text_map(maps(tokens.masked_fill(one, mask), word_score(model, tokens, one)), one) for one in hidden)
        heat = heat / hidden.any(2).sum(0)[:, None].clamp(min=1)
    return heat.unflatten(1, (model.config.grid, -1))


def check_words(words: Tensor, keep: Tensor):
    """Raises ValueError unless words are (b, l) bool as keep, some in each row, and neither padding nor [CLS]."""
    if words.shape != keep.shape or words.dtype != torch.bool:
        raise ValueError(f"words are {tuple(words.shape)} of {words.dtype}; they must be {tuple(keep.shape)} of torch.bool, "
                         "True where a piece belongs to them")
    for problem, rows in (("names padding", (words & ~keep).any(1)), ("names [CLS], which is no word", words[:, 0]),
                          ("names no word; words=None takes all", ~words.any(1))):
        if rows.any():
            raise ValueError(f"words: row {int(rows.nonzero()[0])} {problem}; {int(rows.sum())} of {len(words)} rows are so")


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


def check_boxes(boxes: Tensor, size: tuple[int, int]):
    """Raises ValueError for boxes without area or wholly outside the picture; one that overhangs its edge is allowed."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise ValueError(f"boxes have shape {tuple(boxes.shape)}; they must be (k, 4), at least one")
    start, extent, limit = boxes[:, :2], boxes[:, 2:], boxes.new_tensor([size[1], size[0]])
    for problem, rows in (("is not finite", ~boxes.isfinite().all(1)),
                          ("has no area; boxes are x, y, width, height", (extent <= 0).any(1)),
                          (f"lies outside the picture of {size[1]} x {size[0]} pixels",
                           ((start >= limit) | (start + extent <= 0)).any(1))):
        if rows.any():
            first = int(rows.nonzero()[0])
            raise ValueError(f"box {first}, {boxes[first].tolist()}, {problem}; {int(rows.sum())} of {len(boxes)} are so")


def iou(a: Tensor, b: Tensor, least: float = 0.0) -> Tensor:
    """Shared area over joint area: (..., 4) twice -> (...).

    least: an overlap no wider or no higher than this counts as none; the original takes 1, a pixel
    """
    sides = torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    shared = torch.where((sides > least).all(-1), sides.prod(-1), 0)
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)


def accuracy(chosen: Tensor, truth: Tensor, splits: Sequence[str], threshold: float = 0.5) -> dict[str, float]:
    """Share of expressions whose chosen box overlaps the true one by half: (r, 4) twice -> by split."""
    return by_split(iou(chosen, truth) >= threshold, splits)


def pointing(heat: Tensor, box: Tensor, size: tuple[int, int]) -> float:
    """Does the map's highest patch have its centre in the box? (g, g), (4,) -> 0 or 1; between where patches tie."""
    check_boxes(box[None], size)
    y, x = (heat == heat.max()).nonzero(as_tuple=True)
    centres = torch.stack([(x + 0.5) * size[1] / heat.shape[1], (y + 0.5) * size[0] / heat.shape[0]], 1)
    return ((centres >= box[:2]) & (centres <= box[:2] + box[2:])).all(1).float().mean().item()


def pointing_accuracy(maps: Iterable[Tensor], truth: Tensor, sizes: Iterable[tuple[int, int]],
                      splits: Sequence[str]) -> dict[str, float]:
    """Mean of `pointing` over expressions, by split; pictures may differ in size."""
    return by_split(torch.tensor([pointing(*one) for one in zip(maps, truth, sizes, strict=True)]), splits)


def by_split(hits: Tensor, splits: Sequence[str]) -> dict[str, float]:
    """Mean of (r,) hits within each split, in order of appearance."""
    if len(hits) != len(splits):
        raise ValueError(f"{len(hits)} results and {len(splits)} names of splits: each result needs one")
    return {split: hits[[name == split for name in splits]].float().mean().item() for split in dict.fromkeys(splits)}


def sweep(evaluate: Callable[..., float], places: Iterable) -> tuple:
    """Try every place, a layer or a tuple such as (mode, layer), on validation.

    evaluate: place -> a figure, the higher the better  -> the best place, the first of equals; all figures by place
    """
    figures = {place: evaluate(place) for place in places}
    if not figures:
        raise ValueError("no place to try; name at least one layer")
    return max(figures, key=figures.__getitem__), figures
