"""Your own pictures and captions: a table of them, or a text file beside each picture."""
import csv
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from minalbef.data import SUFFIXES, Record
from minalbef.datasets.readers import Fault, Finder, Roots, each, entries, field, number_of, read, refuse
from minalbef.writing import explain

TABLES = ("captions.csv", "captions.tsv", "captions.jsonl", "captions.json")
SPLITS = ("train", "validation", "test")


def read_pairs(path: Path, root: Roots = None, fault: Callable = refuse, split: str = "train") -> Iterator[Record]:
    """A folder's captioned pictures of one split, a record a caption.

    Captions are in one of TABLES, with columns file, caption and perhaps split, several rows a picture allowed; or in
    1.txt beside 1.jpg, one a line. Without a given split, a hash of the picture's content decides, 8 : 1 : 1.
    Faults are those of the whole folder, and go to `fault` once, while "train" is read.
    """
    find = Finder(root or path)

    def parse(row):
        image = find(field(row, "image" if row.get("image") else "file"))
        photo, given = content_id(image, image.stat().st_mtime_ns), field(row, "caption", (str, list))
        place = row.get("split") or SPLITS[max(0, photo % 10 - 7)]
        if place not in SPLITS:
            raise Fault("unknown split", f"split {place!r} is none of {', '.join(SPLITS)}", "mend it or leave it empty")
        if place != split:
            return []
        return each([given] if isinstance(given, str) else given, lambda text: Record(image, text, photo))
    return read(path, rows(Path(path)), parse, fault if split == "train" else lambda fault: None)


@lru_cache(1 << 20)                   # each split's reader needs it, and each caption
def content_id(image: Path, changed: int) -> int:
    """A number from a file's bytes: copies of one picture share it. changed: when, so that a new file is read anew."""
    return number_of(blake2b(image.read_bytes()).hexdigest())


def rows(folder: Path) -> Iterator[dict]:
    """The rows of the table, or of the text files where there is none. Raises ValueError where there is neither."""
    table = next((folder / name for name in TABLES if (folder / name).exists()), None)
    if table and table.suffix in (".csv", ".tsv"):
        with (explain(f"{table} cannot be read", "it must be a table in UTF-8", OSError, UnicodeDecodeError, csv.Error),
              open(table, newline="", encoding="utf-8-sig") as file):
            yield from csv.DictReader(file, delimiter="\t" if table.suffix == ".tsv" else ",", strict=True)
    elif table:
        yield from entries(table)
    else:
        texts = sorted(folder.rglob("*.txt"))
        if not texts:
            raise ValueError(f"{folder} has no {' or '.join(TABLES)}, and no text file beside a picture")
        for text in texts:
            image = next((one for low in SUFFIXES for end in (low, low.upper())
                          if (one := text.with_suffix(end)).exists()), text.with_suffix(".jpg"))
            said = text.read_text(encoding="utf-8", errors="replace").splitlines()
            yield {"file": str(image.relative_to(folder)), "caption": [one for one in said if one.strip()]}
