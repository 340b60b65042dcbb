"""Words for scenes: true captions, their English, and foils that differ from them in one thing."""
import json
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache

from minalbef.data import data_folder
from minalbef.scenes import language
from minalbef.scenes.language import PLACES, All, Background, Count, Form, Noun, Object, Relation, Scene, There
from minalbef.scenes.stream import Stream

COLOURS = ("red", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
NUMBERS = ("no", "one", "two", "three", "four")
KINDS = ("object", "size", "place", "relation", "count", "background")
OTHER_SIZE = {"small": "big", "big": "small"}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
CORNERS = tuple(place for place in PLACES if " " in place)
OTHER_PLACES = {"left": ("right",), "right": ("left",), "top": ("bottom",), "bottom": ("top",), "middle": (),
                **{corner: tuple(other for other in CORNERS if other != corner) for corner in CORNERS}}
SAID = {"left": ("left of", "to the left of", "on the left of"),
        "right": ("right of", "to the right of", "on the right of"),
        "above": ("above", "above", "above", "over"), "below": ("below", "below", "below", "under")}
GROUNDS = ("on a {} background", "on a {} background", "on {}", "in front of {}")
WORDS = 16                                   # the longest caption


@cache
def emoji() -> dict:
    """data/emoji/objects.json: the objects' names, articles and plurals, and where they stand in the sheets."""
    return json.loads((data_folder() / "emoji" / "objects.json").read_text(encoding="utf-8"))


@cache
def words(name: str) -> tuple[str, str]:
    """Article and plural of a name; an unknown one follows the rule: "an" before a vowel, "s" at the end."""
    for thing in emoji()["objects"]:
        if thing["name"] == name:
            return thing["article"], thing["plural"]
    return "an" if name[0] in "aeiou" else "a", name + "s"


@dataclass(slots=True, eq=False)
class _Unit:
    """Things that a caption speaks of together, and what it says of them."""

    things: list[Object]
    noun: Noun
    counted: bool


def size_of(thing: Object) -> str | None:
    """"small", "big", or None between."""
    return "small" if thing.size <= language.SMALL_MAX else "big" if thing.size >= language.BIG_MIN else None


@lru_cache(maxsize=64)                       # of one thing up to 60 expressions are drawn
def places_of(thing: Object) -> tuple[str, ...]:
    """Keys of PLACES at which a thing is, corners first."""
    return tuple(place for place, (horizontal, vertical) in PLACES.items()
                 if language.within(thing.x, horizontal) and language.within(thing.y, vertical))


def caption(scene: Scene, stream: Stream, specific: bool = False, about: str = "") -> Form:
    """A form that is true of the scene, of at most WORDS words once rendered.

    specific: name everything, and say so much that few other scenes fit
    about: a kind of KINDS is said wherever it can be (and of place and relation not the other); others change nothing
    """
    units = _units(scene, stream, specific, about)
    room = WORDS - 2 * len(units) - sum(unit.noun.size is not None for unit in units)
    if len(units) > 1:
        room -= 1                                                # "and"
    if about == "background":
        room -= 4
    related = room >= 4 and (about == "relation" or about not in ("place", "count") and stream.chance(0.65))
    pair = _related_units(units, stream, about == "relation") if related else None
    if pair:
        room -= 4
    free = [unit for unit in units if not pair or unit not in pair]
    sizes = about == "size" or stream.chance(0.6)
    kept = len(units) if about == "size" else 0                  # room for what it is about
    likely = 0.9 if specific and about not in ("size", "count") else 0.5
    if about == "place" or about != "relation" and stream.chance(likely):
        # not within a relation: "a cat on the left on the right of a dog" is no English
        for unit in free[:2 if specific and not sizes and stream.chance(0.5) else 1]:
            places = [place for place in places_of(unit.things[0])
                      if all(place in places_of(thing) for thing in unit.things[1:])] if room - kept >= 5 else []
            if places:
                place = places[0] if stream.chance(0.6) else stream.pick(places)      # a corner stands first
                unit.noun, room = replace(unit.noun, place=place), room - 5
    for unit in units:
        size = size_of(unit.things[0])
        if sizes and room and size and not unit.noun.size and all(size_of(thing) == size for thing in unit.things) \
                and (about == "size" or stream.chance(0.85)):
            unit.noun, room = replace(unit.noun, size=size), room - 1
    parts: list[Form] = [Relation(pair[0].noun, pair[1], pair[2].noun)] if pair else []
    parts += [Count(unit.noun, len(unit.things)) if unit.counted else There(unit.noun) for unit in free]
    bare = len(units) == 1 and not units[0].noun.size and not units[0].noun.place      # "a cat" fits too many scenes
    if about == "background" or bare or room >= 4 and stream.chance(0.27):
        parts.append(Background(scene.background))
    return parts[0] if len(parts) == 1 else All(tuple(stream.shuffle(parts)))


def _units(scene: Scene, stream: Stream, specific: bool, about: str) -> list[_Unit]:
    """What to speak of, in a random order: each kind of thing, or its small and its big ones apart."""
    units = []
    for name in dict.fromkeys(thing.name for thing in scene.objects):
        things = [thing for thing in scene.objects if thing.name == name]
        parts = [things]
        if len(things) > 1 and stream.chance(0.5):
            parts = [part for size in OTHER_SIZE if (part := [thing for thing in things if size_of(thing) == size])]
        for part in parts:
            several = len(part) > 1
            counted = stream.chance(1.0 if several and specific else 0.8 if several or about == "count" else 0.08)
            noun = Noun(name, size_of(part[0]) if len(parts) > 1 else None)
            units.append(_Unit(part if counted else [stream.pick(part)], noun, counted))
    units = stream.shuffle(units)
    return units[1:] if len(units) > 1 and not specific and not about and stream.chance(0.12) else units


def _related_units(units: list[_Unit], stream: Stream, force: bool) -> tuple[_Unit, str, _Unit] | None:
    """Two units of one thing each, and how they stand; force: one of several will do, too."""
    single = [unit for unit in units if not unit.counted or force]
    if len(single) < 2:
        return None
    a, b = single[:2]
    x, y = stream.pick(a.things), stream.pick(b.things)
    kinds = [kind for kind in language.RELATIONS if language.related(x, kind, y)]
    if not kinds:
        return None
    a.things, b.things = [x], [y]
    return a, stream.pick(kinds), b


def render(form: Form, stream: Stream) -> str:
    """Lower-case English. Equal streams choose equal phrases, so a form and its foil differ in one change only."""
    parts = form.parts if isinstance(form, All) else (form,)
    grounds = [part.colour for part in parts if isinstance(part, Background)]
    # relations last: "a dog, and an apple left of a cat" cannot be misread
    said = [part for part in parts if not isinstance(part, Background)]
    said.sort(key=lambda part: isinstance(part, Relation))
    phrases = [_phrase(part, stream, alone=len(said) == 1) for part in said]
    text = ", ".join(phrases)
    if len(phrases) > 1:
        joint = ", and " if isinstance(said[-1], Relation) else " and "
        text = ", ".join(phrases[:-1]) + joint + phrases[-1]
    there, front, ground = stream.chance(0.15), stream.chance(0.3), stream.pick(GROUNDS)
    if there and said and len(text.split()) <= WORDS - 2 - 4 * len(grounds) and " is " not in text:
        text = ("there are " if isinstance(said[0], Count) and said[0].n != 1 else "there is ") + text
    if not said:
        return f"a {grounds[0]} background"
    if not grounds:
        return text
    ground = ground.format(grounds[0])
    return f"{ground}, {text}" if front else f"{text} {ground}"


def turn(form: Form) -> Form:
    """The form with its relations said the other way round, to the same effect: b right of a, for a left of b."""
    if isinstance(form, All):
        return All(tuple(map(turn, form.parts)))
    return Relation(form.b, OPPOSITE[form.kind], form.a) if isinstance(form, Relation) else form


def phrase(noun: Noun, number: int | None = None, corner: bool = True) -> str:
    """A noun in words: "an apple"; with a number, "two small apples on the left". corner: say "in the ... corner"."""
    article, plural = words(noun.name)
    first = NUMBERS[number] if number is not None else "a" if noun.size else article
    text = " ".join(filter(None, (first, noun.size, noun.name if number in (None, 1) else plural)))
    return f"{text} {where(noun.place, corner)}" if noun.place else text


def where(place: str, corner: bool = True) -> str:
    """A key of PLACES in words: "on the left". corner: say "in the ... corner"."""
    if place in CORNERS and corner:
        return f"in the {place} corner"
    return f"{'in' if place == 'middle' else 'on' if place in OPPOSITE else 'at'} the {place}"


def _phrase(part: Form, stream: Stream, alone: bool) -> str:
    match part:
        case There(noun):
            return phrase(noun, None, stream.chance(0.7))
        case Count(noun, n):
            return phrase(noun, n, stream.chance(0.7))
        case Relation(a, kind, b):
            turned, verb, way, corner = stream.chance(0.5), stream.chance(0.15), stream.below(12), stream.chance(0.7)
            if turned:
                a, kind, b = b, OPPOSITE[kind], a
            said = SAID[kind][way % len(SAID[kind])]
            return f"{phrase(a, None, corner)} {'is ' if verb and alone else ''}{said} {phrase(b, None, corner)}"
    raise ValueError(f"no words for {part!r}: use All of There, Count, Relation and Background, or one of them")


_DIRECTIONS = {**dict(zip(OPPOSITE, OPPOSITE)), "over": "above", "under": "below"}
_OTHER = "a an the and of to on in at is are there front background corner"
_KIND_OF_WORD = {word: kind for kind, some in {
    "size": OTHER_SIZE, "place": "top bottom left right middle".split(), "count": NUMBERS, "background": COLOURS,
    "relation": "above over below under".split(), "other": _OTHER.split()}.items() for word in some}


def kinds_of_word(text: str) -> list[str]:
    """The class of each white-space word of a rendered caption: one of KINDS, or "other".

    "left" and "right" belong to a relation before "of", else to a place.
    """
    said = [word.strip(",") for word in text.split()]
    return ["relation" if after == "of" and word in ("left", "right") else _KIND_OF_WORD.get(word, "object")
            for word, after in zip(said, [*said[1:], ""])]


def directions(text: str) -> set[str]:
    """Keys of RELATIONS that a rendered caption says: {"left", "above"}."""
    said = [word.strip(",") for word in text.split()]
    return {_DIRECTIONS[word] for word, kind in zip(said, kinds_of_word(text)) if kind == "relation"}


def make_foil(form: Form, scene: Scene, kind: str, stream: Stream, names=()) -> Form | None:
    """The form with one thing of a kind of KINDS changed, false of the scene; None: it offers none.

    names: what an object may be renamed to. Words alone may reveal such a foil, if it is rarer in captions than the
    truth; `Scenes.one_change` gives pairs for which they can't.
    """
    foils = stream.shuffle(changes(form, kind, stream.shuffle(names)[:4]))
    return next((foil for foil in foils if language.holds(foil, scene) is False), None)


def changes(form: Form | Noun, kind: str, names=()) -> list:
    """The form with one thing of a kind changed, in every way: a size to the other, a place to one of the same sort (a
    corner to a corner), a relation to its opposite, a count to another from 1 to 3, a colour or a name to another.

    The kind "direction" changes a relation to any of the three other directions.
    """
    match kind, form:
        case "object", Noun(name):
            return [replace(form, name=new) for new in names if new != name]
        case "size", Noun(_, str(size)):
            return [replace(form, size=OTHER_SIZE[size])]
        case "place", Noun(_, _, str(place)):
            return [replace(form, place=new) for new in OTHER_PLACES[place]]
        case "relation", Relation():
            return [replace(form, kind=OPPOSITE[form.kind])]
        case "direction", Relation():
            return [replace(form, kind=other) for other in OPPOSITE if other != form.kind]
        case "count", Count():
            return [replace(form, n=n) for n in (1, 2, 3) if n != form.n]
        case "background", Background():
            return [Background(colour) for colour in COLOURS if colour != form.colour]
        case _, All(parts):
            return [All((*parts[:i], new, *parts[i + 1:])) for i, part in enumerate(parts)
                    for new in changes(part, kind, names)]
    return [replace(form, **{field.name: new}) for field in fields(form)             # or one thing of a part
            if isinstance(part := getattr(form, field.name), Form | Noun) for new in changes(part, kind, names)]
