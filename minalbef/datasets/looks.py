"""What an image's file is: its content's hash, whether it is an image at all, and how it looks."""
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from minalbef.datasets.forms import Fault
from minalbef.system.images import FORMATS, ImageFile, content_hash, open_image

SIDE = 8                              # pixels of the small copy by which images are compared
ALIKE = 2.5                           # root mean square difference of two copies, of 255
FLAT = 10.0                           # standard deviation of a copy that shows too little to tell


def content_of(image: ImageFile) -> int:
    """The hash of an image's content, read once as long as the file stays as it is.

    Raises Fault for what can't be read, or is no image by its header.
    """
    try:
        status = image.path.stat()
        return _content_of(image, status.st_mtime_ns, status.st_ctime_ns, status.st_ino,
                           status.st_size)
    except OSError as error:
        problem = f"{image.name} cannot be read: {error.strerror or error}"
        raise Fault("unreadable image", problem, "check its permissions or leave it out") from error


@lru_cache(1 << 20)                   # the reader of each split asks for it, and each caption
def _content_of(image: ImageFile, *stamp: int) -> int:
    data = image.read()
    try:
        Image.open(BytesIO(data), formats=FORMATS).close()
    except Exception as error:                   # as in images.open_image
        raise Fault("no image", f"{image.name} has no header of {', '.join(FORMATS)}, whatever its "
                    "name: it may be HEIC, AVIF or SVG", "convert it or leave it out") from error
    return content_hash(data)


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
