"""The embedded data: scenes with captions, siblings, families and foils, each a pure function of its number."""
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from minalbef.scenes.grammar import KINDS, caption, changes, directions, make_foil, render
from minalbef.scenes.language import RELATIONS, All, Form, Relation, Scene, holds, needs
from minalbef.scenes.painting import other_objects, paint
from minalbef.scenes.stage import Stage, flip
from minalbef.scenes.stream import Stream

__all__ = ["Drawn", "Scenes", "other_objects", "paint", "truth"]
FAMILIES = ("size", "place", "relation", "count", "mixed")
SPLITS = {"train": range(2, 10), "validation": (1,), "test": (0,)}     # each has its tenths of all captions
SPLIT_OF_TENTH = {tenth: split for split, tenths in SPLITS.items() for tenth in tenths}
SIBLINGS = tuple("relation relation place place place size size size count count background".split())     # so often
LESSON = ("left", "above", "")                # a third of a lesson's siblings say "left of" alone; "": any direction


def split_of(text: str) -> str:
    """The split that a caption belongs to, for good."""
    return SPLIT_OF_TENTH[zlib.crc32(text.encode()) % 10]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A scene and its caption, as a form and in words.

    voice: text is render(form, Stream(voice)), so a foil can be said alike
    kind: in what it differs from its sibling or family; "" for neither. noise: how the caption was spoilt, or ""
    """

    scene: Scene
    form: Form
    text: str
    id: int
    voice: int = 0
    kind: str = ""
    noise: str = ""


class Scenes:
    """Examples by number, without end; equal arguments give equal examples, everywhere and for ever.

    split: "train", "validation" or "test"; they share no scene and no caption
    seed: another seed, other scenes. size: side of the pictures of `picture`
    objects: how many kinds, from the first on, or their names
    counts: shares of scenes with 1, 2, 3, (4) objects
    siblings: share of neighbours 2g and 2g + 1 that are a minimal pair: two scenes that differ in one thing of a kind
        of SIBLINGS, each with a caption that is false of the other, so that neither words nor pictures alone tell
    lesson: siblings differ in a relation, and two thirds of them say one direction alone, see LESSON
    sibling_pairs: so many neighbours, again and again, of which the share `siblings` are pairs; 0: each is new
    epoch: how many make an epoch: len(scenes)
    noise: shares of captions with one thing wrong, with words missing, and of other scenes' captions; in training only
    vendors: whose artwork, by default of all that are for training
    restyle: share of drawings given an outline or flat colours, so that more styles are seen than there are vendors
    pairs: "seen"; or each scene has a pair of objects that training never shows ("unseen"), or one of as many that it
        does show ("control"): two tests that differ in this alone
    specific: captions that few other scenes fit, by default outside training

    Raises ValueError for what does not exist or cannot be done.
    """

    def __init__(self, split: str, seed: int = 0, size: int = 48, objects: int | tuple[str, ...] = 64,
                 counts: tuple[float, ...] = (0.3, 0.5, 0.2), siblings: float = 0.0, epoch: int = 100_000,
                 noise: tuple[float, float, float] = (0.0, 0.0, 0.0), vendors: tuple[str, ...] | None = None,
                 pairs: str = "seen", specific: bool | None = None, restyle: float = 0.0, lesson: bool = False,
                 sibling_pairs: int = 0):
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        if any(noise) and split != "train":
            raise ValueError(f"noise={noise} in the {split} split: only training captions may be spoilt")
        if not 0 <= restyle <= 1:
            raise ValueError(f"restyle={restyle} is a share, between 0 and 1")
        self.split, self.seed, self.size, self.siblings, self.epoch = split, seed, size, siblings, epoch
        self.noise, self.lesson, self.sibling_pairs = noise, lesson, sibling_pairs
        self.stage = Stage(objects, counts, vendors, pairs, restyle)
        self.names, self.vendors = self.stage.names, self.stage.vendors
        self.specific = split != "train" if specific is None else specific

    def __len__(self) -> int:
        return self.epoch

    def draw(self, index: int) -> Drawn:
        """A scene and a true caption (but for noise)."""
        group = index // 2
        if int((group + 1) * self.siblings + 1e-9) > int(group * self.siblings + 1e-9):
            drawn = self._siblings(group % self.sibling_pairs if self.sibling_pairs else group)[index % 2]
        else:
            stream, drawn = Stream(self.split, self.seed, index), None
            while not drawn:            # a scene of three like things has few captions, perhaps none for a small split
                drawn = self._caption(self.stage.scene(stream), stream, index, self.specific)
        return self._spoil(drawn) if any(self.noise) else drawn

    def place(self, index: int) -> Scene:
        """A scene without caption, in less time: in training without siblings, that of `draw`."""
        return self.stage.scene(Stream(self.split, self.seed, index))

    def picture(self, drawn: Drawn) -> np.ndarray:
        """uint8 (size, size, 3)"""
        return paint(drawn.scene, self.size)

    def family(self, index: int, most: int = 0) -> list[Drawn]:
        """Four scenes of the same kinds of objects and background; each caption is true of its own scene alone.

        They differ in "size", "place", "relation", "count" or "mixed" (a size and an arrangement), in turn: the `kind`.
        most: so many objects, where counts differ in one scene one less; by default 2 or 3
        """
        kind, seed = FAMILIES[index % len(FAMILIES)], (self.split, self.seed, "family", index)
        stream = Stream(*seed, most) if most else Stream(*seed)
        while True:
            scenes = self.stage.family(kind, stream, most)
            family = self._tell_apart(scenes, stream, 4 * index, kind) if scenes else None
            if family:
                return family

    def captions(self, drawn: Drawn, number: int, others=()) -> list[Drawn]:
        """The same with so many different captions of this split, its own first; each false of the other scenes."""
        stream, found = Stream(self.split, self.seed, "captions", drawn.id, drawn.text), {drawn.text: drawn}
        for _ in range(30 * number):
            if len(found) == number:
                return list(found.values())
            if new := self._caption(drawn.scene, stream, drawn.id, self.specific, drawn.kind, others):
                found[new.text] = new
        raise ValueError(f"only {len(found) - 1} captions found besides {drawn.text!r}; ask for fewer than {number}")

    def one_change(self, index: int, kind: str, one_half: bool = False) -> tuple[Drawn, Form, str]:
        """A scene with a true caption, a foil (the caption with one thing of a kind of KINDS changed), and its words.

        It is the first of `minimal_pair`, whose order is random: words alone can't tell the caption from the foil.
        """
        shown, other = self.minimal_pair(index, kind, one_half)
        return shown, other.form, other.text

    def minimal_pair(self, index: int, kind: str, one_half: bool = False) -> tuple[Drawn, Drawn]:
        """Two scenes that differ in one thing of a kind of KINDS, each with a sentence true of it alone; in any order.

        The sentences are said alike. Outside training neither is a caption of training.
        one_half: of a relation, whose objects both stand on one side of the middle, see `in_one_half`
        """
        if kind not in KINDS:
            raise ValueError(f"no kind of change {kind!r}; there are {', '.join(KINDS)}")
        stream = Stream(self.split, self.seed, "one change", kind, *["one half"] * one_half, index)
        for scene, other, form, foil in self._minimal(stream, kind, kind, self.specific, crowded=one_half):
            for _ in range(40 if not one_half or in_one_half(form, scene) and in_one_half(foil, other) else 0):
                voice = stream.below(1 << 30)
                text, wrong = (render(each, Stream(voice)) for each in (form, foil))
                if all((split_of(each) == "train") == (self.split == "train") for each in (text, wrong)):
                    pair = (Drawn(scene, form, text, index, voice, kind), Drawn(other, foil, wrong, index, voice, kind))
                    return pair[::-1] if stream.chance(0.5) else pair

    def _minimal(self, stream: Stream, kind: str, foils: str, specific: bool, axis: str = "",
                 crowded: bool = False) -> Iterator[tuple[Scene, Scene, Form, Form]]:
        """Endless: two scenes that differ in one thing of a kind, each with a form that is false of the other.

        foils: how the forms differ, see `grammar.changes`. axis: the scenes are each other's mirror image along it
        crowded: often all objects stand in one half of the picture, so that the half does not tell the relation
        """
        while True:
            scene = self.stage.scene(stream, roomy=not crowded, crowded=crowded)
            other = (replace(scene, objects=flip(scene.objects, axis)) if axis
                     else self.stage.change(scene, "arrangement" if crowded else kind, stream))
            if not other:
                continue
            form = caption(scene, stream, specific, kind)
            new = {thing.name for thing in other.objects} - {thing.name for thing in scene.objects}
            found = [foil for foil in changes(form, foils, new) if holds(foil, other) and holds(foil, scene) is False]
            if found and holds(form, other) is False:
                yield scene, other, form, stream.pick(found)

    def _caption(self, scene: Scene, stream: Stream, id: int, specific: bool, kind: str = "",
                 others=()) -> Drawn | None:
        """The scene with a caption of this split, about `kind` and false of the others; None: not found."""
        for _ in range(300):
            form = caption(scene, stream, specific, kind)
            if all(holds(form, other) is False for other in others):
                voice = stream.below(1 << 30)
                text = render(form, Stream(voice))
                if split_of(text) == self.split:
                    return Drawn(scene, form, text, id, voice, kind)
        return None

    def _tell_apart(self, scenes: list[Scene], stream: Stream, first: int, kind: str) -> list[Drawn] | None:
        """Each scene with a caption about `kind` that is false of the other scenes; None: not found. first: id."""
        found = []
        for id, scene in enumerate(scenes, first):
            others = [other for other in scenes if other is not scene]
            if not (drawn := self._caption(scene, stream, id, True, kind, others)):
                return None
            found.append(drawn)
        return found

    @lru_cache(maxsize=8)                   # the neighbour is asked for next
    def _siblings(self, group: int) -> list[Drawn]:
        """Two scenes that differ in one thing, each with a caption that is false of the other."""
        stream = Stream(self.split, self.seed, "siblings", self.lesson, group)
        kind = "relation" if self.lesson else stream.pick(SIBLINGS)
        alone = LESSON[group % len(LESSON)] if self.lesson else ""
        axis, foils = RELATIONS[alone][0] if alone else "", "direction" if kind == "relation" and not alone else kind
        for found in self._minimal(stream, kind, foils, True, axis, kind == "relation" and not self.lesson):
            for _ in range(40):
                voices = stream.below(1 << 30), stream.below(1 << 30)
                pair = [Drawn(scene, form, render(form, Stream(voice)), 2 * group + i, voice, kind)
                        for i, (scene, form, voice) in enumerate(zip(found[:2], found[2:], voices))]
                if all(split_of(one.text) == self.split and (not alone or directions(one.text) == {alone})
                       for one in pair):
                    return pair

    def _spoil(self, drawn: Drawn) -> Drawn:
        """Perhaps with another caption. Its form is that of the sentence; with words missing, of the whole sentence."""
        stream = Stream(self.split, self.seed, "noise", drawn.id)
        point, (wrong, missing, foreign) = stream.random(), self.noise
        if point < wrong:
            for kind in stream.shuffle(KINDS):
                form = make_foil(drawn.form, drawn.scene, kind, stream, self.names)
                if form and split_of(text := render(form, Stream(drawn.voice))) == self.split:
                    return replace(drawn, form=form, text=text, noise="wrong")
        elif point < wrong + missing:
            for _ in range(100):
                text = " ".join(word for word in drawn.text.split() if stream.chance(0.6))
                if text and text != drawn.text and split_of(text) == self.split:
                    return replace(drawn, text=text, noise="missing")
        elif point < wrong + missing + foreign:
            for _ in range(100):
                other = self._caption(self.stage.scene(stream), stream, drawn.id, self.specific)
                if other and holds(other.form, drawn.scene) is False:
                    return replace(other, scene=drawn.scene, noise="foreign")
        return drawn


def in_one_half(form: Form, scene: Scene) -> bool:
    """Whether the objects of each relation stand on one side of the middle: where one stands says nothing of it."""
    if isinstance(form, All):
        return all(in_one_half(part, scene) for part in form.parts)
    if not isinstance(form, Relation):
        return True
    found = [getattr(thing, RELATIONS[form.kind][0]) for thing in scene.objects if thing.name in needs(form)]
    return max(found) < 0.5 or min(found) > 0.5


def truth(drawn: list[Drawn]) -> np.ndarray:
    """Which captions are true of which scenes: bool (b, b), caption by scene. Its own scene always counts."""
    present = [{thing.name for thing in one.scene.objects} for one in drawn]
    true = np.eye(len(drawn), dtype=bool)
    for row, one in zip(true, drawn):
        needed = needs(one.form)
        row |= [needed <= names and holds(one.form, other.scene) is True for names, other in zip(present, drawn)]
    return true
