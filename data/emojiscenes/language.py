"""Scenes, logical forms, and whether a form holds in a scene; `grammar` puts forms into words."""
from collections.abc import Iterable
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
    """curtain: x0, y0, x1, y1 of what is hidden; shade: the background's exact RGB."""

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
# between: people disagree about a thing just off the middle, or of middling size.
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
    coloured: bool | None = True
    if isinstance(noun, ColouredNoun):
        coloured = has_colour(thing, noun.colour)
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
    distance = sign * (b.x - a.x if axis == "x" else b.y - a.y)
    if distance >= FAR:
        return True
    if distance > NEAR:
        return None
    return False


def names_of(things: Iterable[Object]) -> set[str]:
    """The kinds of things."""
    return {thing.name for thing in things}


def relations_of(a: Object, b: Object) -> list[str]:
    """The relations in which thing a stands to thing b."""
    return [kind for kind in RELATIONS if related(a, kind, b)]


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
    starts = [sign * getattr(thing, axis) for thing, _ in left]
    ends = [sign * getattr(thing, axis) for thing, _ in right]
    hidden_starts = [sign * place for place in _hidden(form.a, scene.curtain).get(axis, ())]
    hidden_ends = [sign * place for place in _hidden(form.b, scene.curtain).get(axis, ())]
    return _may_relate(starts, hidden_ends) or _may_relate(hidden_starts, ends + hidden_ends)


def _may_relate(starts: list[float], ends: list[float]) -> bool:
    """Whether two places are further apart than NEAR."""
    return bool(starts and ends) and max(ends) - min(starts) > NEAR


def _hidden(noun: Noun, curtain: Band | None) -> dict[str, Range]:
    """Ranges of x and y of such a thing's centre, wholly behind the curtain; empty: nowhere."""
    if not curtain:
        return {}
    smallest = SMALL_MAX if noun.size == "big" else SMALLEST
    x0, y0, x1, y1 = curtain
    ranges = {}
    for axis, start, end, band in zip("xy", (x0, y0), (x1, y1), bands_of(noun)):
        low = max(start + smallest / 2, band[0])
        high = min(end - smallest / 2, band[3])
        if low >= high:
            return {}
        ranges[axis] = (low, high)
    return ranges


def needs(form: Form) -> set[str]:
    """Kinds of things without which a form cannot be true."""
    if isinstance(form, All):
        return set().union(*map(needs, form.parts))
    if isinstance(form, Relation):
        return {form.a.name, form.b.name}
    if isinstance(form, There) or isinstance(form, Count) and form.n:
        return {form.noun.name}
    return set()
