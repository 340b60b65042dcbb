"""Image-text shards, as img2dataset writes them: tars that are read once for their texts, and then place by place."""
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from minalbef.data import Record
from minalbef.datasets.readers import LARGEST, Fault, Roots, photo_id, read, refuse, words


@dataclass(frozen=True)
class Member:
    """A picture inside a tar, which PIL opens like a file: where its bytes begin, and how many there are."""

    path: Path
    offset: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.path} at byte {self.offset}"

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def shards(path: Path, root: Roots = None, fault: Callable = refuse) -> Iterator[Record]:
    """One tar of img2dataset's, of jpg (or png, webp) and txt and json by key -> a record a picture.

    From a truncated or damaged tar, the pictures before the damage are taken; each of the others, by the count in
    img2dataset's 00000_stats.json, is a bad entry.
    """
    def parse(sample):
        key, parts = sample
        image = next((parts[kind] for kind in ("jpg", "jpeg", "png", "webp") if kind in parts), None)
        if image is None:
            raise Fault("missing picture", f"{key} has no jpg, png or webp")
        for kind in ("txt", "json"):
            if isinstance(parts.get(kind), Member):
                raise Fault("malformed", f"{key}.{kind} has {parts[kind].size:,} bytes, and may have {LARGEST:,}")
        about = json.loads(parts.get("json", "{}"))
        text = parts["txt"].decode() if "txt" in parts else about.get("caption")
        photo = photo_id(about.get("url") or f"{Path(path).name}/{key}")
        return [Record(image, words(text), photo)]

    def samples():
        nonlocal given
        with tarfile.open(path, "r:") as tar:
            for key, files in groupby(whole_files(tar), lambda file: key_and_kind(file)[0]):
                parts = {}
                for file in files:
                    kind = key_and_kind(file)[1]
                    parts[kind] = (tar.extractfile(file).read() if kind in ("txt", "json") and file.size <= LARGEST
                                   else Member(Path(path), file.offset_data, file.size))
                given += 1
                yield key, parts
    given = 0
    try:
        yield from read(path, samples(), parse, fault)
    except (tarfile.TarError, OSError) as error:
        lost = max(1, successes(path) - given)
        fault(Fault("lost with a broken shard", f"{path} cannot be read to its end: {error}", "get it again", lost))


def key_and_kind(file: tarfile.TarInfo) -> tuple[str, str]:
    """What files of one sample share, and what this one of them is: 00000/000000012.jpg -> 000000012, jpg."""
    key, _, kind = file.name.rpartition("/")[2].partition(".")
    return key, kind.lower()


def whole_files(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """A tar's files. Raises ReadError where it is cut or damaged, of which tarfile itself raises nearly everything."""
    try:
        yield from filter(tarfile.TarInfo.isfile, tar)
    except (ValueError, OverflowError, MemoryError) as error:
        raise tarfile.ReadError(f"a header is broken: {error}") from error
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):          # tarfile stops at a bad header
        raise tarfile.ReadError(f"it is cut or damaged at byte {tar.offset:,}")


def successes(path: Path) -> int:
    """How many pictures img2dataset says that it put into a tar; 0 where it does not say."""
    try:
        return int(json.loads(path.with_name(f"{path.stem}_stats.json").read_text(encoding="utf-8"))["successes"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return 0
