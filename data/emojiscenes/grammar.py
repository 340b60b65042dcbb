"""Words for scenes: true captions, their English, and foils that differ from them in one thing."""
import json
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache
from pathlib import Path

from emojiscenes import language
from emojiscenes.language import (
    COLOURS,
    PLACES,
    All,
    Background,
    ColouredNoun,
    Count,
    Form,
    Noun,
    Object,
    Relation,
    Scene,
    There,
)
from emojiscenes.stream import Stream

NUMBERS = ("no", "one", "two", "three", "four")
KINDS = ("object", "size", "place", "relation", "count", "background")
OTHER_SIZE = {"small": "big", "big": "small"}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
CORNERS = tuple(place for place in PLACES if " " in place)
OTHER_PLACES = {
    "left": ("right",),
    "right": ("left",),
    "top": ("bottom",),
    "bottom": ("top",),
    "middle": (),
}
for _corner in CORNERS:
    OTHER_PLACES[_corner] = tuple(place for place in CORNERS if place != _corner)
SAID = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "above", "above", "over"),
    "below": ("below", "below", "below", "under"),
}
GROUNDS = ("on a {} background", "on a {} background", "on {}", "in front of {}")
WORDS = 16                                   # the longest caption
# words that each part of a caption takes, such as "in the top left corner"
PLACE_WORDS, RELATION_WORDS, GROUND_WORDS = 5, 4, 4
ARTWORK = Path(__file__).parent / "artwork"


@cache
def emoji() -> dict:
    """artwork/objects.json: the objects' names, articles and plurals, and their cells."""
    return json.loads((ARTWORK / "objects.json").read_text(encoding="utf-8"))


@cache
def words(name: str) -> tuple[str, str]:
    """Article and plural of a name, by the rule for an unknown one: an ape, apes."""
    for thing in emoji()["objects"]:
        if thing["name"] == name:
            return thing["article"], thing["plural"]
    article = "an" if name[0] in "aeiou" else "a"
    return article, name + "s"


# from a scene to a caption's form


@dataclass(slots=True, eq=False)
class _Unit:
    """Things that a caption speaks of together, and what it says of them."""

    things: list[Object]
    noun: Noun
    counted: bool


def size_of(thing: Object) -> str | None:
    """"small", "big", or None between."""
    if thing.size <= language.SMALL_MAX:
        return "small"
    if thing.size >= language.BIG_MIN:
        return "big"
    return None


@lru_cache(maxsize=64)                       # of one thing up to 60 expressions are drawn
def places_of(thing: Object) -> tuple[str, ...]:
    """Keys of PLACES at which a thing is, corners first."""
    places = []
    for place, (horizontal, vertical) in PLACES.items():
        if language.within(thing.x, horizontal) and language.within(thing.y, vertical):
            places.append(place)
    return tuple(places)


def caption(scene: Scene, stream: Stream, specific: bool = False, about: str = "") -> Form:
    """A form that is true of the scene, of at most WORDS words once rendered.

    specific: name everything, and say so much that few other scenes fit
    about: a kind of KINDS that is said wherever it can be (of place and relation not the other)
    """
    units = _units(scene, stream, specific, about)
    room = WORDS - 2 * len(units)
    for unit in units:
        if unit.noun.size is not None:
            room -= 1
    if len(units) > 1:
        room -= 1                                                # "and"
    if about == "background":
        room -= GROUND_WORDS
    pair = _relate(units, stream, room, about)
    if pair:
        room -= RELATION_WORDS
    free = [unit for unit in units if not pair or unit not in pair]
    sizes = about == "size" or stream.chance(0.6)
    room = _add_places(free, stream, room, specific, sizes, about, len(units))
    if sizes:
        room = _add_sizes(units, stream, room, about)
    parts: list[Form] = []
    if pair:
        parts.append(Relation(pair[0].noun, pair[1], pair[2].noun))
    for unit in free:
        if unit.counted:
            parts.append(Count(unit.noun, len(unit.things)))
        else:
            parts.append(There(unit.noun))
    # "a cat" alone fits too many scenes
    bare = len(units) == 1 and not units[0].noun.size and not units[0].noun.place
    if about == "background" or bare or room >= GROUND_WORDS and stream.chance(0.27):
        parts.append(Background(scene.background))
    if len(parts) == 1:
        return parts[0]
    return All(tuple(stream.shuffle(parts)))


def _units(scene: Scene, stream: Stream, specific: bool, about: str) -> list[_Unit]:
    """What to speak of, in a random order: each kind, or its small and its big ones apart."""
    units = []
    for name in dict.fromkeys(thing.name for thing in scene.objects):
        things = [thing for thing in scene.objects if thing.name == name]
        groups = [things]
        if len(things) > 1 and stream.chance(0.5):
            small = [thing for thing in things if size_of(thing) == "small"]
            big = [thing for thing in things if size_of(thing) == "big"]
            groups = [group for group in (small, big) if group]
        for group in groups:
            counted = stream.chance(_chance_of_count(len(group), specific, about))
            noun = Noun(name, size_of(group[0]) if len(groups) > 1 else None)
            if not counted:
                group = [stream.pick(group)]
            units.append(_Unit(group, noun, counted))
    units = stream.shuffle(units)
    if len(units) > 1 and not specific and not about and stream.chance(0.12):
        return units[1:]
    return units


def _chance_of_count(number: int, specific: bool, about: str) -> float:
    """How often a caption counts so many things of a kind."""
    if number > 1 and specific:
        return 1.0
    if number > 1 or about == "count":
        return 0.8
    return 0.08


def _relate(units: list[_Unit], stream: Stream, room: int, about: str
            ) -> tuple[_Unit, str, _Unit] | None:
    """Perhaps two units, and how they stand; None: the caption has no relation."""
    if room < RELATION_WORDS:
        return None
    if about == "relation" or about not in ("place", "count") and stream.chance(0.65):
        return _related_units(units, stream, about == "relation")
    return None


def _related_units(units: list[_Unit], stream: Stream, force: bool
                   ) -> tuple[_Unit, str, _Unit] | None:
    """Two units of one thing each, and how they stand; force: one of several will do, too."""
    single = [unit for unit in units if not unit.counted or force]
    if len(single) < 2:
        return None
    a, b = single[:2]
    x = stream.pick(a.things)
    y = stream.pick(b.things)
    kinds = language.relations_of(x, y)
    if not kinds:
        return None
    a.things = [x]
    b.things = [y]
    return a, stream.pick(kinds), b


def _add_places(units: list[_Unit], stream: Stream, room: int, specific: bool, sizes: bool,
                about: str, total: int) -> int:
    """Say of one or two units where they are: -> the words that are still free."""
    # not within a relation: "a cat on the left on the right of a dog" is no English
    reserve = total if about == "size" else 0                    # words for what it is about
    likely = 0.9 if specific and about not in ("size", "count") else 0.5
    if about != "place" and (about == "relation" or not stream.chance(likely)):
        return room
    number = 1
    if specific and not sizes and stream.chance(0.5):
        number = 2
    for unit in units[:number]:
        if room - reserve < PLACE_WORDS:
            continue
        places = list(places_of(unit.things[0]))
        for thing in unit.things[1:]:
            places = [place for place in places if place in places_of(thing)]
        if places:
            # a corner comes first
            place = places[0] if stream.chance(0.6) else stream.pick(places)
            unit.noun = replace(unit.noun, place=place)
            room -= PLACE_WORDS
    return room


def _add_sizes(units: list[_Unit], stream: Stream, room: int, about: str) -> int:
    """Say how big units are: -> the words that are still free."""
    for unit in units:
        size = size_of(unit.things[0])
        if not room or not size or unit.noun.size:
            continue
        if any(size_of(thing) != size for thing in unit.things):
            continue
        if about == "size" or stream.chance(0.85):
            unit.noun = replace(unit.noun, size=size)
            room -= 1
    return room


# from a form to English


def render(form: Form, stream: Stream) -> str:
    """Lower-case English. Equal streams choose equal phrases: a foil has one change."""
    parts = form.parts if isinstance(form, All) else (form,)
    grounds: list[str] = []
    facts: list[Form] = []
    for part in parts:
        if isinstance(part, Background):
            grounds.append(part.colour)
        else:
            facts.append(part)
    # relations last: "a dog, and an apple left of a cat" cannot be misread
    facts.sort(key=lambda part: isinstance(part, Relation))
    phrases = [_phrase(part, stream, alone=len(facts) == 1) for part in facts]
    text = ", ".join(phrases)
    if len(phrases) > 1:
        joint = ", and " if isinstance(facts[-1], Relation) else " and "
        text = ", ".join(phrases[:-1]) + joint + phrases[-1]
    there = stream.chance(0.15)
    front = stream.chance(0.3)
    ground = stream.pick(GROUNDS)
    fits = len(text.split()) <= WORDS - 2 - GROUND_WORDS * len(grounds)
    if there and facts and fits and " is " not in text:
        many = isinstance(facts[0], Count) and facts[0].n != 1
        text = f"there {'are' if many else 'is'} {text}"
    if not facts:
        return f"a {grounds[0]} background"
    if not grounds:
        return text
    ground = ground.format(grounds[0])
    if front:
        return f"{ground}, {text}"
    return f"{text} {ground}"


def turn(form: Form) -> Form:
    """The form with its relations said the other way round: b right of a, for a left of b."""
    if isinstance(form, All):
        return All(tuple(map(turn, form.parts)))
    if isinstance(form, Relation):
        return Relation(form.b, OPPOSITE[form.kind], form.a)
    return form


def phrase(noun: Noun, number: int | None = None, corner: bool = True) -> str:
    """A noun in words: "an apple"; with a number, "two small apples on the left".

    corner: say "in the ... corner"
    """
    article, plural = words(noun.name)
    qualities = [noun.size] if noun.size else []
    if isinstance(noun, ColouredNoun):
        qualities.append(noun.colour)
    if number is not None:
        first = NUMBERS[number]
    elif qualities:
        first = "a"                              # before all of them
    else:
        first = article
    name = noun.name if number in (None, 1) else plural
    text = " ".join([first, *qualities, name])
    if noun.place:
        return f"{text} {where(noun.place, corner)}"
    return text


def where(place: str, corner: bool = True) -> str:
    """A key of PLACES in words: "on the left". corner: say "in the ... corner"."""
    if place in CORNERS and corner:
        return f"in the {place} corner"
    if place == "middle":
        return "in the middle"
    if place in OPPOSITE:
        return f"on the {place}"
    return f"at the {place}"


def _phrase(part: Form, stream: Stream, alone: bool) -> str:
    match part:
        case There(noun):
            return phrase(noun, None, stream.chance(0.7))
        case Count(noun, n):
            return phrase(noun, n, stream.chance(0.7))
        case Relation():
            return _relation_phrase(part, stream, alone)
    raise ValueError(f"no words for {part!r}: use All of There, Count, Relation and Background, "
                     "or one of them")


def _relation_phrase(relation: Relation, stream: Stream, alone: bool) -> str:
    if stream.chance(0.5):
        relation = Relation(relation.b, OPPOSITE[relation.kind], relation.a)
    verb = stream.chance(0.15)
    way = stream.below(12)
    corner = stream.chance(0.7)
    ways = SAID[relation.kind]
    middle = ways[way % len(ways)]
    if verb and alone:
        middle = f"is {middle}"
    return f"{phrase(relation.a, None, corner)} {middle} {phrase(relation.b, None, corner)}"


def reword(relation: Relation, stream: Stream) -> str:
    """A relation of two bare nouns in an order of words that `render` never has."""
    wording = stream.pick(SAID[relation.kind])
    said_inversely = stream.pick(SAID[OPPOSITE[relation.kind]])
    a, b = relation.a, relation.b
    both = f"{phrase(a)} and {phrase(b)}"
    return stream.pick((
        f"{both}, the {a.name} {wording} the {b.name}",
        f"{both}, the {b.name} {said_inversely} the {a.name}",
        f"{wording} {phrase(b)} is {phrase(a)}",
        f"{phrase(b)} and, {wording} it, {phrase(a)}"))


# what a caption's words say


_DIRECTIONS = {"over": "above", "under": "below"}
_WORDS_OF_KIND = {
    "size": ("small", "big"),
    "place": ("top", "bottom", "left", "right", "middle"),
    "count": NUMBERS,
    "background": COLOURS,
    "relation": ("above", "over", "below", "under"),
    "other": tuple("a an the and of to on in at is are there front background corner".split()),
}
_KIND_OF_WORD = {word: kind for kind, group in _WORDS_OF_KIND.items() for word in group}


def kinds_of_word(text: str) -> list[str]:
    """The class of each white-space word of a rendered caption: one of KINDS, or "other".

    "left" and "right" belong to a relation before "of", else to a place.
    """
    caption_words = text.replace(",", "").split()
    kinds = []
    for word, after in zip(caption_words, [*caption_words[1:], ""]):
        if after == "of" and word in ("left", "right"):
            kinds.append("relation")
        else:
            kinds.append(_KIND_OF_WORD.get(word, "object"))
    return kinds


def directions(text: str) -> set[str]:
    """Keys of RELATIONS that a rendered caption says: {"left", "above"}."""
    keys = set()
    for word, kind in zip(text.replace(",", "").split(), kinds_of_word(text)):
        if kind == "relation":
            keys.add(_DIRECTIONS.get(word, word))
    return keys


# foils


def make_foil(form: Form, scene: Scene, kind: str, stream: Stream,
              names: Collection[str] = ()) -> Form | None:
    """The form with one thing of a kind of KINDS changed, false of the scene; None: it offers none.

    names: what an object may be renamed to
    Words alone may reveal a foil that is rarer than the truth; those of `Scenes.one_change` don't.
    """
    foils = stream.shuffle(changes(form, kind, stream.shuffle(names)[:4]))
    for foil in foils:
        if language.holds(foil, scene) is False:
            return foil
    return None


def changes(form: Form | Noun, kind: str, names: Collection[str] = ()) -> list:
    """The form with one thing of a kind changed, in every way.

    A size changes to the other, a place to one of the same sort (a corner to a corner), a relation
    to its opposite (of kind "direction" to any other direction), a count to another from 1 to 3, a
    colour or a name to another.
    """
    match kind, form:
        case "object", Noun(name):
            return [replace(form, name=new) for new in names if new != name]
        case "size", Noun(_, str(size)):
            return [replace(form, size=OTHER_SIZE[size])]
        case "colour", ColouredNoun():
            return [replace(form, colour=new) for new in COLOURS if new != form.colour]
        case "place", Noun(_, _, str(place)):
            return [replace(form, place=new) for new in OTHER_PLACES[place]]
        case "relation", Relation():
            return [replace(form, kind=OPPOSITE[form.kind])]
        case "direction", Relation():
            return [replace(form, kind=new) for new in OPPOSITE if new != form.kind]
        case "count", Count():
            return [replace(form, n=n) for n in (1, 2, 3) if n != form.n]
        case "background", Background():
            return [Background(colour) for colour in COLOURS if colour != form.colour]
        case _, All(parts):
            forms = []
            for i, part in enumerate(parts):
                for new in changes(part, kind, names):
                    forms.append(All((*parts[:i], new, *parts[i + 1:])))
            return forms
    return _changes_of_fields(form, kind, names)


def _changes_of_fields(form: Form | Noun, kind: str, names: Collection[str]) -> list:
    forms = []
    for field in fields(form):
        part = getattr(form, field.name)
        if isinstance(part, Form | Noun):
            for new in changes(part, kind, names):
                forms.append(replace(form, **{field.name: new}))
    return forms
