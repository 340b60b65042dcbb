"""Photographs for training, cut, flipped and disturbed as in section 3.5; for evaluation they are only resized, by data.py."""
import math
import re
from dataclasses import replace

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from minalbef.data import open_image
from minalbef.tasks.nlvr2 import NLVR2Record
from minalbef.tasks.vqa import VQARecord

SIDES = re.compile(r"\b(left|right)", re.IGNORECASE)             # and leftmost, right-hand
RATIO = 4 / 3                         # of a crop's sides, at most; 3 / 4 at least
# RandAugment(2, 7) as the original has it: two of ten operations, maybe the same, each at level 7 of 10 or not at all
OPERATIONS, LEVEL, APPLIED = 2, 0.7, 0.5
GREY = (128, 128, 128)


def view(record, size: int, crop: float, seed: int, epoch: int, number: int, augmented: bool = True):
    """The record with its pictures as training shows them, uint8 (size, size, 3): the same whenever it is asked.

    crop: see `augment`; number: the record's in its set; augmented=False: only resized
    No picture is flipped of which a text says left or right, a question's answers among them; the original flips all.
    NLVR2's two pictures are drawn apart.
    Raises ValueError for a picture that cannot be read.
    """
    chance = np.random.default_rng([seed, epoch, number])
    def seen(image) -> np.ndarray:
        image = open_image(image, upright=False)                  # as the original reads its sets
        return augment(image, size, crop, flip, chance) if augmented else np.array(resized(image, size))
    flip = not SIDES.search(" ".join(words(record)))
    if isinstance(record, NLVR2Record):
        return replace(record, images=tuple(map(seen, record.images)))
    return replace(record, image=seen(record.image))


def words(record) -> tuple[str, ...]:
    """Everything that a record says of its picture."""
    return (record.question, *record.answers) if isinstance(record, VQARecord) else (record.text,)


def resized(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BICUBIC)


def augment(image: Image.Image, size: int, crop: float, flip: bool, chance: np.random.Generator) -> np.ndarray:
    """A random view of a picture: a part, resized (bicubic), maybe mirrored, then `disturb`: -> uint8 (size, size, 3).

    crop: the least share of the picture that is seen; 1: it is resized as it is. flip: it may be mirrored
    """
    if crop < 1:
        image = image.crop(crop_box(image.width, image.height, crop, chance))
    image = resized(image, size)
    if chance.random() < 0.5 and flip:
        image = ImageOps.mirror(image)
    return np.array(disturb(image, chance))


def crop_box(width: int, height: int, least: float, chance: np.random.Generator) -> tuple[int, int, int, int]:
    """A random part of a picture, of at least so large a share: -> left, top, right, bottom. torchvision's way.

    Where ten tries did not fit, the largest part in the middle whose sides are not too unequal.
    """
    for _ in range(10):
        area, ratio = width * height * chance.uniform(least, 1), math.exp(chance.uniform(-math.log(RATIO), math.log(RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(chance.integers(width - w + 1)), int(chance.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, max(1, round(height * RATIO))), min(height, max(1, round(width * RATIO)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def disturb(image: Image.Image, chance: np.random.Generator) -> Image.Image:
    """RandAugment without colours, of the original's ten operations."""
    for operation in chance.choice(list(TEN), OPERATIONS):
        applied, sign = chance.random() < APPLIED, 1 if chance.random() < 0.5 else -1
        if applied:
            image = TEN[operation](image, sign)
    return image


def moved(image: Image.Image, *source: float) -> Image.Image:
    """Pixel (x, y) from (a x + b y + c, d x + e y + f), grey where that is outside. The original does it with OpenCV."""
    return image.transform(image.size, Image.Transform.AFFINE, source, Image.Resampling.BILINEAR, fillcolor=GREY)


# (picture, 1 or -1) -> picture. Shears by 0.3 at most, shifts by 10 pixels, whatever the size, and turns by 30 degrees
TEN = {
    "Identity": lambda image, sign: image,
    "AutoContrast": lambda image, sign: ImageOps.autocontrast(image),
    "Equalize": lambda image, sign: ImageOps.equalize(image),
    "Brightness": lambda image, sign: ImageEnhance.Brightness(image).enhance(0.1 + 1.8 * LEVEL),
    "Sharpness": lambda image, sign: ImageEnhance.Sharpness(image).enhance(0.1 + 1.8 * LEVEL),
    "ShearX": lambda image, sign: moved(image, 1, -sign * 0.3 * LEVEL, 0, 0, 1, 0),
    "ShearY": lambda image, sign: moved(image, 1, 0, 0, -sign * 0.3 * LEVEL, 1, 0),
    "TranslateX": lambda image, sign: moved(image, 1, 0, -sign * 10 * LEVEL, 0, 1, 0),
    "TranslateY": lambda image, sign: moved(image, 1, 0, 0, 0, 1, -sign * 10 * LEVEL),
    "Rotate": lambda image, sign: image.rotate(sign * 30 * LEVEL, Image.Resampling.BILINEAR, fillcolor=GREY)}
