"""The shipped clip art: data/clipart, whose images are unpacked, and its titles as captions."""
import csv
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from minalbef.data import Record, data_folder
from minalbef.datasets.readers import (
    FaultHandler,
    Finder,
    Roots,
    parse_entries,
    photo_id,
    refuse,
)
from minalbef.system.writing import restate

TABLE = "captions.csv"
IMAGES = "images.zip"
SINGLE = 2                            # keywords of an image that become captions of their own,
LEAST = 3                             # if so many training images have them
Row = dict[str, str]                  # of the table: file, split, title, keywords


def unpack(source: Path | None, folder: Path) -> Path:
    """Unpack the images into a folder, with the table beside them: -> the folder.

    source: the folder of images.zip and captions.csv, by default the shipped one. Images that are
        there already aren't written again, and those of an older version are removed.
    Raises ValueError if they aren't there.
    """
    source = source or data_folder() / "clipart"
    problem = f"{source} has no clip art that can be read"
    way_out = (f"it needs {TABLE} and {IMAGES}: take a checkout's data/clipart with --from, "
               "or make them with its make.py")
    with restate(problem, way_out, OSError, zipfile.BadZipFile):
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(source / IMAGES) as archive:
            for member in archive.infolist():
                path = folder / member.filename
                if not path.is_file() or zlib.crc32(path.read_bytes()) != member.CRC:
                    archive.extract(member, folder)          # never outside the folder
            names = set(archive.namelist())
        for path in folder.glob("*/*.webp"):
            if path.relative_to(folder).as_posix() not in names:
                path.unlink()
        (folder / TABLE).write_bytes((source / TABLE).read_bytes())
    return folder


def read_clipart(path: Path, root: Roots = None, on_fault: FaultHandler = refuse,
                 split: str = "train", album: str = "clipart") -> Iterator[Record]:
    """One split of the table -> a record for each caption; see `captions_of`.

    path: the table, beside its images. Raises ValueError for another file.
    """
    with restate(f"{path} cannot be read", "take data/clipart/captions.csv as it is", OSError,
                 UnicodeDecodeError, KeyError, csv.Error):
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        counts = Counter(word for row in rows if row["split"] == "train" for word in keywords(row))

    def parse(row: Row) -> list[Record] | None:
        if row["split"] != split:
            return None
        image = row["file"]
        captions = captions_of(row, counts) if split == "train" else [full_caption(row)]
        photo = photo_id(f"{album}/{image}")
        return [Record(image, text, photo) for text in captions]
    return parse_entries(path, rows, parse, Finder(path.parent), on_fault)


def keywords(row: Row) -> list[str]:
    """A drawing's keywords."""
    return [word for word in row["keywords"].split("; ") if word]


def full_caption(row: Row) -> str:
    """A drawing's title with its keywords: "Cartoon Cat, mammal, animal"."""
    return ", ".join([row["title"], *keywords(row)])


def captions_of(row: Row, counts: Counter[str]) -> list[str]:
    """A drawing's training captions: title with keywords, the title, and its rarest keywords.

    So words are also learnt alone, as people search.
    counts: in how many training images each keyword is
    """
    common = [word for word in keywords(row) if counts[word] >= LEAST]
    rarest = sorted(common, key=lambda word: counts[word])[:SINGLE]
    return list(dict.fromkeys([full_caption(row), row["title"], *rarest]))
