"""Tables of images and captions as people have them: which file, separator and columns."""
import csv
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from minalbef.datasets.readers import Fault, encoding_of, entries
from minalbef.system.images import SUFFIXES
from minalbef.system.writing import restate

# in the order of search: ours, Hugging Face's, Kaggle's of Flickr30k and of Flickr8k, and the lists
# that come with Flickr30k's and Flickr8k's images
TABLES = ("captions.csv", "captions.tsv", "captions.jsonl", "captions.json", "metadata.csv",
          "metadata.jsonl", "results.csv", "captions.txt", "results_20130124.token",
          "Flickr8k.token.txt")
TOKENS = TABLES[-2:]                  # without a header; a line is 1.jpg#0, a tab and a caption
ENDINGS = (".csv", ".tsv", ".jsonl")                             # of tables with other names
FIRST = 100                           # entries of JSON to find columns in: one may be broken
SEPARATORS = {",": "','", "\t": "tab", ";": "';'", "|": "'|'"}
# columns by name, in any case: ours, the original's, Hugging Face's, open_clip's, Kaggle's
IMAGES = ("file", "image", "file_name", "filename", "filepath", "file_path", "image_path",
          "image_name", "image_file", "img_path", "img", "path")
CAPTIONS = ("caption", "text", "captions", "title", "comment", "sentence", "description", "label")
# columns of labels: a label is right for every image that has it, a caption for its own
LABELS = ("label", "labels", "class", "class_name", "category")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "restval": "train",               # Karpathy's, of COCO
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


class Table(NamedTuple):
    """A table, and the split of all its rows; "" if it holds the rows of several."""

    path: Path
    split: str = ""


class Columns(NamedTuple):
    """Names of columns, as a table has them; "" for a column that has no name or is absent."""

    image: str = ""
    caption: str = ""
    split: str = ""
    group: str = ""                   # rows that must stay in one split

    @property
    def is_complete(self) -> bool:
        """Whether both image and caption have a column."""
        return bool(self.image and self.caption)

    @property
    def has_labels(self) -> bool:
        """Whether the captions are labels, by their column's name."""
        return self.caption.strip().lower() in LABELS


class Layout(NamedTuple):
    """How to read a table: its separator, None for JSON; all its columns, and those to use."""

    separator: str | None
    names: list[str]
    columns: Columns
    has_header: bool = True


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
    return Columns(image, caption, first(["split"]), first([columns.group]))


def find_layout(table: Path, columns: Columns) -> Layout:
    """A table's layout, by its first line or entry; a column is "" if none is known.

    Raises ValueError for a file that cannot be read.
    """
    if table.name in TOKENS:
        return Layout("\t", ["image", "caption"], Columns("image", "caption"), has_header=False)
    layouts = []
    if table.suffix in (".json", ".jsonl"):
        for entry in islice(entries(table), FIRST):
            if isinstance(entry, dict):
                layouts.append(Layout(None, list(entry), find_columns(entry, columns)))
    else:
        with restate_table_errors(table), open_table(table) as file:
            header = file.readline()
            for separator in SEPARATORS:
                cells = next(csv_rows([header], separator, strict=False), [])
                names = [name.strip() for name in cells]
                layouts.append(Layout(separator, names, find_columns(names, columns)))

    def fitness(layout: Layout) -> tuple[bool, int]:
        return layout.columns.is_complete, len(layout.names)
    return max(layouts, key=fitness, default=Layout(None, [], Columns()))


def find_tables(folder: Path, below: bool, columns: Columns) -> list[Table]:
    """The table of images and captions in a folder, or one for each split; [] if there is none.

    A folder's is the first of TABLES, or else the only other one with the columns needed. Several
    tables are one for each split if names say so: train.csv and val.csv, or test/metadata.csv.
    below: look into all subfolders, too
    Raises ValueError if several would do.
    """
    found: list[Path] = []
    for parent, names in walk(folder) if below else [(folder, names_in(folder))]:
        found += tables_among([parent / name for name in names], columns)
    if len(found) <= 1:
        return [Table(path, alone(split_in(path.relative_to(folder)))) for path in found]
    splits = [split_in(path.relative_to(folder)) for path in found]
    if "" in splits or len(set(splits)) < len(splits):
        listing = ", ".join(str(path.relative_to(folder)) for path in found)
        raise ValueError(f"{folder} has several tables of images and captions: {listing}; call the "
                         "one that you mean captions.csv, .tsv or .jsonl, or name its folder with "
                         "--from")
    return [Table(path, split) for path, split in zip(found, splits)]


def tables_among(paths: list[Path], columns: Columns) -> list[Path]:
    """The first of TABLES among a folder's files, or else all others with the columns needed."""
    for name in TABLES:
        for path in paths:
            # a text file of this name may just as well hold the captions of captions.jpg
            if path.name == name and (name != "captions.txt" or is_complete(path, columns)):
                return [path]
    return [path for path in paths if path.suffix in ENDINGS and is_complete(path, columns)]


def unknown_table(folder: Path) -> Path | None:
    """The first table in a folder, whatever its columns are called: an error will list them."""
    for name in names_in(folder):
        if name.endswith(ENDINGS):
            return folder / name
    return None


def split_in(path: Path) -> str:
    """The split that a path's words name, such as val/metadata.csv; "" for none and for several."""
    words = re.split("[^a-z]+", str(path.with_suffix("")).lower())
    splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else ""


def alone(split: str) -> str:
    """The split of a set of which all rows name this one; "" for train, which is then divided.

    So test.csv alone is a test, and train.csv alone is all that there is.
    """
    return "" if split == "train" else split


def names_in(folder: Path) -> list[str]:
    """The names of a folder's files, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and those below it, with their files' names, sorted.

    Hidden folders are left out, and what `prepare` wrote.
    """
    for parent, folders, names in os.walk(folder):
        if "about.json" in names:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(parent), sorted(names)


def is_complete(table: Path, columns: Columns) -> bool:
    """Whether a table has columns for image and caption."""
    return find_layout(table, columns).columns.is_complete


def images_beside(text: Path) -> list[Path]:
    """The images with a text file's name, in the same folder: there should be one."""
    names = [text.with_suffix(ending) for suffix in SUFFIXES for ending in (suffix, suffix.upper())]
    return [path for path in names if path.is_file()]


def checked_layout(table: Path, columns: Columns) -> Layout:
    """A table's layout, with columns for image and caption.

    Raises ValueError, which lists the table's columns, if there is none for either.
    """
    layout = find_layout(table, columns)
    check_column(table, layout, "image", columns.image, IMAGES)
    check_column(table, layout, "caption", columns.caption, CAPTIONS)
    if columns.group and not layout.columns.group:
        raise ValueError(f"{table} has no column {columns.group!r}, by which --group-column keeps "
                         f"rows together; it has {', '.join(map(repr, layout.names))}")
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
                     f"name the {what}'s column with --{what}-column; or if these are no names, "
                     "put a line with names above them, such as file,caption")


def table_rows(table: Path, columns: Columns) -> Iterator[dict[str, Any] | Fault]:
    """A table's rows as {"image", "caption", "split"}, or a Fault for a malformed row.

    Raises ValueError for a table that cannot be read, or that lacks a column for image or caption.
    """
    layout = checked_layout(table, columns)
    if layout.separator is None:
        yield from json_rows(table, columns)
        return
    with restate_table_errors(table), open_table(table) as file:
        if not layout.has_header:
            yield from token_rows(file)
            return
        rows = csv_rows(file, layout.separator)
        next(rows)
        for row in rows:
            if swallowed := swallowed_rows(row, layout):
                yield swallowed
                continue
            while row and not row[-1].strip():
                row.pop()
            if row:
                yield fit_row(row, layout)


def swallowed_rows(row: list[str], layout: Layout) -> Fault | None:
    """A Fault where a quotation mark that isn't closed made one field of several rows."""
    for field in row:
        lines = field.splitlines()[1:]
        if not lines:
            continue
        for cells in csv_rows(lines, layout.separator or ",", strict=False):
            place = layout.names.index(layout.columns.image)
            if len(cells) > place and cells[place].strip().lower().endswith(SUFFIXES):
                return Fault("rows within quotation marks", f"{row!r} is a row and {len(lines)} "
                             "more, between two quotation marks", "close the first one, or write "
                             'it twice: ""', count=len(lines) + 1)
    return None


def fit_row(row: list[str], layout: Layout) -> dict[str, Any] | Fault:
    """A row's image, caption and split. Of a last column, all that is left is the caption.

    -> a Fault for a row with too many fields
    """
    separator = layout.separator or ""
    rest = len(layout.names) - 1
    if len(row) > len(layout.names) and layout.names[-1] == layout.columns.caption:
        row = [*row[:rest], f"{separator} ".join(row[rest:])]    # its commas were meant so
    if len(row) > len(layout.names):
        problem = f"{row!r} has {len(row)} fields, the header {len(layout.names)}"
        return Fault("malformed", problem,
                     f"put a text with {SEPARATORS[separator]} in it between quotes")
    return pick(dict(zip(layout.names, row)), layout.columns)


def token_rows(lines: Iterable[str]) -> Iterator[dict[str, Any] | Fault]:
    """`table_rows` of one of TOKENS."""
    for line in lines:
        image, tab, caption = line.strip().partition("\t")
        name, mark, number = image.rpartition("#")
        if not line.strip():
            continue
        if tab and mark and number.isdecimal():
            yield {"image": name, "caption": caption}
        else:
            yield Fault("malformed", f"{line!r} is not such as 1.jpg#0, a tab and a caption")


def json_rows(table: Path, columns: Columns) -> Iterator[dict[str, Any] | Fault]:
    """`table_rows` of a JSON list or of JSON lines, whose entries may differ in columns."""
    for entry in entries(table):
        if isinstance(entry, dict):
            yield pick(entry, find_columns(entry, columns))
        else:
            yield Fault("malformed", f"{entry!r} is no object with image and caption")


def pick(entry: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """An entry's image, caption and split under these names, as far as it has them.

    "labelled": whether the caption is a label
    """
    picked = {field: entry[name] for field, name in columns._asdict().items() if name in entry}
    return picked | {"labelled": columns.has_labels}


def csv_rows(lines: Iterable[str], separator: str, strict: bool = True) -> Iterator[list[str]]:
    """Rows of a table. With "|" nothing is quoted: Kaggle's has single quotation marks in texts."""
    quoting: Literal[0, 3] = csv.QUOTE_NONE if separator == "|" else csv.QUOTE_MINIMAL
    return csv.reader(lines, delimiter=separator, quoting=quoting, skipinitialspace=True,
                      strict=strict)


def open_table(table: Path) -> TextIO:
    """An open table. Raises OSError."""
    return open(table, newline="", encoding=encoding_of(table))


def restate_table_errors(table: Path) -> AbstractContextManager[None]:
    """Errors of reading become a ValueError that names the table."""
    return restate(f"{table} cannot be read", "it must be a table in UTF-8: save it as that",
                   OSError, UnicodeDecodeError, csv.Error)
