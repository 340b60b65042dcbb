"""Pictures of scenes, from the embedded emoji."""
import zlib
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageFilter

from minalbef.data import FORMATS, data_folder
from minalbef.scenes.grammar import emoji
from minalbef.scenes.language import Scene

RGB = {"red": (214, 48, 49), "yellow": (246, 224, 70), "green": (62, 160, 72), "blue": (52, 104, 212),
       "purple": (136, 78, 170), "pink": (248, 160, 205), "brown": (128, 84, 50), "black": (18, 18, 24),
       "white": (244, 244, 244)}
FINISHES = ("+outlined", "+outlined", "+flat")       # behind a vendor's name: how else its drawings may be made to look
INK = (18, 18, 18)


@cache
def all_names() -> dict[str, int]:
    """Every kind of object, in the order of the sheets: {name: its number}."""
    return {thing["name"]: i for i, thing in enumerate(emoji()["objects"])}


def object_names(objects: int | tuple[str, ...]) -> tuple[str, ...]:
    """Kinds of objects: so many, from the first on, or those named."""
    return tuple(all_names())[:objects] if isinstance(objects, int) else tuple(objects)


def other_objects(count: int) -> tuple[str, ...]:
    """The kinds that captions of the first `count` never name."""
    return tuple(all_names())[count:]


def pair_class(a: str, b: str) -> int:
    """A stable number from 0 to 9 for two names. Pairs of class 0 never meet in training."""
    return zlib.crc32(" ".join(sorted((a, b))).encode()) % 10


@cache
def sheet(vendor: str) -> Image.Image:
    with Image.open(data_folder() / "emoji" / emoji()["vendors"][vendor]["sheet"], formats=FORMATS) as found:
        return found.convert("RGBA")


@lru_cache(maxsize=60_000)                      # all of 64 kinds in five styles at one picture size: about 15,000
def _sprite(name: str, vendor: str, pixels: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Its colours times its opacity (p, p, 3), and what it lets through, in 256ths (p, p, 1)."""
    cell = emoji()["cell"]
    row, column = divmod(all_names()[name], emoji()["columns"])
    vendor, _, finish = vendor.partition("+")
    image = sheet(vendor).crop((column * cell, row * cell, (column + 1) * cell, (row + 1) * cell))
    image = whole(image.rotate(-angle, Image.Resampling.BICUBIC, expand=True), cell)
    image = image.resize((pixels, pixels), Image.Resampling.BICUBIC)
    if finish == "outlined":
        ink = Image.new("RGBA", image.size, INK)
        ink.putalpha(image.getchannel("A").filter(ImageFilter.MaxFilter(3)))
        image = Image.alpha_composite(ink, image)
    rgba = np.asarray(image).astype(np.uint16)
    if finish == "flat":
        rgba[..., :3] = np.minimum(255, (rgba[..., :3] + 32) // 64 * 64)
    opacity = rgba[..., 3:]
    return rgba[..., :3] * opacity // 255, 256 - (opacity * 257 >> 8)


def whole(image: Image.Image, least: int) -> Image.Image:
    """The middle square of a picture with all that is drawn on it, at least so many pixels wide."""
    left, top, right, bottom = image.getbbox()
    x, y = image.width / 2, image.height / 2
    half = max(least / 2, x - left, right - x, y - top, bottom - y)
    return image.crop(tuple(map(round, (x - half, y - half, x + half, y + half))))


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
        picture[y0:y1, x0:x1] = np.where(np.arange(x1 - x0) // max(1, size // 24) % 2, 150, 105)[:, None]     # folds
    return picture
