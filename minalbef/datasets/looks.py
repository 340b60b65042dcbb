"""What an image's file is: its content's hash, whether it is an image at all, and how it looks."""
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from minalbef.data import FORMATS, ImageFile, content_hash, open_image

SIDE = 8                              # pixels of the small copy by which images are compared
ALIKE = 2.5                           # root mean square difference of two copies, of 255
FLAT = 10.0                           # standard deviation of a copy that shows too little to tell
OTHERS = {b"<svg": "SVG", b"<?xml": "XML or SVG", b"%PDF": "PDF"}    # by a file's first bytes
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftypavif")     # its fifth to twelfth


class Look(NamedTuple):
    """What the bytes of an image's file show without decoding it."""

    hash: int                         # of its content, see data.content_hash
    problem: str                      # why it is no image; "": it may be one


def look_of(image: ImageFile) -> Look:
    """Look at an image's file, once as long as it stays as it is. Raises OSError."""
    status = image.path.stat()
    return _look_of(image, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)


@lru_cache(1 << 20)                   # the reader of each split asks for it, and each caption
def _look_of(image: ImageFile, *stamp: int) -> Look:
    data = image.read()
    return Look(content_hash(data), problem_of(data))


def problem_of(data: bytes) -> str:
    """Why a file's bytes are no image in one of data.FORMATS, by its header; "" if they are."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS):
            return ""
    except Exception:                            # as in data.open_image
        pass
    start = data[:64].lstrip()
    kind = next((name for magic, name in OTHERS.items() if start.startswith(magic)), "")
    if data[4:12] in HEIC:
        kind = "HEIC or AVIF"
    what = f"is {kind}" if kind else "has no header of an image"
    return f"{what}, and must be {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def small_copy(image: Any) -> np.ndarray | None:
    """An image in a few pixels, uint8 (SIDE * SIDE * 3,); None where it can't be read."""
    try:
        opened = open_image(image, upright=True, least=4 * SIDE)
    except ValueError:
        return None
    small = opened.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small).reshape(-1)


def find_alike(a: Mapping[int, np.ndarray], b: Mapping[int, np.ndarray]) -> list[tuple[int, int]]:
    """Pairs of images that look the same and differ in bytes, as a PNG and a JPEG of it.

    a, b: small copies by hash, such as those of training and of test images
    """
    if not a or not b:
        return []
    names = list(a)
    copies = np.stack([a[name] for name in names]).astype(np.float32)                # (n, d)
    norms = (copies ** 2).sum(1)
    pairs = []
    for name, copy in b.items():
        row = copy.astype(np.float32)
        if row.std() < FLAT or name in a:
            continue
        squares = norms - 2 * copies @ row + row @ row
        nearest = int(squares.argmin())
        if squares[nearest] <= ALIKE ** 2 * len(row):
            pairs.append((names[nearest], name))
    return pairs
