"""Your own images and captions: in a table, or in a text file beside each image."""
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from statistics import median
from typing import Any

from minalbef.data import Record
from minalbef.datasets.readers import (
    Fault,
    FaultHandler,
    Finder,
    Roots,
    caption_records,
    field,
    ignore,
    parse_entries,
    refuse,
    stable_hash,
)
from minalbef.datasets.tables import (
    SEPARATORS,
    TABLES,
    Columns,
    checked_layout,
    find_table,
    image_beside,
    table_rows,
)

FAULTS = ".faults.txt"                # ends the names of lists of bad entries
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
SAMPLES = 3                           # captions to show
# an account doubts so many captions per image, or an image with so many times the median
MANY = 10
TIMES_MEDIAN = 5
KEYED = re.compile(r"\s*[\w.-]+=")    # a line of a settings file rather than a caption


def read_pairs(path: Path, root: Roots = None, on_fault: FaultHandler = refuse,
               split: str = "train", columns: Columns = Columns()) -> Iterator[Record]:
    """A folder's images with captions, those of one split -> a record for each caption.

    Captions are in a table (see tables.py) with columns for image, caption and perhaps split, where
    an image may have several rows; or in 1.txt beside 1.jpg, one per line. If no split is named, a
    hash of the image's content decides, 8 : 1 : 1.
    columns: their names in the table, if they aren't known ones
    Faults concern the whole folder and go to `on_fault` only once, while "train" is read.
    Raises ValueError if there is neither a table nor a text file, and for an unknown split.
    """
    find = Finder(root or path)

    def parse(row: Any) -> Iterable[Record | Fault]:
        if isinstance(row, Fault):
            raise row
        image = find(field(row, "image").strip())
        captions = field(row, "caption", (str, list))
        try:
            photo = content_id(image, image.stat().st_mtime_ns)
        except OSError as error:
            problem = f"{image} cannot be read: {error.strerror or error}"
            raise Fault("unreadable image", problem,
                        "check its permissions or leave it out") from error
        if (row.get("split") or split_of(photo)) != split:
            return []
        if isinstance(captions, str):
            captions = [captions]
        return caption_records(image, captions, photo)
    return parse_entries(path, rows(Path(path), columns), parse,
                         on_fault if split == "train" else ignore)


def split_of(photo: int) -> str:
    """The split of an image by its id: 8 in 10 train, 1 in 10 validation, 1 in 10 test."""
    return SPLITS[max(0, photo % 10 - 7)]


@lru_cache(1 << 20)                   # the reader of each split asks for it, and each caption
def content_id(image: Path, mtime_ns: int) -> int:
    """A number from a file's bytes, so that copies of an image share it.

    mtime_ns: when the file was changed, so that a new version is read again
    Raises OSError for a file that cannot be read.
    """
    return stable_hash(blake2b(image.read_bytes()).hexdigest())


def rows(folder: Path, columns: Columns = Columns()) -> Iterator[dict[str, Any] | Fault]:
    """The rows of the folder's table, or else of its text files: image, caption, split, or a Fault.

    Raises ValueError if there is neither, and for an unknown split: its rows would all be lost.
    """
    table = find_table(folder, columns)
    if not table:
        yield from text_rows(folder)
        return
    for number, row in enumerate(table_rows(table, columns)):
        if isinstance(row, dict) and row.get("split"):
            split = str(row["split"]).strip().lower()
            if split not in SPLIT_NAMES:
                raise ValueError(f"{table}: row {number} has split {row['split']!r}, which is none "
                                 f"of {', '.join(SPLIT_NAMES)}; mend it or leave it empty")
            row["split"] = SPLIT_NAMES[split]
        yield row


def text_rows(folder: Path) -> Iterator[dict[str, Any] | Fault]:
    """A row for each text file, whose lines are the captions.

    Raises ValueError if there is no text file.
    """
    # --out may be below the folder, and what `prepare` wrote there is no caption
    texts = sorted(path for path in folder.rglob("*.txt") if not path.name.endswith(FAULTS))
    if not texts:
        raise ValueError(f"{folder} has no {' or '.join(TABLES)}, no single other table, "
                         "and no text file beside an image")
    for text in texts:
        image = image_beside(text) or text.with_suffix(".jpg")
        try:
            lines = text.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            yield Fault("unreadable text", f"{text} cannot be read: {error.strerror or error}",
                        "check its permissions or leave it out")
        else:
            captions = [line for line in lines if line.strip()]
            yield {"image": str(image.relative_to(folder)), "caption": captions}


def describe_source(folder: Path, columns: Columns) -> str:
    """Where captions are read from, to print.

    Raises ValueError for a table in which image or caption has no known column.
    """
    table = find_table(folder, columns)
    if not table:
        return "text files beside the images: each line is a caption"
    layout = checked_layout(table, columns)
    description = table.name
    if layout.separator:
        description += f", separated by {SEPARATORS[layout.separator]}"
    description += (f": images from {layout.columns.image!r}, "
                    f"captions from {layout.columns.caption!r}")
    if layout.columns.split:
        description += f", splits from {layout.columns.split!r}"
    return description


class Captions:
    """What captions look like: a few samples, how many an image has, and what is doubtful."""

    def __init__(self) -> None:
        self.total = 0
        self.keyed = 0
        self.first_keyed = ""
        self.samples: list[Record] = []
        self.counts: Counter[int] = Counter()                # by image
        self.random = random.Random(0)

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass the records on, and count their captions."""
        for record in records:
            self.add(record)
            yield record

    def add(self, record: Record) -> None:
        """Count a record's caption."""
        self.total += 1
        self.counts[record.id] += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(record)
        else:                                                # each caption is equally likely
            i = self.random.randrange(self.total)
            if i < SAMPLES:
                self.samples[i] = record
        if KEYED.match(record.text):
            self.keyed += 1
            self.first_keyed = self.first_keyed or record.text

    def describe(self) -> list[str]:
        """Lines to print."""
        if not self.total:
            return []
        counts = sorted(self.counts.values())
        least = counts[0]
        most = counts[-1]
        usual = median(counts)
        lines = [f"captions per image: {usual:g} (median), from {least} to {most}"]
        for record in self.samples:
            assert isinstance(record.image, Path)
            lines.append(f"  {quote(record.image.name)}: {quote(record.text)}")
        if self.keyed:
            lines.append(f"doubtful: {self.keyed:,} captions look like key=value, such as "
                         f"{quote(self.first_keyed)}: are these captions?")
        if usual > MANY or most > MANY and most > TIMES_MEDIAN * usual:
            lines.append("doubtful: so many captions per image, or such different numbers of "
                         "them, are rarely meant: does every line describe its image?")
        return lines


def quote(text: str, length: int = 80) -> str:
    """A text in quotation marks, shortened, and without escape sequences that a terminal obeys."""
    return repr(text if len(text) <= length else f"{text[:length]}...")
