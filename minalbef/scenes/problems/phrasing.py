"""Statements, questions, and claims about two pictures: what they mean, and their English."""
from collections.abc import Sequence
from dataclasses import dataclass

from minalbef.scenes import language
from minalbef.scenes.grammar import COLOURS, NUMBERS, SAID, phrase, places_of, render, size_of, where, words
from minalbef.scenes.language import PLACES, All, Background, Count, Form, Not, Noun, Object, Relation, Scene, There
from minalbef.scenes.stream import Stream

ASKED = ("what", "where", "how many", "background", "yes or no", "compare")   # kinds of questions
CLAIMED = ("only one", "one and other", "total", "same number", "same background",
           "both", "at least one", "left", "right")
NEEDS_BOTH = CLAIMED[:5]             # of these no picture tells anything without the other
NUMERALS = ("none", *NUMBERS[1:])    # as answers. In VQA's normal form they are digits, for which `tiny` has no tokens
LIKE = {"red": "pink", "pink": "red", "blue": "purple", "purple": "blue", "brown": "black", "black": "brown",
        "yellow": "white", "white": "yellow", "green": "blue"}
STATEMENTS = ("{}", "there {is} {}", "there {is} {}", "the picture shows {}", "you see {}")
COMPARATIVES = {"higher up": "above", "lower down": "below", "more to the left": "left", "more to the right": "right"}
_PLACES, _RELATIONS = list(PLACES), list(language.RELATIONS)


def make_form(things: Sequence[Object], stream: Stream, kinds: tuple[str, ...], colours=COLOURS) -> Form:
    """A form of a kind picked from `kinds`, true of a scene of these things unless it counts or names a colour."""
    kind, pick = stream.pick(kinds), stream.pick
    thing = pick(things)
    others = [other for other in things if other.name != thing.name]
    if kind == "object" or kind == "relation" and not others:
        return There(Noun(thing.name))
    if kind == "colour":
        return Background(pick(colours))
    if kind == "background":
        return All((make_form(things, stream, ("object", "size", "relation")), Background(pick(colours))))
    if kind == "relation":
        other = pick(others)
        ways = [way for way in language.RELATIONS if language.related(thing, way, other)]
        return Relation(Noun(thing.name), pick(ways or _RELATIONS), Noun(other.name))
    size = size_of(thing) if kind == "size" or stream.chance(0.25) else None
    if kind == "count":
        return Count(Noun(thing.name, size), 1 + stream.below(3))
    if kind == "none":
        return Count(Noun(thing.name, size, pick(_PLACES)), 0)
    noun = Noun(thing.name, size, place_of(thing, stream) if kind != "size" else None)
    if kind == "some":
        return Count(noun, 2 if stream.chance(0.3) else 1)
    if kind == "two" and others:
        return All((There(noun), make_form(others, stream, ("object", "size"))))
    return There(noun)


def place_of(thing: Object, stream: Stream) -> str:
    return stream.pick(places_of(thing) or _PLACES)


def say(form: There | Count | Relation, stream: Stream) -> str:
    """As the object of a sentence: "two cats on the left"."""
    if isinstance(form, Relation):
        return f"{phrase(form.a)} {stream.pick(SAID[form.kind])} {phrase(form.b)}"
    return phrase(form.noun, form.n if isinstance(form, Count) else None, stream.chance(0.7))


def state(form: Form, stream: Stream) -> str:
    """A statement: as `grammar.render`, and often with a verb of its own."""
    text, way = render(form, stream).removeprefix("there is ").removeprefix("there are "), stream.pick(STATEMENTS)
    if " is " in text or text.startswith(("on ", "in ")):
        return text
    return way.format(text, **{"is": "are" if text.split()[0] in ("no", *NUMBERS[2:]) else "is"})


@dataclass(frozen=True, slots=True)
class Question:
    """options: each answer, and the form that makes it right. given: what is presupposed: "the cat" is one cat."""

    kind: str
    text: str
    options: tuple[tuple[str, Form], ...]
    given: tuple[Form, ...] = ()


def answer(question: Question, scene: Scene) -> str | None:
    """The only right answer; None where there are several or none, or where the picture cannot tell."""
    values = [language.holds(form, scene) for _, form in question.options]
    if None in values or values.count(True) != 1 or not all(language.holds(form, scene) for form in question.given):
        return None
    return question.options[values.index(True)][0]


def ask(kind: str, things: Sequence[Object], stream: Stream, colours=COLOURS) -> Question:
    """A question of a kind of ASKED about scenes that show some of these things."""
    pick, thing = stream.pick, stream.pick(things)
    names, a = list(dict.fromkeys(thing.name for thing in things)), thing.name
    given, others = (Count(Noun(a), 1),), [name for name in names if name != a]
    if kind == "what" and others and stream.chance(0.85):
        relation = pick(_RELATIONS)
        text = f"what is {pick(SAID[relation])} the {a}?"
        return Question(kind, text, tuple((name, Relation(Noun(name), relation, Noun(a))) for name in others), given)
    if kind == "what":
        place, text = place_of(thing, stream), pick(("what is {}?", "what is there {}?", "what do you see {}?"))
        text = text.format(where(place, stream.chance(0.7)))
        return Question(kind, text, tuple((name, There(Noun(name, None, place))) for name in names))
    if kind == "where":
        at = {place: There(Noun(a, None, place)) for place in PLACES}
        corners = All(tuple(Not(form) for place, form in at.items() if " " in place))          # "left" is none of them
        options = tuple((place, form if " " in place else All((form, corners))) for place, form in at.items())
        text = pick(("where is the {}?", "where do you see the {}?", "where is the {} in the picture?")).format(a)
        return Question(kind, text, options, given)
    if kind == "how many":
        noun = Noun(a, *pick(((None, None), (None, None), (size_of(thing), None), (None, place_of(thing, stream)))))
        many = " ".join(filter(None, (noun.size, words(a)[1])))
        ways = ("how many {} are {}?", "how many {} do you see {}?") if noun.place else (
            "how many {} are there?", "how many {} do you see?")
        text = pick(ways).format(many, where(noun.place, stream.chance(0.7)) if noun.place else "")
        return Question(kind, text, tuple((NUMERALS[n], Count(noun, n)) for n in range(len(NUMERALS))))
    if kind == "background":
        ways = ("what is the background?", "on what background is the {}?", "what background is behind the {}?")
        text = pick(ways).format(a)
        return Question(kind, text, tuple((colour, Background(colour)) for colour in COLOURS),
                        given if a in text else ())
    if kind == "yes or no":
        about = ("object", "size", "place", "place", "count", "relation", "relation", "colour")
        form = make_form(things, stream, about, colours)
        return Question(kind, *_yes_or_no(form, stream))
    return Question(kind, *_compare(a, pick(others), stream))


def _compare(a: str, b: str, stream: Stream) -> tuple:
    word = stream.pick(("bigger", "smaller") if stream.chance(0.5) else tuple(COMPARATIVES))
    def form(first: str, second: str) -> Form:
        if word in COMPARATIVES:
            return Relation(Noun(first), COMPARATIVES[word], Noun(second))
        big, small = (first, second) if word == "bigger" else (second, first)
        return All((There(Noun(big, "big")), There(Noun(small, "small"))))
    text = stream.pick(("which is {}, the {} or the {}?", "what is {}, the {} or the {}?")).format(word, a, b)
    return text, ((a, form(a, b)), (b, form(b, a))), (Count(Noun(a), 1), Count(Noun(b), 1))


def _yes_or_no(form: Form, stream: Stream) -> tuple:
    if isinstance(form, Background):
        return f"is the background {form.colour}?", (("yes", form), ("no", Not(form)))
    verb = "are" if isinstance(form, Count) and form.n > 1 else "is"
    text, given = f"{f'{verb} there' if stream.chance(0.8) else 'do you see'} {say(form, stream)}?", ()
    definite = stream.chance(0.6)
    if definite and isinstance(form, Relation):
        given = Count(form.a, 1), Count(form.b, 1)
        text = f"is the {form.a.name} {stream.pick(SAID[form.kind])} the {form.b.name}?"
    elif definite and isinstance(form, There) and bool(form.noun.size) != bool(form.noun.place):
        given = (Count(Noun(form.noun.name), 1),)
        text = f"is the {form.noun.name} {form.noun.size or where(form.noun.place, stream.chance(0.7))}?"
    return text, (("yes", form), ("no", Not(form))), given


def near(question: Question, right: str) -> list[str]:
    """What someone may say who looked less well."""
    if question.kind == "where":
        alike = [place for place in PLACES if place != right and (place in right.split() or right in place.split())]
        return alike or ["left", "right"]
    if question.kind == "how many":
        n = NUMERALS.index(right)
        return [NUMERALS[m] for m in (n - 1, n + 1) if 0 <= m < len(NUMERALS)]
    if question.kind == "background":
        return [LIKE[right]]
    return [name for name, _ in question.options if name != right] or [right]


# claims about two pictures


@dataclass(frozen=True, slots=True)
class Claim:
    """kind: of CLAIMED. negated: it denies that. other: what the other picture shows. n: how many in total."""

    kind: str
    form: There | Count | Relation
    negated: bool = False
    other: There | None = None
    n: int = 0


def true_of(claim: Claim, left: Scene, right: Scene) -> bool | None:
    """Whether a claim is true of two pictures; None where they cannot tell."""
    if claim.kind in ("total", "same number"):
        a, b = (sum(thing.name == claim.form.noun.name for thing in scene.objects) for scene in (left, right))
        return (a + b == claim.n if claim.kind == "total" else a == b) != claim.negated
    a, b = language.holds(claim.form, left), language.holds(claim.form, right)
    if a is None or b is None:
        return None
    if claim.kind == "one and other":
        c, d = language.holds(claim.other, left), language.holds(claim.other, right)
        return None if c is None or d is None else a and d or b and c
    if claim.kind == "same background":
        return (left.background == right.background) != claim.negated if a and b else None
    return {"only one": a != b, "both": a and b, "at least one": a or b, "left": a, "right": b}[claim.kind]


SAYINGS = {
    "only one": ("only one picture shows {0}", "only one of the two pictures shows {0}",
                 "there {is} {0} in only one picture"),
    "one and other": ("one picture shows {0} and the other {1}", "there is {0} in one picture and {1} in the other"),
    "total": ("there {is} {0} in total", "the pictures show {0} in total",
              "there {is} {0} in the two pictures together"),
    "same number": ("both pictures show the same number of {1}", "the number of {1} is the same in both pictures"),
    "not same number": ("one picture shows more {1} than the other",
                        "the number of {1} is not the same in both pictures"),
    "same background": ("both pictures show {0} on the same background",
                        "the {2} has the same background in both pictures"),
    "not same background": ("both pictures show {0}, but not on the same background",
                            "the {2} does not have the same background in both pictures"),
    "both": ("both pictures show {0}", "each picture shows {0}", "there {is} {0} in both pictures"),
    "at least one": ("at least one picture shows {0}", "one picture or both show {0}",
                     "there {is} {0} in one picture or both"),
    "left": ("the left picture shows {0}", "in the left picture, there {is} {0}"),
    "right": ("the right picture shows {0}", "in the right picture, there {is} {0}")}


def claim(kind: str, things: Sequence[Object], stream: Stream) -> tuple[Claim, str]:
    """Something of a kind of CLAIMED about two pictures that show some of these things, and its English."""
    n, other = 0, None
    if kind in ("total", "same number"):
        n = 2 + stream.below(3)
        form: Form = Count(Noun(stream.pick(things).name), n)
    elif kind == "same background":
        form = There(Noun(stream.pick(things).name))
    elif kind == "one and other":
        about = (stream.pick(("object", "size", "place")),)
        form = make_form(things, stream, about)
        alike = [thing for thing in things if (thing.name == form.noun.name) == (about != ("object",))] or things
        other = make_form(alike, stream, about)
    else:
        form = make_form(things, stream, ("object", "object", "size", "place", "count", "relation"))
    negated = kind.startswith("same") and stream.chance(0.5)
    name = form.a.name if isinstance(form, Relation) else form.noun.name
    text = stream.pick(SAYINGS[f"not {kind}" if negated else kind]).format(
        say(form, stream), say(other, stream) if other else words(name)[1], name,
        **{"is": "are" if isinstance(form, Count) and form.n > 1 else "is"})
    return Claim(kind, form, negated, other, n), text
