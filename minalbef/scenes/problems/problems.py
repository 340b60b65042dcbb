"""Problems for the five tasks, made of scenes by ground truth. A problem is a pure function of its number."""
from dataclasses import dataclass, replace
from functools import lru_cache

from minalbef.scenes.grammar import COLOURS
from minalbef.scenes.language import PLACES, Form, Scene
from minalbef.scenes.layout import BIG, draw_size, layout, spots_of
from minalbef.scenes.painting import object_names
from minalbef.scenes.problems import phrasing, staging
from minalbef.scenes.scenes import Drawn, Scenes, split_of
from minalbef.scenes.stream import Stream

GROUP = {"entailment": 9, "vqa": 2, "nlvr2": 4, "grounding": 4, "retrieval": 4, "families": 4}
COUNTS = {"nlvr2": (0.3, 0.5, 0.2), "grounding": (0, 0.2, 0.5, 0.3),
          "retrieval": (0, 0, 0, 1), "families": (0, 0, 0, 1)}
LATIN = (((0, 1, 2), (1, 2, 0), (2, 0, 1)), ((0, 2, 1), (2, 1, 0), (1, 0, 2)))
STATED = ("place",) * 5 + ("some", "some", "none", "two", "two", "two", "background", "background")
CLAIMS = ("only one",) * 4 + ("one and other", "total", "same number", "same background") + (
    "both", "both", "at least one", "at least one", "left", "left", "right", "right")
CHANGES = {"what": ("place", "place", "object"), "where": ("place",),
           "how many": ("count", "count", "count", "size", "object", "place"), "background": ("background",),
           "yes or no": ("object", "size", "place", "place", "count", "background"),
           "compare": ("size", "size", "place"), "total": ("count",), "same number": ("count",),
           "one and other": ("object", "size", "place"),
           **dict.fromkeys(("only one", "both", "at least one", "left", "right"),
                           ("object", "object", "size", "place", "count"))}
DISSENT = 0.2                    # share of questions about which one to three of the ten annotators err
CAPTIONS = 3


@dataclass(frozen=True, slots=True)
class Judged:
    """Entailment: label is 0, 1 or 2. id: of the picture, here and below."""

    scene: Scene
    form: Form
    text: str
    label: int
    id: int


@dataclass(frozen=True, slots=True)
class Asked:
    """VQA: kind is one of phrasing.ASKED; answers are those of ten annotators, mostly the right one."""

    scene: Scene
    question: phrasing.Question
    text: str
    kind: str
    answer: str
    answers: tuple[str, ...]
    id: int


@dataclass(frozen=True, slots=True)
class Paired:
    """NLVR2: kind is one of phrasing.CLAIMED. id: of the sentence, which four pairs of pictures share."""

    left: Scene
    right: Scene
    claim: phrasing.Claim
    text: str
    kind: str
    true: bool
    id: int


@dataclass(frozen=True, slots=True)
class Pointed:
    """Grounding: target is the number of a thing in scene.objects, box its square."""

    scene: Scene
    expression: staging.Expression
    text: str
    target: int
    box: staging.Box
    proposals: tuple[staging.Box, ...]
    id: int


@dataclass(frozen=True, slots=True)
class Told:
    """Retrieval: different true captions of a scene. kind: how its family differs, or ""."""

    scene: Scene
    forms: tuple[Form, ...]
    texts: tuple[str, ...]
    kind: str
    id: int


class Problems:
    """Problems by number, without end; equal arguments give equal problems, everywhere and for ever.

    task: a key of GROUP, which says how many neighbours make a group
        entailment: three scenes by three statements; each of the nine occurs with each label once. Things stand wholly
            behind the curtain or wholly clear of it, and there may be something behind it or nothing
        vqa: one question about two similar scenes, with different answers
        nlvr2: one claim about two left by two right pictures, twice true and twice false. For kinds in
            phrasing.NEEDS_BOTH each picture is in one true pair and one false; for the others one side decides
        grounding: a scene and the same things rearranged; in each, two expressions for two things of one kind. One fits
            its own thing alone, and nothing in the other scene; a scene's expressions share their proposals
        retrieval: four scenes of four objects, CAPTIONS of each. families: the four are similar, a caption true of one
    split: "train", "validation" or "test". They share no scene, statement, claim, expression or caption. Questions are
        too few to be split: one may return in another split, about another scene
    seed, size, objects, vendors, restyle: as of `Scenes`. Raises ValueError for what does not exist.
    """

    def __init__(self, task: str, split: str, seed: int = 0, size: int = 64, objects: int | tuple[str, ...] = 64,
                 vendors: tuple[str, ...] | None = None, restyle: float = 0.0):
        if task not in GROUP:
            raise ValueError(f"no task {task!r}; there are {', '.join(GROUP)}")
        self.task, self.split, self.seed, self.size = task, split, seed, size
        self.scenes = Scenes(split, seed, size, objects, COUNTS.get(task, (0, 0.5, 0.5)), vendors=vendors,
                             restyle=restyle, specific=True)
        self.stage = self.scenes.stage

    def draw(self, index: int):
        """One of Judged, Asked, Paired, Pointed, Told."""
        group, place = divmod(index, GROUP[self.task])
        return self.group(group)[place]

    @lru_cache(maxsize=8)                   # the rest of the group is asked for next
    def group(self, number: int) -> list:
        """All problems of a group, in order."""
        return getattr(self, f"_{self.task}")(Stream(self.task, self.split, self.seed, number), number)

    def _state(self, form: Form, stream: Stream) -> str | None:
        """A statement of this split; None: none found."""
        return next((text for _ in range(8) if split_of(text := phrasing.state(form, stream)) == self.split), None)

    def _entailment(self, stream: Stream, number: int) -> list[Judged]:
        while True:
            names = self.stage.kinds(stream, 3)
            scenes = [self._curtain(names, stream) for _ in range(3)]
            if stream.chance(0.6):           # one background twice: it may be right where the rest is hidden
                scenes[1] = replace(scenes[1], background=scenes[0].background, shade=scenes[0].shade)
            colours, seen, found = [scene.background for scene in scenes], list(map(staging.views, scenes)), {}
            for _ in range(40 if self.split == "train" else 200):         # a small split has words for few
                form = phrasing.make_form(stream.pick(seen)[2].objects, stream, STATED, colours)
                labels = tuple(staging.judge(form, view) for view in seen)
                if set(labels) != {0, 1, 2} or labels in found or not (text := self._state(form, stream)):
                    continue
                found[labels] = form, text
                square = LATIN[0] if labels in LATIN[0] else LATIN[1]
                if all(row in found for row in square):
                    return [Judged(scene, *found[row], label, 3 * number + i) for row in stream.shuffle(square)
                            for i, (scene, label) in enumerate(zip(scenes, row))]

    def _curtain(self, names: list[str], stream: Stream) -> Scene:
        """Two or three things to be seen, and up to two behind a curtain."""
        while True:
            curtain, things = staging.draw_curtain(stream), []
            for behind in [True] * stream.below(3) + [False] * (2 + stream.below(2)):
                size = draw_size(stream, stream.chance(0.5))
                spot = staging.find_spot(stream, size, curtain, behind, spots_of(things))
                if not spot:
                    break
                things.append(self.stage.thing(stream.pick(names), *spot, size, stream))
            else:
                return replace(self.stage.with_background(tuple(stream.shuffle(things)), stream), curtain=curtain)

    def _vqa(self, stream: Stream, number: int) -> list[Asked]:
        kind = phrasing.ASKED[number % len(phrasing.ASKED)]
        while True:
            repeats = self.stage.repeats(stream)
            if kind == "how many" and repeats[0] < 2 and stream.chance(0.7):
                continue
            first = self.stage.scene(stream, repeats, roomy=True)
            second = self.stage.change(first, stream.pick(CHANGES[kind]), stream)
            if not second:
                continue
            scenes, things = (first, second), first.objects + second.objects
            if kind == "compare" and len({thing.name for thing in things}) == 1:
                continue
            for _ in range(12):
                question = phrasing.ask(kind, things, stream, [scene.background for scene in scenes])
                right = [phrasing.answer(question, scene) for scene in scenes]
                if None not in right and right[0] != right[1]:
                    return [Asked(scene, question, question.text, kind, one, annotators(question, one, stream),
                                  2 * number + i) for i, (scene, one) in enumerate(stream.shuffle(zip(scenes, right)))]

    def _nlvr2(self, stream: Stream, number: int) -> list[Paired]:
        kind = stream.pick(CLAIMS)
        while True:
            left = self.stage.scene(stream, roomy=True)
            things = self._rearrange(left, stream)
            if not things:
                continue
            right = self.stage.with_background(things, stream)
            if kind == "same background":
                others = [replace(a, background=b.background, shade=b.shade) for a, b in ((left, right), (right, left))]
            else:
                change = stream.pick(CHANGES[kind])
                others = [self.stage.change(scene, change, stream) for scene in (left, right)]
            if None in others:
                continue
            lefts, rights = (stream.shuffle(pair) for pair in zip((left, right), others))
            shown = [thing for scene in (*lefts, *rights) for thing in scene.objects]
            for _ in range(24):
                made, text = phrasing.claim(kind, shown, stream)
                cells = [phrasing.true_of(made, a, b) for a in lefts for b in rights]
                if None not in cells and sum(cells) == 2 and (kind not in phrasing.NEEDS_BOTH or cells[0] == cells[3]) \
                        and split_of(text) == self.split:
                    pairs = [(a, b) for a in lefts for b in rights]
                    return [Paired(*pair, made, text, kind, true, number) for pair, true in zip(pairs, cells)]

    def _grounding(self, stream: Stream, number: int) -> list[Pointed]:
        while True:
            repeats = self.stage.repeats(stream)
            if repeats[0] < 2:
                continue
            scene = self.stage.scene(stream, repeats, roomy=True)
            things = self._rearrange(scene, stream)
            if not things:
                continue
            both, found = (scene, replace(scene, objects=things)), []
            for one, other in (both, both[::-1]):
                things = stream.shuffle(one.objects)
                alike = next(some for thing in things if len(some := [x for x in things if x.name == thing.name]) > 1)
                for thing in alike[:2]:
                    told = (staging.point(thing, things, stream) for _ in range(12 if self.split == "train" else 60))
                    told = next((pair for pair in told if split_of(pair[1]) == self.split     # first: the cheapest
                                 and staging.refers(pair[0], one) == (thing,)
                                 and staging.refers(pair[0], other) == ()), None)
                    if told:
                        found.append((one, alike, thing, told))
            if len(found) == 4:
                boxes = {one: staging.propose(one, alike[0].name, stream) for one, alike, _, _ in found}
                return [Pointed(one, *told, one.objects.index(thing), staging.box_of(thing), boxes[one],
                                2 * number + (0 if one is scene else 1)) for one, _, thing, told in found]

    def _rearrange(self, scene: Scene, stream: Stream) -> tuple | None:
        """The same kinds of things, elsewhere, in other sizes and drawings; None: there was no room, draw again."""
        spots = layout(stream, [BIG[1]] * len(scene.objects))
        if spots is None:
            return None
        return tuple(self.stage.thing(thing.name, x, y, draw_size(stream, stream.chance(0.5)), stream)
                     for thing, (x, y, _) in zip(scene.objects, spots))

    def _retrieval(self, stream: Stream, number: int) -> list[Told]:
        return self._with_captions([self.scenes.draw(4 * number + i) for i in range(4)], [])

    def _families(self, stream: Stream, number: int) -> list[Told]:
        family = self.scenes.family(number, 4)
        return self._with_captions(family, family)

    def _with_captions(self, drawn: list[Drawn], family: list[Drawn]) -> list[Told]:
        def told(one: Drawn) -> Told:
            some = self.scenes.captions(one, CAPTIONS, [other.scene for other in family if other is not one])
            forms, texts = zip(*((each.form, each.text) for each in some))
            return Told(one.scene, forms, texts, one.kind, one.id)
        return list(map(told, drawn))


def annotators(question: phrasing.Question, right: str, stream: Stream) -> tuple[str, ...]:
    """Ten answers, at least seven of them right."""
    wrong = 1 + stream.below(3) if stream.chance(DISSENT) else 0
    errors = [stream.pick(phrasing.near(question, right)) for _ in range(wrong)]
    return tuple(stream.shuffle(errors + [right] * (10 - wrong)))


def answer_list(objects: int | tuple[str, ...] = 64) -> list[str]:
    """All answers that there are to questions about so many kinds of objects."""
    return [*object_names(objects), *PLACES, *phrasing.NUMERALS, *COLOURS, "yes", "no"]
