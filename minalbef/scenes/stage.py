"""The stage: scenes of given kinds of objects without captions, and the changes that make one scene another."""
from collections import Counter
from dataclasses import replace

from minalbef.scenes.grammar import COLOURS, emoji
from minalbef.scenes.language import Object, Scene
from minalbef.scenes.layout import BIG, MIDDLE, Things, clash, draw_coordinate, draw_size, layout, place, spots_of
from minalbef.scenes.painting import FINISHES, RGB, all_names, object_names, pair_class
from minalbef.scenes.stream import Stream

ANGLES = (-14.0, -7.0, 0.0, 7.0, 14.0)         # few, so that sprites can be kept
# How many there are of each kind, by the number of objects, and how often: (2, 1) is two of one and one of another.
REPEATS = {1: {(1,): 1.0}, 2: {(1, 1): 0.8, (2,): 0.2}, 3: {(1, 1, 1): 0.66, (2, 1): 0.28, (3,): 0.06},
           4: {(1, 1, 1, 1): 0.5, (2, 1, 1): 0.35, (2, 2): 0.1, (3, 1): 0.05}}


def crowd(stream: Stream) -> list[tuple[float, float]]:
    """Bounds of x and of y for `layout`: anywhere, in one half, or in a line."""
    line = stream.uniform(0.22, 0.78)
    return [stream.pick(((0.0, 1.0), (0.0, 1.0), (0.0, 0.47), (0.53, 1.0), (line - 0.015, line + 0.015))) for _ in "xy"]


def is_big(thing: Object) -> bool:
    return thing.size >= BIG[0]


# Things stand where each could as well be big (`roomy`): in a new size or each other's place they do not clash.


def resize(things: Things, stream: Stream) -> Things:
    """One made small or big, or where sizes differ perhaps two of them exchanged."""
    i, changed = stream.below(len(things)), list(things)
    others = [j for j, thing in enumerate(things) if is_big(thing) != is_big(things[i])]
    for j in (i, stream.pick(others)) if others and stream.chance(0.5) else (i,):
        changed[j] = replace(things[j], size=draw_size(stream, not is_big(things[j])))
    return tuple(changed)


def flip(things: Things, axes: str) -> Things:
    """Left and right exchanged ("x"), top and bottom ("y"), both ("xy") or nothing ("")."""
    return tuple([replace(thing, **{axis: 1 - getattr(thing, axis) for axis in axes}) for thing in things])


def mirror(things: Things, stream: Stream) -> Things:
    """Left and right exchanged, or top and bottom."""
    return flip(things, "x" if stream.chance(0.5) else "y")


def transpose(things: Things, stream: Stream) -> Things:
    """Mirrored along one of the two diagonals: what was left is above, or it is below."""
    return tuple([replace(thing, x=thing.y, y=thing.x) for thing in flip(things, stream.pick(("", "xy")))])


def exchange(things: Things, stream: Stream) -> Things | None:
    """Two of different kinds, each in the other's place; None: they are alike, or overlap others there."""
    i, j = stream.below(len(things)), stream.below(len(things))
    if things[i].name == things[j].name:
        return None
    spots = spots_of(things)
    spots[i], spots[j] = spots[j], spots[i]
    things = place(things, spots)
    return None if any(clash(*spot, spots_of(things[:k])) for k, spot in enumerate(spots_of(things))) else things


def move(things: Things, stream: Stream) -> Things | None:
    """One of them elsewhere."""
    i = stream.below(len(things))
    spots = layout(stream, [things[i].size], spots_of(things[:i] + things[i + 1:]))
    return None if spots is None else things[:i] + place(things[i:i + 1], spots) + things[i + 1:]


def stand_around(things: Things, stream: Stream) -> list[Things | None]:
    """The first left of, right of, above and below the second, nothing else being true of the two; a third anywhere."""
    ways = []
    for upright, sign in ((False, -1), (False, 1), (True, -1), (True, 1)):
        middle, half, across = stream.uniform(*MIDDLE), stream.uniform(0.2, 0.28), draw_coordinate(stream, BIG[1])
        spots = [(middle + side * half, across + stream.uniform(-0.015, 0.015)) for side in (sign, -sign)]
        pair = place(things[:2], [(y, x) for x, y in spots] if upright else spots)
        rest = layout(stream, [thing.size for thing in things[2:]], spots_of(pair))
        ways.append(None if rest is None else pair + place(things[2:], rest))
    return ways


class Stage:
    """Draws scenes of given kinds of objects; the arguments are those of `Scenes`."""

    def __init__(self, objects: int | tuple[str, ...], counts: tuple[float, ...], vendors: tuple[str, ...] | None,
                 pairs: str, restyle: float = 0.0):
        names, known = object_names(objects), emoji()["vendors"]
        vendors = vendors or tuple(vendor for vendor, about in known.items() if about["training"])
        for what, wrong in (("object", set(names) - set(all_names())), ("vendor", set(vendors) - set(known))):
            if wrong:
                raise ValueError(f"no {what} {min(wrong)!r} in the artwork; see data/emoji/objects.json")
        if pairs not in ("seen", "unseen", "control"):
            raise ValueError(f"pairs={pairs!r} is none of seen, unseen, control")
        if len(counts) > len(REPEATS):
            raise ValueError(f"counts={counts}: no scene has more than {len(REPEATS)} objects, so give no more shares")
        self.vendors = {name: styles for name in names
                        if (styles := tuple(v for v in vendors if name not in known[v]["missing"]))}
        self.names, self.restyle = tuple(self.vendors), restyle
        self.shares = {repeats: share * part for n, share in enumerate(counts, 1) if share
                       for repeats, part in REPEATS[n].items() if pairs == "seen" or len(repeats) > 1}
        classes = {(a, b): pair_class(a, b) for i, b in enumerate(self.names) for a in self.names[:i]}
        unseen, control = ([pair for pair, number in classes.items() if number == k] for k in (0, 1))
        self.pairs, self.apart = None, set(map(frozenset, unseen))
        if pairs != "seen":          # as many of either, and no third object makes another pair: both are equally hard
            self.pairs = (unseen if pairs == "unseen" else control)[:min(len(unseen), len(control))]
            self.apart |= set(map(frozenset, control))
        if not self.shares or self.pairs == []:
            raise ValueError(f"counts={counts}, pairs={pairs!r}: no such scene can be made of {len(self.names)} kinds; "
                             "name more objects, or give a share to more of them in a scene")

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
        for _ in range(1000):
            names = stream.shuffle(stream.pick(self.pairs)) if self.pairs else []
            while len(names) < count:
                name = stream.pick(self.names)
                if name in names or any(frozenset((name, other)) in self.apart for other in names):
                    break
                names.append(name)
            else:
                return names
        raise ValueError(f"{len(self.names)} kinds of objects are too few for {count} in a scene; name more")

    def scene(self, stream: Stream, repeats: tuple[int, ...] | None = None, roomy: bool = False,
              crowded: bool = False) -> Scene:
        """roomy: each object stands where it could as well be big.

        crowded: anywhere, margins of places too, and often all in one half or in a line
        """
        repeats = repeats or self.repeats(stream)
        names = [name for name, n in zip(self.kinds(stream, len(repeats)), repeats) for _ in range(n)]
        sizes = [draw_size(stream, stream.chance(0.5)) for _ in names]
        spots = None
        while not spots:
            within = crowd(stream) if crowded else (None, None)
            spots = layout(stream, [BIG[1]] * len(names) if roomy else sizes, within=within)
        things = [self.thing(name, x, y, size, stream) for name, size, (x, y, _) in zip(names, sizes, spots)]
        return self.with_background(tuple(stream.shuffle(things)), stream)

    def thing(self, name: str, x: float, y: float, size: float, stream: Stream) -> Object:
        return Object(name, x, y, size, self.style(name, stream), stream.pick(ANGLES))

    def style(self, name: str, stream: Stream) -> str:
        """Whose drawing of it, and perhaps a finish."""
        vendor = stream.pick(self.vendors[name])
        return vendor + stream.pick(FINISHES) if self.restyle and stream.chance(self.restyle) else vendor

    def with_background(self, things: Things, stream: Stream) -> Scene:
        """The things before a background of a drawn colour."""
        colour = stream.pick(COLOURS)
        return Scene(things, colour, None, tuple([min(255, max(0, v + stream.below(25) - 12)) for v in RGB[colour]]))

    def change(self, scene: Scene, kind: str, stream: Stream) -> Scene | None:
        """The same with one thing changed; None: it did not come off, draw again.

        kind: of `grammar.KINDS`; an "arrangement" also says above or below for left
        """
        if kind == "background":
            return self.with_background(scene.objects, stream)
        ways = {"object": (self.rename,), "size": (resize,), "count": (self.recount,),
                "arrangement": (mirror, exchange, exchange, move, transpose, transpose)}
        things = stream.pick(ways.get(kind, (mirror, exchange, move)))(scene.objects, stream)
        return None if things is None else replace(scene, objects=things)

    def rename(self, things: Things, stream: Stream) -> Things | None:
        """All of one kind become another."""
        old, new = stream.pick(things).name, stream.pick(self.names)
        kept = {thing.name for thing in things} - {old}
        if new == old or new in kept or any(frozenset((new, name)) in self.apart for name in kept):
            return None
        return tuple([replace(thing, name=new, vendor=self.style(new, stream)) if thing.name == old else thing
                      for thing in things])

    def recount(self, things: Things, stream: Stream) -> Things | None:
        """One more or one less of a kind that stays, accepted so rarely that scenes keep their shares (Metropolis)."""
        counts = Counter(thing.name for thing in things)
        share, more = self._share(counts), stream.chance(0.5)
        names = [name for name, n in counts.items() if more or n > 1]
        if not names:
            return None
        name = stream.pick(names)
        counts[name] += 1 if more else -1
        if not stream.chance(self._share(counts) / share):
            return None
        if not more:
            gone = stream.pick([thing for thing in things if thing.name == name])
            return tuple(thing for thing in things if thing is not gone)
        size = draw_size(stream, stream.chance(0.5))
        spots = layout(stream, [size], spots_of(things))
        return None if spots is None else (*things, self.thing(name, *spots[0], stream))

    def _share(self, counts: dict[str, int]) -> float:
        return self.shares.get(tuple(sorted(counts.values(), reverse=True)), 0.0)

    def family(self, kind: str, stream: Stream, most: int = 0) -> list[Scene] | None:
        """A family's scenes: same kinds and background, other in `kind`; None: it failed. most: how many objects."""
        n = (most or 3) - 1 if kind == "count" else most or 2 + stream.below(2)
        first = self.scene(stream, (1,) * n, roomy=True)
        things = first.objects
        if kind == "size":
            sizes = [[draw_size(stream, big) for _ in things] for big in (False, True)]
            ways = [tuple(replace(thing, size=sizes[way >> i & 1][i]) for i, thing in enumerate(things))
                    for way in stream.shuffle(range(2 ** n))[:4]]
        elif kind == "place":
            layouts = [layout(stream, [thing.size for thing in things]) for _ in range(4)]
            ways = [None if spots is None else place(things, spots) for spots in layouts]
        elif kind == "relation":
            ways = stand_around(things, stream)
        elif kind == "count":        # one of each; two of the first, alike in size or not; two of the second
            spots = layout(stream, [BIG[1]], [(thing.x, thing.y, BIG[1]) for thing in things])
            a, b = things[:2]
            more = [(a, is_big(a)), (a, not is_big(a)), (b, stream.chance(0.5))]
            if spots is None:
                return None
            x, y, _ = spots[0]
            ways = [things, *((*things, self.thing(thing.name, x, y, draw_size(stream, big), stream))
                              for thing, big in more)]
        else:                        # mixed: a size, an arrangement, or both
            i, turned = stream.below(n), stream.pick((mirror, exchange))(things, stream)
            size = draw_size(stream, not is_big(things[i]))
            ways = [things, turned, *((*each[:i], replace(each[i], size=size), *each[i + 1:])
                                      for each in (things, turned) if each)]
        return [replace(first, objects=each) for each in ways] if all(ways) else None
