"""Images of scenes, from the embedded emoji."""
import csv
import zlib
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from emojiscenes.grammar import ARTWORK, emoji
from emojiscenes.language import Scene

RGB = {
    "red": (214, 48, 49),
    "yellow": (246, 224, 70),
    "green": (62, 160, 72),
    "blue": (52, 104, 212),
    "purple": (136, 78, 170),
    "pink": (248, 160, 205),
    "brown": (128, 84, 50),
    "black": (18, 18, 24),
    "white": (244, 244, 244),
}
FINISHES = ("+outlined", "+outlined", "+flat")       # after a vendor's name: restyled drawings
INK = (18, 18, 18)
FOLDS = (150, 105)                                   # greys of a curtain's folds
# all of 64 kinds in five styles at one image size: about 15,000
SPRITES = 60_000


@cache
def all_names() -> dict[str, int]:
    """Every kind of object, in the order of the sheets: {name: its number}."""
    return {thing["name"]: i for i, thing in enumerate(emoji()["objects"])}


def object_names(objects: int | tuple[str, ...]) -> tuple[str, ...]:
    """Kinds of objects: so many, from the first on, or those named."""
    if isinstance(objects, int):
        return tuple(all_names())[:objects]
    return tuple(objects)


def other_objects(count: int) -> tuple[str, ...]:
    """The kinds that captions of the first `count` never name."""
    return tuple(all_names())[count:]


def pair_class(a: str, b: str) -> int:
    """A stable number from 0 to 9 for two names. Pairs of class 0 never meet in training."""
    return zlib.crc32(" ".join(sorted((a, b))).encode()) % 10


@cache
def sheet(vendor: str) -> Image.Image:
    """All drawings of a vendor, in cells, with transparency."""
    path = ARTWORK / emoji()["vendors"][vendor]["sheet"]
    with Image.open(path, formats=("WebP",)) as image:
        return image.convert("RGBA")


def _drawing(name: str, vendor: str) -> Image.Image:
    """A vendor's drawing at its full size, with transparency."""
    cell = emoji()["cell"]
    row, column = divmod(all_names()[name], emoji()["columns"])
    return sheet(vendor).crop((column * cell, row * cell, (column + 1) * cell, (row + 1) * cell))


def write_drawings(folder: Path) -> Path:
    """Write each drawing of the training styles on white, and captions.csv: its name is its title.

    All are of the split `train`, in a folder of that name: their use is tested on other drawings.
    Files that are there already stay.
    -> the folder
    """
    (folder / "train").mkdir(parents=True, exist_ok=True)
    with open(folder / "captions.csv", "w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table)
        rows.writerow(("file", "split", "title", "keywords"))
        for vendor, facts in emoji()["vendors"].items():
            for name in all_names() if facts["training"] else ():
                if name in facts["missing"]:
                    continue
                file = f"train/{name.replace(' ', '_')}-{vendor}.png"
                rows.writerow((file, "train", name, ""))
                if not (folder / file).is_file():
                    drawing = _drawing(name, vendor)
                    image = Image.new("RGBA", drawing.size, "white")
                    image.alpha_composite(drawing)
                    image.convert("RGB").save(folder / file)
    return folder


@cache                                               # of 64 kinds 1,600, which take 16 MB
def _turned(name: str, vendor: str, angle: float) -> Image.Image:
    """A vendor's drawing at its full size, turned."""
    image = _drawing(name, vendor).rotate(-angle, Image.Resampling.BICUBIC, expand=True)
    return whole(image, emoji()["cell"])


@lru_cache(maxsize=SPRITES)
def _sprite(name: str, vendor: str, pixels: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Its colours times its opacity (p, p, 3), and its transparency, in 256ths (p, p, 1)."""
    vendor, *finishes = vendor.split("+")
    image = _turned(name, vendor, angle).resize((pixels, pixels), Image.Resampling.BICUBIC)
    if "outlined" in finishes:
        ink = Image.new("RGBA", image.size, INK)
        ink.putalpha(image.getchannel("A").filter(ImageFilter.MaxFilter(3)))
        image = Image.alpha_composite(ink, image)
    rgba = np.asarray(image).astype(np.uint16)
    for finish in finishes:
        if finish in RGB:
            rgba[..., :3] = tint(rgba[..., :3], RGB[finish])
    if "flat" in finishes:
        rgba[..., :3] = np.minimum(255, (rgba[..., :3] + 32) // 64 * 64)
    opacity = rgba[..., 3:]
    return rgba[..., :3] * opacity // 255, 256 - (opacity * 257 >> 8)


def tint(rgb: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """A drawing in shades of one colour, as light and dark as it was: uint16 (p, p, 3)."""
    grey = rgb @ np.array([77, 151, 28]) >> 8                # 0 to 255
    light = 150 + grey * 106 // 255
    return np.minimum(255, np.array(colour) * light[..., None] >> 8).astype(np.uint16)


def whole(image: Image.Image, least: int) -> Image.Image:
    """The middle square of an image with all that is drawn on it, at least so many pixels wide."""
    box = image.getbbox()
    assert box is not None, "a drawing is never empty"
    left, top, right, bottom = box
    x = image.width / 2
    y = image.height / 2
    half = max(least / 2, x - left, right - x, y - top, bottom - y)
    return image.crop((round(x - half), round(y - half), round(x + half), round(y + half)))


def paint(scene: Scene, size: int) -> np.ndarray:
    """The image of a scene: uint8 (size, size, 3)."""
    image = np.empty((size, size, 3), np.uint8)
    image[:] = scene.shade or RGB[scene.background]
    for thing in scene.objects:
        pixels = max(1, round(thing.size * size))
        left = _corner(thing.x, pixels, size)
        top = _corner(thing.y, pixels, size)
        colour, transparency = _sprite(thing.name, thing.vendor, pixels, thing.angle)
        window = image[top:top + pixels, left:left + pixels]
        window[:] = (window * transparency >> 8) + colour
    if scene.curtain:
        _draw_curtain(image, scene.curtain)
    return image


def _corner(centre: float, pixels: int, size: int) -> int:
    """The first pixel of a square around a centre, inside the image."""
    return min(max(round(centre * size - pixels / 2), 0), size - pixels)


def _draw_curtain(image: np.ndarray, curtain: tuple[float, float, float, float]) -> None:
    """Cover a part of the image by folds. In place."""
    size = len(image)
    x0, y0, x1, y1 = (round(edge * size) for edge in curtain)
    fold = np.arange(x1 - x0) // max(1, size // 24) % 2
    image[y0:y1, x0:x1] = np.where(fold, *FOLDS)[:, None]
