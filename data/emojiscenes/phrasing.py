"""Statements, questions, and claims about two images: what they mean, and their English."""
from collections.abc import Sequence
from dataclasses import dataclass

from emojiscenes import language
from emojiscenes.grammar import (
    COLOURS,
    NUMBERS,
    SAID,
    phrase,
    places_of,
    render,
    size_of,
    where,
    words,
)
from emojiscenes.language import (
    PLACES,
    All,
    Background,
    Count,
    Form,
    Not,
    Noun,
    Object,
    Relation,
    Scene,
    There,
)
from emojiscenes.stream import Stream

ASKED = ("what", "where", "how many", "background", "yes or no", "compare")   # kinds of questions
CLAIMED = ("only one", "one and other", "total", "same number", "same background",
           "both", "at least one", "left", "right")
NEEDS_BOTH = CLAIMED[:5]             # of these no image tells anything without the other
# as answers. In VQA's normal form they are digits, for which `tiny` has no tokens
NUMERALS = ("none", *NUMBERS[1:])
LIKE = {"red": "pink", "pink": "red", "blue": "purple", "purple": "blue", "brown": "black",
        "black": "brown", "yellow": "white", "white": "yellow", "green": "blue"}
STATEMENTS = ("{}", "there {is} {}", "there {is} {}", "the picture shows {}", "you see {}")
COMPARATIVES = {"higher up": "above", "lower down": "below", "more to the left": "left",
                "more to the right": "right"}
Fact = There | Count | Relation      # what `say` has words for
_PLACES = list(PLACES)
_RELATIONS = list(language.RELATIONS)


# statements


def make_form(things: Sequence[Object], stream: Stream, kinds: tuple[str, ...],
              colours: Sequence[str] = COLOURS) -> Form:
    """A form of one of these kinds, true of these things unless it counts or names a colour."""
    kind = stream.pick(kinds)
    thing = stream.pick(things)
    unlike = [candidate for candidate in things if candidate.name != thing.name]
    if kind == "object" or kind == "relation" and not unlike:
        return There(Noun(thing.name))
    if kind == "colour":
        return Background(stream.pick(colours))
    if kind == "background":
        part = make_form(things, stream, ("object", "size", "relation"))
        return All((part, Background(stream.pick(colours))))
    if kind == "relation":
        return _make_relation(thing, stream.pick(unlike), stream)
    size = size_of(thing) if kind == "size" or stream.chance(0.25) else None
    if kind == "count":
        return Count(Noun(thing.name, size), 1 + stream.below(3))
    if kind == "none":
        return Count(Noun(thing.name, size, stream.pick(_PLACES)), 0)
    place = place_of(thing, stream) if kind != "size" else None
    noun = Noun(thing.name, size, place)
    if kind == "some":
        return Count(noun, 2 if stream.chance(0.3) else 1)
    if kind == "two" and unlike:
        return All((There(noun), make_form(unlike, stream, ("object", "size"))))
    return There(noun)


def _make_relation(a: Object, b: Object, stream: Stream) -> Relation:
    kind = stream.pick(language.relations_of(a, b) or _RELATIONS)
    return Relation(Noun(a.name), kind, Noun(b.name))


def place_of(thing: Object, stream: Stream) -> str:
    """A key of PLACES where a thing is, or any where it is at none."""
    return stream.pick(places_of(thing) or _PLACES)


def _make_fact(things: Sequence[Object], stream: Stream, kinds: tuple[str, ...]) -> Fact:
    """`make_form` of kinds that give one fact."""
    form = make_form(things, stream, kinds)
    assert isinstance(form, Fact)
    return form


def noun_of(form: Fact) -> Noun:
    """What a fact is about; of a relation, its first thing."""
    if isinstance(form, Relation):
        return form.a
    return form.noun


def say(form: Fact, stream: Stream) -> str:
    """As the object of a sentence: "two cats on the left"."""
    if isinstance(form, Relation):
        return f"{phrase(form.a)} {stream.pick(SAID[form.kind])} {phrase(form.b)}"
    number = form.n if isinstance(form, Count) else None
    return phrase(form.noun, number, stream.chance(0.7))


def state(form: Form, stream: Stream) -> str:
    """A statement: as `grammar.render`, and often with a verb of its own."""
    text = render(form, stream).removeprefix("there is ").removeprefix("there are ")
    way = stream.pick(STATEMENTS)
    if " is " in text or text.startswith(("on ", "in ")):
        return text
    many = text.split()[0] in ("no", *NUMBERS[2:])
    return way.format(text, **{"is": "are" if many else "is"})


# questions


@dataclass(frozen=True, slots=True)
class Question:
    """options: answers, and the forms that make them right. given: presupposed, as of "the cat"."""

    kind: str
    text: str
    options: tuple[tuple[str, Form], ...]
    given: tuple[Form, ...] = ()


def answer(question: Question, scene: Scene) -> str | None:
    """The only right answer; None where there isn't one, or where the image cannot tell."""
    values = [language.holds(form, scene) for _, form in question.options]
    if None in values or values.count(True) != 1:
        return None
    for form in question.given:
        if not language.holds(form, scene):
            return None
    return question.options[values.index(True)][0]


def ask(kind: str, things: Sequence[Object], stream: Stream, colours: Sequence[str] = COLOURS
        ) -> Question:
    """A question of a kind of ASKED about scenes that show some of these things."""
    thing = stream.pick(things)
    names = list(dict.fromkeys(candidate.name for candidate in things))
    unlike = [name for name in names if name != thing.name]
    if kind == "what":
        return _ask_what(thing, names, unlike, stream)
    if kind == "where":
        return _ask_where(thing.name, stream)
    if kind == "how many":
        return _ask_how_many(thing, stream)
    if kind == "background":
        return _ask_background(thing.name, stream)
    if kind == "yes or no":
        about = ("object", "size", "place", "place", "count", "relation", "relation", "colour")
        return _ask_yes_or_no(make_form(things, stream, about, colours), stream)
    return _ask_compare(thing.name, stream.pick(unlike), stream)


def _only_one(name: str) -> Count:
    """What "the cat" presupposes."""
    return Count(Noun(name), 1)


def _ask_what(thing: Object, names: list[str], unlike: list[str], stream: Stream) -> Question:
    if unlike and stream.chance(0.85):
        relation = stream.pick(_RELATIONS)
        text = f"what is {stream.pick(SAID[relation])} the {thing.name}?"
        target = Noun(thing.name)
        options = tuple((name, Relation(Noun(name), relation, target)) for name in unlike)
        return Question("what", text, options, (_only_one(thing.name),))
    place = place_of(thing, stream)
    text = stream.pick(("what is {}?", "what is there {}?", "what do you see {}?"))
    text = text.format(where(place, stream.chance(0.7)))
    return Question("what", text, tuple((name, There(Noun(name, None, place))) for name in names))


def _ask_where(name: str, stream: Stream) -> Question:
    forms = {place: There(Noun(name, None, place)) for place in PLACES}
    # "left" is none of the corners
    corners = All(tuple(Not(form) for place, form in forms.items() if " " in place))
    options: list[tuple[str, Form]] = []
    for place, form in forms.items():
        if " " in place:
            options.append((place, form))
        else:
            options.append((place, All((form, corners))))
    ways = ("where is the {}?", "where do you see the {}?", "where is the {} in the picture?")
    text = stream.pick(ways).format(name)
    return Question("where", text, tuple(options), (_only_one(name),))


def _ask_how_many(thing: Object, stream: Stream) -> Question:
    size = size_of(thing)
    place = place_of(thing, stream)
    qualities: list[tuple[str | None, str | None]] = [
        (None, None), (None, None), (size, None), (None, place)]
    size_word, place_word = stream.pick(qualities)
    noun = Noun(thing.name, size_word, place_word)
    plural = words(thing.name)[1]
    many = f"{size_word} {plural}" if size_word else plural
    if place_word:
        way = stream.pick(("how many {} are {}?", "how many {} do you see {}?"))
        text = way.format(many, where(place_word, stream.chance(0.7)))
    else:
        way = stream.pick(("how many {} are there?", "how many {} do you see?"))
        text = way.format(many)
    options = tuple((numeral, Count(noun, n)) for n, numeral in enumerate(NUMERALS))
    return Question("how many", text, options)


def _ask_background(name: str, stream: Stream) -> Question:
    ways = ("what is the background?", "on what background is the {}?",
            "what background is behind the {}?")
    text = stream.pick(ways).format(name)
    options = tuple((colour, Background(colour)) for colour in COLOURS)
    presupposed = (_only_one(name),) if name in text else ()
    return Question("background", text, options, presupposed)


def _ask_yes_or_no(form: Form, stream: Stream) -> Question:
    options = (("yes", form), ("no", Not(form)))
    if isinstance(form, Background):
        return Question("yes or no", f"is the background {form.colour}?", options)
    assert isinstance(form, Fact)
    verb = "are" if isinstance(form, Count) and form.n > 1 else "is"
    start = f"{verb} there" if stream.chance(0.8) else "do you see"
    text = f"{start} {say(form, stream)}?"
    if not stream.chance(0.6):
        return Question("yes or no", text, options)
    # a definite question: "is the cat big?"
    if isinstance(form, Relation):
        text = f"is the {form.a.name} {stream.pick(SAID[form.kind])} the {form.b.name}?"
        return Question("yes or no", text, options, (Count(form.a, 1), Count(form.b, 1)))
    if isinstance(form, There) and bool(form.noun.size) != bool(form.noun.place):
        name = form.noun.name
        if form.noun.place:
            quality = where(form.noun.place, stream.chance(0.7))
        else:
            quality = str(form.noun.size)
        return Question("yes or no", f"is the {name} {quality}?", options, (_only_one(name),))
    return Question("yes or no", text, options)


def _ask_compare(a: str, b: str, stream: Stream) -> Question:
    word = stream.pick(("bigger", "smaller") if stream.chance(0.5) else tuple(COMPARATIVES))
    way = stream.pick(("which is {}, the {} or the {}?", "what is {}, the {} or the {}?"))
    options = ((a, _compare(word, a, b)), (b, _compare(word, b, a)))
    return Question("compare", way.format(word, a, b), options, (_only_one(a), _only_one(b)))


def _compare(word: str, first: str, second: str) -> Form:
    """The first is so, compared with the second."""
    if word in COMPARATIVES:
        return Relation(Noun(first), COMPARATIVES[word], Noun(second))
    big, small = (first, second) if word == "bigger" else (second, first)
    return All((There(Noun(big, "big")), There(Noun(small, "small"))))


def near(question: Question, right: str) -> list[str]:
    """What someone may say who looked less well."""
    if question.kind == "where":
        parts = right.split()
        alike = []
        for place in PLACES:
            if place != right and (place in parts or right in place.split()):
                alike.append(place)
        return alike or ["left", "right"]
    if question.kind == "how many":
        n = NUMERALS.index(right)
        return [NUMERALS[m] for m in (n - 1, n + 1) if 0 <= m < len(NUMERALS)]
    if question.kind == "background":
        return [LIKE[right]]
    return [name for name, _ in question.options if name != right] or [right]


# claims about two images


@dataclass(frozen=True, slots=True)
class Claim:
    """kind: of CLAIMED. negated: it denies that. other: of the other image. n: how many in all."""

    kind: str
    form: Fact
    negated: bool = False
    other: Fact | None = None
    n: int = 0


def true_of(claim: Claim, left: Scene, right: Scene) -> bool | None:
    """Whether a claim is true of two images; None where they cannot tell."""
    if claim.kind in ("total", "same number"):
        return _count_is_true(claim, left, right)
    a = language.holds(claim.form, left)
    b = language.holds(claim.form, right)
    if a is None or b is None:
        return None
    if claim.kind == "one and other":
        assert claim.other is not None
        c = language.holds(claim.other, left)
        d = language.holds(claim.other, right)
        if c is None or d is None:
            return None
        return a and d or b and c
    if claim.kind == "same background":
        if not (a and b):
            return None
        return (left.background == right.background) != claim.negated
    values = {"only one": a != b, "both": a and b, "at least one": a or b, "left": a, "right": b}
    return values[claim.kind]


def number_of(name: str, scene: Scene) -> int:
    """How many of a kind a scene has."""
    return sum(thing.name == name for thing in scene.objects)


def _count_is_true(claim: Claim, left: Scene, right: Scene) -> bool:
    name = noun_of(claim.form).name
    a = number_of(name, left)
    b = number_of(name, right)
    value = a + b == claim.n if claim.kind == "total" else a == b
    return value != claim.negated


SAYINGS = {
    "only one": ("only one picture shows {0}", "only one of the two pictures shows {0}",
                 "there {is} {0} in only one picture"),
    "one and other": ("one picture shows {0} and the other {1}",
                      "there is {0} in one picture and {1} in the other"),
    "total": ("there {is} {0} in total", "the pictures show {0} in total",
              "there {is} {0} in the two pictures together"),
    "same number": ("both pictures show the same number of {1}",
                    "the number of {1} is the same in both pictures"),
    "not same number": ("one picture shows more {1} than the other",
                        "the number of {1} is not the same in both pictures"),
    "same background": ("both pictures show {0} on the same background",
                        "the {2} has the same background in both pictures"),
    "not same background": ("both pictures show {0}, but not on the same background",
                            "the {2} does not have the same background in both pictures"),
    "both": ("both pictures show {0}", "each picture shows {0}",
             "there {is} {0} in both pictures"),
    "at least one": ("at least one picture shows {0}", "one picture or both show {0}",
                     "there {is} {0} in one picture or both"),
    "left": ("the left picture shows {0}", "in the left picture, there {is} {0}"),
    "right": ("the right picture shows {0}", "in the right picture, there {is} {0}"),
}


def claim(kind: str, things: Sequence[Object], stream: Stream) -> tuple[Claim, str]:
    """A claim of a kind of CLAIMED about two images of some of these things, and its English."""
    number = 0
    extra = None
    if kind in ("total", "same number"):
        number = 2 + stream.below(3)
        form: Fact = Count(Noun(stream.pick(things).name), number)
    elif kind == "same background":
        form = There(Noun(stream.pick(things).name))
    elif kind == "one and other":
        form, extra = _make_two(things, stream)
    else:
        about = ("object", "object", "size", "place", "count", "relation")
        form = _make_fact(things, stream, about)
    negated = kind.startswith("same") and stream.chance(0.5)
    name = noun_of(form).name
    way = stream.pick(SAYINGS[f"not {kind}" if negated else kind])
    first = say(form, stream)
    second = say(extra, stream) if extra else words(name)[1]
    verb = "are" if isinstance(form, Count) and form.n > 1 else "is"
    text = way.format(first, second, name, **{"is": verb})
    return Claim(kind, form, negated, extra, number), text


def _make_two(things: Sequence[Object], stream: Stream) -> tuple[Fact, Fact]:
    """What one image shows, and what the other: two kinds of things, or one kind in two ways."""
    about = (stream.pick(("object", "size", "place")),)
    form = _make_fact(things, stream, about)
    same_kind = about != ("object",)
    name = noun_of(form).name
    candidates = [thing for thing in things if (thing.name == name) == same_kind]
    return form, _make_fact(candidates or things, stream, about)
