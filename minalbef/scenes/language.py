"""Scenes, logical forms, and whether a form holds in a scene (`holds`). `grammar` puts forms into words."""
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from math import inf


@dataclass(frozen=True, slots=True)
class Object:
    """x, y: centre, 0 to 1, y downwards; size: side of its square over the picture's; angle: in degrees."""

    name: str
    x: float
    y: float
    size: float
    vendor: str
    angle: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """curtain: x0, y0, x1, y1 of what is hidden; shade: the background's exact RGB, which no form speaks of."""

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
    colour: str


@dataclass(frozen=True, slots=True)
class All:
    parts: tuple["Form", ...]


@dataclass(frozen=True, slots=True)
class Not:
    form: "Form"


Form = There | Count | Relation | Background | All | Not

# A band is four numbers a <= b <= c <= d: true from b to c, false up to a and from d on, unknown between.
# People disagree about a thing just off the middle, or of middling size: no caption should depend on it.
SMALLEST, SMALL_MAX, BIG_MIN = 0.2, 0.28, 0.35
SIZES = {"small": (-inf, -inf, SMALL_MAX, BIG_MIN), "big": (SMALL_MAX, BIG_MIN, inf, inf)}
LOW, MIDDLE, HIGH = (-inf, -inf, 0.39, 0.43), (0.39, 0.43, 0.57, 0.61), (0.57, 0.61, inf, inf)
ANY = (-inf, -inf, inf, inf)
PLACES = {"top left": (LOW, LOW), "top right": (HIGH, LOW), "bottom left": (LOW, HIGH), "bottom right": (HIGH, HIGH),
          "left": (LOW, ANY), "right": (HIGH, ANY), "top": (ANY, LOW), "bottom": (ANY, HIGH),
          "middle": (MIDDLE, MIDDLE)}
RELATIONS = {"left": ("x", 1), "right": ("x", -1), "above": ("y", 1), "below": ("y", -1)}  # b minus a, times the sign:
NEAR, FAR = 0.04, 0.14                                                   # false up to NEAR, true from FAR on


def within(value: float, band: tuple[float, float, float, float]) -> bool | None:
    """Whether a number lies in a band; None in its margins."""
    a, b, c, d = band
    return True if b <= value <= c else None if a < value < d else False


def negate(value: bool | None) -> bool | None:
    """Kleene's not."""
    return None if value is None else not value


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
    return negate(every(map(negate, values)))


def fits(noun: Noun, thing: Object) -> bool | None:
    """Whether a thing may be called so."""
    if noun.name != thing.name:
        return False
    if not noun.size and not noun.place:
        return True                                            # most are bare
    horizontal, vertical = PLACES.get(noun.place, (ANY, ANY))
    return every((within(thing.size, SIZES.get(noun.size, ANY)), within(thing.x, horizontal),
                  within(thing.y, vertical)))


def related(a: Object, kind: str, b: Object) -> bool | None:
    """Whether thing a is left of, right of, above or below thing b."""
    axis, sign = RELATIONS[kind]
    distance = sign * (b.x - a.x if axis == "x" else b.y - a.y)
    return True if distance >= FAR else None if distance > NEAR else False


def visible(scene: Scene) -> tuple[Object, ...]:
    """The things whose centre no curtain hides."""
    if not scene.curtain:
        return scene.objects
    x0, y0, x1, y1 = scene.curtain
    return tuple([thing for thing in scene.objects if not (x0 <= thing.x <= x1 and y0 <= thing.y <= y1)])


def holds(form: Form, scene: Scene) -> bool | None:
    """Whether a form is true of a scene: True, False, or None where the picture cannot tell.

    It cannot tell within the margins, nor what only things wholly behind the curtain would decide (any number may
    stand there; a thing whose centre is hidden is not seen). All and Not follow Kleene: None where a part is None,
    unless another part decides. So of parts that depend on each other it may say None where the truth is known.
    """
    if isinstance(form, There):
        value = some([fits(form.noun, thing) for thing in visible(scene)])
        return None if not value and _hidden(form.noun, scene.curtain) else value
    if isinstance(form, Relation):
        return _relation(form, scene)
    if isinstance(form, All):
        return every(holds(part, scene) for part in form.parts)
    if isinstance(form, Count):
        values = [fits(form.noun, thing) for thing in visible(scene)]
        least = values.count(True)
        most = inf if _hidden(form.noun, scene.curtain) else least + values.count(None)
        return False if not least <= form.n <= most else True if least == most else None
    if isinstance(form, Background):
        return form.colour == scene.background
    return negate(holds(form.form, scene))


def _relation(form: Relation, scene: Scene) -> bool | None:
    left, right = ([(thing, value) for thing in visible(scene) if (value := fits(noun, thing)) is not False]
                   for noun in (form.a, form.b))
    value = some(every((fits_a, fits_b, related(a, form.kind, b))) for a, fits_a in left for b, fits_b in right)
    if scene.curtain and value is False:            # a pair of which one or both are hidden
        axis, sign = RELATIONS[form.kind]
        seen = [[(getattr(thing, axis),) * 2 for thing, _ in side] for side in (left, right)]
        behind = [[ranges[axis]] if (ranges := _hidden(noun, scene.curtain)) else [] for noun in (form.a, form.b)]
        pairs = [*product(seen[0], behind[1]), *product(behind[0], seen[1] + behind[1])]
        if any(sign * (end - start) > NEAR for a, b in pairs for start in a for end in b):
            return None
    return value


def _hidden(noun: Noun, curtain) -> dict[str, tuple[float, float]] | None:
    """Where the centre of such a thing may lie, wholly behind the curtain: ranges of x and of y; None: nowhere."""
    if not curtain:
        return None
    x0, y0, x1, y1 = curtain
    half = (SMALL_MAX if noun.size == "big" else SMALLEST) / 2
    ranges = {}
    for axis, low, high, band in zip("xy", (x0, y0), (x1, y1), PLACES.get(noun.place, (ANY, ANY))):
        low, high = max(low + half, band[0]), min(high - half, band[3])
        if low >= high:
            return None
        ranges[axis] = low, high
    return ranges


def needs(form: Form) -> set[str]:
    """Kinds of things without which a form cannot be true."""
    if isinstance(form, All):
        return set().union(*map(needs, form.parts))
    if isinstance(form, Relation):
        return {form.a.name, form.b.name}
    return {form.noun.name} if isinstance(form, There) or isinstance(form, Count) and form.n else set()
