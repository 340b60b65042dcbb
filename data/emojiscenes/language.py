"""Scenes, logical forms, and whether a form holds in a scene (`holds`). `grammar` puts forms into
words."""
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Object:
    """x, y: centre, 0 to 1, y downwards; size: side of its square over the image's.

    vendor: whose drawing; behind "+" finishes: "noto+outlined+red" has an outline and is all red
    angle: degrees
    """

    name: str
    x: float
    y: float
    size: float
    vendor: str
    angle: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """curtain: x0, y0, x1, y1 of what is hidden; shade: the background's exact RGB, which no form
    mentions."""

    objects: tuple[Object, ...]
    background: str
    curtain: tuple[float, float, float, float] | None = None
    shade: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Noun:
    """A kind of thing, perhaps of a size (a key of SIZES) or at a place (a key of PLACES)."""

    name: str
    size: str | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True)
class ColouredNoun(Noun):
    """A kind of thing, all of one colour."""

    colour: str = ""


@dataclass(frozen=True, slots=True)
class There:
    """There is at least one."""

    noun: Noun


@dataclass(frozen=True, slots=True)
class Count:
    """There are exactly n."""

    noun: Noun
    n: int


@dataclass(frozen=True, slots=True)
class Relation:
    """Some a is left, right, above or below (a key of RELATIONS) some other b."""

    a: Noun
    kind: str
    b: Noun


@dataclass(frozen=True, slots=True)
class Background:
    """The background has this colour."""

    colour: str


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds."""

    parts: tuple["Form", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The form does not hold."""

    form: "Form"


Form = There | Count | Relation | Background | All | Not
Band = tuple[float, float, float, float]
Range = tuple[float, float]

# A band is four numbers a <= b <= c <= d: true from b to c, false up to a and from d on, unknown
# between.
# People disagree about a thing just off the middle, or of middling size: no caption should depend
# on it.
SMALLEST, SMALL_MAX, BIG_MIN = 0.2, 0.28, 0.35
SIZES: dict[str, Band] = {
    "small": (-inf, -inf, SMALL_MAX, BIG_MIN),
    "big": (SMALL_MAX, BIG_MIN, inf, inf),
}
LOW: Band = (-inf, -inf, 0.39, 0.43)
MIDDLE: Band = (0.39, 0.43, 0.57, 0.61)
HIGH: Band = (0.57, 0.61, inf, inf)
ANY: Band = (-inf, -inf, inf, inf)
PLACES: dict[str, tuple[Band, Band]] = {          # bands of x and of y
    "top left": (LOW, LOW),
    "top right": (HIGH, LOW),
    "bottom left": (LOW, HIGH),
    "bottom right": (HIGH, HIGH),
    "left": (LOW, ANY),
    "right": (HIGH, ANY),
    "top": (ANY, LOW),
    "bottom": (ANY, HIGH),
    "middle": (MIDDLE, MIDDLE),
}
COLOURS = ("red", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
# kinds of objects that every vendor draws in one colour
COLOURED = {"apple": "red", "strawberry": "red", "ladybug": "red", "car": "red", "rose": "red",
            "balloon": "red", "banana": "yellow", "sunflower": "yellow", "moon": "yellow",
            "star": "yellow", "frog": "green", "snake": "green", "tree": "green", "cactus": "green",
            "eggplant": "purple", "pig": "pink", "whale": "blue"}
# axis and sign: b minus a along the axis, times the sign, is false up to NEAR and true from FAR on
RELATIONS = {"left": ("x", 1), "right": ("x", -1), "above": ("y", 1), "below": ("y", -1)}
NEAR, FAR = 0.04, 0.14


def within(value: float, band: Band) -> bool | None:
    """Whether a number lies in a band; None in its margins."""
    a, b, c, d = band
    if b <= value <= c:
        return True
    if a < value < d:
        return None
    return False


def negate(value: bool | None) -> bool | None:
    """Kleene's not."""
    if value is None:
        return None
    return not value


def every(values: Iterable[bool | None]) -> bool | None:
    """Kleene's and: False if one is False, else None if one is None."""
    result: bool | None = True
    for value in values:
        if value is False:
            return False
        if value is None:
            result = None
    return result


def some(values: Iterable[bool | None]) -> bool | None:
    """Kleene's or: True if one is True, else None if one is None."""
    result: bool | None = False
    for value in values:
        if value is True:
            return True
        if value is None:
            result = None
    return result


def bands_of(noun: Noun) -> tuple[Band, Band]:
    """Where the noun says that a thing is: bands of x and of y."""
    if noun.place is None:
        return ANY, ANY
    return PLACES[noun.place]


def fits(noun: Noun, thing: Object) -> bool | None:
    """Whether a thing may be called so."""
    if noun.name != thing.name:
        return False
    coloured = has_colour(thing, noun.colour) if isinstance(noun, ColouredNoun) else True
    if not noun.size and not noun.place:
        return coloured                                        # most nouns are bare
    horizontal, vertical = bands_of(noun)
    size = within(thing.size, SIZES[noun.size] if noun.size else ANY)
    return every((size, within(thing.x, horizontal), within(thing.y, vertical), coloured))


def has_colour(thing: Object, colour: str) -> bool | None:
    """Whether a thing is of a colour; None where its drawing has several."""
    natural = colour_of(thing)
    return None if natural is None else natural == colour


def colour_of(thing: Object) -> str | None:
    """The one colour of a thing's drawing; None where it has several."""
    finish = thing.vendor.rpartition("+")[2]
    return finish if finish in COLOURS else COLOURED.get(thing.name)


def related(a: Object, kind: str, b: Object) -> bool | None:
    """Whether thing a is left of, right of, above or below thing b."""
    axis, sign = RELATIONS[kind]
    if axis == "x":
        distance = sign * (b.x - a.x)
    else:
        distance = sign * (b.y - a.y)
    if distance >= FAR:
        return True
    if distance > NEAR:
        return None
    return False


def visible(scene: Scene) -> tuple[Object, ...]:
    """The things whose centre no curtain hides."""
    if not scene.curtain:
        return scene.objects
    x0, y0, x1, y1 = scene.curtain
    things = []
    for thing in scene.objects:
        if not (x0 <= thing.x <= x1 and y0 <= thing.y <= y1):
            things.append(thing)
    return tuple(things)


def holds(form: Form, scene: Scene) -> bool | None:
    """Whether a form is true of a scene: True, False, or None where the image cannot tell.

    It cannot tell within the margins, nor what only things wholly behind the curtain would decide
    (any
    number may stand there; a thing whose centre is hidden is not seen). All and Not follow Kleene:
    None
    where a part is None, unless another part decides. So of parts that depend on each other it may
    say
    None where the truth is known.
    """
    if isinstance(form, There):
        value = some([fits(form.noun, thing) for thing in visible(scene)])
        if not value and _hidden(form.noun, scene.curtain):
            return None
        return value
    if isinstance(form, Relation):
        return _holds_relation(form, scene)
    if isinstance(form, All):
        return every(holds(part, scene) for part in form.parts)
    if isinstance(form, Count):
        return _holds_count(form, scene)
    if isinstance(form, Background):
        return form.colour == scene.background
    return negate(holds(form.form, scene))


def _holds_count(form: Count, scene: Scene) -> bool | None:
    values = [fits(form.noun, thing) for thing in visible(scene)]
    least = values.count(True)
    most = least + values.count(None)
    if not least <= form.n:
        return False
    if _hidden(form.noun, scene.curtain):
        return None                                  # more may stand behind the curtain
    if form.n > most:
        return False
    if least == most:
        return True
    return None


def _holds_relation(form: Relation, scene: Scene) -> bool | None:
    left = _candidates(form.a, scene)
    right = _candidates(form.b, scene)
    value: bool | None = False
    for a, fits_a in left:
        for b, fits_b in right:
            pair = every((fits_a, fits_b, related(a, form.kind, b)))
            if pair is True:
                return True
            if pair is None:
                value = None
    if scene.curtain and value is False and _perhaps_behind(form, scene, left, right):
        return None
    return value


def _candidates(noun: Noun, scene: Scene) -> list[tuple[Object, bool | None]]:
    """Visible things that the noun may mean, and whether it does."""
    candidates: list[tuple[Object, bool | None]] = []
    for thing in visible(scene):
        value = fits(noun, thing)
        if value is not False:
            candidates.append((thing, value))
    return candidates


def _perhaps_behind(form: Relation, scene: Scene, left: list, right: list) -> bool:
    """Whether things behind the curtain, one or both, could stand in the relation."""
    axis, sign = RELATIONS[form.kind]
    hidden_left = _hidden(form.a, scene.curtain)
    hidden_right = _hidden(form.b, scene.curtain)
    if hidden_right and _may_relate(_points(left, axis), [hidden_right[axis]], sign):
        return True
    if not hidden_left:
        return False
    partners = _points(right, axis)
    if hidden_right:
        partners.append(hidden_right[axis])
    return _may_relate([hidden_left[axis]], partners, sign)


def _points(candidates: list[tuple[Object, bool | None]], axis: str) -> list[Range]:
    """Where candidates stand along an axis, as ranges of one point."""
    points = []
    for thing, _ in candidates:
        place = getattr(thing, axis)
        points.append((place, place))
    return points


def _may_relate(starts: list[Range], ends: list[Range], sign: int) -> bool:
    """Whether a place in one of the ranges and one in another are further apart than NEAR."""
    for a in starts:
        for b in ends:
            distances = (sign * (end - start) for start in a for end in b)
            if max(distances) > NEAR:
                return True
    return False


def _hidden(noun: Noun, curtain: Band | None) -> dict[str, Range] | None:
    """Where the centre of such a thing may lie, wholly behind the curtain: ranges of x and y; None:
    nowhere."""
    if not curtain:
        return None
    smallest = SMALL_MAX if noun.size == "big" else SMALLEST
    horizontal, vertical = bands_of(noun)
    x0, y0, x1, y1 = curtain
    ranges = {}
    for axis, start, end, band in (("x", x0, x1, horizontal), ("y", y0, y1, vertical)):
        low = max(start + smallest / 2, band[0])
        high = min(end - smallest / 2, band[3])
        if low >= high:
            return None
        ranges[axis] = (low, high)
    return ranges


def needs(form: Form) -> set[str]:
    """Kinds of things without which a form cannot be true."""
    return set(_names(form))


def _names(form: Form) -> Iterator[str]:
    if isinstance(form, All):
        for part in form.parts:
            yield from _names(part)
    elif isinstance(form, Relation):
        yield form.a.name
        yield form.b.name
    elif isinstance(form, There) or isinstance(form, Count) and form.n:
        yield form.noun.name
