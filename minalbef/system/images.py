"""Images of files, opened safely: upright, checked against what was prepared."""
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from minalbef.config import Config
from minalbef.system.writing import require_file

MAX_PIXELS = 80_000_000                 # below PIL's limit, at which it warns and decodes anyway
MAX_SIDE = 1_000_000                    # resizing takes PIL 32 bytes per pixel of a side
# none of PIL's others: it hands EPS, whatever the file's name, to Ghostscript, which executes it
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")


class ChangedImage(Exception):
    """An image isn't the one that `minalbef prepare` read; nothing goes on with another one.

    No ValueError, as an unreadable image is: those are replaced by the next one, or left out.
    """

    exit_status = 2                   # of a command that ends with it


def content_hash(data: bytes) -> int:
    """63 bits of a hash of an image's bytes: its id, wherever it lies and whatever its name."""
    digest = blake2b(blake2b(data).hexdigest().encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


@dataclass(frozen=True)
class ImageFile:
    """An image of a prepared record, which PIL opens like a file: what is read is checked.

    offset, size: where its bytes are in a tar; size None: all of the file
    hash: its `content_hash` when it was prepared; None: nothing is checked
    again: the command that prepares its set again
    upright: it is always opened so, as in records of your own sets; see `open_image`
    """

    path: Path
    offset: int = 0
    size: int | None = None
    hash: int | None = None
    again: str = field(default="prepare", compare=False)
    upright: bool = False

    @property
    def name(self) -> str:
        if self.size is None:
            return str(self.path)
        return f"{self.path} at byte {self.offset}"

    def read(self) -> bytes:
        """Its bytes. Raises ChangedImage for other ones, OSError for a file that is gone."""
        # each read is hashed, which takes 3% of the time to open and augment an image: size and
        # time of a file may stay as they were when two files change their names
        require_file(self.path)
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(-1 if self.size is None else self.size)
        if self.hash is not None and content_hash(data) != self.hash:
            raise ChangedImage(f"{self.name} has changed since the set was prepared, and its "
                               "caption may be another image's; put the image back, or prepare "
                               f"the set again: minalbef {self.again}")
        return data


Source = str | Path | BinaryIO | Image.Image | np.ndarray | Tensor | ImageFile


def is_tokens(image: Any) -> TypeGuard[np.ndarray]:
    """Whether an array is an image's tokens from a frozen encoder, see datasets.tokens."""
    return isinstance(image, np.ndarray) and image.dtype == np.float16


def open_upright(record: Any) -> Any:
    """The record with its images opened upright; arrays stay as they are: they are decoded."""
    def open_one(image: Any) -> Any:
        return image if isinstance(image, np.ndarray) else open_image(image)
    if hasattr(record, "images"):
        return replace(record, images=tuple(map(open_one, record.images)))
    return replace(record, image=open_one(record.image))


def reads_upright(records: Any, config: Config) -> bool:
    """Whether images of these records are opened upright: their set says so, or else the config."""
    return getattr(records, "upright", config.upright)


def image_files(folder: str | Path) -> tuple[list[Path], dict[str, str]]:
    """The images in a folder and its subfolders, and why all else is skipped, by relative path."""
    images: list[Path] = []
    reasons: dict[str, str] = {}

    def skip(path: Path, reason: str) -> None:
        reasons[path.relative_to(folder).as_posix()] = reason

    def skip_folder(error: OSError) -> None:
        skip(Path(error.filename), f"a folder that cannot be read ({error.strerror})")

    for parent, folders, files in os.walk(folder, onerror=skip_folder):
        for name in folders:
            path = Path(parent, name)
            if path.is_symlink():
                skip(path, "a link to a folder, which isn't followed")
        for name in files:
            path = Path(parent, name)
            if path.suffix.lower() not in SUFFIXES:
                skip(path, "not an image by its suffix")
            elif path.exists() and not path.is_file():
                skip(path, "no file, but a folder, device or pipe")
            else:
                images.append(path)
    return sorted(images), dict(sorted(reasons.items()))


def list_images(images: Source | Sequence[Source]) -> list[Source]:
    """One image, several, a batch, or a folder -> a list; a folder's images are sorted by path.

    Raises ValueError if there is none.
    """
    sources: list[Source]
    if isinstance(images, (str, Path)):
        if not Path(images).is_dir():
            return [images]
        paths, _ = image_files(images)
        if not paths:
            raise ValueError(f"no image is in {images} or its subfolders: no file there ends in "
                             f"{', '.join(SUFFIXES)}; name another folder")
        return list(paths)
    if isinstance(images, Sequence):
        sources = list(images)
    elif isinstance(images, (np.ndarray, Tensor)) and images.ndim == 4:
        sources = list(images)
    else:
        sources = [images]
    if not sources:
        raise ValueError("no image; give at least one")
    return sources


def open_image(source: Source, upright: bool = True, least: int = 0) -> Image.Image:
    """A path, open file, PIL image, uint8 array (h, w, 3) or tensor (3, h, w) -> an RGB image.

    upright: rotated as EXIF says, over white if transparent, deeper grey scaled to 8 bits; always
        for an ImageFile that is marked so. False: PIL's convert("RGB"), as the original: its boxes
        fit those pixels
    least: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size, which is faster, where its shorter side
        keeps at least so many pixels; 0: never
    Raises ValueError for what is not a whole image in one of FORMATS, has no pixels, has more than
    MAX_PIXELS, or a side longer than MAX_SIDE; ChangedImage, see `ImageFile`.
    """
    if isinstance(source, ImageFile):
        upright = upright or source.upright
    try:
        if isinstance(source, Tensor):
            if source.ndim == 3:
                source = source.movedim(0, -1)                               # (h, w, 3)
            source = source.numpy(force=True)
        image = _to_pil(source)
        if not 0 < image.width * image.height <= MAX_PIXELS or max(image.size) > MAX_SIDE:
            raise ValueError(f"{image.width} x {image.height} is over the limit of "
                             f"{MAX_PIXELS:,} pixels or {MAX_SIDE:,} a side, or has none; make it "
                             "smaller")
        if least and not isinstance(source, Image.Image):        # yours stays as it is
            image.draft(None, (least, least))
        if upright:
            return _make_upright(image)
        if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
            image = image.convert("RGBA")        # the same colours, without PIL's warning
        return image.convert("RGB")
    except ChangedImage:
        raise
    except Exception as error:                   # decoders raise all from OSError to struct.error
        reason = error or type(error).__name__
        raise ValueError(f"{_name_of(source)} cannot be read as an image: {reason}. "
                         f"It must be a whole file of {', '.join(FORMATS[:-1])} or {FORMATS[-1]}; "
                         "save it again as one of them or leave it out") from error


def _name_of(source: Source) -> str:
    """What an error calls an image."""
    if isinstance(source, np.ndarray):
        return f"the array of shape {source.shape} and type {source.dtype}"
    if isinstance(source, Image.Image):
        return "the image"
    if isinstance(source, (str, Path)):
        return str(source)
    return getattr(source, "name", "the file")


def _to_pil(source: str | Path | BinaryIO | Image.Image | np.ndarray | ImageFile) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3):
            raise TypeError("it must be uint8, (h, w, 3)")
        return Image.fromarray(source)
    if isinstance(source, (str, Path)):
        require_file(Path(source))
    # PIL reads an ImageFile by its `read`
    return Image.open(source, formats=FORMATS)               # type: ignore[arg-type]


def _make_upright(image: Image.Image) -> Image.Image:
    """See `open_image`."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):        # deeper grey, which PIL would clip at 255
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_8_bits(grey: np.ndarray) -> np.ndarray:
    """Grey of 16 or 32 bits, or of floats -> uint8; its values tell what white is.

    Raises ValueError where they don't.
    """
    low, high = grey.min(), grey.max()
    is_whole = grey.dtype.kind in "iu" or bool((grey == np.trunc(grey)).all())
    if grey.dtype.kind == "f" and 0 <= low and high <= 1:
        return np.rint(grey * 255).astype(np.uint8)
    if is_whole and 0 <= low and high <= 255:
        return grey.astype(np.uint8)
    if is_whole and 0 <= low and high <= 65_535:
        return (grey // 257).astype(np.uint8)
    raise ValueError(f"its grey values lie between {low:g} and {high:g}, so that white is unknown: "
                     "they must lie within 0 and 1, or be whole numbers up to 255 or 65,535")


def read_pixels(image: Source, size: int, upright: bool = False) -> Tensor:
    """An image -> uint8 (3, s, s), resized (bicubic); tokens, see `is_tokens`, -> (1 + n, d).

    upright: see `open_image`; for a run, its config.upright
    """
    if is_tokens(image):
        return torch.tensor(image[0] if image.ndim == 3 else image)
    shape = (size, size, 3)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape == shape:
        pixels = image
    else:
        resized = open_image(image, upright).resize((size, size), Image.Resampling.BICUBIC)
        pixels = np.array(resized)
    return torch.from_numpy(pixels).permute(2, 0, 1)
