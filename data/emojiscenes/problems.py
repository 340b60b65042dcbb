"""Problems for the five tasks, of scenes whose truth is known: pure functions of their numbers."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from emojiscenes import phrasing, staging
from emojiscenes.grammar import COLOURS
from emojiscenes.language import PLACES, Form, Object, Scene, names_of
from emojiscenes.layout import BIG, draw_size, layout, spots_of
from emojiscenes.painting import object_names
from emojiscenes.scenes import Drawn, Scenes, split_of
from emojiscenes.stream import Stream

GROUP = {"entailment": 9, "vqa": 2, "nlvr2": 4, "grounding": 4, "retrieval": 4, "families": 4}
COUNTS = {                       # shares of scenes with 1, 2, 3, 4 objects
    "nlvr2": (0.3, 0.5, 0.2),
    "grounding": (0, 0.2, 0.5, 0.3),
    "retrieval": (0, 0, 0, 1),
    "families": (0, 0, 0, 1),
}
LATIN = (((0, 1, 2), (1, 2, 0), (2, 0, 1)), ((0, 2, 1), (2, 1, 0), (1, 0, 2)))
# kinds of statements, claims and changes, each as often as it stands here
STATED = ("place", "place", "place", "place", "place", "some", "some", "none", "two", "two", "two",
          "background", "background")
CLAIMS = ("only one", "only one", "only one", "only one", "one and other", "total", "same number",
          "same background", "both", "both", "at least one", "at least one", "left", "left",
          "right", "right")
CHANGES = {
    "what": ("place", "place", "object"),
    "where": ("place",),
    "how many": ("count", "count", "count", "size", "object", "place"),
    "background": ("background",),
    "yes or no": ("object", "size", "place", "place", "count", "background"),
    "compare": ("size", "size", "place"),
    "total": ("count",),
    "same number": ("count",),
    "one and other": ("object", "size", "place"),
}
for _kind in ("only one", "both", "at least one", "left", "right"):
    CHANGES[_kind] = ("object", "object", "size", "place", "count")
DISSENT = 0.2                    # share of questions about which 1 to 3 of 10 annotators err
CAPTIONS = 3                     # of each scene of retrieval
# tries; a small split has words for few statements and expressions
STATEMENTS, EXPRESSIONS = {"train": 40}, {"train": 12}
MOST_STATEMENTS, MOST_EXPRESSIONS = 200, 60
WORDINGS, QUESTIONS, CLAIM_TRIES = 8, 12, 24


@dataclass(frozen=True, slots=True)
class Judged:
    """Entailment: label is 0, 1 or 2. id: of the image, here and below."""

    scene: Scene
    form: Form
    text: str
    label: int
    id: int


@dataclass(frozen=True, slots=True)
class Asked:
    """VQA: kind is one of phrasing.ASKED; answers are ten annotators', mostly the right one."""

    scene: Scene
    question: phrasing.Question
    text: str
    kind: str
    answer: str
    answers: tuple[str, ...]
    id: int


@dataclass(frozen=True, slots=True)
class Paired:
    """NLVR2: kind is one of phrasing.CLAIMED; id is the sentence's, which four pairs share."""

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


Problem = Judged | Asked | Paired | Pointed | Told
Labels = tuple[int, ...]                         # of one statement, in each scene
Statements = dict[Labels, tuple[Form, str]]
Aim = tuple[Scene, Object, staging.Expression, str]


class Problems:
    """Problems by number, without end; equal arguments give equal problems, everywhere, for ever.

    task: a key of GROUP, which says how many neighbours make a group
        entailment: three scenes by three statements; each of the nine occurs with each label once.
            Things stand wholly behind the curtain, if anything does, or wholly clear of it
        vqa: one question about two similar scenes, with different answers
        nlvr2: one claim about two left by two right images, twice true and twice false. For kinds
            in phrasing.NEEDS_BOTH each image is in one true pair and one false; for the others one
            side decides
        grounding: a scene and the same things rearranged; in each, two expressions for two things
            of one kind, each true of its own thing alone and of nothing in the other scene. A
            scene's expressions share their proposals
        retrieval: four scenes of four objects, CAPTIONS of each. families: the four are similar, a
            caption true of one
    split: "train", "validation" or "test". They share no scene, statement, claim, expression or
        caption. Of questions there are too few: they may return, about another scene
    seed, size, objects, vendors, restyle: as of `Scenes`. Raises ValueError for what doesn't exist.
    """

    def __init__(self, task: str, split: str, seed: int = 0, size: int = 64,
                 objects: int | tuple[str, ...] = 64, vendors: tuple[str, ...] | None = None,
                 restyle: float = 0.0):
        if task not in GROUP:
            raise ValueError(f"no task {task!r}; there are {', '.join(GROUP)}")
        self.task = task
        self.split = split
        self.seed = seed
        self.size = size
        counts = COUNTS.get(task, (0, 0.5, 0.5))
        self.scenes = Scenes(split, seed, size, objects, counts, vendors=vendors, restyle=restyle,
                             specific=True)
        self.stage = self.scenes.stage

    def draw(self, index: int) -> Problem:
        """One of Judged, Asked, Paired, Pointed, Told."""
        group, place = divmod(index, GROUP[self.task])
        return self.group(group)[place]

    @lru_cache(maxsize=8)                   # the rest of the group is asked for next
    def group(self, number: int) -> list:
        """All problems of a group, in order."""
        makers: dict[str, Callable[[Stream, int], list]] = {
            "entailment": self._entailment,
            "vqa": self._vqa,
            "nlvr2": self._nlvr2,
            "grounding": self._grounding,
            "retrieval": self._retrieval,
            "families": self._families,
        }
        stream = Stream(self.task, self.split, self.seed, number)
        return makers[self.task](stream, number)

    # entailment

    def _entailment(self, stream: Stream, number: int) -> list[Judged]:
        while True:
            names = self.stage.kinds(stream, 3)
            scenes = [self._curtain(names, stream) for _ in range(3)]
            # one background twice: it may be right where the rest is hidden
            if stream.chance(0.6):
                ground = scenes[0]
                scenes[1] = replace(scenes[1], background=ground.background, shade=ground.shade)
            square = self._latin_square(scenes, stream)
            if square is None:
                continue
            problems = []
            for row in stream.shuffle(square):
                form, text = square[row]
                for i, (scene, label) in enumerate(zip(scenes, row)):
                    problems.append(Judged(scene, form, text, label, 3 * number + i))
            return problems

    def _latin_square(self, scenes: list[Scene], stream: Stream) -> Statements | None:
        """Three statements by their labels in three scenes, each label once; None: not found."""
        colours = [scene.background for scene in scenes]
        views = list(map(staging.views, scenes))
        statements: Statements = {}
        for _ in range(STATEMENTS.get(self.split, MOST_STATEMENTS)):
            uncovered = stream.pick(views)[2]
            form = phrasing.make_form(uncovered.objects, stream, STATED, colours)
            judgements = [staging.judge(form, view) for view in views]
            labels = tuple(label for label in judgements if label is not None)
            if set(labels) != {0, 1, 2} or labels in statements:
                continue
            text = self._state(form, stream)
            if not text:
                continue
            statements[labels] = form, text
            square = LATIN[0] if labels in LATIN[0] else LATIN[1]
            if all(row in statements for row in square):
                return {row: statements[row] for row in square}
        return None

    def _state(self, form: Form, stream: Stream) -> str | None:
        """A statement of this split; None: none found."""
        for _ in range(WORDINGS):
            text = phrasing.state(form, stream)
            if split_of(text) == self.split:
                return text
        return None

    def _curtain(self, names: list[str], stream: Stream) -> Scene:
        """Two or three things to be seen, and up to two behind a curtain."""
        while True:
            curtain = staging.draw_curtain(stream)
            things = self._around_curtain(curtain, names, stream)
            if things:
                scene = self.stage.with_background(tuple(stream.shuffle(things)), stream)
                return replace(scene, curtain=curtain)

    def _around_curtain(self, curtain: staging.Curtain, names: list[str], stream: Stream
                        ) -> list[Object] | None:
        """Things behind and clear of a curtain; None: there was no room, draw again."""
        hidden = stream.below(3)
        clear = 2 + stream.below(2)
        things: list[Object] = []
        for i in range(hidden + clear):
            size = draw_size(stream, stream.chance(0.5))
            spots = spots_of(tuple(things))
            spot = staging.find_spot(stream, size, curtain, i < hidden, spots)
            if not spot:
                return None
            name = stream.pick(names)
            things.append(self.stage.thing(name, *spot, size, stream))
        return things

    # VQA

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
            things = first.objects + second.objects
            if kind == "compare" and len(names_of(things)) == 1:
                continue
            problems = self._ask(kind, (first, second), stream, number)
            if problems:
                return problems

    @staticmethod
    def _ask(kind: str, scenes: tuple[Scene, Scene], stream: Stream, number: int
             ) -> list[Asked] | None:
        """A question with another answer in each of two scenes; None: not found."""
        things = scenes[0].objects + scenes[1].objects
        colours = [scene.background for scene in scenes]
        for _ in range(QUESTIONS):
            question = phrasing.ask(kind, things, stream, colours)
            right = [phrasing.answer(question, scene) for scene in scenes]
            if right[0] is None or right[1] is None or right[0] == right[1]:
                continue
            problems = []
            for i, (scene, answer) in enumerate(stream.shuffle(zip(scenes, right))):
                assert answer is not None
                answers = annotators(question, answer, stream)
                problems.append(Asked(scene, question, question.text, kind, answer, answers,
                                      2 * number + i))
            return problems
        return None

    # NLVR2

    def _nlvr2(self, stream: Stream, number: int) -> list[Paired]:
        kind = stream.pick(CLAIMS)
        while True:
            left = self.stage.scene(stream, roomy=True)
            things = self._rearrange(left, stream)
            if not things:
                continue
            right = self.stage.with_background(things, stream)
            left_change, right_change = self._change_both(kind, left, right, stream)
            if left_change is None or right_change is None:
                continue
            left_scenes = stream.shuffle((left, left_change))
            right_scenes = stream.shuffle((right, right_change))
            problems = self._claim(kind, left_scenes, right_scenes, stream, number)
            if problems:
                return problems

    def _change_both(self, kind: str, left: Scene, right: Scene, stream: Stream
                     ) -> tuple[Scene | None, Scene | None]:
        """Two images that differ from these in what the claim is about; None: it failed."""
        if kind == "same background":
            return (replace(left, background=right.background, shade=right.shade),
                    replace(right, background=left.background, shade=left.shade))
        change = stream.pick(CHANGES[kind])
        return self.stage.change(left, change, stream), self.stage.change(right, change, stream)

    def _claim(self, kind: str, left_scenes: list[Scene], right_scenes: list[Scene],
               stream: Stream, number: int) -> list[Paired] | None:
        """A claim that is true of two of the four pairs; None: not found."""
        things: list[Object] = []
        for scene in (*left_scenes, *right_scenes):
            things += scene.objects
        pairs = [(left, right) for left in left_scenes for right in right_scenes]
        for _ in range(CLAIM_TRIES):
            claim, text = phrasing.claim(kind, things, stream)
            cells = [phrasing.true_of(claim, left, right) for left, right in pairs]
            if None in cells or cells.count(True) != 2:
                continue
            if kind in phrasing.NEEDS_BOTH and cells[0] != cells[3]:
                continue
            if split_of(text) == self.split:
                return [Paired(*pair, claim, text, kind, bool(true), number)
                        for pair, true in zip(pairs, cells)]
        return None

    # grounding

    def _grounding(self, stream: Stream, number: int) -> list[Pointed]:
        while True:
            repeats = self.stage.repeats(stream)
            if repeats[0] < 2:
                continue
            first = self.stage.scene(stream, repeats, roomy=True)
            things = self._rearrange(first, stream)
            if not things:
                continue
            second = replace(first, objects=things)
            aims = self._aims(first, second, stream) + self._aims(second, first, stream)
            if len(aims) < 4:
                continue
            proposals = {}
            for scene, thing, _, _ in aims:
                proposals[scene] = staging.propose(scene, thing.name, stream)
            problems = []
            for scene, thing, expression, text in aims:
                id = 2 * number + (0 if scene is first else 1)
                target = scene.objects.index(thing)
                problems.append(Pointed(scene, expression, text, target, staging.box_of(thing),
                                        proposals[scene], id))
            return problems

    def _aims(self, scene: Scene, rival: Scene, stream: Stream) -> list[Aim]:
        """Expressions for two things of one kind, as far as they are found."""
        things = stream.shuffle(scene.objects)
        aims: list[Aim] = []
        for thing in _alike(things)[:2]:
            for _ in range(EXPRESSIONS.get(self.split, MOST_EXPRESSIONS)):
                expression, text = staging.point(thing, things, stream)
                if (split_of(text) == self.split         # first: the cheapest
                        and staging.refers(expression, scene) == (thing,)
                        and staging.refers(expression, rival) == ()):
                    aims.append((scene, thing, expression, text))
                    break
        return aims

    def _rearrange(self, scene: Scene, stream: Stream) -> tuple[Object, ...] | None:
        """The same kinds of things, elsewhere, in other sizes and drawings; None: no room."""
        spots = layout(stream, [BIG[1]] * len(scene.objects))
        if spots is None:
            return None
        things = []
        for thing, (x, y, _) in zip(scene.objects, spots):
            size = draw_size(stream, stream.chance(0.5))
            things.append(self.stage.thing(thing.name, x, y, size, stream))
        return tuple(things)

    # retrieval

    def _retrieval(self, stream: Stream, number: int) -> list[Told]:
        indices = range(4 * number, 4 * number + 4)
        return [self._with_captions(self.scenes.draw(i), []) for i in indices]

    def _families(self, stream: Stream, number: int) -> list[Told]:
        family = self.scenes.family(number, 4)
        return [self._with_captions(example, family) for example in family]

    def _with_captions(self, example: Drawn, family: list[Drawn]) -> Told:
        """A scene with captions that are false of its family's other scenes."""
        rivals = [rival.scene for rival in family if rival is not example]
        captions = self.scenes.captions(example, CAPTIONS, rivals)
        forms = tuple(caption.form for caption in captions)
        texts = tuple(caption.text for caption in captions)
        return Told(example.scene, forms, texts, example.kind, example.id)


def _alike(things: Sequence[Object]) -> list[Object]:
    """The things of the first kind of which there are several."""
    group: list[Object] = []
    while len(group) < 2:
        group = [thing for thing in things if thing.name == things[0].name]
        things = things[1:]
    return group


def annotators(question: phrasing.Question, right: str, stream: Stream) -> tuple[str, ...]:
    """Ten answers, at least seven of them right."""
    wrong = 1 + stream.below(3) if stream.chance(DISSENT) else 0
    errors = [stream.pick(phrasing.near(question, right)) for _ in range(wrong)]
    return tuple(stream.shuffle(errors + [right] * (10 - wrong)))


def answer_list(objects: int | tuple[str, ...] = 64) -> list[str]:
    """All answers that there are to questions about so many kinds of objects."""
    return [*object_names(objects), *PLACES, *phrasing.NUMERALS, *COLOURS, "yes", "no"]
