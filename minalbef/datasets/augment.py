"""Augmentation of photographs for training: random crop, flip and RandAugment (section 3.5)."""
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


def view(record, size: int, crop: float, seed: int, epoch: int, number: int, upright: bool = False):
    """The record with augmented pictures, uint8 (size, size, 3): a pure function of seed, epoch and number.

    crop: see `augment`; number: the record's in its set; upright: see `data.open_image`
    A picture is never flipped if its text, question or answers say left or right; the original flips all.
    NLVR2's two pictures are augmented independently. Raises ValueError for a picture that cannot be read.
    """
    rng = np.random.default_rng([seed, epoch, number])
    texts = (record.question, *record.answers) if isinstance(record, VQARecord) else (record.text,)
    flip = not SIDES.search(" ".join(texts))
    def augmented(image) -> np.ndarray:
        return augment(open_image(image, upright), size, crop, flip, rng)
    if isinstance(record, NLVR2Record):
        return replace(record, images=tuple(map(augmented, record.images)))
    return replace(record, image=augmented(record.image))


def augment(image: Image.Image, size: int, crop: float, flip: bool, rng: np.random.Generator) -> np.ndarray:
    """A random crop, resized (bicubic), perhaps flipped, then RandAugment: -> uint8 (size, size, 3).

    crop: the least share of the picture's area; 1: no crop. flip: whether it may be flipped
    """
    if crop < 1:
        image = image.crop(crop_box(image.width, image.height, crop, rng))
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    if rng.random() < 0.5 and flip:
        image = ImageOps.mirror(image)
    return np.array(rand_augment(image, rng))


def crop_box(width: int, height: int, least: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """torchvision's random resized crop, of at least this share of the area: -> left, top, right, bottom.

    After ten tries that don't fit, the largest centre crop whose aspect ratio is within bounds.
    """
    for _ in range(10):
        area = width * height * rng.uniform(least, 1)
        ratio = math.exp(rng.uniform(-math.log(RATIO), math.log(RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, max(1, round(height * RATIO))), min(height, max(1, round(width * RATIO)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def rand_augment(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """RandAugment with the original's ten operations, which leave colours alone."""
    for operation in rng.choice(list(TEN), OPERATIONS):
        applied, sign = rng.random() < APPLIED, 1 if rng.random() < 0.5 else -1
        if applied:
            image = TEN[operation](image, sign)
    return image


def warp(image: Image.Image, *source: float) -> Image.Image:
    """Affine: pixel (x, y) comes from (a x + b y + c, d x + e y + f), grey outside. The original uses OpenCV."""
    return image.transform(image.size, Image.Transform.AFFINE, source, Image.Resampling.BILINEAR, fillcolor=GREY)


# (picture, 1 or -1) -> picture. Shears by 0.3 at most, shifts by 10 pixels, whatever the size, and turns by 30 degrees
TEN = {
    "Identity": lambda image, sign: image,
    "AutoContrast": lambda image, sign: ImageOps.autocontrast(image),
    "Equalize": lambda image, sign: ImageOps.equalize(image),
    "Brightness": lambda image, sign: ImageEnhance.Brightness(image).enhance(0.1 + 1.8 * LEVEL),
    "Sharpness": lambda image, sign: ImageEnhance.Sharpness(image).enhance(0.1 + 1.8 * LEVEL),
    "ShearX": lambda image, sign: warp(image, 1, -sign * 0.3 * LEVEL, 0, 0, 1, 0),
    "ShearY": lambda image, sign: warp(image, 1, 0, 0, -sign * 0.3 * LEVEL, 1, 0),
    "TranslateX": lambda image, sign: warp(image, 1, 0, -sign * 10 * LEVEL, 0, 1, 0),
    "TranslateY": lambda image, sign: warp(image, 1, 0, 0, 0, 1, -sign * 10 * LEVEL),
    "Rotate": lambda image, sign: image.rotate(sign * 30 * LEVEL, Image.Resampling.BILINEAR, fillcolor=GREY)}
