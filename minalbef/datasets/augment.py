"""Augmentation of photographs for training: random crop, flip and RandAugment (section 3.5)."""
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageOps

from minalbef.system.images import is_tokens, open_image
from minalbef.tasks.nlvr2 import NLVR2Record
from minalbef.tasks.vqa import VQARecord

SIDES = re.compile(r"\b(left|right)", re.IGNORECASE)             # also leftmost, right-hand
RATIO = 4 / 3                         # of a crop's sides, at most; 3 / 4 at least
# RandAugment(2, 7), as in the original: two of ten operations, which may be the same. Each is
# applied with probability 0.5, at level 7 of 10
OPERATIONS = 2
LEVEL = 0.7
PROBABILITY = 0.5
SHEAR = 0.3 * LEVEL
SHIFT = round(10 * LEVEL)             # pixels, whatever the image's size
ANGLE = 30 * LEVEL                    # degrees
FACTOR = 0.1 + 1.8 * LEVEL            # of brightness and sharpness
GREY = (128, 128, 128)


def view(record: Any, size: int, crop: float, seed: int, epoch: int, number: int,
         upright: bool = False) -> Any:
    """The record with augmented images, uint8 (size, size, 3), by seed, epoch and number alone.

    crop: see `augment`; number: the record's in its set; upright: see `images.open_image`
    An image is never flipped if its text, question or answers say left or right; the original flips
    all. NLVR2's two images are augmented independently.
    Raises ValueError for an image that cannot be read.
    """
    rng = np.random.default_rng([seed, epoch, number])
    if isinstance(record, VQARecord):
        texts = [record.question, *record.answers]
    else:
        texts = [record.text]
    flip = not SIDES.search(" ".join(texts))
    if is_tokens(getattr(record, "image", None)):        # plain and mirrored
        mirrored = int(rng.random() < 0.5 and flip)
        return replace(record, image=record.image[mirrored])
    least = least_side(size, crop)

    def open_view(image: Any) -> np.ndarray:
        return augment(open_image(image, upright, least), size, crop, flip, rng)
    if isinstance(record, NLVR2Record):
        left, right = record.images
        return replace(record, images=(open_view(left), open_view(right)))
    return replace(record, image=open_view(record.image))


def least_side(size: int, crop: float) -> int:
    """How long an image's shorter side must be for every crop to have `size` pixels each way."""
    crop = max(crop, 1e-6)                       # a config may say 0
    return math.ceil(size * math.sqrt(RATIO / crop))


def augment(image: Image.Image, size: int, crop: float, flip: bool,
            rng: np.random.Generator) -> np.ndarray:
    """A random crop, resized (bicubic), perhaps flipped, then RandAugment: uint8 (size, size, 3).

    crop: the least share of the image's area; 1 for no crop
    flip: whether it may be flipped
    """
    if crop < 1:
        image = image.crop(crop_box(image.width, image.height, crop, rng))
    image = resize(image, size)
    if rng.random() < 0.5 and flip:
        image = ImageOps.mirror(image)
    return np.array(rand_augment(image, rng))


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resized (bicubic) by torch, in half of PIL's time; one value of 200 is rounded otherwise."""
    pixels = torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2)     # (1, 3, h, w)
    pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
    return Image.fromarray(pixels[0].permute(1, 2, 0).numpy())


def crop_box(width: int, height: int, least: float,
             rng: np.random.Generator) -> tuple[int, int, int, int]:
    """torchvision's random resized crop -> left, top, right, bottom.

    least: its share of the area, at least. After ten tries that don't fit, it's the largest centre
    crop whose aspect ratio is allowed.
    """
    for _ in range(10):
        area = width * height * rng.uniform(least, 1)
        ratio = math.exp(rng.uniform(-math.log(RATIO), math.log(RATIO)))
        w = round(math.sqrt(area * ratio))
        h = round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(width - w + 1))
            top = int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * RATIO)))
    h = min(height, max(1, round(width * RATIO)))
    left = (width - w) // 2
    top = (height - h) // 2
    return left, top, left + w, top + h


def rand_augment(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """RandAugment with the original's ten operations, which leave colours alone."""
    for name in rng.choice(list(TEN), OPERATIONS):
        applies = rng.random() < PROBABILITY
        sign = 1 if rng.random() < 0.5 else -1
        if applies:
            image = TEN[name](image, sign)
    return image


def warp(image: Image.Image, *matrix: float) -> Image.Image:
    """Affine: pixel (x, y) comes from (a x + b y + c, d x + e y + f), grey outside.

    The original uses OpenCV.
    """
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR,
                           fillcolor=GREY)


def translate(image: Image.Image, x: int, y: int) -> Image.Image:
    """Moved by x pixels to the right and y down, grey behind."""
    canvas = Image.new("RGB", image.size, GREY)
    canvas.paste(image, (x, y))
    return canvas


def rotate(image: Image.Image, angle: float) -> Image.Image:
    """Turned by so many degrees, grey outside."""
    return image.rotate(angle, Image.Resampling.BILINEAR, fillcolor=GREY)


# (image, 1 or -1) -> image; the sign is the direction of a shear, shift or rotation
TEN: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "Identity": lambda image, sign: image,
    "AutoContrast": lambda image, sign: ImageOps.autocontrast(image),
    "Equalize": lambda image, sign: ImageOps.equalize(image),
    "Brightness": lambda image, sign: ImageEnhance.Brightness(image).enhance(FACTOR),
    "Sharpness": lambda image, sign: ImageEnhance.Sharpness(image).enhance(FACTOR),
    "ShearX": lambda image, sign: warp(image, 1, -sign * SHEAR, 0, 0, 1, 0),
    "ShearY": lambda image, sign: warp(image, 1, 0, 0, -sign * SHEAR, 1, 0),
    "TranslateX": lambda image, sign: translate(image, sign * SHIFT, 0),
    "TranslateY": lambda image, sign: translate(image, 0, sign * SHIFT),
    "Rotate": lambda image, sign: rotate(image, sign * ANGLE),
}
