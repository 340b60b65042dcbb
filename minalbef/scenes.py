"""The embedded data: places and paints scenes of emoji. An example is a pure function of its number."""
import json
import zlib
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
from PIL import Image

from minalbef.data import data_folder
from minalbef.grammar import COLOURS, KINDS, caption, foils, render, set_nouns
from minalbef.language import Form, Object, Scene, Stream, holds, needs

RGB = {"red": (214, 48, 49), "yellow": (246, 224, 70), "green": (62, 160, 72), "blue": (52, 104, 212),
       "purple": (136, 78, 170), "pink": (248, 160, 205), "brown": (128, 84, 50), "black": (18, 18, 24),
       "white": (244, 244, 244)}
SMALL, BIG = (0.21, 0.27), (0.36, 0.42)        # clear of the margins of `language.SIZES`
LOW, MIDDLE = 0.37, (0.45, 0.55)               # centres keep clear of the margins of `language.PLACES`
ANGLES = (-14.0, -7.0, 0.0, 7.0, 14.0)         # few, so that sprites can be kept
OVERLAP = 0.1                                  # of the smaller square
# How many of each kind, by the number of objects, and how often: (2, 1) is two of one kind and one of another.
REPEATS = {1: {(1,): 1.0}, 2: {(1, 1): 0.8, (2,): 0.2}, 3: {(1, 1, 1): 0.66, (2, 1): 0.28, (3,): 0.06},
           4: {(1, 1, 1, 1): 0.5, (2, 1, 1): 0.35, (2, 2): 0.1, (3, 1): 0.05}}
FAMILIES = ("size", "place", "relation", "count", "mixed")
SPLITS = {"test": (0,), "validation": (1,), "train": range(2, 10)}     # tenths of all captions, by hash


@dataclass(frozen=True, slots=True)
class Drawn:
    """A scene and its caption: as a form, and in words, `render(form, Stream(voice))`.

    kind: how it differs from its sibling or its family, or what noise was added; "" for neither
    """

    scene: Scene
    form: Form
    text: str
    id: int
    voice: int = 0
    kind: str = ""


# --------------------------------------------------------------------------------------------------- the artwork
@cache
def art() -> dict:
    """data/emoji/objects.json; its nouns are taught to the grammar on the way."""
    about = json.loads((data_folder() / "emoji" / "objects.json").read_text())
    set_nouns({thing["name"]: (thing["article"], thing["plural"]) for thing in about["objects"]})
    return about


@cache
def all_names() -> tuple[str, ...]:
    """Every kind of object of the artwork; `tiny` captions name the first 64."""
    return tuple(thing["name"] for thing in art()["objects"])


def other_objects(count: int) -> tuple[str, ...]:
    """The kinds that captions of the first `count` never name."""
    return all_names()[count:]


@cache
def _sheet(vendor: str) -> Image.Image:
    with Image.open(data_folder() / "emoji" / art()["vendors"][vendor]["sheet"]) as sheet:
        return sheet.convert("RGBA")


@lru_cache(maxsize=60_000)
def _sprite(name: str, vendor: str, pixels: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Its colours times its opacity (p, p, 3), and what it lets through, in 256ths (p, p, 1); uint16."""
    cell, columns = art()["cell"], art()["columns"]
    row, column = divmod(all_names().index(name), columns)
    image = _sheet(vendor).crop((column * cell, row * cell, (column + 1) * cell, (row + 1) * cell))
    image = image.rotate(-angle, Image.Resampling.BICUBIC).resize((pixels, pixels), Image.Resampling.BICUBIC)
    rgba = np.asarray(image).astype(np.uint16)
    opacity = rgba[..., 3:]
    return rgba[..., :3] * opacity // 255, 256 - (opacity * 257 >> 8)


def paint(scene: Scene, size: int) -> np.ndarray:
    """The picture of a scene: uint8 (size, size, 3)."""
    picture = np.empty((size, size, 3), np.uint8)
    picture[:] = scene.shade or RGB[scene.background]
    for thing in scene.objects:
        pixels = max(1, round(thing.size * size))
        left, top = (min(max(round(centre * size - pixels / 2), 0), size - pixels) for centre in (thing.x, thing.y))
        colour, through = _sprite(thing.name, thing.vendor, pixels, thing.angle)
        window = picture[top:top + pixels, left:left + pixels]
        window[:] = (window * through >> 8) + colour
    if scene.curtain:
        x0, y0, x1, y1 = (round(edge * size) for edge in scene.curtain)
        folds = np.where(np.arange(x1 - x0) // max(1, size // 24) % 2, 150, 105)
        picture[y0:y1, x0:x1] = folds[:, None]
    return picture


# ---------------------------------------------------------------------------------------------------- placing
def _coordinate(stream: Stream, size: float) -> float:
    zone = stream.random()
    if zone < 0.2:
        return stream.uniform(*MIDDLE)
    low = stream.uniform(size / 2, LOW)
    return low if zone < 0.6 else 1 - low


def _clash(x: float, y: float, size: float, spots) -> bool:
    """Whether a square overlaps others too much; spots: (x, y, size)."""
    for other_x, other_y, other in spots:
        wide, high = (size + other) / 2 - abs(x - other_x), (size + other) / 2 - abs(y - other_y)
        if wide > 0 and high > 0 and wide * high > OVERLAP * min(size, other) ** 2:
            return True
    return False


def _layout(stream: Stream, sizes, taken=()) -> list[tuple[float, float, float]] | None:
    """Room for squares of these sizes beside those that are there: (x, y, size) of each; None: there is none."""
    for _ in range(30):
        spots = list(taken)
        for size in sizes:
            for _ in range(10):
                x, y = _coordinate(stream, size), _coordinate(stream, size)
                if not _clash(x, y, size, spots):
                    spots.append((x, y, size))
                    break
            else:
                break
        else:
            return spots[len(taken):]
    return None


def _fit(objects) -> tuple[Object, ...] | None:
    """The objects moved inside the picture; None if they then clash."""
    spots, moved = [], []
    for thing in objects:
        x, y = (min(max(centre, thing.size / 2), 1 - thing.size / 2) for centre in (thing.x, thing.y))
        if _clash(x, y, thing.size, spots):
            return None
        spots.append((x, y, thing.size))
        moved.append(thing if x == thing.x and y == thing.y else replace(thing, x=x, y=y))
    return tuple(moved)


def _spots(things) -> list[tuple[float, float, float]]:
    return [(thing.x, thing.y, thing.size) for thing in things]


def _at(things, spots) -> tuple[Object, ...]:
    return tuple(replace(thing, x=x, y=y) for thing, (x, y, _) in zip(things, spots))


def _size(stream: Stream, big: bool) -> float:
    return stream.uniform(*(BIG if big else SMALL))


def resized(objects, stream: Stream):
    """Two sizes exchanged where they differ, or one made small or big."""
    i = stream.below(len(objects))
    small = objects[i].size < BIG[0]
    others = [j for j, thing in enumerate(objects) if (thing.size < BIG[0]) != small]
    changed = list(objects)
    changed[i] = replace(changed[i], size=_size(stream, small))
    if others and stream.chance(0.5):
        j = stream.pick(others)
        changed[j] = replace(changed[j], size=_size(stream, not small))
    return _fit(changed)


def mirrored(objects, stream: Stream):
    """Left and right, or top and bottom, exchanged."""
    if stream.chance(0.5):
        return tuple(replace(thing, x=1 - thing.x) for thing in objects)
    return tuple(replace(thing, y=1 - thing.y) for thing in objects)


def exchanged(objects, stream: Stream):
    """Two objects of different kinds in each other's place."""
    a, b = stream.shuffle(range(len(objects)))[:2] if len(objects) > 1 else (0, 0)
    if objects[a].name == objects[b].name:
        return None
    changed = list(objects)
    changed[a] = replace(objects[a], x=objects[b].x, y=objects[b].y)
    changed[b] = replace(objects[b], x=objects[a].x, y=objects[a].y)
    return _fit(changed)


def moved(objects, stream: Stream):
    """One object elsewhere."""
    i = stream.below(len(objects))
    rest = objects[:i] + objects[i + 1:]
    spots = _layout(stream, [objects[i].size], _spots(rest))
    return spots and objects[:i] + (replace(objects[i], x=spots[0][0], y=spots[0][1]),) + objects[i + 1:]


# ------------------------------------------------------------------------------------------------------ drawing
def pair_class(a: str, b: str) -> int:
    """A stable number from 0 to 9 for a pair of names. Pairs of class 0 never meet in training."""
    return zlib.crc32(" ".join(sorted((a, b))).encode()) % 10


class Scenes:
    """Scenes and captions by number, endless and the same for ever.

    split: "train", "validation" or "test"; they share no scene and no caption
    seed: another seed, other scenes; size: the side of pictures that `picture` paints
    objects: how many of the kinds are used, from the first, or their names
    counts: shares of scenes with 1, 2, 3, (4) objects
    siblings: share of the neighbours 2g and 2g + 1 that show the same objects, arranged otherwise
    epoch: how many make an epoch, len(scenes)
    noise: shares of wrong captions (one thing changed), of captions with words missing, and of other scenes' captions
    vendors: whose artwork; by default all that are for training
    pairs: "seen" in training alone, or "unseen": one such pair in each scene, or "control": one of as many seen pairs
    specific: captions that say enough for few other scenes to fit; by default outside training

    Raises ValueError for a name or share that does not exist.
    """

    def __init__(self, split: str, seed: int = 0, size: int = 48, objects: int | tuple[str, ...] = 64,
                 counts: tuple[float, ...] = (0.3, 0.5, 0.2), siblings: float = 0.0, epoch: int = 100_000,
                 noise: tuple[float, float, float] = (0, 0, 0), vendors: tuple[str, ...] | None = None,
                 pairs: str = "seen", specific: bool | None = None):
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        if pairs not in ("seen", "unseen", "control"):
            raise ValueError(f"pairs={pairs!r} is none of seen, unseen, control")
        about = art()
        self.split, self.seed, self.size, self.siblings, self.epoch, self.noise = split, seed, size, siblings, epoch, noise
        self.names = all_names()[:objects] if isinstance(objects, int) else tuple(objects)
        vendors = vendors or tuple(name for name, vendor in about["vendors"].items() if vendor["training"])
        self.vendors = {name: [v for v in vendors if name not in about["vendors"][v]["missing"]] for name in self.names}
        self.names = tuple(name for name in self.names if self.vendors[name])
        self.specific = split != "train" if specific is None else specific
        self.shares = {repeats: share * part for n, share in enumerate(counts, 1) if share
                       for repeats, part in REPEATS[n].items() if pairs == "seen" or len(repeats) > 1}
        classes = {(a, b): pair_class(a, b) for i, a in enumerate(self.names) for b in self.names[:i]}
        special = [[pair for pair, number in classes.items() if number == k] for k in (0, 1)]
        self.pairs = None if pairs == "seen" else special[pairs == "control"][:min(map(len, special))]
        apart = [pair for pair, number in classes.items() if number == 0 or self.pairs and number == 1]
        self.apart = {frozenset(pair) for pair in apart}
        self._group = (-1, [])

    def __len__(self) -> int:
        return self.epoch

    def place(self, index: int) -> Scene:
        """The scene of an example, without the trouble of a caption."""
        if self._paired(index // 2) or self.split != "train":
            return self.draw(index).scene
        return self._scene(Stream(self.split, self.seed, index))

    def draw(self, index: int) -> Drawn:
        """An example: its scene and a true caption (but for noise)."""
        group = index // 2
        if self._paired(group):
            if self._group[0] != group:
                self._group = group, [self._with_noise(one) for one in self._pair(group)]    # its neighbour is asked for next
            return self._group[1][index % 2]
        stream = Stream(self.split, self.seed, index)
        while not (drawn := self._tell(scene := self._scene(stream), stream, index, self.specific)):
            pass                                # a scene of three like things has few captions, perhaps none for a test
        return self._with_noise(drawn)

    def family(self, index: int) -> list[Drawn]:
        """Four scenes of the same kinds of objects and background; each one's caption is true of it and false of the others.

        They differ in `kind`: "size", "place", "relation", "count" or, by turns, "mixed" (a size and an arrangement).
        """
        kind = FAMILIES[index % len(FAMILIES)]
        stream = Stream(self.split, self.seed, "family", index)
        while True:
            scenes = self._four(kind, stream)
            told = []
            for scene in scenes or ():
                others = [other for other in scenes if other is not scene]
                told.append(self._tell(scene, stream, 4 * index + len(told), True, kind, others))
                if not told[-1]:
                    break
            else:
                if told:
                    return told

    def one_change(self, index: int, kind: str) -> tuple[Drawn, Form, str]:
        """A scene with a true caption, and the same caption with one thing changed (kind: of `grammar.KINDS`), false.

        Both are drawn before it is decided which of the two is shown, so the words alone never tell them apart.
        """
        stream = Stream(self.split, self.seed, "one change", kind, index)
        while True:
            scene = self._scene(stream, roomy=True)
            form = caption(scene, stream, self.specific, kind)
            foil = foils(form, scene, kind, stream, self.names)
            other = foil and self._changed(scene, form, foil, kind, stream)
            if not other:
                continue
            for _ in range(60):
                voice = stream.below(1 << 30)
                texts = render(form, Stream(voice)), render(foil, Stream(voice))
                if all(map(self._allows, texts)):
                    break
            else:
                continue
            if stream.chance(0.5):
                return Drawn(scene, form, texts[0], index, voice, kind), foil, texts[1]
            return Drawn(other, foil, texts[1], index, voice, kind), form, texts[0]

    # what follows is the making of it
    def _paired(self, group: int) -> bool:
        return int((group + 1) * self.siblings + 1e-9) > int(group * self.siblings + 1e-9)

    def _allows(self, text: str) -> bool:
        return zlib.crc32(text.encode()) % 10 in SPLITS[self.split]

    def _scene(self, stream: Stream, roomy: bool = False, least: int = 1, repeats: tuple[int, ...] | None = None) -> Scene:
        """roomy: objects stand so that each could be big"""
        if not repeats:
            point = stream.random() * sum(self.shares.values())
            for repeats, share in self.shares.items():
                point -= share
                if point < 0:
                    break
        names = [name for name, n in zip(self._kinds(stream, len(repeats)), repeats) for _ in range(n)]
        sizes = [_size(stream, stream.chance(0.5)) for _ in names]
        spots = None
        while not spots:
            spots = _layout(stream, [BIG[1]] * len(names) if roomy else sizes)
        things = [self._object(name, x, y, size, stream)
                  for name, size, (x, y, _) in zip(names, sizes, spots)]
        return self._on(tuple(stream.shuffle(things)), stream.pick(COLOURS), stream)

    def _kinds(self, stream: Stream, count: int) -> list[str]:
        for _ in range(1000):
            names = stream.shuffle(stream.pick(self.pairs)) if self.pairs else []
            given = len(names)
            while len(names) < count:
                name = stream.pick(self.names)
                if name in names or any(frozenset((name, other)) in self.apart for other in names):
                    break
                names.append(name)
            if len(names) == count:
                return names
        raise ValueError(f"{len(self.names)} kinds of objects are too few for scenes of {count} kinds; name more")

    def _tell(self, scene: Scene, stream: Stream, id: int, specific: bool, kind: str = "", others=(),
              tries: int = 300) -> Drawn | None:
        """The scene with a caption of this split that is false of the others and speaks of `kind`; None: not found."""
        for _ in range(tries):
            form = caption(scene, stream, specific, kind)
            for other in others:
                if holds(form, other) is not False:
                    break
            else:
                voice = stream.below(1 << 30)
                text = render(form, Stream(voice))
                if self._allows(text):
                    return Drawn(scene, form, text, id, voice, kind)
        return None

    def _pair(self, group: int) -> list[Drawn]:
        """Two siblings, whose captions are nearly always false of each other."""
        stream = Stream(self.split, self.seed, "siblings", group)
        tries = 60 // len(SPLITS[self.split])
        for strict in (True, True, True, False):
            other = None
            while not other:
                scene = self._scene(stream, roomy=True)
                kind = stream.pick(("count", "count", "size", "place", "relation"))
                if kind == "count":
                    things = self._recounted(scene.objects, stream)
                elif kind == "size":
                    things = resized(scene.objects, stream)
                else:
                    things = stream.pick((mirrored, exchanged, moved))(scene.objects, stream)
                other = things and replace(scene, objects=things)
            told = []
            for one, sibling in ((scene, other), (other, scene)):
                told.append(self._tell(one, stream, 2 * group + len(told), True, kind, [sibling] * strict, tries))
                if not told[-1]:
                    break
            else:
                break
        return told

    def _recounted(self, things, stream: Stream, keep: bool = True):
        """One more or one less of a kind; keep: such that scenes keep their shares of repeats (Metropolis' rule)."""
        names = sorted({thing.name for thing in things})
        counts = {name: sum(thing.name == name for thing in things) for name in names}
        old = self.shares[tuple(sorted(counts.values(), reverse=True))]
        more = stream.chance(0.5)
        names = names if more else [name for name in names if counts[name] > 1]
        if not names:
            return None
        name = stream.pick(names)
        counts[name] += 1 if more else -1
        new = self.shares.get(tuple(sorted(counts.values(), reverse=True)), 0)
        if not stream.chance(new / old if keep else new > 0):
            return None
        if more:
            size = _size(stream, stream.chance(0.5))
            spots = _layout(stream, [size], _spots(things))
            return spots and (*things, self._object(name, *spots[0], stream))
        gone = stream.pick([thing for thing in things if thing.name == name])
        return tuple(thing for thing in things if thing is not gone)

    def _four(self, kind: str, stream: Stream) -> list[Scene] | None:
        n = 2 + stream.below(2)
        first = self._scene(stream, True, repeats=(1, 1) if kind == "count" else (1,) * n)
        things = first.objects
        if kind == "size":
            ways = stream.shuffle(range(2 ** n))[:4]
            sets = [tuple(replace(thing, size=_size(stream, way >> i & 1)) for i, thing in enumerate(things)) for way in ways]
        elif kind == "place":
            layouts = [_layout(stream, [thing.size for thing in things]) for _ in range(4)]
            sets = [spots and _at(things, spots) for spots in layouts]
        elif kind == "relation":
            sets = self._around(things, stream)
        elif kind == "count":
            sets = self._counted(things, stream)
        else:
            i, turned = stream.below(n), stream.pick((mirrored, exchanged))(things, stream)
            size = _size(stream, things[i].size < BIG[0])
            sets = [things, turned, *((*each[:i], replace(each[i], size=size), *each[i + 1:]) for each in (things, turned))]
        return [replace(first, objects=each) for each in sets] if all(sets) else None

    def _around(self, things, stream: Stream) -> list:
        """The first thing left of, right of, above and below the second, and a third anywhere."""
        sets = []
        for axis, sign in (("x", -1), ("x", 1), ("y", -1), ("y", 1)):
            middle, half, across = stream.uniform(0.45, 0.55), stream.uniform(0.2, 0.28), stream.uniform(0.22, 0.78)
            along = {"x": middle + sign * half}, {"x": middle - sign * half}
            row = [(place["x"], across + stream.uniform(-0.015, 0.015)) for place in along]
            pair = [(x, y) if axis == "x" else (y, x) for x, y in row]
            pair = _fit(replace(thing, x=x, y=y) for thing, (x, y) in zip(things, pair))
            spots = pair and _layout(stream, [thing.size for thing in things[2:]], _spots(pair))
            sets.append(None if spots is None else (*pair, *_at(things[2:], spots)))
        return sets

    def _counted(self, things, stream: Stream) -> list:
        """One of each; two of the first, alike in size or not; two of the second."""
        spots = _layout(stream, [BIG[1]], [(thing.x, thing.y, BIG[1]) for thing in things])
        if not spots:
            return [None]
        (x, y, _), big = spots[0], things[0].size >= BIG[0]
        more = [(things[0].name, big), (things[0].name, not big), (things[1].name, stream.chance(0.5))]
        return [things, *((*things, self._object(name, x, y, _size(stream, each), stream)) for name, each in more)]

    def _object(self, name: str, x: float, y: float, size: float, stream: Stream) -> Object:
        return Object(name, x, y, size, stream.pick(self.vendors[name]), stream.pick(ANGLES))

    def _changed(self, scene: Scene, form: Form, foil: Form, kind: str, stream: Stream) -> Scene | None:
        """A scene with one thing changed, of which the foil is true and the form false; None: not found."""
        for _ in range(16):
            things, colour = scene.objects, scene.background
            if kind == "size":
                things = resized(things, stream)
            elif kind in ("place", "relation"):
                things = stream.pick((mirrored, exchanged, moved))(things, stream)
            elif kind == "count":
                things = self._recounted(things, stream, keep=False)
            elif kind == "background":
                colour = stream.pick(COLOURS)
            else:
                old, new = needs(form) - needs(foil), needs(foil) - needs(form)
                things = self._renamed(things, old, new, stream)
            if things:
                other = self._on(tuple(things), colour, stream) if kind == "background" else replace(scene, objects=things)
                if holds(foil, other) and holds(form, other) is False:
                    return other
        return None

    def _renamed(self, things, old: set[str], new: set[str], stream: Stream):
        if len(old) != 1 or len(new) != 1:
            return None
        (old,), (new,) = old, new
        kept = {thing.name for thing in things} - {old}
        if new in kept or any(frozenset((new, name)) in self.apart for name in kept):
            return None
        return tuple(replace(thing, name=new, vendor=stream.pick(self.vendors[new])) if thing.name == old else thing
                     for thing in things)

    @staticmethod
    def _on(things, colour: str, stream: Stream) -> Scene:
        shade = tuple(min(255, max(0, value + stream.below(25) - 12)) for value in RGB[colour])
        return Scene(things, colour, None, shade)

    def _with_noise(self, drawn: Drawn) -> Drawn:
        """The same, or with a caption spoilt in one of three ways; the form is what the words say, or said whole."""
        if not any(self.noise):
            return drawn
        stream = Stream(self.split, self.seed, "noise", drawn.id)
        wrong, missing, foreign = self.noise
        point = stream.random()
        if point < wrong:
            for kind in stream.shuffle(KINDS):
                form = foils(drawn.form, drawn.scene, kind, stream, self.names)
                if form and self._allows(text := render(form, Stream(drawn.voice))):
                    return replace(drawn, form=form, text=text, kind="wrong")
        elif point < wrong + missing:
            for _ in range(100):
                text = " ".join(word for word in drawn.text.split() if stream.chance(0.6))
                if text and text != drawn.text and self._allows(text):
                    return replace(drawn, text=text, kind="missing")
        elif point < wrong + missing + foreign:
            for _ in range(100):
                other = self._tell(self._scene(stream), stream, drawn.id, self.specific)
                if other and holds(other.form, drawn.scene) is False:
                    return replace(other, scene=drawn.scene, kind="foreign")
        return drawn


def truth(drawn: list[Drawn]) -> np.ndarray:
    """Which captions are true of which scenes: bool (b, b), row: caption, column: scene. Its own always counts as true."""
    needed = [needs(one.form) for one in drawn]
    present = [{thing.name for thing in one.scene.objects} for one in drawn]
    true = np.eye(len(drawn), dtype=bool)
    for i, one in enumerate(drawn):
        for j, other in enumerate(drawn):
            if needed[i] <= present[j] and i != j and holds(one.form, other.scene):
                true[i, j] = True
    return true
