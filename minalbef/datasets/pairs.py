"""Your own pictures and captions: a table of them, or a text file beside each picture."""
import csv
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from minalbef.data import SUFFIXES, Record
from minalbef.datasets.readers import Finder, Roots, each, entries, field, read, refuse

TABLES = ("captions.csv", "captions.tsv", "captions.jsonl", "captions.json")
SPLITS = ("train", "validation", "test")


def read_pairs(path: Path, root: Roots = None, fault: Callable = refuse, split: str = "train") -> Iterator[Record]:
    """A folder's captioned pictures of one split, a record a caption.

    Captions are in one of TABLES, with columns file, caption and perhaps split, several rows a picture allowed; or in
    1.txt beside 1.jpg, one a line. Without a given split, a hash of the picture's content decides, 8 : 1 : 1.
    """
    find = Finder(root or path)

    def parse(row):
        image = find(field(row, "file" if row.get("file") else "image"))
        photo, given = content_id(image), field(row, "caption", (str, list))
        if (row.get("split") or SPLITS[max(0, photo % 10 - 7)]) != split:
            return []
        return each([given] if isinstance(given, str) else given, lambda text: Record(image, text, photo))
    return read(path, rows(Path(path)), parse, fault)


@lru_cache(1 << 20)                   # each split's reader needs it, and each caption
def content_id(image: Path) -> int:
    """63 bits of a hash of a file's bytes: copies of one picture share it."""
    return int.from_bytes(blake2b(Path(image).read_bytes(), digest_size=8).digest()) >> 1


def rows(folder: Path) -> Iterator[dict]:
    """The rows of the table, or of the text files where there is none. Raises ValueError where there is neither."""
    table = next((folder / name for name in TABLES if (folder / name).exists()), None)
    if table and table.suffix in (".csv", ".tsv"):
        with open(table, newline="", encoding="utf-8-sig") as file:
            yield from csv.DictReader(file, delimiter="\t" if table.suffix == ".tsv" else ",")
    elif table:
        yield from entries(table)
    else:
        texts = sorted(folder.rglob("*.txt"))
        if not texts:
            raise ValueError(f"{folder} has no {' or '.join(TABLES)}, and no text file beside a picture")
        for text in texts:
            image = next((text.with_suffix(end) for end in SUFFIXES if text.with_suffix(end).exists()), text)
            yield {"file": str(image.relative_to(folder)),
                   "caption": [one for one in text.read_text(encoding="utf-8").splitlines() if one.strip()]}
