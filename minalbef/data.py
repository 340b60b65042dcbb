"""Pictures and captions to batches."""
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from minalbef.config import Config
from minalbef.tokenizer import Tokenizer

MEAN = (0.48145466, 0.4578275, 0.40821073)          # CLIP's, which the original uses for all its pictures
STD = (0.26862954, 0.26130258, 0.27577711)
MAX_PIXELS = 80_000_000                             # below PIL's own limit, from which on it warns and still decodes
MAX_SIDE = 1_000_000                                # resizing takes PIL 32 bytes a pixel of a side
NO_FILE = "no file, but a folder, device or pipe"
# none of PIL's others: it hands EPS, whatever the file's name, to Ghostscript, which runs the program in it
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")          # of files in a folder
_MEAN, _STD = (255 * torch.tensor(values)[:, None, None] for values in (MEAN, STD))



def data_folder() -> Path:
    """The embedded data: inside the package once installed, beside it in a checkout."""
    inside = Path(__file__).parent / "_data"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class Record:
    """An image and its caption. Records of one image share its id: they are no negatives.

    kind: evaluation reports each kind's figures, too. group: records that share images or texts,
    which intervals count as one cluster; retrieval ranks within a group
    """

    image: "Source"
    text: str
    id: int
    kind: str = field(default="", kw_only=True)
    group: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Rows:
    """A dataclass of tensors with a row for every example: sent to a device, or cut, all together."""

    columns: ClassVar[tuple[str, ...]] = ()      # fields whose columns are rows, too, of all processes

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with every tensor changed."""
        return type(self)(*(change(x) if isinstance(x, Tensor) else x for x in vars(self).values()))

    def to(self, device: torch.device | str) -> Self:
        """The same on another device; to a GPU through pinned memory, without waiting for it."""
        if torch.device(device).type != "cuda":
            return self.map(lambda x: x.to(device))
        return self.map(lambda x: (x if x.is_cuda else x.pin_memory()).to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The same in pinned memory; a DataLoader calls this."""
        return self.map(Tensor.pin_memory)

    def part(self, i: int, n: int, rows: int) -> Self:
        """The i-th of n equal parts of a process's `rows` rows; rows of all processes give a part of each one's."""
        def cut(x: Tensor, dim: int) -> Tensor:
            return x.index_select(dim, torch.arange(x.shape[dim]).view(-1, n, rows // n)[:, i].flatten())
        parts = {name: cut(x, 0) if isinstance(x, Tensor) else x for name, x in vars(self).items()}
        return type(self)(**parts | {name: cut(parts[name], 1) for name in self.columns if parts[name] is not None})


@dataclass(frozen=True)
class Batch(Rows):
    """image (b, 3, s, s), tokens (b, l), keep (b, l) bool, ids (b,)"""

    image: Tensor
    tokens: Tensor
    keep: Tensor
    ids: Tensor


@dataclass(frozen=True)
class Upright:
    """A picture that every reader opens upright: what records of your own sets hold.

    See `open_image`.
    """

    source: str | Path | BinaryIO | Image.Image


def hold_upright(record: Any) -> Any:
    """The record with pictures that are opened upright; arrays stay, which are opened already."""
    def hold(image: Any) -> Any:
        return image if isinstance(image, (np.ndarray, Upright)) else Upright(image)
    if hasattr(record, "images"):
        return replace(record, images=tuple(map(hold, record.images)))
    return replace(record, image=hold(record.image))


def reads_upright(records: Any, config: Config) -> bool:
    """Whether records' pictures are opened upright: by their prepared set or the run's config."""
    return getattr(records, "upright", config.upright)


Source = str | Path | BinaryIO | Image.Image | np.ndarray | Tensor | Upright


def files_below(folder: str | Path) -> tuple[list[Path], dict[str, str]]:
    """Pictures in a folder and its subfolders; and why all else is left out, by relative path."""
    found: list[Path] = []
    others: dict[str, str] = {}

    def skip(path: Path, why: str) -> None:
        others[path.relative_to(folder).as_posix()] = why

    def refuse(error: OSError) -> None:
        skip(Path(error.filename), f"a folder that cannot be read ({error.strerror})")

    for here, folders, names in os.walk(folder, onerror=refuse):
        for name in folders:
            if (path := Path(here, name)).is_symlink():
                skip(path, "a link to a folder, which isn't followed")
        for name in names:
            path = Path(here, name)
            if path.suffix.lower() not in SUFFIXES:
                skip(path, "no picture by its name's ending")
            elif path.exists() and not path.is_file():
                skip(path, NO_FILE)
            else:
                found.append(path)
    return sorted(found), dict(sorted(others.items()))


def pictures_in(images: Source | Sequence[Source]) -> list[Source]:
    """Pictures as a list: those of a batch, or of a folder and its subfolders by path.

    Raises ValueError where there is none.
    """
    many = isinstance(images, Sequence) and not isinstance(images, str) or getattr(images, "ndim", 0) == 4
    found: list = list(images) if many else [images]     # type: ignore[arg-type]  # mypy does not see why
    if isinstance(images, (str, Path)) and Path(images).is_dir():
        found = [*files_below(images)[0]]
        if not found:
            raise ValueError(f"no picture is in {images} or its subfolders: no file there ends in "
                             f"{', '.join(SUFFIXES)}; name another folder")
    if not found:
        raise ValueError("no picture; give at least one")
    return found


def open_image(source: Source, upright: bool = True) -> Image.Image:
    """A path, open file, PIL picture, uint8 array (h, w, 3) or uint8 tensor (3, h, w) -> an RGB picture.

    upright: turned by EXIF, transparency over white, 16 bits scaled to 8; of an `Upright` always.
        False: PIL's convert("RGB"), the original's way; its boxes belong to the picture as stored
    Raises ValueError for what is no whole picture of one of FORMATS, has no pixels, or more than
    MAX_PIXELS, or a side longer than MAX_SIDE.
    """
    if isinstance(source, Upright):
        source, upright = source.source, True
    name = "the picture"
    try:
        if isinstance(source, Tensor):
            source = (source.movedim(0, -1) if source.ndim == 3 else source).numpy(force=True)
        if isinstance(source, np.ndarray):
            name = f"the array of shape {source.shape} and type {source.dtype}"
            if source.dtype != np.uint8 or source.ndim not in (2, 3):
                raise TypeError("it must be uint8, (h, w, 3)")
            image = Image.fromarray(source)
        elif isinstance(source, Image.Image):
            image = source
        else:
            name = str(source if isinstance(source, Path) else getattr(source, "name", source))
            if isinstance(source, (str, Path)):
                path = Path(source)
                if path.exists() and not path.is_file():        # opening a pipe would wait forever
                    raise ValueError(NO_FILE)
            image = Image.open(source, formats=FORMATS)
        if 0 in image.size:
            raise ValueError(f"{image.width} x {image.height} are no pixels")
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} is over the limit of {MAX_PIXELS:,} pixels; "
                             "make it smaller")
        if max(image.size) > MAX_SIDE:
            raise ValueError(f"{image.width} x {image.height} has a side over the limit of "
                             f"{MAX_SIDE:,} pixels; make it shorter")
        if not upright:
            if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
                image = image.convert("RGBA")           # the same colours, without PIL's warning
            return image.convert("RGB")
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):                          # 16-bit grey, which PIL would clip at 255
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        if is_transparent(image):
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except Exception as error:                                  # decoders raise everything from OSError to struct.error
        raise ValueError(f"{name} cannot be read as a picture: {error or type(error).__name__}. "
                         f"It must be a whole file of {', '.join(FORMATS[:-1])} or {FORMATS[-1]}; "
                         "save it again as one of them or leave it out") from error


def changes_upright(source: str | Path | BinaryIO) -> tuple[bool, bool]:
    """Whether a file's header says that it may be transparent, and that it is turned by EXIF.

    Pixels aren't decoded; of what is no picture, neither.
    """
    try:
        with Image.open(source, formats=FORMATS) as image:
            exif = Image.Image.getexif(image)           # a PNG's own would decode it to its end
            return is_transparent(image), exif.get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except Exception:                                   # as of `open_image`
        return False, False


def is_transparent(image: Image.Image) -> bool:
    """Whether a picture has an alpha channel, or a colour that is transparent."""
    return "A" in image.getbands() or "transparency" in image.info


def transform(image: Source, size: int, upright: bool = False) -> Tensor:
    """A picture or uint8 array (h, w, 3) -> (3, s, s), resized (bicubic) and normalised as the encoder wants it.

    upright: see `open_image`; a run's pictures are opened as its config.upright says
    """
    if not (isinstance(image, np.ndarray) and image.shape == (size, size, 3) and image.dtype == np.uint8):
        image = np.array(open_image(image, upright).resize((size, size), Image.Resampling.BICUBIC))
    return (torch.from_numpy(image).permute(2, 0, 1) - _MEAN) / _STD


def collate(records: Sequence[Record], tokenizer: Tokenizer, size: int, length: int = 25) -> Batch:
    """Records -> a Batch of pictures of side `size` and captions of at most `length` tokens."""
    tokens, keep = tokenizer.encode([record.text for record in records], length)
    return Batch(torch.stack([transform(record.image, size) for record in records]), tokens, keep,
                 torch.tensor([record.id for record in records]))
