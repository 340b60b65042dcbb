"""language: what is true of a scene in full sight; test_problems.py has what a curtain hides."""

import itertools
import random

from emojiscenes.language import (
    RELATIONS,
    All,
    Background,
    Count,
    Not,
    Noun,
    Object,
    Relation,
    Scene,
    There,
    holds,
)

APPLE = Noun("apple")


# truth, against another, slower implementation
def slowly(form, things, background):
    """Three-valued truth of a scene in full sight, written from the rules.

    0 is false, 1 unknown, 2 true.
    """

    def band(value, true, false):  # true at one end, false at the other
        if (value - true) * (true - false) >= 0:
            return 2
        return 0 if (value - false) * (true - false) <= 0 else 1

    def size(thing, word):
        if word is None:
            return 2
        return band(thing.size, 0.35, 0.28) if word == "big" else band(thing.size, 0.28, 0.35)

    def place(thing, words):
        low = {"left": thing.x, "right": 1 - thing.x, "top": thing.y, "bottom": 1 - thing.y}
        if words == "middle":
            from_middle = max(abs(thing.x - 0.5), abs(thing.y - 0.5))
            return band(from_middle, 0.07, 0.11)
        farthest = max((low[word] for word in (words or "").split()), default=0.0)
        return band(farthest, 0.39, 0.43)

    def noun(thing, noun):
        return min(2 * (thing.name == noun.name), size(thing, noun.size), place(thing, noun.place))

    match form:
        case There():
            return max((noun(thing, form.noun) for thing in things), default=0)
        case Count():
            options = [{2: (1,), 1: (0, 1), 0: (0,)}[noun(thing, form.noun)] for thing in things]
            hits = {sum(each) == form.n for each in itertools.product(*options)}
            return 1 if len(hits) == 2 else 2 * hits.pop()
        case Relation():
            ahead = {
                "left": lambda a, b: b.x - a.x,
                "right": lambda a, b: a.x - b.x,
                "above": lambda a, b: b.y - a.y,
                "below": lambda a, b: a.y - b.y,
            }[form.kind]
            values = [0]
            for a, b in itertools.permutations(things, 2):
                distance = band(ahead(a, b), 0.14, 0.04)
                values.append(min(noun(a, form.a), noun(b, form.b), distance))
            return max(values)
        case Background():
            return 2 * (form.colour == background)
        case All():
            return min([2, *(slowly(part, things, background) for part in form.parts)])
        case Not():
            return 2 - slowly(form.form, things, background)


VALUE = {0: False, 1: None, 2: True}
PLACED = (None, "top right", "left", "bottom", "middle")
NOUNS = list(
    itertools.starmap(Noun, itertools.product(("apple", "cat"), (None, "small", "big"), PLACED))
)
PLAIN = [noun for noun in NOUNS if noun.place is None]
ATOMS = list(map(There, NOUNS))
ATOMS += itertools.starmap(Count, itertools.product(PLAIN, range(3)))
PAIRS = itertools.product(PLAIN[:2] + NOUNS[1:2], (APPLE, PLAIN[3], PLAIN[5]), RELATIONS)
for _first, _second, _kind in PAIRS:
    ATOMS.append(Relation(_first, _kind, _second))


def random_things(chance):
    """Up to three things anywhere."""
    things = []
    for _ in range(chance.randrange(4)):
        name = chance.choice(("apple", "cat"))
        x = chance.random()
        y = chance.random()
        size = chance.uniform(0.2, 0.45)
        things.append(Object(name, x, y, size, "noto"))
    return tuple(things)


def test_in_full_sight_truth_agrees_with_the_slow_version():
    chance = random.Random(0)
    values = []
    for _ in range(200):
        things = random_things(chance)
        parts = chance.sample(ATOMS, 20)
        parts += [All(tuple(parts[:2])), Not(parts[3]), Not(All((parts[4], Not(parts[5]))))]
        for form in parts:
            value = holds(form, Scene(things, "red"))
            assert value is VALUE[slowly(form, things, "red")], (form, things)
            values.append(value)
    for value in (True, False, None):
        assert values.count(value) > 100
