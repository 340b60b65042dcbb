"""Scenes with captions, siblings, families and foils, each a pure function of its number."""
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from emojiscenes.contrasts import CONTRASTS
from emojiscenes.grammar import KINDS, caption, changes, directions, make_foil, render
from emojiscenes.language import RELATIONS, All, Form, Relation, Scene, holds, names_of, needs
from emojiscenes.painting import other_objects, paint
from emojiscenes.stage import Stage, flip
from emojiscenes.stream import Stream

__all__ = ["Drawn", "Scenes", "other_objects", "paint", "truth"]
FAMILIES = ("size", "place", "relation", "count", "mixed")
# each has its tenths of all captions
SPLITS = {"train": range(2, 10), "validation": (1,), "test": (0,)}
SPLIT_OF_TENTH = {tenth: split for split, tenths in SPLITS.items() for tenth in tenths}
SIBLINGS = (                                  # what siblings differ in, this often
    "relation", "relation", "place", "place", "place", "size", "size", "size", "count", "count",
    "background")
# with what these leave out, see `contrasts`: the first kinds twice, or size is forgotten, and more
# backgrounds, which else are learnt late in one run of three
MORE_SIBLINGS = 2 * SIBLINGS + (
    "background", "background", "background", "edge", "edge", "line", "line", "line", "line",
    "alone", "alone", "alone", "alone", "partner", "partner", "partner", "partner", "object",
    "colour", "colour", "colour", "colour", "order")
WORDING = 1 << 30                             # seeds of a caption's wording
CAPTIONS, VOICES, SPOILS = 300, 40, 100       # tries for a caption, its wording, a spoilt caption


def split_of(text: str) -> str:
    """The split that a caption belongs to, for good."""
    return SPLIT_OF_TENTH[zlib.crc32(text.encode()) % 10]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A scene and its caption, as a form and in words.

    voice: text is render(form, Stream(voice)), so a foil can be said alike; of siblings of a kind
        of CONTRASTS its `say` in place of render
    kind: in what it differs from its sibling or family; "" for neither. noise: how the caption was
        spoilt, or ""
    """

    scene: Scene
    form: Form
    text: str
    id: int
    voice: int = 0
    kind: str = ""
    noise: str = ""


class Scenes:
    """Examples by number, without end; equal arguments give equal examples, everywhere, for ever.

    split: "train", "validation" or "test"; they share no scene and no caption
    seed: another seed, other scenes. size: side of the images of `picture`
    objects: how many kinds, from the first on, or their names
    counts: shares of scenes with 1, 2, 3, (4) objects
    siblings: share of neighbours 2g and 2g + 1 that are a minimal pair: two scenes that differ in
        one thing, each with a caption that is false of the other, so that neither words nor images
        alone tell
    kinds: what siblings differ in, picked evenly: of grammar.KINDS and contrasts.CONTRASTS
    lesson: siblings differ in a relation
    lesson_skew: share of these that say one direction alone, "left of" or "above"
    sibling_pairs: so many neighbours, again and again, of which the share `siblings` are pairs; 0:
        each is new
    epoch: how many make an epoch: len(scenes)
    noise: shares of captions with one thing wrong, with words missing, and of other scenes'
        captions; in training only
    vendors: whose artwork, by default of all that are for training
    restyle: share of drawings given an outline or flat colours, so that more styles are seen than
        there are vendors
    pairs: "seen"; or each scene has a pair of objects that training never shows ("unseen"), or one
        of as many that it does show ("control"): two tests that differ in this alone
    specific: captions that few other scenes fit, by default outside training

    Raises ValueError for what does not exist or cannot be done.
    """

    def __init__(self, split: str, seed: int = 0, size: int = 48,
                 objects: int | tuple[str, ...] = 64,
                 counts: tuple[float, ...] = (0.3, 0.5, 0.2), siblings: float = 0.0,
                 epoch: int = 100_000, noise: tuple[float, float, float] = (0.0, 0.0, 0.0),
                 vendors: tuple[str, ...] | None = None, pairs: str = "seen",
                 specific: bool | None = None, restyle: float = 0.0, lesson: bool = False,
                 lesson_skew: float = 2 / 3, sibling_pairs: int = 0,
                 kinds: tuple[str, ...] = SIBLINGS):
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        if any(noise) and split != "train":
            raise ValueError(f"noise={noise} in the {split} split: "
                             "only training captions may be spoilt")
        for name, share in (("restyle", restyle), ("lesson_skew", lesson_skew)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share} is a share, between 0 and 1")
        if unknown := set(kinds) - {*KINDS, *CONTRASTS}:
            raise ValueError(f"kinds: no kind {min(unknown)!r}; there are "
                             f"{', '.join((*KINDS, *CONTRASTS))}")
        self.split = split
        self.seed = seed
        self.size = size
        self.siblings = siblings
        self.epoch = epoch
        self.noise = noise
        self.lesson = lesson
        self.lesson_skew = lesson_skew
        self.sibling_pairs = sibling_pairs
        self.kinds = kinds
        self.stage = Stage(objects, counts, vendors, pairs, restyle)
        self.names = self.stage.names
        self.vendors = self.stage.vendors
        self.specific = split != "train" if specific is None else specific

    def __len__(self) -> int:
        return self.epoch

    def draw(self, index: int) -> Drawn:
        """A scene and a true caption (but for noise)."""
        group = index // 2
        if int((group + 1) * self.siblings + 1e-9) > int(group * self.siblings + 1e-9):
            if self.sibling_pairs:
                group %= self.sibling_pairs
            example = self._siblings(group)[index % 2]
        else:
            example = self._single(index)
        if any(self.noise):
            return self._spoil(example)
        return example

    def _single(self, index: int) -> Drawn:
        stream = Stream(self.split, self.seed, index)
        example = None
        while not example:                   # three like things may have no caption in this split
            example = self._caption(self.stage.scene(stream), stream, index, self.specific)
        return example

    def place(self, index: int) -> Scene:
        """A scene without caption, in less time: in training without siblings, that of `draw`."""
        return self.stage.scene(Stream(self.split, self.seed, index))

    def picture(self, example: Drawn) -> np.ndarray:
        """uint8 (size, size, 3)"""
        return paint(example.scene, self.size)

    def family(self, index: int, most: int = 0) -> list[Drawn]:
        """Four scenes of the same objects and background; each caption is true of its own alone.

        They differ in "size", "place", "relation", "count" or "mixed" (a size and an arrangement),
        in turn: the `kind`.
        most: so many objects, where counts differ in one scene one less; by default 2 or 3
        """
        kind = FAMILIES[index % len(FAMILIES)]
        seed: list[int | str] = [self.split, self.seed, "family", index]
        if most:
            seed.append(most)
        stream = Stream(*seed)
        family = None
        while not family:
            scenes = self.stage.family(kind, stream, most)
            family = self._tell_apart(scenes, stream, 4 * index, kind) if scenes else None
        return family

    def captions(self, example: Drawn, number: int, rivals: Sequence[Scene] = ()) -> list[Drawn]:
        """The same with so many different captions of this split, its own first.

        Each is false of the rivals.
        """
        stream = Stream(self.split, self.seed, "captions", example.id, example.text)
        examples = {example.text: example}
        for _ in range(30 * number):
            if len(examples) == number:
                return list(examples.values())
            new = self._caption(example.scene, stream, example.id, self.specific, example.kind,
                                rivals)
            if new:
                examples[new.text] = new
        raise ValueError(f"only {len(examples) - 1} captions found besides {example.text!r}; "
                         f"ask for fewer than {number}")

    def one_change(self, index: int, kind: str, one_half: bool = False) -> tuple[Drawn, Form, str]:
        """A scene with a true caption, a foil, and the foil's words.

        The foil is the caption with one thing of a kind of KINDS changed. It is the first of
        `minimal_pair`, whose order is random: words alone can't tell the caption from the foil.
        """
        example, foil = self.minimal_pair(index, kind, one_half)
        return example, foil.form, foil.text

    def minimal_pair(self, index: int, kind: str, one_half: bool = False) -> tuple[Drawn, Drawn]:
        """Two scenes that differ in one thing of a kind of KINDS, in any order.

        Each has a sentence that is true of it alone, said alike; outside training neither is a
        caption of training.
        one_half: of a relation, whose objects stand on one side of the middle, see `in_one_half`
        """
        if kind not in KINDS:
            raise ValueError(f"no kind of change {kind!r}; there are {', '.join(KINDS)}")
        seed: list[int | str] = [self.split, self.seed, "one change", kind]
        if one_half:
            seed.append("one half")
        stream = Stream(*seed, index)
        voice = None
        candidates = self._minimal(stream, kind, kind, self.specific, crowded=one_half)
        while voice is None:
            first, second, form, foil = next(candidates)
            if not one_half or in_one_half(form, first) and in_one_half(foil, second):
                voice = self._voice(form, foil, stream)
        pair = (Drawn(first, form, render(form, Stream(voice)), index, voice, kind),
                Drawn(second, foil, render(foil, Stream(voice)), index, voice, kind))
        return pair[::-1] if stream.chance(0.5) else pair

    def _voice(self, form: Form, foil: Form, stream: Stream) -> int | None:
        """A wording in which both sentences may stand in this split; None: none found."""
        training = self.split == "train"
        for _ in range(VOICES):
            voice = stream.below(WORDING)
            splits = {split_of(render(part, Stream(voice))) for part in (form, foil)}
            if splits == {"train"} if training else "train" not in splits:
                return voice
        return None

    def _minimal(self, stream: Stream, kind: str, foils: str, specific: bool, axis: str = "",
                 crowded: bool = False) -> Iterator[tuple[Scene, Scene, Form, Form]]:
        """Endless: two scenes that differ in one thing, each with a form false of the other.

        kind: of KINDS or CONTRASTS. foils: how the forms differ, see `grammar.changes`
        axis: the scenes are each other's mirror image along it
        crowded: often all objects stand in one half, so that the half does not tell the relation
        """
        for first, second in self._scene_pairs(stream, kind, axis, crowded):
            if kind in CONTRASTS:
                form = CONTRASTS[kind].form(first, stream)
            else:
                form = caption(first, stream, specific, kind)
            if form is None:
                continue
            names = names_of(second.objects) - names_of(first.objects)
            candidates = []
            for foil in changes(form, foils, names):
                if holds(foil, second) and holds(foil, first) is False:
                    candidates.append(foil)
            if candidates and holds(form, second) is False:
                yield first, second, form, stream.pick(candidates)

    def _scene_pairs(self, stream: Stream, kind: str, axis: str, crowded: bool
                     ) -> Iterator[tuple[Scene, Scene]]:
        """Endless: two scenes that differ in one thing of a kind; see `_minimal`."""
        while True:
            if kind in CONTRASTS:
                scenes = CONTRASTS[kind].scenes(self.stage, stream)
                if scenes:
                    yield scenes
                continue
            first = self.stage.scene(stream, roomy=not crowded, crowded=crowded)
            second: Scene | None
            if axis:
                second = replace(first, objects=flip(first.objects, axis))
            else:
                change = "arrangement" if crowded else kind
                second = self.stage.change(first, change, stream)
            if second:
                yield first, second

    def _caption(self, scene: Scene, stream: Stream, id: int, specific: bool, kind: str = "",
                 rivals: Sequence[Scene] = ()) -> Drawn | None:
        """The scene with a caption of this split, about `kind`, false of the rivals; or None."""
        for _ in range(CAPTIONS):
            form = caption(scene, stream, specific, kind)
            if all(holds(form, rival) is False for rival in rivals):
                voice = stream.below(WORDING)
                text = render(form, Stream(voice))
                if split_of(text) == self.split:
                    return Drawn(scene, form, text, id, voice, kind)
        return None

    def _tell_apart(self, scenes: list[Scene], stream: Stream, first: int, kind: str
                    ) -> list[Drawn] | None:
        """Each scene with a caption about `kind` that is false of the other scenes; or None.

        first: the first one's id
        """
        family = []
        for id, scene in enumerate(scenes, first):
            rivals = [rival for rival in scenes if rival is not scene]
            example = self._caption(scene, stream, id, True, kind, rivals)
            if not example:
                return None
            family.append(example)
        return family

    @lru_cache(maxsize=8)                   # the neighbour is asked for next
    def _siblings(self, group: int) -> list[Drawn]:
        """Two scenes that differ in one thing, each with a caption that is false of the other."""
        stream = Stream(self.split, self.seed, "siblings", self.lesson, group)
        direction = lesson_direction(group, self.lesson_skew) if self.lesson else ""
        kind = "relation" if self.lesson else stream.pick(self.kinds)
        axis = RELATIONS[direction][0] if direction else ""
        foils = "direction" if kind == "relation" and not direction else kind
        if kind in CONTRASTS:
            foils = CONTRASTS[kind].foils
        crowded = kind == "relation" and not self.lesson
        candidates = self._minimal(stream, kind, foils, True, axis, crowded)
        pair = None
        while pair is None:
            pair = self._word_siblings(next(candidates), stream, group, kind, direction)
        return pair

    def _word_siblings(self, candidate: tuple[Scene, Scene, Form, Form], stream: Stream, group: int,
                       kind: str, direction: str) -> list[Drawn] | None:
        """Siblings with captions of this split, which say the direction alone; None: not found."""
        first, second, form, foil = candidate
        say = CONTRASTS[kind].say if kind in CONTRASTS else render
        for _ in range(VOICES):
            pair = []
            voices = stream.below(WORDING), stream.below(WORDING)
            for id, scene, part, voice in zip(range(2), (first, second), (form, foil), voices):
                text = say(part, Stream(voice))
                pair.append(Drawn(scene, part, text, 2 * group + id, voice, kind))
            if all(self._fits_lesson(example.text, direction) for example in pair):
                return pair
        return None

    def _fits_lesson(self, text: str, direction: str) -> bool:
        """Whether a caption is of this split, and says a direction alone, if there is one."""
        if split_of(text) != self.split:
            return False
        return not direction or directions(text) == {direction}

    def _spoil(self, example: Drawn) -> Drawn:
        """Perhaps with another caption, and its form; with words missing, of the whole one."""
        stream = Stream(self.split, self.seed, "noise", example.id)
        point = stream.random()
        wrong, missing, foreign = self.noise
        spoilt = None
        if point < wrong:
            spoilt = self._change_a_word(example, stream)
        elif point < wrong + missing:
            spoilt = self._drop_words(example, stream)
        elif point < wrong + missing + foreign:
            spoilt = self._exchange_caption(example, stream)
        return spoilt or example

    def _change_a_word(self, example: Drawn, stream: Stream) -> Drawn | None:
        for kind in stream.shuffle(KINDS):
            form = make_foil(example.form, example.scene, kind, stream, self.names)
            if form:
                text = render(form, Stream(example.voice))
                if split_of(text) == self.split:
                    return replace(example, form=form, text=text, noise="wrong")
        return None

    def _drop_words(self, example: Drawn, stream: Stream) -> Drawn | None:
        for _ in range(SPOILS):
            text = " ".join(word for word in example.text.split() if stream.chance(0.6))
            if text and text != example.text and split_of(text) == self.split:
                return replace(example, text=text, noise="missing")
        return None

    def _exchange_caption(self, example: Drawn, stream: Stream) -> Drawn | None:
        for _ in range(SPOILS):
            stranger = self._caption(self.stage.scene(stream), stream, example.id, self.specific)
            if stranger and holds(stranger.form, example.scene) is False:
                return replace(stranger, scene=example.scene, noise="foreign")
        return None


def lesson_direction(group: int, skew: float) -> str:
    """The direction that a lesson's pair says alone, "left" and "above" in turn; "": any direction.

    skew: share of groups, evenly spread, that say one alone
    """
    free_before = math.floor(group * (1 - skew) + 1e-9)
    free = math.floor((group + 1) * (1 - skew) + 1e-9)
    if free > free_before:
        return ""
    return ("left", "above")[(group - free_before) % 2]


def in_one_half(form: Form, scene: Scene) -> bool:
    """Whether the objects of each relation stand on one side of the middle."""
    if isinstance(form, All):
        return all(in_one_half(part, scene) for part in form.parts)
    if not isinstance(form, Relation):
        return True
    axis = RELATIONS[form.kind][0]
    names = needs(form)
    places = [getattr(thing, axis) for thing in scene.objects if thing.name in names]
    return max(places) < 0.5 or min(places) > 0.5


def truth(examples: Sequence[Drawn]) -> np.ndarray:
    """Which captions are true of which scenes, each of its own: bool (b, b), caption by scene."""
    present = [names_of(example.scene.objects) for example in examples]
    table = np.eye(len(examples), dtype=bool)
    for i, example in enumerate(examples):
        names = needs(example.form)
        for j, rival in enumerate(examples):
            if names <= present[j] and holds(example.form, rival.scene):
                table[i, j] = True
    return table
