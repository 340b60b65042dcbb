"""More kinds of minimal pairs: at an edge, in a line, alone, of a colour, in other orders of words.

A kind draws two scenes that differ in one thing, or None where the change did not come off.
"""
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from emojiscenes.grammar import caption, render, reword
from emojiscenes.language import (
    COLOURED,
    COLOURS,
    NEAR,
    All,
    ColouredNoun,
    Form,
    Noun,
    Object,
    Relation,
    Scene,
    There,
    colour_of,
    relations_of,
)
from emojiscenes.layout import draw_sizes, layout
from emojiscenes.stage import Stage, transpose
from emojiscenes.stream import Stream

EDGE = 0.4                                     # an edge's share of the image
LINE = NEAR / 2                                # two in a line are no further off it
ALIKE = 5                                      # objects so near in the list of names are alike

TwoScenes = tuple[Scene, Scene] | None


def at_edge(stage: Stage, stream: Stream) -> TwoScenes:
    """Two objects near one edge, and exchanged along it: no half of the image tells who is left."""
    axis = stream.pick(("x", "y"))
    low = stream.pick((0.0, 1 - EDGE))
    bounds = (low, low + EDGE)
    scene = _pair(stage, stream, (bounds, None) if axis == "x" else (None, bounds))
    if scene is None:
        return None
    a, b = scene.objects
    centre = (a.x + b.x) / 2 if axis == "x" else (a.y + b.y) / 2
    moved = []
    for thing in (a, b):
        place = 2 * centre - getattr(thing, axis)
        if not thing.size / 2 <= place <= 1 - thing.size / 2:
            return None
        moved.append(replace(thing, **{axis: place}))
    return scene, replace(scene, objects=tuple(moved))


def in_a_line(stage: Stage, stream: Stream) -> TwoScenes:
    """Two objects side by side, or one above the other; and turned by a right angle."""
    middle = stream.uniform(0.2, 0.8)
    line = (middle - LINE, middle + LINE)
    bounds = (None, line) if stream.chance(0.5) else (line, None)
    scene = _pair(stage, stream, bounds)
    if scene is None:
        return None
    return scene, replace(scene, objects=transpose(scene.objects, stream))


def alone(stage: Stage, stream: Stream) -> TwoScenes:
    """One, two or three of a kind and nothing else; and another number of them.

    Two and three, which are the hardest to tell apart, are half of the pairs.
    """
    first, second = stream.shuffle(stream.pick(((1, 2), (1, 3), (2, 3), (2, 3))))
    scene = stage.scene(stream, (3,))
    return (replace(scene, objects=scene.objects[:first]),
            replace(scene, objects=scene.objects[:second]))


def coloured(stage: Stage, stream: Stream) -> TwoScenes:
    """Two objects, one of which has two colours: its own, the other's, the background's, any."""
    scene = _pair(stage, stream)
    if scene is None:
        return None
    thing, partner = scene.objects
    if stream.chance(0.5):
        partner = recolour(partner, stream.pick(COLOURS), scene.background)
    likely = [scene.background, colour_of(partner), COLOURED.get(thing.name)]
    colours = [colour for colour in likely if colour] + [stream.pick(COLOURS)] * 2
    first, second = stream.shuffle(colours)[:2]
    if first == second or scene.background == "black" and "black" in (first, second):
        return None                            # an outline is black, too
    painted = [recolour(thing, colour, scene.background) for colour in (first, second)]
    return (replace(scene, objects=(painted[0], partner)),
            replace(scene, objects=(painted[1], partner)))


def recolour(thing: Object, colour: str, background: str) -> Object:
    """In a colour, by its own drawing where that has it; on the same colour with an outline."""
    vendor = thing.vendor
    if colour == background:
        vendor = vendor.partition("+")[0] + "+outlined"
    if COLOURED.get(thing.name) != colour:
        vendor += f"+{colour}"
    return replace(thing, vendor=vendor)


def name_colour(scene: Scene, stream: Stream) -> Form | None:
    """The first object with its colour, and the other: together, or in a relation."""
    thing, partner = scene.objects
    colour = colour_of(thing)
    assert colour is not None, "the thing was painted"
    noun = ColouredNoun(thing.name, colour=colour)
    rest = Noun(partner.name)
    kinds = relations_of(thing, partner)
    if kinds and stream.chance(0.5):
        return Relation(noun, stream.pick(kinds), rest)
    return All((There(noun), There(rest)))


def replaced(stage: Stage, stream: Stream) -> TwoScenes:
    """Two objects, and something else in place of one of them, in half of the pairs its like."""
    scene = _pair(stage, stream)
    if scene is None:
        return None
    old = stream.pick(scene.objects).name
    place = stage.names.index(old)
    names = stage.names
    if stream.chance(0.5):                     # animals stand beside animals, fruits beside fruits
        names = names[max(0, place - ALIKE):place + ALIKE + 1]
    things = stage.put_in_place(scene.objects, old, stream.pick(names), stream)
    if things is None:
        return None
    return scene, replace(scene, objects=things)


def exchanged(stage: Stage, stream: Stream) -> TwoScenes:
    """Two objects, and the two in each other's place."""
    scene = _pair(stage, stream)
    if scene is None:
        return None
    a, b = scene.objects
    return scene, replace(scene, objects=(replace(a, x=b.x, y=b.y), replace(b, x=a.x, y=a.y)))


def relate(scene: Scene, stream: Stream) -> Form | None:
    """How the two objects stand, by their names alone; None where they stand in no relation."""
    a, b = stream.shuffle(scene.objects)
    kinds = relations_of(a, b)
    if not kinds:
        return None
    return Relation(Noun(a.name), stream.pick(kinds), Noun(b.name))


def _pair(stage: Stage, stream: Stream, bounds: tuple = (None, None)) -> Scene | None:
    """Two objects of different kinds within bounds of x and y; None: no room."""
    sizes = draw_sizes(stream, 2)
    spots = layout(stream, sizes, bounds=bounds)
    if spots is None:
        return None
    things = [stage.thing(name, x, y, size, stream)
              for name, (x, y, size) in zip(stage.kinds(stream, 2), spots)]
    return stage.with_background(tuple(things), stream)


class SiblingKind(NamedTuple):
    """A kind of minimal pair: its scenes, their captions' forms, how they differ, their words."""

    scenes: Callable[[Stage, Stream], TwoScenes]
    form: Callable[[Scene, Stream], Form | None]       # true of the first; None: draw again
    foils: str                                         # how it becomes false, see grammar.changes
    say: Callable[[Any, Stream], str] = render


CONTRASTS = {
    "edge": SiblingKind(at_edge, partial(caption, specific=True, about="relation"), "relation"),
    "line": SiblingKind(in_a_line, partial(caption, specific=True, about="relation"), "direction"),
    "alone": SiblingKind(alone, partial(caption, specific=True, about="count"), "count"),
    "colour": SiblingKind(coloured, name_colour, "colour"),
    "partner": SiblingKind(replaced, relate, "object"),
    "order": SiblingKind(exchanged, relate, "relation", reword),
}
