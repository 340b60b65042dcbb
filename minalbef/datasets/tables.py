"""Tables of pictures and captions as people have them: which file, separator and columns."""
import csv
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from minalbef.data import SUFFIXES
from minalbef.datasets.readers import Fault, entries
from minalbef.writing import explain

# looked for in this order: ours, Hugging Face's, Kaggle's of Flickr30k and of Flickr8k
TABLES = ("captions.csv", "captions.tsv", "captions.jsonl", "captions.json", "metadata.csv",
          "metadata.jsonl", "results.csv", "captions.txt")
ENDINGS = (".csv", ".tsv", ".jsonl")                             # of tables with other names
FIRST = 100                           # entries of JSON to find columns in: one may be broken
SEPARATORS = {",": "','", "\t": "tab", ";": "';'", "|": "'|'"}
# columns by name, in any case: ours, the original's, Hugging Face's, open_clip's, Kaggle's
IMAGES = ("file", "image", "file_name", "filename", "filepath", "file_path", "image_path",
          "image_name", "image_file", "path")
CAPTIONS = ("caption", "text", "captions", "title", "comment", "sentence")


class Columns(NamedTuple):
    """Names of columns, as a table has them; "" for one that isn't named, or isn't there."""

    image: str = ""
    caption: str = ""
    split: str = ""


class Layout(NamedTuple):
    """How to read a table: its separator, None for JSON, all its columns, and those to use."""

    separator: str | None
    names: list[str]
    columns: Columns


def find_columns(names: Iterable, named: Columns) -> Columns:
    """Which columns hold picture and caption: those that the user named, or the first known."""
    present = {name.strip().lower(): name for name in names if isinstance(name, str)}

    def first(*known: str) -> str:
        return next((present[name.lower()] for name in known if name.lower() in present), "")
    return Columns(first(*([named.image] if named.image else IMAGES)),
                   first(*([named.caption] if named.caption else CAPTIONS)), first("split"))


def find_layout(table: Path, named: Columns) -> Layout:
    """A table's layout, from its first line or entry; columns are "" where none is known.

    Raises ValueError for a file that cannot be read.
    """
    if table.suffix in (".json", ".jsonl"):
        first = [entry for entry in islice(entries(table), FIRST) if isinstance(entry, dict)]
        found = [Layout(None, list(entry), find_columns(entry, named)) for entry in first]
    else:
        with explain_table(table), open(table, newline="", encoding="utf-8-sig") as file:
            header, found = file.readline(), []
            for separator in SEPARATORS:
                cells = next(csv_rows([header], separator, strict=False), [])
                names = [name.strip() for name in cells]
                found.append(Layout(separator, names, find_columns(names, named)))
    return max(found, key=lambda layout: (is_complete(layout.columns), len(layout.names)),
               default=Layout(None, [], Columns()))


def is_complete(columns: Columns) -> bool:
    return bool(columns.image and columns.caption)


def find_table(folder: Path, named: Columns) -> Path | None:
    """The folder's table: the first of TABLES, or the only other one with the columns it needs.

    None where there is none. Raises ValueError where several would do.
    """
    for name in TABLES:
        path = folder / name
        # a text file of this name may as well belong to captions.jpg
        if not path.is_file():
            continue
        if path.suffix != ".txt" or is_complete(find_layout(path, named).columns):
            return path
    others = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS and path.is_file())
    fitting = [path for path in others if is_complete(find_layout(path, named).columns)]
    if len(fitting) > 1:
        raise ValueError(f"{folder} has several tables of pictures and captions: "
                         f"{', '.join(path.name for path in fitting)}; "
                         "call the one that you mean captions.csv, .tsv or .jsonl")
    if fitting:
        return fitting[0]
    # the only way to captions, though its columns are unknown: a message lists them
    return others[0] if others and not any(map(picture_beside, folder.rglob("*.txt"))) else None


def picture_beside(text: Path) -> Path | None:
    """The picture of a text file's name, in its folder."""
    endings = [ending for low in SUFFIXES for ending in (low, low.upper())]
    return next((path for path in map(text.with_suffix, endings) if path.is_file()), None)


def checked_layout(table: Path, named: Columns) -> Layout:
    """`find_layout`. Raises ValueError, listing the columns, where picture or caption has none."""
    layout = find_layout(table, named)
    present = ", ".join(map(repr, layout.names)) or "(none)"
    for what, flag, known in (("image", named.image, IMAGES), ("caption", named.caption, CAPTIONS)):
        if not getattr(layout.columns, what):
            wanted = f"no column {flag!r}" if flag else f"none called {', '.join(known)}"
            raise ValueError(f"{table} has the columns {present} and {wanted}; "
                             f"name the {what}'s column with --{what}-column")
    return layout


def table_rows(table: Path, named: Columns) -> Iterator[dict | Fault]:
    """A table's rows as {"image", "caption", "split"}, or a Fault for one that is none.

    Raises ValueError for a table that cannot be read, or without columns for picture and caption.
    """
    layout = checked_layout(table, named)
    if layout.separator is None:
        for entry in entries(table):
            if isinstance(entry, dict):
                yield pick(entry, find_columns(entry, named))
            else:
                yield Fault("malformed", f"{entry!r} is no object with picture and caption")
        return
    with explain_table(table), open(table, newline="", encoding="utf-8-sig") as file:
        rows = csv_rows(file, layout.separator)
        next(rows)
        for row in rows:
            while row and not row[-1].strip():
                row.pop()
            if len(row) > len(layout.names):
                yield Fault("malformed",
                            f"{row!r} has {len(row)} fields, the header {len(layout.names)}",
                            f"put a text with {SEPARATORS[layout.separator]} in it between quotes")
            elif row:
                yield pick(dict(zip(layout.names, row)), layout.columns)


def pick(entry: dict, columns: Columns) -> dict:
    """An entry's picture, caption and split, under these names, as far as they are there."""
    return {field: entry[name] for field, name in columns._asdict().items() if name in entry}


def csv_rows(lines: Iterable[str], separator: str, strict: bool = True) -> Iterator[list[str]]:
    """Rows of a table. Kaggle's with | quotes nothing: a mark that no other closes is a mark."""
    quoting = csv.QUOTE_NONE if separator == "|" else csv.QUOTE_MINIMAL
    return csv.reader(lines, delimiter=separator, quoting=quoting, skipinitialspace=True,
                      strict=strict)


def explain_table(table: Path):
    """Raises ValueError that names the table for what goes wrong in reading it."""
    return explain(f"{table} cannot be read", "it must be a table in UTF-8",
                   OSError, UnicodeDecodeError, csv.Error)
