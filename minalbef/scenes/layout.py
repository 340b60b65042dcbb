"""Layout: of what size objects are, and where there is room for them."""
from dataclasses import replace

from minalbef.scenes.language import Object
from minalbef.scenes.stream import Stream

SMALL, BIG = (0.21, 0.27), (0.36, 0.42)        # clear of the margins of `language.SIZES`
LOW, MIDDLE = 0.37, (0.45, 0.55)               # centres keep clear of the margins of `language.PLACES`
OVERLAP = 0.1                                  # at most, of the smaller square
Things = tuple[Object, ...]


def draw_size(stream: Stream, big: bool) -> float:
    return stream.uniform(*(BIG if big else SMALL))


def draw_coordinate(stream: Stream, size: float, within: tuple[float, float] | None = None) -> float:
    """Low, in the middle or high, or anywhere within bounds; the square stays inside the picture."""
    if within:
        return stream.uniform(max(size / 2, within[0]), min(1 - size / 2, within[1]))
    zone = stream.random()
    if zone < 0.2:
        return stream.uniform(*MIDDLE)
    low = stream.uniform(size / 2, LOW)
    return low if zone < 0.6 else 1 - low


def clash(x: float, y: float, size: float, spots) -> bool:
    """Whether a square overlaps others too much; spots: (x, y, size) of each."""
    for other_x, other_y, other in spots:
        wide, high = (size + other) / 2 - abs(x - other_x), (size + other) / 2 - abs(y - other_y)
        if wide > 0 and high > 0 and wide * high > OVERLAP * min(size, other) ** 2:
            return True
    return False


def spots_of(things: Things) -> list[tuple[float, float, float]]:
    return [(thing.x, thing.y, thing.size) for thing in things]


def layout(stream: Stream, sizes, taken=(), within=(None, None)) -> list[tuple[float, float, float]] | None:
    """Spots for squares of these sizes, besides those taken: (x, y, size) of each; None: no room found.

    within: bounds of all x, and of all y
    """
    for _ in range(30):
        spots = list(taken)
        for size in sizes:
            for _ in range(10):
                x, y = (draw_coordinate(stream, size, bounds) for bounds in within)
                if not clash(x, y, size, spots):
                    spots.append((x, y, size))
                    break
            else:
                break
        else:
            return spots[len(taken):]
    return None


def place(things: Things, spots) -> Things:
    """The things at other spots, (x, y) or (x, y, size) of each, moved inside the picture where one would stick out."""
    def inside(centre: float, size: float) -> float:
        return min(max(centre, size / 2), 1 - size / 2)
    return tuple(replace(thing, x=inside(spot[0], thing.size), y=inside(spot[1], thing.size))
                 for thing, spot in zip(things, spots))
