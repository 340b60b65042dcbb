"""A stress test's questions: sentences unlike those of training, about scenes whose truth is known.

Pairs at the edges, relations at right angles, counts, look-alikes, colours, half-truths, other
orders of words. A question is two pairs of scene and sentence, a true and a false one.
"""
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, cycle
from typing import NamedTuple

from emojiscenes import language
from emojiscenes.grammar import COLOURS, NUMBERS, OPPOSITE, phrase
from emojiscenes.language import (
    COLOURED,
    RELATIONS,
    All,
    Background,
    Noun,
    Object,
    Relation,
    Scene,
    There,
)
from emojiscenes.layout import draw_sizes, layout
from emojiscenes.stage import Stage, flip
from emojiscenes.stream import Stream

Pair = tuple[Scene, str]
Bounds = tuple[tuple[float, float] | None, tuple[float, float] | None]      # of x and of y


class Contrast(NamedTuple):
    """A question: both pairs have the same scene, or the same sentence."""

    true: Pair
    false: Pair


SAYING = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
SIDEWAYS, UPRIGHT = ("left", "right"), ("above", "below")
ANYWHERE: Bounds = (None, None)
# by edge: its outer 40%, and the relations that are asked there
EDGES: dict[str, tuple[Bounds, tuple[str, str]]] = {
    "left": (((0.0, 0.4), None), SIDEWAYS), "right": (((0.6, 1.0), None), SIDEWAYS),
    "top": ((None, (0.0, 0.4)), UPRIGHT), "bottom": ((None, (0.6, 1.0)), UPRIGHT)}
# by the axis of a relation: both objects on one side of the middle; relations at right angles to it
HALVES: dict[str, tuple[Bounds, Bounds]] = {"x": (((0.0, 0.5), None), ((0.5, 1.0), None)),
                                            "y": ((None, (0.0, 0.5)), (None, (0.5, 1.0)))}
PERPENDICULAR = {"x": UPRIGHT, "y": SIDEWAYS}
ADDITIONS = ("object", "size", "place", "relation", "background")


# sentences

def name(thing: str) -> str:
    """An object's name with its article: an apple."""
    return phrase(Noun(thing))


def relate(first: str, kind: str, second: str) -> str:
    """In training's words: an apple left of a cat."""
    return f"{name(first)} {SAYING[kind]} {name(second)}"


def relate_named(first: str, kind: str, second: str) -> str:
    """As two objects and then their relation: an apple and a cat, the apple left of the cat."""
    return f"{name(first)} and {name(second)}, the {first} {SAYING[kind]} the {second}"


def relate_inverted(first: str, kind: str, second: str) -> str:
    """In an order that training never has: left of a cat is an apple."""
    return f"{SAYING[kind]} {name(second)} is {name(first)}"


# questions

def draw_pair(stage: Stage, stream: Stream,
              fits: Callable[[Object, Object], bool | None] | None = None,
              bounds: Bounds = ANYWHERE, names: Sequence[str] = ()) -> Scene:
    """A scene of two different objects for which `fits(first, second)`, if there is such a rule.

    bounds: of their centres. names: of the two kinds, random ones by default
    """
    while True:
        kinds = names or stage.kinds(stream, 2)
        sizes = draw_sizes(stream, 2)
        spots = layout(stream, sizes, bounds=bounds)
        if spots is None:
            continue
        things = [stage.thing(kind, x, y, size, stream) for kind, (x, y, size) in zip(kinds, spots)]
        if fits is None or fits(*things):
            return stage.with_background(tuple(things), stream)


def ask_relation(stage: Stage, stream: Stream, kinds: Sequence[str] = tuple(RELATIONS),
                 bounds: Bounds = ANYWHERE, one_half: bool = False, across: bool = False,
                 straight: bool = False,
                 sentence: Callable[[str, str, str], str] = relate) -> Contrast:
    """A true relation of two objects; false: the opposite one.

    kinds: of the true relation. bounds: of the objects' centres
    one_half: both stand on one side of the middle, so that no single place tells the relation
    across: the false relation is at right angles to the true one
    straight: the two stand in a line along the true relation: none at right angles to it holds
    """
    kind = stream.pick(kinds)
    axis = RELATIONS[kind][0]
    other_axis = "y" if axis == "x" else "x"
    directions = PERPENDICULAR[axis] if across else (OPPOSITE[kind],)

    def foils(first: Object, second: Object) -> list[str]:
        return [foil for foil in directions if language.related(first, foil, second) is False]

    def fits(first: Object, second: Object) -> bool:
        offset = abs(getattr(first, other_axis) - getattr(second, other_axis))
        if straight and offset > language.NEAR:
            return False
        return language.related(first, kind, second) is True and bool(foils(first, second))

    if one_half:
        bounds = stream.pick(HALVES[axis])
    scene = draw_pair(stage, stream, fits, bounds)
    first, second = scene.objects
    foil = stream.pick(foils(first, second))
    true = sentence(first.name, kind, second.name)
    false = sentence(first.name, foil, second.name)
    return Contrast((scene, true), (scene, false))


def ask_among_four(stage: Stage, stream: Stream) -> Contrast:
    """A true relation of two of four different objects; false: the opposite one."""
    kinds: list[str] = []
    while not kinds:
        scene = stage.scene(stream, (1, 1, 1, 1))
        first, second = scene.objects[:2]
        kinds = language.relations_of(first, second)
    kind = stream.pick(kinds)
    true = relate(first.name, kind, second.name)
    false = relate(first.name, OPPOSITE[kind], second.name)
    return Contrast((scene, true), (scene, false))


def ask_negation(stage: Stage, stream: Stream) -> Contrast:
    """An apple not left of a cat: true of one scene, and false of its mirror image."""
    kind = stream.pick(tuple(RELATIONS))
    scene = draw_pair(stage, stream, lambda first, second: language.related(first, kind, second))
    first, second = scene.objects
    mirrored = replace(scene, objects=flip(scene.objects, RELATIONS[kind][0]))
    text = f"{name(first.name)} not {SAYING[kind]} {name(second.name)}"
    return Contrast((mirrored, text), (scene, text))


def ask_count(stage: Stage, stream: Stream, count: int, false_count: int) -> Contrast:
    """The number of objects of one kind, which are alone in the picture; false: another number."""
    scene = stage.scene(stream, (count,))
    noun = Noun(scene.objects[0].name)
    return Contrast((scene, phrase(noun, count)), (scene, phrase(noun, false_count)))


def ask_other_object(stage: Stage, stream: Stream, false_object: str) -> Contrast:
    """An apple left of a cat; false: something else in place of the cat."""
    scene = draw_pair(stage, stream, names=("apple", "cat"),
                      fits=lambda first, second: language.related(first, "left", second))
    false = relate("apple", "left", false_object)
    return Contrast((scene, relate("apple", "left", "cat")), (scene, false))


def ask_colour(stage: Stage, stream: Stream, whose: str) -> Contrast:
    """One of two objects by its colour; false: by another colour. stage: of COLOURED alone

    whose: the false colour is the "other object"'s, the "background"'s, or seen "nowhere"
    """
    while True:
        scene = draw_pair(stage, stream)
        first, second = (thing.name for thing in scene.objects)
        present = {COLOURED[first], COLOURED[second], scene.background}
        if len(present) == 3:
            break
    nowhere = stream.pick([colour for colour in COLOURS if colour not in present])
    colours = {"other object": COLOURED[second], "background": scene.background, "nowhere": nowhere}
    true = f"a {COLOURED[first]} {first} and {name(second)}"
    false = f"a {colours[whose]} {first} and {name(second)}"
    return Contrast((scene, true), (scene, false))


def draw_addition(stage: Stage, stream: Stream, scene: Scene, about: str
                  ) -> tuple[language.Form, str]:
    """The first object and something more about it, true or not: as a form and in words."""
    first, second = scene.objects
    noun = Noun(first.name)
    match about:
        case "object":
            partner = Noun(stream.pick((second.name, stream.pick(stage.names))))
            return All((There(noun), There(partner))), f"{phrase(noun)} and {phrase(partner)}"
        case "size":
            noun = replace(noun, size=stream.pick(tuple(language.SIZES)))
            return There(noun), phrase(noun)
        case "place":
            noun = replace(noun, place=stream.pick(tuple(language.PLACES)))
            return There(noun), phrase(noun)
        case "relation":
            kind = stream.pick(tuple(RELATIONS))
            relation = Relation(noun, kind, Noun(second.name))
            return relation, relate(first.name, kind, second.name)
    colour = stream.pick(COLOURS)
    form = All((There(noun), Background(colour)))
    return form, f"{phrase(noun)} on a {colour} background"


def ask_addition(stage: Stage, stream: Stream, about: str, added: bool) -> Contrast:
    """The name of one of two objects; false: the same with something added, one of ADDITIONS.

    added: whether the addition is true; if it is, no answer is wrong, and it's a control
    """
    while True:
        scene = draw_pair(stage, stream)
        form, text = draw_addition(stage, stream, scene, about)
        if language.holds(form, scene) is added:
            return Contrast((scene, name(scene.objects[0].name)), (scene, text))


QUESTIONS: dict[str, Callable[[Stage, Stream], Contrast]] = {
    "relation, anywhere": ask_relation,
    "relation, within one half": partial(ask_relation, one_half=True),
    **{f"relation, {edge} edge, {SAYING[kind]}": partial(ask_relation, kinds=(kind,), bounds=bounds)
       for edge, (bounds, kinds) in EDGES.items() for kind in kinds},
    "relation, among four objects": ask_among_four,
    "right angles, anywhere": partial(ask_relation, across=True),
    "right angles, within one half": partial(ask_relation, across=True, one_half=True),
    "right angles, straight, side by side":
        partial(ask_relation, kinds=SIDEWAYS, across=True, straight=True),
    "right angles, straight, one above the other":
        partial(ask_relation, kinds=UPRIGHT, across=True, straight=True),
    "A and B, the A left of the B": partial(ask_relation, sentence=relate_named),
    "left of a B is an A": partial(ask_relation, sentence=relate_inverted),
    "not": ask_negation,
    **{f"{NUMBERS[count]} of a kind, not {NUMBERS[false_count]}":
        partial(ask_count, count=count, false_count=false_count)
       for count, false_count in ((1, 2), (2, 1), (2, 3), (3, 1), (3, 2))},
    **{f"left of a cat, not of a {thing}": partial(ask_other_object, false_object=thing)
       for thing in ("dog", "rocket")},
    **{f"colour, {whose}": partial(ask_colour, whose=whose)
       for whose in ("other object", "background", "nowhere")},
    **{f"half-truth, {about}": partial(ask_addition, about=about, added=False)
       for about in ADDITIONS},
    **{f"control: true addition, {about}": partial(ask_addition, about=about, added=True)
       for about in ADDITIONS},
}

# by the kinds of an evaluation's report: titles of QUESTIONS, which take turns
TITLES: dict[str, tuple[str, ...]] = {
    "relation_anywhere": ("relation, anywhere",),
    "relation_in_one_half": ("relation, within one half",),
    **{f"relation_at_{edge}_edge": tuple(f"relation, {edge} edge, {SAYING[kind]}" for kind in kinds)
       for edge, (_, kinds) in EDGES.items()},
    "relation_at_right_angles": ("right angles, straight, side by side",
                                 "right angles, straight, one above the other"),
    "three_of_a_kind_not_two": ("three of a kind, not two",),
    "left_of_a_cat_not_of_a_dog": ("left of a cat, not of a dog",),
    "false_colour_of_background": ("colour, background",),
    "false_colour_of_other_object": ("colour, other object",),
    "false_colour_seen_nowhere": ("colour, nowhere",),
    "half_truth": tuple(f"half-truth, {about}" for about in ADDITIONS),
    "relation_after_both_names": ("A and B, the A left of the B",),
    "relation_before_both_names": ("left of a B is an A",),
    "negation": ("not",),
}


def stage_for(title: str, objects: int | tuple[str, ...],
              vendors: tuple[str, ...] | None = None) -> Stage | None:
    """Where a question's scenes are drawn; None: it needs objects that these are not.

    objects, vendors: as of `Scenes`
    """
    stage = Stage(objects, (1.0,), vendors, "seen")
    if title == "half-truth, object" and len(stage.names) < 3:
        return None                              # nothing that isn't there could be added
    if title.startswith("left of a cat"):
        needs = {"apple", "cat", title.split()[-1]}
        return stage if needs <= set(stage.names) else None
    if not title.startswith("colour, "):
        return stage
    coloured = tuple(thing for thing in COLOURED if thing in stage.names)
    for pair in combinations(coloured, 2):
        if len({COLOURED[thing] for thing in pair}) == 2 and frozenset(pair) not in stage.apart:
            return Stage(coloured, (1.0,), vendors, "seen")
    return None


def draw(kind: str, count: int, split: str, seed: int, objects: int | tuple[str, ...],
         vendors: tuple[str, ...] | None = None) -> list[Contrast]:
    """`count` questions of a kind of TITLES; none where they need other objects.

    Splits have different questions, though not different sentences: those are too few.
    """
    stages = {}
    for title in TITLES[kind]:
        stage = stage_for(title, objects, vendors)
        if stage is None:
            return []
        stages[title] = stage
    contrasts = []
    for i, (title, stage) in zip(range(count), cycle(stages.items())):
        contrasts.append(QUESTIONS[title](stage, Stream("stress", split, seed, kind, i)))
    return contrasts
