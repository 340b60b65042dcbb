"""What is hidden and what is pointed at: curtains, referring expressions, boxes."""
from collections.abc import Sequence
from dataclasses import replace

from emojiscenes.grammar import SAID, size_of, where
from emojiscenes.language import (
    Form,
    Noun,
    Object,
    Relation,
    Scene,
    fits,
    holds,
    related,
    relations_of,
    some,
    visible,
)
from emojiscenes.layout import Spot, clash, draw_coordinate
from emojiscenes.phrasing import place_of
from emojiscenes.stream import Stream

LABELS = {False: 0, None: 1, True: 2}  # contradiction, neutral, entailment
SLACK = 0.08                           # so much more or less curtain must not change the label
PEEP = 0.01                            # or rounding to pixels would let a hidden thing peep out
SPOTS = 25                             # tries to place a thing behind or clear of a curtain
EXPRESSIONS = (                        # kinds, this often; most are then rejected
    "size", "size", "size", "place", "place", "both",
    "relation", "relation", "relation", "relation", "relation", "relation")
PROPOSALS = 12
RIGHT = 0.5                            # the least overlap of a right box with the target

Expression = Noun | Relation           # a relation points at its first thing
# left, top, width, height, as shares of the image's sides
Box = tuple[float, float, float, float]
Curtain = tuple[float, float, float, float]    # x0, y0, x1, y1


# curtains


def draw_curtain(stream: Stream) -> Curtain:
    """Along one side, or a box, mostly in a corner."""
    width = stream.uniform(0.46, 0.6)
    height = stream.uniform(0.46, 0.6)
    if stream.chance(0.5):
        width, height = stream.shuffle((1.0, stream.uniform(0.4, 0.48)))
    x = _edge(stream, width)
    y = _edge(stream, height)
    return x, y, x + width, y + height


def _edge(stream: Stream, side: float) -> float:
    """Where a side begins: sometimes anywhere, mostly at an edge."""
    if stream.chance(0.2):
        return stream.uniform(0, 1 - side)
    return stream.pick((0.0, 1 - side))


def views(scene: Scene) -> tuple[Scene, Scene, Scene]:
    """With a little more curtain, with a little less, and without it nor what it hides."""
    assert scene.curtain is not None
    more = replace(scene, curtain=_grow(scene.curtain, SLACK))
    less = replace(scene, curtain=_grow(scene.curtain, -SLACK))
    return more, less, replace(scene, objects=visible(scene), curtain=None)


def _grow(curtain: Curtain, margin: float) -> Curtain:
    x0, y0, x1, y1 = curtain
    return x0 - margin, y0 - margin, x1 + margin, y1 + margin


def judge(form: Form, view: tuple[Scene, Scene, Scene]) -> int | None:
    """0, 1 or 2, of `views` of a scene; None where a margin leaves it open, or a bit of the curtain
    decides."""
    more, less, uncovered = view
    value = holds(form, more)
    if holds(form, less) is not value:
        return None
    if value is None and holds(form, uncovered) is None:
        return None
    return LABELS[value]


def find_spot(stream: Stream, size: float, curtain: Curtain, behind: bool,
              spots: Sequence[Spot]) -> tuple[float, float] | None:
    """Wholly behind the curtain, or wholly clear of it; None: no room found."""
    x0, y0, x1, y1 = curtain
    half = size / 2
    inner = half + PEEP
    if behind and min(x1 - x0, y1 - y0) <= 2 * inner:
        return None
    for _ in range(SPOTS):
        if behind:
            x = stream.uniform(x0 + inner, x1 - inner)
            y = stream.uniform(y0 + inner, y1 - inner)
        else:
            x = draw_coordinate(stream, size)
            y = draw_coordinate(stream, size)
            if x0 - half < x < x1 + half and y0 - half < y < y1 + half:
                continue
        if not clash(x, y, size, spots):
            return x, y
    return None


# referring expressions


def refers(expression: Expression, scene: Scene) -> tuple[Object, ...] | None:
    """The things that may be so called; None where it cannot be said of one of them."""
    referents = []
    for thing in scene.objects:
        value = _denotes(expression, thing, scene)
        if value is None:
            return None
        if value:
            referents.append(thing)
    return tuple(referents)


def _denotes(expression: Expression, thing: Object, scene: Scene) -> bool | None:
    """Whether a thing may be so called."""
    if isinstance(expression, Noun):
        return fits(expression, thing)
    value = fits(expression.a, thing)
    if not value:
        return value
    values = []
    for partner in scene.objects:
        if partner is not thing:
            fits_b = fits(expression.b, partner)
            values.append(fits_b and related(thing, expression.kind, partner))
    return some(values)


def point(thing: Object, things: Sequence[Object], stream: Stream) -> tuple[Expression, str]:
    """An expression that is true of a thing, perhaps not of it alone, and its English."""
    the = stream.pick(("the ", "the ", ""))
    kind = stream.pick(EXPRESSIONS)
    name = thing.name
    if kind == "relation":
        relations = _relations_of(thing, things)
        if relations:
            relation, partner = stream.pick(relations)
            text = f"{the}{name} {stream.pick(SAID[relation])} the {partner}"
            return Relation(Noun(name), relation, Noun(partner)), text
    size = size_of(thing)
    place = place_of(thing, stream)
    if kind == "size":
        return Noun(name, size), f"{the}{size} {name}"
    if kind == "both":
        text = f"{the}{size} {name} {where(place, stream.chance(0.7))}"
        return Noun(name, size, place), text
    if stream.chance(0.5):
        text = f"{the}{place} {name}"
    else:
        text = f"{the}{name} {where(place, stream.chance(0.7))}"
    return Noun(name, None, place), text


def _relations_of(thing: Object, things: Sequence[Object]) -> list[tuple[str, str]]:
    """How a thing stands to others of other kinds: relation and name."""
    relations = []
    for partner in things:
        if partner.name != thing.name:
            relations += [(way, partner.name) for way in relations_of(thing, partner)]
    return relations


# boxes


def box_of(thing: Object) -> Box:
    """A thing's square."""
    return thing.x - thing.size / 2, thing.y - thing.size / 2, thing.size, thing.size


def propose(scene: Scene, name: str, stream: Stream) -> tuple[Box, ...]:
    """Loose boxes of everything, two things of that name in part and joined, and of nothing."""
    boxes = []
    for thing in scene.objects:
        boxes.append(_loosen(box_of(thing), stream))
        boxes.append(_loosen(box_of(thing), stream))
    first, second = [box_of(thing) for thing in scene.objects if thing.name == name][:2]
    boxes.append(_part_of(first, stream))
    boxes.append(_part_of(second, stream))
    boxes.append(_join(first, second))
    while len(boxes) < PROPOSALS:
        x = stream.random()
        y = stream.random()
        width = stream.uniform(0.2, 0.6)
        height = stream.uniform(0.2, 0.6)
        boxes.append(_inside(x, y, width, height))
    return tuple(stream.shuffle(boxes))


def _loosen(box: Box, stream: Stream) -> Box:
    x, y, width, height = box
    left = x + stream.uniform(-0.1, 0.1) * width
    top = y + stream.uniform(-0.1, 0.1) * height
    return _inside(left, top, width * stream.uniform(0.88, 1.2), height * stream.uniform(0.88, 1.2))


def _part_of(box: Box, stream: Stream) -> Box:
    x, y, width, height = box
    part = stream.uniform(0.3, 0.45)
    left = (x, y, width * part, height)
    top = (x, y, width, height * part)
    right = (x + width * (1 - part), y, width * part, height)
    return stream.pick((left, top, right))


def _join(a: Box, b: Box) -> Box:
    """The smallest box around two."""
    left = min(a[0], b[0])
    top = min(a[1], b[1])
    right = max(a[0] + a[2], b[0] + b[2])
    bottom = max(a[1] + a[3], b[1] + b[3])
    return left, top, right - left, bottom - top


def _inside(x: float, y: float, width: float, height: float) -> Box:
    """Cut to the image; of what lies outside as much as half is left."""
    x = min(x, 1 - width / 2)
    y = min(y, 1 - height / 2)
    left = max(x, 0.0)
    top = max(y, 0.0)
    return left, top, min(x + width, 1.0) - left, min(y + height, 1.0) - top


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return intersection / (a[2] * a[3] + b[2] * b[3] - intersection)


def random_box(box: Box, proposals: Sequence[Box]) -> float:
    """Baseline of grounding: the share of the proposals that are right."""
    return sum(overlap(proposal, box) >= RIGHT for proposal in proposals) / len(proposals)


def largest_box(box: Box, proposals: Sequence[Box]) -> bool:
    """Baseline of grounding: whether the largest proposal is right."""
    return overlap(max(proposals, key=lambda proposal: proposal[2] * proposal[3]), box) >= RIGHT
