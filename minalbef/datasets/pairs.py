"""Your own images and captions: in tables, in text files beside images, or as folders' names."""
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, NamedTuple

from minalbef.data import Record
from minalbef.datasets.catalogue import set_with
from minalbef.datasets.looks import content_of
from minalbef.datasets.readers import (
    MISSING,
    Fault,
    FaultHandler,
    Finder,
    Roots,
    caption_records,
    encoding_of,
    parse_entries,
    refuse,
    stable_hash,
)
from minalbef.datasets.tables import (
    ENDINGS,
    SEPARATORS,
    SPLIT_NAMES,
    TABLES,
    Columns,
    Row,
    alone,
    find_layout,
    find_tables,
    table_rows,
    walk,
)
from minalbef.system.images import SUFFIXES, ImageFile

FAULTS = ".faults.txt"                # ends the names of lists of bad entries
SPLITS = ("train", "validation", "test")
FEW = 3                               # captions of an image, or names of folders, to show


class Part(NamedTuple):
    """Rows that stand in one place, and how their images are found."""

    place: str | Path
    rows: Sequence[Row]
    find: Callable[[Any], Path]


class OwnPairs:
    """Images with captions of your own, an image in one row or in several.

    Where no split is named, a hash decides, 8 : 1 : 1: of the image's content, or of the row's
    group. A label is the match key of its records.
    description: where images and captions are read from
    used: images that rows name
    """

    def __init__(self, parts: Sequence[Part], description: str):
        self.parts = parts
        self.description = description
        self.used: set[Path] = set()

    def rows(self) -> Iterator[Row]:
        """All rows, in all splits."""
        return chain.from_iterable(part.rows for part in self.parts)

    @property
    def names_splits(self) -> bool:
        """Whether any row names its split."""
        return any(row.split for row in self.rows())

    def describe_splits(self, group: str) -> list[str]:
        """Lines to print where rows say different things of splits. group: its column's name"""
        groups: dict[str, set[str]] = {}
        for row in self.rows():
            if row.split and row.group is not None:
                groups.setdefault(str(row.group), set()).add(row.split)
        torn = sum(len(splits) > 1 for splits in groups.values())
        rows = [row for row in self.rows() if not row.fault]
        named = sum(bool(row.split) for row in rows)
        lines = []
        if torn:
            lines.append(f"doubtful: {torn:,} groups of --group-column {group} have rows that "
                         "name different splits")
        if 0 < named < len(rows):
            lines.append(f"splits: {named:,} rows name theirs and {len(rows) - named:,} don't; for "
                         "those a hash decides, so name all of them if these are training data "
                         "alone")
        return lines

    def read(self, path: Any = None, root: Roots = None, on_fault: FaultHandler = refuse,
             split: str = "train") -> Iterator[Record]:
        """The records of one split, one for each caption. path, root: known already

        A fault goes to `on_fault` when its split is read; if that isn't known, "train".
        """
        labels: dict[int, str] = {}
        for part in self.parts:
            parse = partial(self.parse, part.find, split, labels)
            yield from parse_entries(part.place, part.rows, parse, Finder(None), on_fault)

    def parse(self, find: Callable[[Any], Path], split: str, labels: dict[int, str],
              row: Row) -> Iterable[Record | Fault] | None:
        """A row's records; None if it is of another split. labels: of images, by content."""
        if row.split not in ("", split):
            return None
        if row.fault:
            return [row.fault] if row.split or split == "train" else None
        try:
            image = find(row.image)
            self.used.add(image)
            photo = content_of(ImageFile(image))
        except Fault:
            if row.split or split == "train":
                raise
            return None                                      # it is told when "train" is read
        group = photo if row.group is None else stable_hash(str(row.group))
        if (row.split or split_of(group)) != split:
            return None
        records = caption_records(image, row.caption or [], photo)
        return [label(record, labels) for record in records] if row.labelled else records


def label(record: Record, labels: dict[int, str]) -> Record | Fault:
    """The record with its label as match key. labels: of images, by content

    -> a Fault for an image of two labels: one key can't say that both are right
    """
    known = labels.setdefault(record.id, record.text)
    if known != record.text:
        return Fault("two labels", f"an image of {quote(record.text)} is the same as one of "
                     f"{quote(known)}", "leave it with one; or call their column caption, and "
                     "each is right for its own images alone")
    return replace(record, match=stable_hash(f"label {record.text}"))


def split_of(photo: int) -> str:
    """The split of an image by its id: 8 in 10 train, 1 in 10 validation, 1 in 10 test."""
    return SPLITS[max(0, photo % 10 - 7)]


class FinderBelow(Finder):
    """Finds an image in any subfolder, too, if only one file there fits the table's path."""

    def __init__(self, folders: Sequence[Path]):
        super().__init__(folders)
        self.below = folders
        self.keeps_all = True                                # a table of yours fits into memory
        self.by_name: dict[str, list[Path]] = {}             # of all files, once it is needed

    def search(self, image: str) -> Path:
        """The path of an image. Raises Fault if there is none, or if several would do."""
        try:
            return super().search(image)
        except Fault as fault:
            if fault.kind != MISSING:
                raise
            if not self.by_name:
                for parent, names in chain.from_iterable(map(walk, self.below)):
                    for name in names:
                        self.by_name.setdefault(name, []).append(parent / name)
            wanted = PurePosixPath(image.replace("\\", "/"))
            fitting = [path for path in dict.fromkeys(self.by_name.get(wanted.name, []))
                       if path.as_posix().endswith(f"/{wanted}")]
            if not fitting:
                raise
        self.check_single(fitting, image)
        return fitting[0]


def open_folder(folder: Path, roots: Sequence[Path], columns: Columns = Columns()) -> OwnPairs:
    """A folder's images with captions.

    First are looked for: a table in the folder, text files beside images, tables in subfolders, and
    subfolders whose names are captions.
    roots: folders of the images; columns: of tables, if their names aren't known ones
    Raises ValueError if there is nothing, and if one of several tables would do.
    """
    tables = find_tables(folder, False, columns)
    files = [parent / name for parent, names in walk(folder) for name in names]
    # --out may be below the folder, and what `prepare` wrote there is no caption
    texts = [path for path in files if path.suffix == ".txt" and not path.name.endswith(FAULTS)]
    texts += [path for path in folder.rglob("*.txt") if path.is_dir()]       # a fault to be counted
    if not tables and not any(map(images_beside, texts)):
        tables = find_tables(folder, True, columns)
        if not tables:                           # an error will list its columns
            tables = [(path, "") for path in files
                      if path.parent == folder and path.suffix in ENDINGS][:1]
        if not tables:
            return open_labels(folder, files, texts)
    if not tables:
        return open_texts(folder, texts, roots)
    parts = []
    for path, split in tables:
        rows = list(table_rows(path, columns, split))
        find = FinderBelow(list(dict.fromkeys([path.parent, *roots])))
        if not split and not find_layout(path, columns).columns.split:
            rows = split_by_folders(rows)
        parts.append(Part(path, rows, find))
    description = "; and ".join(describe_table(folder, *table, columns) for table in tables)
    return OwnPairs(parts, description)


def open_texts(folder: Path, texts: Sequence[Path], roots: Sequence[Path]) -> OwnPairs:
    """Images whose captions are the lines of text files of their names."""
    splits = folder_splits(text.relative_to(folder) for text in texts)
    rows = []
    for text in texts:
        row = text_row(folder, text)._replace(split=splits.get(text.relative_to(folder), ""))
        if splits and not row.split and not row.fault:
            row = Row(fault=Fault("no split", f"{text} is in no folder train, validation or test, "
                                  "as others are", "move it into one"))
        rows.append(row)
    return OwnPairs([Part(folder, rows, Finder(roots))],
                    "text files beside the images: each line is a caption")


def open_labels(folder: Path, files: Iterable[Path], texts: Sequence[Path]) -> OwnPairs:
    """Images whose folders' names are their captions. Raises ValueError for anything else."""
    for path in files:
        if name := set_with(path.name):
            raise ValueError(f"{folder} has no captions of your own, and {path.name} may be of the "
                             f"public set {name}: minalbef prepare {name} --from {folder} reads "
                             "it. If it isn't, move it elsewhere")
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    random.Random(0).shuffle(images)             # the first few show several labels
    rows = [label_row(folder, image) for image in images]
    labels = sorted({row.caption for row in rows if not row.fault})
    if len(labels) > 1:
        return OwnPairs([Part(folder, rows, Finder(None))],
                        f"the names of the images' {len(labels):,} folders, {shown(labels)}")
    if texts:
        return open_texts(folder, texts, [folder])
    raise ValueError(f"{folder} has no {' or '.join(TABLES)}, no single other table, and no text "
                     "file beside an image, and no folders whose names could be captions; write a "
                     "table such as captions.csv, with the columns file and caption; tars are "
                     "read by minalbef prepare shards")


def split_by_folders(rows: list[Row]) -> list[Row]:
    """Rows with the splits of their images' folders, such as test/1.jpg, if all have one."""
    images = {row.image: PurePosixPath(row.image.replace("\\", "/"))
              for row in rows if isinstance(row.image, str)}
    splits = folder_splits(images.values())
    if len(splits) < len(set(images.values())):
        return rows                              # some lie elsewhere: no names of splits
    return [row._replace(split=splits[images[row.image]]) if row.image in images else row
            for row in rows]


def folder_splits(files: Iterable[PurePath]) -> dict[PurePath, str]:
    """The splits of files by a folder's name, such as data/test/1.txt; {} if they name none.

    A single name beside other folders may be an ordinary word: train, beside car and bus.
    """
    splits = {file: first_split(file.parts[:-1]) for file in files}
    named = {file: split for file, split in splits.items() if split}
    names = set(named.values())
    if len(names) > 1 or len(named) == len(splits) and any(map(alone, names)):
        return named
    return {}


def first_split(folders: Iterable[str]) -> str:
    """The split that the first of these folders' names means; "" if none does."""
    return next((SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES), "")


def images_beside(text: Path) -> list[Path]:
    """The images with a text file's name, in the same folder: there should be one."""
    names = [text.with_suffix(ending) for suffix in SUFFIXES for ending in (suffix, suffix.upper())]
    return [path for path in names if path.is_file()]


def text_row(folder: Path, text: Path) -> Row:
    """The row of a text file, whose lines are the captions of the image of this name."""
    images = images_beside(text)
    if len(images) > 1:
        return Row(fault=Fault("ambiguous image", f"{text} may be of {images[0].name} or "
                               f"{images[1].name}", "give them different names"))
    try:
        lines = text.read_text(encoding=encoding_of(text)).splitlines()
    except OSError as error:
        return Row(fault=Fault("unreadable text", f"{text} cannot be read: "
                               f"{error.strerror or error}", "check its permissions"))
    except UnicodeError as error:
        return Row(fault=Fault("unreadable text", f"{text} isn't in UTF-8: {error}",
                               "save it in UTF-8"))
    if any("\0" in line for line in lines):
        return Row(fault=Fault("unreadable text", f"{text} isn't in UTF-8: it has NUL characters, "
                               "as UTF-16 has", "save it in UTF-8"))
    image = images[0] if images else str(text.relative_to(folder).with_suffix(".jpg"))
    return Row(image, [line for line in lines if line.strip()])


def label_row(folder: Path, image: Path) -> Row:
    """The row of an image whose folder's name is its caption: golden_retriever/1.jpg.

    The folders train, val and test below `folder` are none.
    """
    folders = image.relative_to(folder).parts[:-1]
    if not folders or len(folders) == 1 and first_split(folders):
        return Row(fault=Fault("no label", f"{image} is in no folder whose name is a caption",
                               "move it into one"))
    caption = re.sub("[_-]+", " ", folders[-1]).strip()
    return Row(image, caption, first_split(folders[:-1]), labelled=True)


def describe_table(folder: Path, table: Path, split: str, columns: Columns) -> str:
    """Which table is read, and how."""
    layout = find_layout(table, columns)
    description = table.relative_to(folder).as_posix()
    if split:
        description += f" ({split})"
    if layout.separator:
        description += f", separated by {SEPARATORS[layout.separator]}"
    if not layout.has_header:
        return f"{description}, without a header"
    description += (f": images from {layout.columns.image!r}, "
                    f"captions from {layout.columns.caption!r}")
    if layout.columns.split:
        description += f", splits from {layout.columns.split!r}"
    return description


def shown(texts: Sequence[str]) -> str:
    """The first few of several texts, in quotation marks."""
    more = f" and {len(texts) - FEW:,} more" if len(texts) > FEW else ""
    return ", ".join(map(quote, texts[:FEW])) + more


def quote(text: str, length: int = 80) -> str:
    """A text in quotation marks, shortened, and without escape sequences that a terminal obeys."""
    return repr(text if len(text) <= length else f"{text[:length]}...")
