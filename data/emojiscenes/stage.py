"""The stage: scenes without captions, and the changes that make one scene another."""
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from emojiscenes.grammar import COLOURS, emoji
from emojiscenes.language import Object, Scene, names_of
from emojiscenes.layout import (
    BIG,
    MIDDLE,
    Bounds,
    Things,
    clash,
    draw_coordinate,
    draw_size,
    draw_sizes,
    layout,
    place,
    spots_of,
)
from emojiscenes.painting import FINISHES, RGB, all_names, object_names, pair_class
from emojiscenes.stream import Stream

ANGLES = (-14.0, -7.0, 0.0, 7.0, 14.0)         # few, so that sprites can be kept
# How many there are of each kind, by the number of objects, and how often: (2, 1) is two of one and
# one of another.
REPEATS: dict[int, dict[tuple[int, ...], float]] = {
    1: {(1,): 1.0},
    2: {(1, 1): 0.8, (2,): 0.2},
    3: {(1, 1, 1): 0.66, (2, 1): 0.28, (3,): 0.06},
    4: {(1, 1, 1, 1): 0.5, (2, 1, 1): 0.35, (2, 2): 0.1, (3, 1): 0.05},
}
PAIRS = ("seen", "unseen", "control")
TRIES = 1000                                   # to find kinds that may meet
SHADES = 25                                    # of a background's colour, in each channel


# changes of where things stand and how big they are; None: it did not come off


def crowd(stream: Stream) -> list[Bounds]:
    """Bounds of x and of y for `layout`: anywhere, in one half, or in a line."""
    line = stream.uniform(0.22, 0.78)
    anywhere = (0.0, 1.0)
    ways = (anywhere, anywhere, (0.0, 0.47), (0.53, 1.0), (line - 0.015, line + 0.015))
    return [stream.pick(ways), stream.pick(ways)]


def is_big(thing: Object) -> bool:
    """Whether a thing counts as big."""
    return thing.size >= BIG[0]


# Things stand where each could as well be big (`roomy`): resized or exchanged they do not clash.


def resize(things: Things, stream: Stream) -> Things:
    """One made small or big, or where sizes differ perhaps two of them exchanged."""
    i = stream.below(len(things))
    indices = [i]
    unlike = [j for j, thing in enumerate(things) if is_big(thing) != is_big(things[i])]
    if unlike and stream.chance(0.5):
        indices.append(stream.pick(unlike))
    resized = list(things)
    for j in indices:
        resized[j] = replace(things[j], size=draw_size(stream, not is_big(things[j])))
    return tuple(resized)


def flip(things: Things, axes: str) -> Things:
    """Left and right exchanged ("x"), top and bottom ("y"), both ("xy") or nothing ("")."""
    flipped = []
    for thing in things:
        x = 1 - thing.x if "x" in axes else thing.x
        y = 1 - thing.y if "y" in axes else thing.y
        flipped.append(replace(thing, x=x, y=y))
    return tuple(flipped)


def mirror(things: Things, stream: Stream) -> Things:
    """Left and right exchanged, or top and bottom."""
    return flip(things, "x" if stream.chance(0.5) else "y")


def transpose(things: Things, stream: Stream) -> Things:
    """Mirrored along one of the two diagonals: what was left is above, or it is below."""
    things = flip(things, stream.pick(("", "xy")))
    return tuple([replace(thing, x=thing.y, y=thing.x) for thing in things])


def exchange(things: Things, stream: Stream) -> Things | None:
    """Two of different kinds, each in the other's place; None: they are alike, or clash there."""
    i = stream.below(len(things))
    j = stream.below(len(things))
    if things[i].name == things[j].name:
        return None
    spots = spots_of(things)
    spots[i], spots[j] = spots[j], spots[i]
    things = place(things, spots)
    spots = spots_of(things)
    if any(clash(*spot, spots[:k]) for k, spot in enumerate(spots)):
        return None
    return things


def move(things: Things, stream: Stream) -> Things | None:
    """One of them elsewhere."""
    i = stream.below(len(things))
    spots = layout(stream, [things[i].size], spots_of(things[:i] + things[i + 1:]))
    if spots is None:
        return None
    return things[:i] + place(things[i:i + 1], spots) + things[i + 1:]


def stand_around(things: Things, stream: Stream) -> list[Things | None]:
    """The first left of, right of, above and below the second alone; a third anywhere."""
    ways: list[Things | None] = []
    for upright, sign in ((False, -1), (False, 1), (True, -1), (True, 1)):
        middle = stream.uniform(*MIDDLE)
        half = stream.uniform(0.2, 0.28)
        across = draw_coordinate(stream, BIG[1])
        spots = []
        for side in (sign, -sign):
            spot = (middle + side * half, across + stream.uniform(-0.015, 0.015))
            spots.append(spot[::-1] if upright else spot)
        pair = place(things[:2], spots)
        rest = layout(stream, [thing.size for thing in things[2:]], spots_of(pair))
        ways.append(None if rest is None else pair + place(things[2:], rest))
    return ways


class Stage:
    """Draws scenes of given kinds of objects; the arguments are those of `Scenes`."""

    def __init__(self, objects: int | tuple[str, ...], counts: tuple[float, ...],
                 vendors: tuple[str, ...] | None, pairs: str, restyle: float = 0.0):
        names = object_names(objects)
        about = emoji()["vendors"]
        if not vendors:
            vendors = tuple(vendor for vendor in about if about[vendor]["training"])
        check(names, vendors, pairs, counts)
        self.restyle = restyle
        self.vendors = {}
        for name in names:
            styles = tuple(vendor for vendor in vendors if name not in about[vendor]["missing"])
            if styles:
                self.vendors[name] = styles
        self.names = tuple(self.vendors)
        self.shares = shares_of(counts, pairs)
        self._choose_pairs(pairs)
        if not self.shares or self.pairs == []:
            raise ValueError(f"counts={counts}, pairs={pairs!r}: no such scene can be made of "
                             f"{len(self.names)} kinds; name more objects, or give a share to "
                             "more of them in a scene")

    def _choose_pairs(self, pairs: str) -> None:
        """self.pairs: each scene has one of these, if any; self.apart: these never meet."""
        classes: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for i, b in enumerate(self.names):
            for a in self.names[:i]:
                classes[pair_class(a, b)].append((a, b))
        unseen = classes[0]
        control = classes[1]
        self.pairs: list[tuple[str, str]] | None = None
        self.apart = set(map(frozenset, unseen))
        if pairs == "seen":
            return
        # as many of either, and no third object makes another pair: both are equally hard
        number = min(len(unseen), len(control))
        self.pairs = unseen[:number] if pairs == "unseen" else control[:number]
        self.apart |= set(map(frozenset, control))

    def repeats(self, stream: Stream) -> tuple[int, ...]:
        """How many of each kind."""
        point = stream.random() * sum(self.shares.values())
        for repeats, share in self.shares.items():
            point -= share
            if point < 0:
                break
        return repeats

    def kinds(self, stream: Stream, count: int) -> list[str]:
        """Different names that may meet."""
        for _ in range(TRIES):
            names = stream.shuffle(stream.pick(self.pairs)) if self.pairs else []
            while len(names) < count:
                name = stream.pick(self.names)
                if name in names or self._meets_apart(name, names):
                    break
                names.append(name)
            else:
                return names
        raise ValueError(f"{len(self.names)} kinds of objects are too few for {count} in a scene; "
                         "name more")

    def _meets_apart(self, name: str, names: Sequence[str] | set[str]) -> bool:
        """Whether a name never meets one of the others."""
        return any(frozenset((name, neighbour)) in self.apart for neighbour in names)

    def scene(self, stream: Stream, repeats: tuple[int, ...] | None = None, roomy: bool = False,
              crowded: bool = False) -> Scene:
        """A scene on a background.

        repeats: how many of each kind, drawn by default
        roomy: each object stands where it could as well be big
        crowded: anywhere, margins of places too, and often all in one half or in a line
        """
        repeats = repeats or self.repeats(stream)
        names: list[str] = []
        for name, number in zip(self.kinds(stream, len(repeats)), repeats):
            names += [name] * number
        sizes = draw_sizes(stream, len(names))
        space = [BIG[1]] * len(names) if roomy else sizes
        spots = None
        while not spots:
            bounds = crowd(stream) if crowded else (None, None)
            spots = layout(stream, space, bounds=bounds)
        things = []
        for name, size, (x, y, _) in zip(names, sizes, spots):
            things.append(self.thing(name, x, y, size, stream))
        return self.with_background(tuple(stream.shuffle(things)), stream)

    def thing(self, name: str, x: float, y: float, size: float, stream: Stream) -> Object:
        """An object in a drawn style, at a drawn angle."""
        style = self.style(name, stream)
        return Object(name, x, y, size, style, stream.pick(ANGLES))

    def style(self, name: str, stream: Stream) -> str:
        """Whose drawing of it, and perhaps a finish."""
        vendor = stream.pick(self.vendors[name])
        if self.restyle and stream.chance(self.restyle):
            return vendor + stream.pick(FINISHES)
        return vendor

    def with_background(self, things: Things, stream: Stream) -> Scene:
        """The things before a background of a drawn colour."""
        colour = stream.pick(COLOURS)
        red, green, blue = (_vary(value, stream) for value in RGB[colour])
        return Scene(things, colour, None, (red, green, blue))

    def change(self, scene: Scene, kind: str, stream: Stream) -> Scene | None:
        """The same with one thing changed; None: it did not come off, draw again.

        kind: of `grammar.KINDS`; an "arrangement" also says above or below for left
        """
        if kind == "background":
            return self.with_background(scene.objects, stream)
        ways = {
            "object": (self.rename,),
            "size": (resize,),
            "count": (self.recount,),
            "arrangement": (mirror, exchange, exchange, move, transpose, transpose),
        }
        way = stream.pick(ways.get(kind, (mirror, exchange, move)))
        things = way(scene.objects, stream)
        if things is None:
            return None
        return replace(scene, objects=things)

    def rename(self, things: Things, stream: Stream) -> Things | None:
        """All of one kind become another."""
        old = stream.pick(things).name
        return self.put_in_place(things, old, stream.pick(self.names), stream)

    def put_in_place(self, things: Things, old: str, new: str, stream: Stream) -> Things | None:
        """All of the kind `old` become `new`; None where that may not meet the others."""
        rest = names_of(things) - {old}
        if new == old or new in rest or self._meets_apart(new, rest):
            return None
        renamed = []
        for thing in things:
            if thing.name == old:
                thing = replace(thing, name=new, vendor=self.style(new, stream))
            renamed.append(thing)
        return tuple(renamed)

    def recount(self, things: Things, stream: Stream) -> Things | None:
        """One more or one less of a kind that stays; by Metropolis scenes keep their shares."""
        counts = Counter(thing.name for thing in things)
        share = self._share(counts)
        more = stream.chance(0.5)
        names = [name for name, number in counts.items() if more or number > 1]
        if not names:
            return None
        name = stream.pick(names)
        counts[name] += 1 if more else -1
        if not stream.chance(self._share(counts) / share):
            return None
        if not more:
            victim = stream.pick([thing for thing in things if thing.name == name])
            return tuple(thing for thing in things if thing is not victim)
        size = draw_size(stream, stream.chance(0.5))
        spots = layout(stream, [size], spots_of(things))
        if spots is None:
            return None
        x, y, _ = spots[0]
        return (*things, self.thing(name, x, y, size, stream))

    def _share(self, counts: Mapping[str, int]) -> float:
        repeats = tuple(sorted(counts.values(), reverse=True))
        return self.shares.get(repeats, 0.0)

    def family(self, kind: str, stream: Stream, most: int = 0) -> list[Scene] | None:
        """A family's scenes, of `most` objects; None: it failed."""
        number = most or 3
        if kind == "count":
            number -= 1
        elif not most:
            number = 2 + stream.below(2)
        first = self.scene(stream, (1,) * number, roomy=True)
        ways = {
            "size": self._sizes,
            "place": self._places,
            "relation": stand_around,
            "count": self._counts,
        }
        family = ways.get(kind, self._mixture)(first.objects, stream)
        if not all(family):
            return None
        return [replace(first, objects=things) for things in family if things]

    @staticmethod
    def _sizes(things: Things, stream: Stream) -> list[Things | None]:
        """Four ways to be small and big."""
        small = [draw_size(stream, False) for _ in things]
        big = [draw_size(stream, True) for _ in things]
        family: list[Things | None] = []
        for way in stream.shuffle(range(2 ** len(things)))[:4]:
            sizes = [big[i] if way >> i & 1 else small[i] for i in range(len(things))]
            family.append(tuple(replace(thing, size=size) for thing, size in zip(things, sizes)))
        return family

    @staticmethod
    def _places(things: Things, stream: Stream) -> list[Things | None]:
        """Four layouts."""
        family: list[Things | None] = []
        for _ in range(4):
            spots = layout(stream, [thing.size for thing in things])
            family.append(None if spots is None else place(things, spots))
        return family

    def _counts(self, things: Things, stream: Stream) -> list[Things | None]:
        """One of each; two of the first, alike in size or not; two of the second."""
        occupied = [(thing.x, thing.y, BIG[1]) for thing in things]
        spots = layout(stream, [BIG[1]], occupied)
        a, b = things[:2]
        more = [(a, is_big(a)), (a, not is_big(a)), (b, stream.chance(0.5))]
        if spots is None:
            return [None]
        x, y, _ = spots[0]
        family: list[Things | None] = [things]
        for thing, big in more:
            new = self.thing(thing.name, x, y, draw_size(stream, big), stream)
            family.append((*things, new))
        return family

    @staticmethod
    def _mixture(things: Things, stream: Stream) -> list[Things | None]:
        """The same with another size, another arrangement, or both."""
        i = stream.below(len(things))
        way = stream.pick((mirror, exchange))
        arrangement = way(things, stream)
        size = draw_size(stream, not is_big(things[i]))
        if arrangement is None:
            return [None]
        family: list[Things | None] = [things, arrangement]
        for group in (things, arrangement):
            family.append((*group[:i], replace(group[i], size=size), *group[i + 1:]))
        return family


def _vary(value: int, stream: Stream) -> int:
    """A channel of a colour, a little lighter or darker."""
    return min(255, max(0, value + stream.below(SHADES) - SHADES // 2))


def check(names: Sequence[str], vendors: Sequence[str], pairs: str, counts: Sequence[float]
          ) -> None:
    """Raises ValueError for what the artwork or a stage does not have."""
    for what, wrong in (("object", set(names) - set(all_names())),
                        ("vendor", set(vendors) - set(emoji()["vendors"]))):
        if wrong:
            raise ValueError(f"no {what} {min(wrong)!r} in the artwork; "
                             "see data/emojiscenes/artwork/objects.json")
    if pairs not in PAIRS:
        raise ValueError(f"pairs={pairs!r} is none of {', '.join(PAIRS)}")
    if len(counts) > len(REPEATS):
        raise ValueError(f"counts={counts}: no scene has more than {len(REPEATS)} objects, "
                         "so give no more shares")


def shares_of(counts: Sequence[float], pairs: str) -> dict[tuple[int, ...], float]:
    """How often scenes have so many of each kind, by the shares of 1, 2, ... objects."""
    shares = {}
    for number, share in enumerate(counts, 1):
        for repeats, part in REPEATS[number].items():
            if share and (pairs == "seen" or len(repeats) > 1):
                shares[repeats] = share * part
    return shares
