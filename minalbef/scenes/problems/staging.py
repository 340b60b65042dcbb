"""What is hidden and what is pointed at: curtains, referring expressions, boxes."""
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

import torch

from minalbef.scenes.grammar import SAID, size_of, where
from minalbef.scenes.language import RELATIONS, Form, Noun, Object, Relation, Scene, fits, holds, related, some, visible
from minalbef.scenes.layout import clash, draw_coordinate
from minalbef.scenes.problems.phrasing import place_of
from minalbef.scenes.stream import Stream
from minalbef.tasks.grounding import RIGHT, Box, iou

LABELS = {False: 0, None: 1, True: 2}  # contradiction, neutral, entailment: the numbers of tasks.entailment.LABELS
SLACK = 0.08                           # this much more or less curtain must not change the label: the margins' widths
Expression = Noun | Relation           # a relation points at its first thing
POINTED = ("size",) * 3 + ("place", "place", "both") + ("relation",) * 6      # drawn so often; most are then rejected
PROPOSALS = 12


def draw_curtain(stream: Stream) -> tuple[float, float, float, float]:
    """Along one side, or a box, mostly in a corner: x0, y0, x1, y1."""
    wide, high = stream.uniform(0.46, 0.6), stream.uniform(0.46, 0.6)
    if stream.chance(0.5):
        wide, high = stream.shuffle((1.0, stream.uniform(0.4, 0.48)))
    x, y = (stream.uniform(0, 1 - side) if stream.chance(0.2) else stream.pick((0.0, 1 - side))
            for side in (wide, high))
    return x, y, x + wide, y + high


def views(scene: Scene) -> tuple[Scene, Scene, Scene]:
    """With a little more curtain, with a little less, and without it nor what it hides."""
    x0, y0, x1, y1 = scene.curtain
    return (*(replace(scene, curtain=(x0 - d, y0 - d, x1 + d, y1 + d)) for d in (SLACK, -SLACK)),
            replace(scene, objects=visible(scene), curtain=None))


def judge(form: Form, view: tuple[Scene, Scene, Scene]) -> int | None:
    """0, 1 or 2, of `views` of a scene; None where a margin leaves it open, or a bit of the curtain decides."""
    value = holds(form, view[0])
    if holds(form, view[1]) is not value or value is None and holds(form, view[2]) is None:
        return None
    return LABELS[value]


def find_spot(stream: Stream, size: float, curtain, behind: bool, spots) -> tuple[float, float] | None:
    """Wholly behind the curtain, or wholly clear of it."""
    x0, y0, x1, y1 = curtain
    half = size / 2
    inner = half + 0.01                                 # or rounding to pixels would let it peep out
    if behind and min(x1 - x0, y1 - y0) <= 2 * inner:
        return None
    for _ in range(25):
        if behind:
            x, y = stream.uniform(x0 + inner, x1 - inner), stream.uniform(y0 + inner, y1 - inner)
        else:
            x, y = draw_coordinate(stream, size), draw_coordinate(stream, size)
            if x0 - half < x < x1 + half and y0 - half < y < y1 + half:
                continue
        if not clash(x, y, size, spots):
            return x, y
    return None


def refers(expression: Expression, scene: Scene) -> tuple[Object, ...] | None:
    """The things that may be so called; None where it cannot be told of one of them."""
    def value(thing: Object) -> bool | None:
        if isinstance(expression, Noun):
            return fits(expression, thing)
        return fits(expression.a, thing) and some(fits(expression.b, other) and related(thing, expression.kind, other)
                                                  for other in scene.objects if other is not thing)
    values = list(map(value, scene.objects))
    return None if None in values else tuple(compress(scene.objects, values))


def point(thing: Object, others: Sequence[Object], stream: Stream) -> tuple[Expression, str]:
    """An expression of a kind of POINTED that is true of a thing, though perhaps not of it alone, and its English."""
    the, kind, name = stream.pick(("the ", "the ", "")), stream.pick(POINTED), thing.name
    related_to = [(way, other.name) for other in others for way in RELATIONS
                  if other.name != name and related(thing, way, other)] if kind == "relation" else []
    if related_to:
        relation, b = stream.pick(related_to)
        return Relation(Noun(name), relation, Noun(b)), f"{the}{name} {stream.pick(SAID[relation])} the {b}"
    size, place = size_of(thing), place_of(thing, stream)
    if kind == "size":
        return Noun(name, size), f"{the}{size} {name}"
    if kind == "both":
        return Noun(name, size, place), f"{the}{size} {name} {where(place, stream.chance(0.7))}"
    text = f"{the}{place} {name}" if stream.chance(0.5) else f"{the}{name} {where(place, stream.chance(0.7))}"
    return Noun(name, None, place), text


def box_of(thing: Object) -> Box:
    """Left, top, width and height, as shares of the picture's sides."""
    return thing.x - thing.size / 2, thing.y - thing.size / 2, thing.size, thing.size


def propose(scene: Scene, name: str, stream: Stream) -> tuple[Box, ...]:
    """Two loose boxes of everything, two things of that name in part and joined, and boxes of nothing."""
    boxes = [_inside(x + stream.uniform(-0.1, 0.1) * w, y + stream.uniform(-0.1, 0.1) * h,
                     w * stream.uniform(0.88, 1.2), h * stream.uniform(0.88, 1.2))
             for x, y, w, h in map(box_of, scene.objects) for _ in range(2)]
    two = [box_of(thing) for thing in scene.objects if thing.name == name][:2]
    for x, y, w, h in two:
        part = stream.uniform(0.3, 0.45)
        boxes.append(stream.pick(((x, y, w * part, h), (x, y, w, h * part), (x + w * (1 - part), y, w * part, h))))
    (x, y, w, h), (u, v, m, n) = two
    left, top = min(x, u), min(y, v)
    boxes.append((left, top, max(x + w, u + m) - left, max(y + h, v + n) - top))
    while len(boxes) < PROPOSALS:
        boxes.append(_inside(stream.random(), stream.random(), stream.uniform(0.2, 0.6), stream.uniform(0.2, 0.6)))
    return tuple(stream.shuffle(boxes))


def _inside(x: float, y: float, w: float, h: float) -> Box:
    """Cut to the picture; of what lies outside as much as half is left."""
    x, y = min(x, 1 - w / 2), min(y, 1 - h / 2)
    left, top = max(x, 0.0), max(y, 0.0)
    return left, top, min(x + w, 1.0) - left, min(y + h, 1.0) - top


def random_box(one) -> float:
    """How often a proposal picked blindly overlaps the target by half."""
    boxes, box = (torch.tensor(given, dtype=torch.double) for given in (one.proposals, one.box))
    return (iou(boxes, box) >= RIGHT).double().mean().item()


def largest_box(one) -> bool:
    """Whether the largest proposal does."""
    largest = max(one.proposals, key=lambda box: box[2] * box[3])
    return bool(iou(torch.tensor(largest, dtype=torch.double), torch.tensor(one.box, dtype=torch.double)) >= RIGHT)
