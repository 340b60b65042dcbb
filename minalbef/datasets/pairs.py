"""Your own pictures and captions: a table of them, or a text file beside each picture."""
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from statistics import median

from minalbef.data import Record
from minalbef.datasets.readers import (
    Fault,
    Finder,
    Roots,
    each,
    field,
    ignore,
    number_of,
    read,
    refuse,
)
from minalbef.datasets.tables import (
    SEPARATORS,
    TABLES,
    Columns,
    checked_layout,
    find_table,
    picture_beside,
    table_rows,
)

FAULTS = ".faults.txt"                # ends the names of lists of bad entries
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation",
               "testing": "test"} | {split: split for split in SPLITS}
SAMPLES = 3                           # captions that are shown
# numbers of captions that are doubted: more a picture than this, or so many times the median
MANY, TIMES = 10, 5
KEYED = re.compile(r"\s*[\w.-]+=")    # a line of a file of settings, not a caption


def read_pairs(path: Path, root: Roots = None, fault: Callable = refuse, split: str = "train",
               named: Columns = Columns()) -> Iterator[Record]:
    """A folder's captioned pictures of one split, a record a caption.

    Captions are in a table, see tables.py, with columns for picture, caption and perhaps split,
    several rows a picture allowed; or in 1.txt beside 1.jpg, one a line. Without a given split, a
    hash of the picture's content decides, 8 : 1 : 1. named: columns that the user names
    Faults are those of the whole folder, and go to `fault` once, while "train" is read.
    Raises ValueError where there is neither table nor text file, and for an unknown split.
    """
    find = Finder(root or path)

    def parse(row):
        if isinstance(row, Fault):
            raise row
        image, captions = find(field(row, "image").strip()), field(row, "caption", (str, list))
        try:
            photo = content_id(image, image.stat().st_mtime_ns)
        except OSError as error:
            raise Fault("unreadable picture", f"{image} cannot be read: {error.strerror or error}",
                        "check its permissions or leave it out") from error
        if (row.get("split") or SPLITS[max(0, photo % 10 - 7)]) != split:
            return []
        texts = [captions] if isinstance(captions, str) else captions
        return each(texts, lambda text: Record(image, text, photo))
    return read(path, rows(Path(path), named), parse, fault if split == "train" else ignore)


@lru_cache(1 << 20)                   # each split's reader needs it, and each caption
def content_id(image: Path, changed: int) -> int:
    """A number from a file's bytes: copies of one picture share it.

    changed: when, so that a new file is read anew. Raises OSError for a file that cannot be read.
    """
    return number_of(blake2b(image.read_bytes()).hexdigest())


def rows(folder: Path, named: Columns = Columns()) -> Iterator[dict | Fault]:
    """The rows of the table, or else of the text files: image, caption, split, or a Fault.

    Raises ValueError where there is neither, and for an unknown split: all its rows would be lost.
    """
    table = find_table(folder, named)
    if not table:
        yield from text_rows(folder)
        return
    for number, row in enumerate(table_rows(table, named)):
        if isinstance(row, dict) and row.get("split"):
            split = str(row["split"]).strip().lower()
            if split not in SPLIT_NAMES:
                raise ValueError(f"{table}: row {number} has split {row['split']!r}, which is none "
                                 f"of {', '.join(SPLIT_NAMES)}; mend it or leave it empty")
            row["split"] = SPLIT_NAMES[split]
        yield row


def text_rows(folder: Path) -> Iterator[dict | Fault]:
    """A row for each text file, its lines the captions. Raises ValueError where there is none."""
    # --out may be below the folder: what `prepare` wrote there is no caption
    texts = sorted(path for path in folder.rglob("*.txt") if not path.name.endswith(FAULTS))
    if not texts:
        raise ValueError(f"{folder} has no {' or '.join(TABLES)}, no other table alone, "
                         "and no text file beside a picture")
    for text in texts:
        image = picture_beside(text) or text.with_suffix(".jpg")
        try:
            lines = text.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            yield Fault("unreadable text", f"{text} cannot be read: {error.strerror or error}",
                        "check its permissions or leave it out")
        else:
            captions = [line for line in lines if line.strip()]
            yield {"image": str(image.relative_to(folder)), "caption": captions}


def describe_source(folder: Path, named: Columns) -> str:
    """For people: where captions are read. Raises ValueError for a table without known columns."""
    if table := find_table(folder, named):
        separator, _, columns = checked_layout(table, named)
        how = f", separated by {SEPARATORS[separator]}" if separator else ""
        splits = f", splits from {columns.split!r}" if columns.split else ""
        return (f"{table.name}{how}: pictures from {columns.image!r}, "
                f"captions from {columns.caption!r}{splits}")
    return "text files beside the pictures: each line is a caption"


class Captions:
    """What captions look like: a few of them, how many a picture has, what makes one doubt."""

    def __init__(self):
        self.total, self.keyed, self.first_keyed = 0, 0, ""
        self.samples: list[Record] = []
        self.count: Counter[int] = Counter()
        self.random = random.Random(0)

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records, looked at on the way."""
        for record in records:
            self.total += 1
            self.count[record.id] += 1
            if len(self.samples) < SAMPLES:
                self.samples.append(record)
            elif (place := self.random.randrange(self.total)) < SAMPLES:     # each is as likely
                self.samples[place] = record
            if KEYED.match(record.text):
                self.keyed += 1
                self.first_keyed = self.first_keyed or record.text
            yield record

    def describe(self) -> list[str]:
        """Lines to print."""
        if not self.total:
            return []
        counts = sorted(self.count.values())
        usual = median(counts)
        lines = [f"captions per picture: {usual:g} (median), from {counts[0]} to {counts[-1]}"]
        lines += [f"  {shorten(record.image.name)}: {shorten(record.text)}" for record in self.samples]
        if self.keyed:
            lines.append(f"doubtful: {self.keyed:,} captions look like key=value, such as "
                         f"{shorten(self.first_keyed)}: are these captions?")
        if usual > MANY or counts[-1] > MANY and counts[-1] > TIMES * usual:
            lines.append("doubtful: so many captions per picture, or such different numbers of "
                         "them, are rarely meant: does every line describe its picture?")
        return lines


def shorten(text: str, length: int = 80) -> str:
    """A text between quotes, its end cut off, and with nothing in it that a terminal would obey."""
    return repr(text if len(text) <= length else f"{text[:length]}...")
