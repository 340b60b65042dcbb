"""Tables of images and captions as people have them: which file, separator and columns."""
import csv
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from minalbef.data import SUFFIXES
from minalbef.datasets.readers import Fault, entries
from minalbef.writing import restate

# in the order of search: ours, Hugging Face's, Kaggle's of Flickr30k and of Flickr8k
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
    """Names of columns, as a table has them; "" for a column that has no name or is absent."""

    image: str = ""
    caption: str = ""
    split: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether both image and caption have a column."""
        return bool(self.image and self.caption)


class Layout(NamedTuple):
    """How to read a table: its separator, None for JSON; all its columns, and those to use."""

    separator: str | None
    names: list[str]
    columns: Columns


def find_columns(names: Iterable[Any], columns: Columns) -> Columns:
    """Which of a table's columns hold image, caption and split, "" for those that none holds.

    columns: names from the user, which come before the known ones
    """
    present: dict[str, str] = {}
    for name in names:
        if isinstance(name, str):
            present[name.strip().lower()] = name

    def first(candidates: Iterable[str]) -> str:
        for name in candidates:
            if name.lower() in present:
                return present[name.lower()]
        return ""
    image = first([columns.image] if columns.image else IMAGES)
    caption = first([columns.caption] if columns.caption else CAPTIONS)
    return Columns(image, caption, first(["split"]))


def find_layout(table: Path, columns: Columns) -> Layout:
    """A table's layout, by its first line or entry; a column is "" if none is known.

    Raises ValueError for a file that cannot be read.
    """
    layouts = []
    if table.suffix in (".json", ".jsonl"):
        for entry in islice(entries(table), FIRST):
            if isinstance(entry, dict):
                layouts.append(Layout(None, list(entry), find_columns(entry, columns)))
    else:
        with restate_table_errors(table), open(table, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            for separator in SEPARATORS:
                cells = next(csv_rows([header], separator, strict=False), [])
                names = [name.strip() for name in cells]
                layouts.append(Layout(separator, names, find_columns(names, columns)))

    def fitness(layout: Layout) -> tuple[bool, int]:
        return layout.columns.is_complete, len(layout.names)
    return max(layouts, key=fitness, default=Layout(None, [], Columns()))


def find_table(folder: Path, columns: Columns) -> Path | None:
    """The folder's table: the first of TABLES, or else the only other one with the columns needed.

    None if there is no table. Raises ValueError if several would do.
    """
    for name in TABLES:
        path = folder / name
        # a text file of this name may just as well hold the captions of captions.jpg
        if path.is_file() and (path.suffix != ".txt" or is_complete(path, columns)):
            return path
    tables = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS and path.is_file())
    complete = [path for path in tables if is_complete(path, columns)]
    if len(complete) > 1:
        raise ValueError(f"{folder} has several tables of images and captions: "
                         f"{', '.join(path.name for path in complete)}; "
                         "call the one that you mean captions.csv, .tsv or .jsonl")
    if complete:
        return complete[0]
    # the only place where captions can be, though its columns are unknown: an error will list them
    if tables and not any(map(image_beside, folder.rglob("*.txt"))):
        return tables[0]
    return None


def is_complete(table: Path, columns: Columns) -> bool:
    """Whether a table has columns for image and caption."""
    return find_layout(table, columns).columns.is_complete


def image_beside(text: Path) -> Path | None:
    """The image with a text file's name, in the same folder."""
    for suffix in SUFFIXES:
        for ending in (suffix, suffix.upper()):
            path = text.with_suffix(ending)
            if path.is_file():
                return path
    return None


def checked_layout(table: Path, columns: Columns) -> Layout:
    """A table's layout, with columns for image and caption.

    Raises ValueError, which lists the table's columns, if there is none for either.
    """
    layout = find_layout(table, columns)
    check_column(table, layout, "image", columns.image, IMAGES)
    check_column(table, layout, "caption", columns.caption, CAPTIONS)
    return layout


def check_column(table: Path, layout: Layout, what: str, name: str,
                 candidates: Iterable[str]) -> None:
    """Raises ValueError if a layout has no column for "image" or "caption".

    name: from the user; candidates: the known names
    """
    if getattr(layout.columns, what):
        return
    present = ", ".join(map(repr, layout.names)) or "(none)"
    lacking = f"no column {name!r}" if name else f"none called {', '.join(candidates)}"
    raise ValueError(f"{table} has the columns {present} and {lacking}; "
                     f"name the {what}'s column with --{what}-column")


def table_rows(table: Path, columns: Columns) -> Iterator[dict[str, Any] | Fault]:
    """A table's rows as {"image", "caption", "split"}, or a Fault for a malformed row.

    Raises ValueError for a table that cannot be read, or that lacks a column for image or caption.
    """
    layout = checked_layout(table, columns)
    if layout.separator is None:
        yield from json_rows(table, columns)
        return
    with restate_table_errors(table), open(table, newline="", encoding="utf-8-sig") as file:
        rows = csv_rows(file, layout.separator)
        next(rows)
        for row in rows:
            while row and not row[-1].strip():
                row.pop()
            if len(row) > len(layout.names):
                problem = f"{row!r} has {len(row)} fields, the header {len(layout.names)}"
                separator = SEPARATORS[layout.separator]
                yield Fault("malformed", problem,
                            f"put a text with {separator} in it between quotes")
            elif row:
                yield pick(dict(zip(layout.names, row)), layout.columns)


def json_rows(table: Path, columns: Columns) -> Iterator[dict[str, Any] | Fault]:
    """`table_rows` of a JSON list or of JSON lines, whose entries may differ in columns."""
    for entry in entries(table):
        if isinstance(entry, dict):
            yield pick(entry, find_columns(entry, columns))
        else:
            yield Fault("malformed", f"{entry!r} is no object with image and caption")


def pick(entry: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """An entry's image, caption and split under these names, as far as it has them."""
    return {field: entry[name] for field, name in columns._asdict().items() if name in entry}


def csv_rows(lines: Iterable[str], separator: str, strict: bool = True) -> Iterator[list[str]]:
    """Rows of a table. With "|" nothing is quoted: Kaggle's has single quotation marks in texts."""
    quoting: Literal[0, 3] = csv.QUOTE_NONE if separator == "|" else csv.QUOTE_MINIMAL
    return csv.reader(lines, delimiter=separator, quoting=quoting, skipinitialspace=True,
                      strict=strict)


def restate_table_errors(table: Path) -> AbstractContextManager[None]:
    """Errors of reading become a ValueError that names the table."""
    return restate(f"{table} cannot be read", "it must be a table in UTF-8",
                   OSError, UnicodeDecodeError, csv.Error)
