"""Image-text shards, as img2dataset writes them: tars that are read once for their texts, and then place by place."""
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
        key, parts = None, {}
        with tarfile.open(path, "r:") as tar:
            for member in members(tar):
                if not member.isfile():
                    continue
                name, _, kind = member.name.rpartition("/")[2].partition(".")
                if name != key and parts:
                    given += 1
                    yield key, parts
                    parts = {}
                key, kind = name, kind.lower()
                parts[kind] = (tar.extractfile(member).read() if kind in ("txt", "json") and member.size <= LARGEST
                               else Member(Path(path), member.offset_data, member.size))
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile stops at a bad header
                raise tarfile.ReadError(f"it is cut or damaged at byte {tar.offset:,}")
        if parts:
            yield key, parts
    given = 0
    try:
        yield from read(path, samples(), parse, fault)
    except (tarfile.TarError, OSError) as error:
        lost = max(1, successes(path) - given)
        fault(Fault("lost with a broken shard", f"{path} cannot be read to its end: {error}", "get it again", lost))


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """A tar's members. Raises ReadError at a broken header, where tarfile itself raises nearly everything."""
    try:
        yield from tar
    except (ValueError, OverflowError, MemoryError) as error:
        raise tarfile.ReadError(f"a header is broken: {error}") from error


def successes(path: Path) -> int:
    """How many pictures img2dataset says that it put into a tar; 0 where it does not say."""
    try:
        return int(json.loads(path.with_name(f"{path.stem}_stats.json").read_text())["successes"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return 0
