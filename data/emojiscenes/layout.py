"""Layout: how large objects are, and where there is room for them."""
from collections.abc import Sequence
from dataclasses import replace

from emojiscenes.language import Object
from emojiscenes.stream import Stream

SMALL, BIG = (0.21, 0.27), (0.36, 0.42)        # clear of the margins of `language.SIZES`
LOW, MIDDLE = 0.37, (0.45, 0.55)               # centres: clear of the margins of `language.PLACES`
OVERLAP = 0.1                                  # at most, of the smaller square
TRIES = 30                                     # whole layouts before there is no room
SPOTS = 10                                     # tries for each object of a layout

Things = tuple[Object, ...]
Spot = tuple[float, float, float]              # x, y, size
Bounds = tuple[float, float] | None


def draw_size(stream: Stream, big: bool) -> float:
    """A size that counts as big, or as small."""
    return stream.uniform(*(BIG if big else SMALL))


def draw_sizes(stream: Stream, number: int) -> list[float]:
    """Sizes, each big or small."""
    return [draw_size(stream, stream.chance(0.5)) for _ in range(number)]


def draw_coordinate(stream: Stream, size: float, bounds: Bounds = None) -> float:
    """Low, in the middle or high, or anywhere within bounds; the square stays inside the image."""
    if bounds:
        return stream.uniform(max(size / 2, bounds[0]), min(1 - size / 2, bounds[1]))
    zone = stream.random()
    if zone < 0.2:
        return stream.uniform(*MIDDLE)
    low = stream.uniform(size / 2, LOW)
    if zone < 0.6:
        return low
    return 1 - low


def clash(x: float, y: float, size: float, spots: Sequence[Spot]) -> bool:
    """Whether a square overlaps one of the spots' too much."""
    for spot_x, spot_y, spot_size in spots:
        width = (size + spot_size) / 2 - abs(x - spot_x)
        height = (size + spot_size) / 2 - abs(y - spot_y)
        smaller = min(size, spot_size)
        if width > 0 and height > 0 and width * height > OVERLAP * smaller ** 2:
            return True
    return False


def spots_of(things: Things) -> list[Spot]:
    """Where things stand."""
    return [(thing.x, thing.y, thing.size) for thing in things]


def layout(stream: Stream, sizes: Sequence[float], occupied: Sequence[Spot] = (),
           bounds: Sequence[Bounds] = (None, None)) -> list[Spot] | None:
    """A spot for each square of these sizes, clear of those occupied; None: no room found.

    bounds: of all x, and of all y
    """
    for _ in range(TRIES):
        spots = list(occupied)
        for size in sizes:
            spot = _find_spot(stream, size, spots, bounds)
            if spot is None:
                break
            spots.append(spot)
        else:
            return spots[len(occupied):]
    return None


def _find_spot(stream: Stream, size: float, spots: Sequence[Spot],
               bounds: Sequence[Bounds]) -> Spot | None:
    for _ in range(SPOTS):
        x = draw_coordinate(stream, size, bounds[0])
        y = draw_coordinate(stream, size, bounds[1])
        if not clash(x, y, size, spots):
            return x, y, size
    return None


def place(things: Things, spots: Sequence[tuple[float, ...]]) -> Things:
    """The things at other spots, (x, y) or (x, y, size), moved inside where one would stick out."""
    moved = []
    for thing, spot in zip(things, spots):
        x = _inside(spot[0], thing.size)
        y = _inside(spot[1], thing.size)
        moved.append(replace(thing, x=x, y=y))
    return tuple(moved)


def _inside(centre: float, size: float) -> float:
    return min(max(centre, size / 2), 1 - size / 2)
