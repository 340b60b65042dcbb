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
OTHERS = {b"<svg": "SVG", b"<?xml": "XML or SVG", b"%PDF": "PDF"}    # by a file's first bytes
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftypavif")     # its fifth to twelfth


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
    problem = problem_of(data)
    if problem:
        raise Fault("no image", f"{image.name} {problem}", "convert it or leave it out")
    return content_hash(data)


def problem_of(data: bytes) -> str:
    """Why a file's bytes are no image in one of images.FORMATS, by its header; "" if they are."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS):
            return ""
    except Exception:                            # as in images.open_image
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
