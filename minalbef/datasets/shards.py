"""Image-text shards as img2dataset writes them.

A shard is a tar. Its texts are read once, its images in any order, each from its place in the tar.
"""
import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from minalbef.data import Record
from minalbef.datasets.forms import LARGEST, Fault
from minalbef.datasets.readers import (
    FaultHandler,
    Finder,
    Roots,
    parse_entries,
    photo_id,
    refuse,
)
from minalbef.system.images import ImageFile

IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp")
TEXT_ENDINGS = ("txt", "json")
# a sample: its key, and the contents of its files by ending; images stay in the tar
Sample = tuple[str, dict[str, Any]]


def shards(path: Path, root: Roots = None, on_fault: FaultHandler = refuse) -> Iterator[Record]:
    """One of img2dataset's tars -> a record for each image.

    A sample is a jpg, png or webp with a txt and a json of the same key. From a truncated or
    damaged tar the images before the damage are read. The others, as many as img2dataset's
    00000_stats.json counts, are bad entries.
    """
    count = 0

    def parse(sample: Sample) -> list[Record | Fault]:
        nonlocal count
        count += 1
        key, contents = sample
        images = [ending for ending in IMAGE_ENDINGS if ending in contents]
        if not images:
            return [Fault("missing image", f"{key} has no jpg, png or webp")]
        if len(images) > 1:
            return [Fault("ambiguous image", f"{key} has a {images[0]} and a {images[1]}",
                          "give them different names")]
        about = json.loads(contents.get("json", "{}"))
        caption = contents["txt"].decode() if "txt" in contents else about.get("caption")
        photo = photo_id(about.get("url") or f"{Path(path).name}/{key}")
        return [Record(contents[images[0]], caption, photo)]

    try:
        yield from parse_entries(path, read_samples(path), parse, Finder(None), on_fault)
    except (tarfile.TarError, OSError) as error:
        lost = max(1, count_images(path) - count)
        on_fault(Fault("lost with a broken shard", f"{path} cannot be read to its end: {error}",
                       "get it again", lost))


def read_samples(path: Path) -> Iterator[Sample]:
    """A tar's samples. Raises TarError or OSError if the tar is damaged."""
    with tarfile.open(path, "r:") as tar:
        for key, files in groupby(complete_files(tar), lambda file: split_name(file)[0]):
            contents: dict[str, Any] = {}
            for file in files:
                ending = split_name(file)[1]
                text = tar.extractfile(file) if ending in TEXT_ENDINGS else None
                if text and file.size <= LARGEST:            # a huger one is malformed
                    contents[ending] = text.read()
                else:
                    contents[ending] = ImageFile(Path(path), file.offset_data, file.size)
            yield key, contents


def split_name(file: tarfile.TarInfo) -> tuple[str, str]:
    """A file's key, which the files of a sample share, and its ending.

    00000/000000012.jpg -> 000000012, jpg
    """
    key, _, ending = file.name.rpartition("/")[2].partition(".")
    return key, ending.lower()


def complete_files(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """A tar's files. Raises ReadError where the tar is truncated or damaged."""
    try:
        yield from filter(tarfile.TarInfo.isfile, tar)
    except (ValueError, OverflowError, MemoryError) as error:        # tarfile lets them through
        raise tarfile.ReadError(f"a header is broken: {error}") from error
    # at a bad header tarfile stops without an error; a whole tar ends in a block of zeros
    assert tar.fileobj
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it is truncated or damaged at byte {tar.offset:,}")


def count_images(path: Path) -> int:
    """How many images img2dataset says it put into a tar, or 0 if it doesn't say."""
    stats = path.with_name(f"{path.stem}_stats.json")
    try:
        return int(json.loads(stats.read_text(encoding="utf-8"))["successes"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return 0
