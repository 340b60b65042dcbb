"""Your own images and captions: in tables, in text files beside images, or as folders' names."""
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path, PurePath, PurePosixPath
from statistics import median
from typing import Any, NamedTuple

from minalbef.data import Record
from minalbef.datasets.catalogue import set_with
from minalbef.datasets.looks import look_of
from minalbef.datasets.readers import (
    MISSING,
    Fault,
    FaultHandler,
    Finder,
    Roots,
    caption_records,
    encoding_of,
    field,
    parse_entries,
    refuse,
    stable_hash,
)
from minalbef.datasets.tables import (
    SEPARATORS,
    SPLIT_NAMES,
    TABLES,
    Columns,
    Table,
    alone,
    checked_layout,
    find_layout,
    find_tables,
    images_beside,
    table_rows,
    unknown_table,
    walk,
)
from minalbef.system.images import SUFFIXES, ImageFile

FAULTS = ".faults.txt"                # ends the names of lists of bad entries
SPLITS = ("train", "validation", "test")
SAMPLES = 3                           # images to show, with their captions
FEW = 3                               # captions of an image, or names of folders, to show
# an account doubts so many captions per image, or an image with so many times the median
MANY = 10
TIMES_MEDIAN = 5
KEYED = re.compile(r"\s*[\w.-]+=")    # a line of a settings file rather than a caption


class CaptionSource(NamedTuple):
    """Where a folder's captions are: in tables, or else in text files, or else in folders' names.

    labelled: images whose folder's name is the caption
    """

    tables: list[Table] = []
    texts: list[Path] = []
    labelled: list[Path] = []


class FinderBelow(Finder):
    """Finds an image in any subfolder, too, if only one file there fits the table's path."""

    def __init__(self, roots: Roots):
        super().__init__(roots)
        self.by_name: dict[str, list[Path]] | None = None    # of all files, once it is needed
        self.exact = set()                                   # a table of yours fits into memory

    def __call__(self, image: str) -> Path:
        """The path of an image. Raises Fault if there is none, or if several would do."""
        try:
            return super().__call__(image)
        except Fault as fault:
            if fault.kind != MISSING:
                raise
            if self.by_name is None:
                self.by_name = files_by_name(self.roots or [])
            wanted = PurePosixPath(image.replace("\\", "/"))
            fitting = [path for path in self.by_name.get(wanted.name, [])
                       if path.as_posix().endswith(f"/{wanted}")]
            if not fitting:
                raise
        if len(fitting) > 1:
            raise Fault("ambiguous image", f"image {image!r} may be {fitting[0]} or {fitting[1]}",
                        "write its folder into the table")
        return fitting[0]


def files_by_name(roots: Iterable[str | Path]) -> dict[str, list[Path]]:
    """All files below folders, by their names."""
    files: dict[str, list[Path]] = {}
    for root in roots:
        for parent, names in walk(Path(os.path.abspath(root))):
            for name in names:
                if parent / name not in files.setdefault(name, []):
                    files[name].append(parent / name)
    return files


def read_pairs(path: Path, root: Roots = None, on_fault: FaultHandler = refuse,
               split: str = "train", columns: Columns = Columns()) -> Iterator[Record]:
    """A folder's images with captions, those of one split -> a record for each caption.

    Captions are in a table (see tables.py) with columns for image, caption and perhaps split, where
    an image may have several rows; or in 1.txt beside 1.jpg, one per line; or an image's folder has
    its caption as name. That is a label, and so is what stands in a column of LABELS: the records'
    match key. If no split is named, a hash decides, 8 : 1 : 1: of the image's content, or of the
    row's group.
    columns: their names in the table, if they aren't known ones
    A fault goes to `on_fault` when its split is read; if that isn't known, "train".
    Raises ValueError if there are no captions, and for an unknown split.
    """
    path = Path(path)
    roots = [root or path] if isinstance(root, (str, Path, type(None))) else list(root)
    labels = Labels()

    def parse(find: Finder, row: Any) -> Iterable[Record | Fault]:
        named = row.split if isinstance(row, Fault) else row.get("split")
        if (named or split) != split:
            return []
        try:
            if isinstance(row, Fault):
                raise row
            image = find(field(row, "image").strip())
            captions = field(row, "caption", (str, list))
            photo = content_of(image)
        except Fault as fault:
            if not named and split != "train":
                return []                                    # it is told when "train" is read
            raise fault
        group = row.get("group")
        if (named or split_of(photo if group is None else stable_hash(str(group)))) != split:
            return []
        if isinstance(captions, str):
            captions = [captions]
        if row.get("labelled"):
            return labels.records(image, captions, photo)
        return caption_records(image, captions, photo)

    source = find_source(path, columns)
    if not source.tables:
        found = rows(path, source, columns)
        yield from parse_entries(path, found, partial(parse, Finder(roots)), on_fault)
    for table in source.tables:
        find = FinderBelow(list(dict.fromkeys([table.path.parent, *map(Path, roots)])))
        yield from parse_entries(table.path, rows(path, CaptionSource([table]), columns),
                                 partial(parse, find), on_fault)


class Labels:
    """The labels of a split's images, of which an image has one."""

    def __init__(self) -> None:
        self.by_photo: dict[int, str] = {}

    def records(self, image: Path, labels: Iterable[Any], photo: int
                ) -> Iterator[Record | Fault]:
        """An image's record, whose match key is its label. photo: the image's hash

        Raises Fault for an image of two labels: one key can't say that both are right.
        """
        for record in caption_records(image, labels, photo):
            if isinstance(record, Record):
                known = self.by_photo.setdefault(photo, record.text)
                if known != record.text:
                    raise Fault("two labels", f"an image of {quote(record.text)} is the same as "
                                f"one of {quote(known)}", "leave it with one; or call their "
                                "column caption, and each is right for its own images alone")
                record = replace(record, match=stable_hash(f"label {record.text}"))
            yield record


class Names(NamedTuple):
    """What a folder's rows say of their splits."""

    named: int                        # rows that name theirs
    unnamed: int                      # rows of which a hash decides
    torn: int                         # groups of which rows name several splits


def names_splits(path: Path, columns: Columns = Columns()) -> Names:
    """How many rows of a folder name their split, and how many don't."""
    named = unnamed = 0
    groups: dict[str, set[str]] = {}
    for row in rows(path, find_source(path, columns), columns):
        if not isinstance(row, dict):
            continue
        split = row.get("split") or ""
        named += bool(split)
        unnamed += not split
        if split and row.get("group") is not None:
            groups.setdefault(str(row["group"]), set()).add(split)
    return Names(named, unnamed, sum(len(splits) > 1 for splits in groups.values()))


def split_of(photo: int) -> str:
    """The split of an image by its id: 8 in 10 train, 1 in 10 validation, 1 in 10 test."""
    return SPLITS[max(0, photo % 10 - 7)]


def content_of(image: Path) -> int:
    """A hash of a file's bytes, so that copies of an image share it. Raises Fault."""
    try:
        return look_of(ImageFile(image)).hash
    except OSError as error:
        problem = f"{image} cannot be read: {error.strerror or error}"
        raise Fault("unreadable image", problem, "check its permissions or leave it out",
                    image=image) from error


def find_source(folder: Path, columns: Columns = Columns()) -> CaptionSource:
    """Where a folder's captions are.

    First are looked for: a table in the folder, text files beside images, tables in subfolders, and
    subfolders whose names are captions.
    Raises ValueError if there is nothing, and if one of several tables would do.
    """
    tables = find_tables(folder, False, columns)
    if tables:
        return CaptionSource(tables)
    files = [parent / name for parent, names in walk(folder) for name in names]
    # --out may be below the folder, and what `prepare` wrote there is no caption
    texts = [path for path in files if path.suffix == ".txt" and not path.name.endswith(FAULTS)]
    texts += [path for path in folder.rglob("*.txt") if path.is_dir()]       # a fault to be counted
    if any(map(images_beside, texts)):
        return CaptionSource(texts=texts)
    tables = find_tables(folder, True, columns)
    unknown = unknown_table(folder)
    if unknown and not tables:
        tables = [Table(unknown)]
    if tables:
        return CaptionSource(tables)
    for path in files:
        if set_with(path.name):
            raise ValueError(f"{folder} has no captions of your own, and {path.name} may be of the "
                             f"public set {set_with(path.name)}: minalbef prepare "
                             f"{set_with(path.name)} --from {folder} reads it. If it isn't, move "
                             "it elsewhere")
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    if len({folder_label(path, folder) for path in images} - {""}) > 1:
        random.Random(0).shuffle(images)                     # the first few show several labels
        return CaptionSource(labelled=images)
    if texts:
        return CaptionSource(texts=texts)
    raise ValueError(f"{folder} has no {' or '.join(TABLES)}, no single other table, and no text "
                     "file beside an image, and no folders whose names could be captions; write a "
                     "table such as captions.csv, with the columns file and caption; tars are "
                     "read by minalbef prepare shards")


def folder_label(image: Path, folder: Path) -> str:
    """The name of an image's folder as a caption: golden_retriever is "golden retriever".

    "" for an image in `folder` itself, or in its train, val or test.
    """
    names = image.relative_to(folder).parts[:-1]
    if not names or len(names) == 1 and names[0].lower() in SPLIT_NAMES:
        return ""
    return re.sub("[_-]+", " ", names[-1]).strip()


def rows(folder: Path, source: CaptionSource,
         columns: Columns = Columns()) -> Iterator[dict[str, Any] | Fault]:
    """The rows of a folder's captions: image, caption and perhaps split; or a Fault.

    Raises ValueError for an unknown split: its rows would all be lost.
    """
    for path, table_split in source.tables:
        splits = {} if table_split else splits_of_images(path, columns)
        for number, row in enumerate(table_rows(path, columns)):
            if isinstance(row, Fault):
                row.split = table_split
            elif row.get("split") or table_split:
                name = str(row.get("split") or table_split)
                row["split"] = known_split(name, f"{path}: row {number}")
            elif splits:
                row["split"] = splits.get(row.get("image"), "")
            yield row
    texts = {text: text.relative_to(folder) for text in source.texts}
    splits = folder_splits(texts.values())
    for text, place in texts.items():
        row = text_row(folder, text)
        split = splits.get(place, "")
        if isinstance(row, Fault):
            row.split = split
        elif split or not splits:
            row["split"] = split
        else:
            row = Fault("no split", f"{text} is in no folder train, validation or test, as others "
                        "are", "move it into one")
        yield row
    for image in source.labelled:
        yield label_row(folder, image)


def splits_of_images(table: Path, columns: Columns) -> dict[Any, str]:
    """The splits of a table's images by their folders, such as test/1.jpg; {} if they name none."""
    if find_layout(table, columns).columns.split:
        return {}
    images = {row["image"]: PurePosixPath(row["image"].replace("\\", "/"))
              for row in table_rows(table, columns)
              if isinstance(row, dict) and isinstance(row.get("image"), str)}
    splits = folder_splits(images.values())
    if len(splits) < len(set(images.values())):
        return {}                                # some lie elsewhere: no names of splits
    return {image: splits[path] for image, path in images.items()}


def folder_splits(files: Iterable[PurePath]) -> dict[PurePath, str]:
    """The splits of files by a folder's name, such as data/test/1.txt; {} if they name none.

    A single name beside other folders may be an ordinary word: train, beside car and bus.
    """
    files = list(files)
    splits: dict[PurePath, str] = {}
    for file in files:
        named = [SPLIT_NAMES[part.lower()] for part in file.parts[:-1]
                 if part.lower() in SPLIT_NAMES]
        if named:
            splits[file] = named[0]
    names = set(splits.values())
    if len(names) > 1:
        return splits
    if names and len(splits) == len(files) and alone(*names):
        return splits
    return {}


def known_split(name: str, where: str) -> str:
    """The split that a name means: val is validation. Raises ValueError for an unknown name."""
    split = SPLIT_NAMES.get(name.strip().lower())
    if split is None:
        raise ValueError(f"{where} has split {name!r}, which is none of {', '.join(SPLIT_NAMES)}; "
                         "mend it or leave it empty")
    return split


def text_row(folder: Path, text: Path) -> dict[str, Any] | Fault:
    """The row of a text file, whose lines are the captions of the image of this name."""
    images = images_beside(text)
    if len(images) > 1:
        return Fault("ambiguous image", f"{text} may be of {images[0].name} or {images[1].name}",
                     "give them different names")
    image = images[0] if images else text.with_suffix(".jpg")
    try:
        lines = text.read_text(encoding=encoding_of(text)).splitlines()
    except OSError as error:
        return Fault("unreadable text", f"{text} cannot be read: {error.strerror or error}",
                     "check its permissions or leave it out", image=image)
    except UnicodeError as error:
        return Fault("unreadable text", f"{text} isn't in UTF-8: {error}", "save it in UTF-8",
                     image=image)
    if any("\0" in line for line in lines):
        return Fault("unreadable text", f"{text} isn't in UTF-8: it has NUL characters, as UTF-16 "
                     "has", "save it in UTF-8", image=image)
    captions = [line for line in lines if line.strip()]
    return {"image": str(image.relative_to(folder)), "caption": captions}


def label_row(folder: Path, image: Path) -> dict[str, Any] | Fault:
    """The row of an image whose folder's name is its caption."""
    label = folder_label(image, folder)
    if not label:
        return Fault("no label", f"{image} is in no folder whose name is a caption",
                     "move it into one")
    path = image.relative_to(folder)
    named = [SPLIT_NAMES[part.lower()] for part in path.parts[:-2] if part.lower() in SPLIT_NAMES]
    split = named[0] if named else ""
    return {"image": str(path), "caption": label, "split": split, "labelled": True}


def describe_source(folder: Path, columns: Columns) -> str:
    """Where captions are read from, to print.

    Raises ValueError for a table in which image or caption has no known column.
    """
    source = find_source(folder, columns)
    if source.texts:
        return "text files beside the images: each line is a caption"
    if source.labelled:
        labels = sorted({folder_label(path, folder) for path in source.labelled} - {""})
        return f"the names of the images' {len(labels):,} folders, {shown(labels)}"
    return "; and ".join(describe_table(folder, table, columns) for table in source.tables)


def describe_table(folder: Path, table: Table, columns: Columns) -> str:
    """Which table is read, and how. Raises ValueError, see `describe_source`."""
    layout = checked_layout(table.path, columns)
    description = table.path.relative_to(folder).as_posix()
    if table.split:
        description += f" ({table.split})"
    if layout.separator:
        description += f", separated by {SEPARATORS[layout.separator]}"
    if not layout.has_header:
        return f"{description}, without a header"
    description += (f": images from {layout.columns.image!r}, "
                    f"captions from {layout.columns.caption!r}")
    if layout.columns.split:
        description += f", splits from {layout.columns.split!r}"
    return description


def describe_samples(records: Iterable[Any], root: Path) -> list[str]:
    """The first images with their captions, to show before all are read: a line each.

    root: the folder that images' paths are relative to. Records of questions and the like: none.
    """
    lines = []
    image: Any
    for image, group in groupby(records, key=lambda record: getattr(record, "image", None)):
        captions = [record.text for record in group if isinstance(record, Record)]
        if captions:
            name = os.path.relpath(image, root) if isinstance(image, Path) else str(image.name)
            lines.append(f"  {quote(name.replace(os.sep, '/'))}: {shown(captions)}")
        if len(lines) == SAMPLES:
            break
    return lines


def shown(texts: Sequence[str]) -> str:
    """The first few of several texts, in quotation marks."""
    more = f" and {len(texts) - FEW:,} more" if len(texts) > FEW else ""
    return ", ".join(map(quote, texts[:FEW])) + more


class Captions:
    """How many captions an image has, and what is doubtful about them."""

    def __init__(self) -> None:
        self.total = 0
        self.keyed = 0
        self.first_keyed = ""
        self.counts: Counter[int] = Counter()                # by image
        self.images: dict[int, int] = {}                     # the first of each caption
        self.shared: set[int] = set()                        # captions of several images

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass the records on, and count their captions."""
        for record in records:
            self.add(record)
            yield record

    def add(self, record: Record) -> None:
        """Count a record's caption."""
        self.total += 1
        self.counts[record.id] += 1
        if record.match is None:
            text = stable_hash(record.text)
            if self.images.setdefault(text, record.id) != record.id:
                self.shared.add(text)
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
        if self.keyed:
            lines.append(f"doubtful: {self.keyed:,} captions look like key=value, such as "
                         f"{quote(self.first_keyed)}: are these captions?")
        if len(self.shared) > len(self.images) / 2:
            lines.append(f"doubtful: {len(self.shared):,} of {len(self.images):,} captions are of "
                         "several images, and recall counts one image of each as right: if they "
                         "are labels, call their column label")
        if usual > MANY or most > MANY and most > TIMES_MEDIAN * usual:
            lines.append("doubtful: so many captions per image, or such different numbers of "
                         "them, are rarely meant: does every line describe its image?")
        return lines


def quote(text: str, length: int = 80) -> str:
    """A text in quotation marks, shortened, and without escape sequences that a terminal obeys."""
    return repr(text if len(text) <= length else f"{text[:length]}...")
