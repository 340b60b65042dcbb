"""Tables of images and captions as people have them: which file, separator and columns."""
import csv
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


class Columns(NamedTuple):
    """Names of columns, as a table has them; "" for a column that has no name or is absent."""

    image: str = ""
    caption: str = ""
    split: str = ""
    group: str = ""                   # rows that must stay in one split


class Row(NamedTuple):
    """A row of your own captions, whatever they stand in."""

    image: Any = None
    caption: Any = None               # one or several
    split: str = ""                   # "": a hash decides
    group: Any = None                 # rows of one group stay in one split
    labelled: bool = False            # whether the caption is a label, right for all that have it
    fault: Fault | None = None        # why it can't be read


class Layout(NamedTuple):
    """How to read a table: its separator, "" for JSON; all its columns, and those to use."""

    separator: str
    names: list[str]
    columns: Columns
    has_header: bool = True

    @property
    def is_complete(self) -> bool:
        """Whether both image and caption have a column."""
        return bool(self.columns.image and self.columns.caption)


def find_columns(names: Iterable[Any], columns: Columns) -> Columns:
    """Which of a table's columns hold image, caption, split and group, "" for those of none.

    columns: names from the user, which come before the known ones
    """
    present = {name.strip().lower(): name for name in names if isinstance(name, str)}

    def first(name: str, candidates: Iterable[str]) -> str:
        for candidate in [name] if name else candidates:
            if candidate.lower() in present:
                return present[candidate.lower()]
        return ""
    return Columns(first(columns.image, IMAGES), first(columns.caption, CAPTIONS),
                   first("split", ()), first(columns.group, ()))


def check_columns(where: str | Path, names: Iterable[str], columns: Columns,
                  wanted: Columns) -> None:
    """Raises ValueError, which lists a table's columns, for no image, caption or group.

    columns: of the table; wanted: by the user
    """
    for what, candidates in (("image", IMAGES), ("caption", CAPTIONS), ("group", ())):
        name = getattr(wanted, what)
        if getattr(columns, what) or not (name or candidates):
            continue
        present = ", ".join(map(repr, names)) or "(none)"
        lacking = f"no column {name!r}" if name else f"none called {', '.join(candidates)}"
        raise ValueError(f"{where} has the columns {present} and {lacking}; name the {what}'s "
                         f"column with --{what}-column; or if these are no names, put a line with "
                         "names above them, such as file,caption")


def find_layout(table: Path, columns: Columns) -> Layout:
    """A table's layout, by its first line or entries; a column is "" if none is known.

    Raises ValueError for a file that cannot be read.
    """
    if table.name in TOKENS:
        return Layout("\t", ["image", "caption"], Columns("image", "caption"), has_header=False)
    layouts = []
    if table.suffix in (".json", ".jsonl"):
        for entry in islice(entries(table), FIRST):
            if isinstance(entry, dict):
                layouts.append(Layout("", list(entry), find_columns(entry, columns)))
    else:
        with open_table(table) as file:
            header = file.readline()
            for separator in SEPARATORS:
                cells = next(csv_rows([header], separator, strict=False), [])
                names = [name.strip() for name in cells]
                layouts.append(Layout(separator, names, find_columns(names, columns)))
    return max(layouts, key=lambda layout: (layout.is_complete, len(layout.names)),
               default=Layout("", [], Columns()))


@contextmanager
def open_table(table: Path) -> Iterator[TextIO]:
    """An open table. Raises ValueError that names it for errors of reading."""
    with restate(f"{table} cannot be read", "it must be a table in UTF-8: save it as that",
                 OSError, UnicodeDecodeError, csv.Error), \
            open(table, newline="", encoding=encoding_of(table)) as file:
        yield file


def find_tables(folder: Path, below: bool, columns: Columns) -> list[tuple[Path, str]]:
    """The table of images and captions in a folder, or one for each split, with its split.

    A folder's is the first of TABLES, or else the only other one with the columns needed. Several
    tables are one for each split if names say so: train.csv and val.csv, or test/metadata.csv.
    below: look into all subfolders, too
    Raises ValueError if several would do.
    """
    tables: list[Path] = []
    for parent, names in walk(folder) if below else islice(walk(folder), 1):
        tables += tables_among([parent / name for name in names], columns)
    splits = [split_in(path.relative_to(folder)) for path in tables]
    if len(tables) == 1:
        splits = [alone(splits[0])]
    elif "" in splits or len(set(splits)) < len(splits):
        listing = ", ".join(str(path.relative_to(folder)) for path in tables)
        raise ValueError(f"{folder} has several tables of images and captions: {listing}; call the "
                         "one that you mean captions.csv, .tsv or .jsonl, or name its folder with "
                         "--from")
    return list(zip(tables, splits))


def tables_among(paths: list[Path], columns: Columns) -> list[Path]:
    """The first of TABLES among a folder's files, or else all others with the columns needed."""
    for name in TABLES:
        for path in paths:
            # a text file of this name may just as well hold the captions of captions.jpg
            if path.name == name and (name != "captions.txt"
                                      or find_layout(path, columns).is_complete):
                return [path]
    return [path for path in paths
            if path.suffix in ENDINGS and find_layout(path, columns).is_complete]


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


def known_split(name: str, where: str) -> str:
    """The split that a name means: val is validation. Raises ValueError for an unknown name."""
    split = SPLIT_NAMES.get(name.strip().lower())
    if split is None:
        raise ValueError(f"{where} has split {name!r}, which is none of {', '.join(SPLIT_NAMES)}; "
                         "mend it or leave it empty")
    return split


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


def table_rows(table: Path, columns: Columns, split: str = "") -> Iterator[Row]:
    """A table's rows. split: of all of them, if its name says so

    Raises ValueError for a table that cannot be read, or that lacks a column that is needed, and
    for an unknown split: its rows would all be lost.
    """
    layout = find_layout(table, columns)
    check_columns(table, layout.names, layout.columns, columns)
    values = csv_values(table, layout) if layout.separator else entries(table)
    for number, entry in enumerate(values):
        if isinstance(entry, Fault):
            yield Row(split=split, fault=entry)
        elif not isinstance(entry, dict):
            fault = Fault("malformed", f"{entry!r} is no object with image and caption")
            yield Row(split=split, fault=fault)
        else:
            names = layout.columns if layout.separator else find_columns(entry, columns)
            image, caption, name, group = (entry.get(key) if key else None for key in names)
            if name:
                name = known_split(str(name), f"{table}: row {number}")
            if isinstance(image, str):
                image = image.strip()
            labelled = names.caption.strip().lower() in LABELS
            yield Row(image, caption, name or split, group, labelled)


def csv_values(table: Path, layout: Layout) -> Iterator[dict[str, str] | Fault]:
    """The rows of a separated table, by column's name."""
    with open_table(table) as file:
        rows = csv_rows(file, layout.separator, quoted=layout.has_header)
        if layout.has_header:
            next(rows)
        for row in rows:
            while row and not row[-1].strip():
                row.pop()
            if row:
                yield swallowed_rows(row, layout) or fit_row(row, layout)


def swallowed_rows(row: list[str], layout: Layout) -> Fault | None:
    """A Fault where a quotation mark that isn't closed made one field of several rows."""
    place = layout.names.index(layout.columns.image)
    for field in row:
        lines = field.splitlines()[1:]
        for cells in csv_rows(lines, layout.separator, strict=False):
            if len(cells) > place and cells[place].strip().lower().endswith(SUFFIXES):
                return Fault("rows within quotation marks", f"{row!r} is a row and {len(lines)} "
                             "more, between two quotation marks", "close the first one, or write "
                             'it twice: ""', count=len(lines) + 1)
    return None


def fit_row(row: list[str], layout: Layout) -> dict[str, str] | Fault:
    """A row's values by name. Of a last column, all that is left is the caption.

    -> a Fault for a row with too many fields
    """
    rest = len(layout.names) - 1
    if len(row) > len(layout.names) and layout.names[-1] == layout.columns.caption:
        row = [*row[:rest], f"{layout.separator} ".join(row[rest:])]  # its commas were meant so
    if len(row) > len(layout.names):
        problem = f"{row!r} has {len(row)} fields, the header {len(layout.names)}"
        return Fault("malformed", problem,
                     f"put a text with {SEPARATORS[layout.separator]} in it between quotes")
    values = dict(zip(layout.names, row))
    if not layout.has_header:
        values["image"] = re.sub(r"#\d+$", "", values["image"])      # of a caption's number
    return values


def csv_rows(lines: Iterable[str], separator: str, strict: bool = True,
             quoted: bool = True) -> Iterator[list[str]]:
    """Rows of a table. With "|" nothing is quoted: Kaggle's has single quotation marks in texts."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
    if separator == "|" or not quoted:
        quoting = csv.QUOTE_NONE
    return csv.reader(lines, delimiter=separator, quoting=quoting, skipinitialspace=True,
                      strict=strict)
