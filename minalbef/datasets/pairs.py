"""Your own images and captions, whatever they stand in -> rows -> records, checked and split."""
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from minalbef.data import Record
from minalbef.datasets.catalogue import set_with
from minalbef.datasets.forms import (
    LATIN,
    SPLIT_NAMES,
    Columns,
    Fault,
    Form,
    Row,
    check_layout,
    read_form,
    read_text,
    rows,
)
from minalbef.datasets.looks import content_of
from minalbef.datasets.readers import (
    MISSING,
    FaultHandler,
    Finder,
    Roots,
    parse_entries,
    refuse,
    stable_hash,
)
from minalbef.system.images import SUFFIXES, ImageFile

FAULTS = ".faults.txt"                # ends the names of lists of bad entries
SPLITS = ("train", "validation", "test")
FEW = 3                               # captions of an image, or names of folders, to show
# tables by name, the first of which is taken where there are several: ours, Hugging Face's,
# Kaggle's of Flickr30k and of Flickr8k, and the lists that come with their images
TABLES = ("captions.csv", "captions.tsv", "captions.jsonl", "captions.json", "metadata.csv",
          "metadata.jsonl", "results.csv", "captions.txt", "results_20130124.token",
          "Flickr8k.token.txt")
ENDINGS = (".csv", ".tsv", ".jsonl")  # of what is a table for certain, if it lies in the folder
OTHERS = (".json", ".txt", ".token")  # and of what may be one
BESIDE = (".txt", ".caption", ".json")           # of captions beside an image, the first that is
NAMES, FOLDERS = "names", "folders"   # of images, whose words are captions


class Part(NamedTuple):
    """Rows that stand in one place, and how their images are found."""

    place: str | Path
    rows: Sequence[Row]
    find: Callable[[Any], Path]


class OwnPairs:
    """Images with captions of your own, an image in one row or in several.

    Where no split is named, a hash decides, 8 : 1 : 1: of the image's content, or of the row's
    group. A label is the match key of its records.
    description: where images and captions are read from; notes: lines to print about that
    used: images that rows name; names_splits: whether any row names its split
    """

    def __init__(self, parts: Sequence[Part], description: str, notes: Sequence[str] = ()):
        self.parts = parts
        self.description = description
        self.notes = notes
        self.used: set[Path] = set()
        self.names_splits = any(row.split for row in self.rows())

    def rows(self) -> Iterator[Row]:
        """All rows, in all splits."""
        return chain.from_iterable(part.rows for part in self.parts)

    def describe_splits(self, group: str) -> list[str]:
        """Lines to print where rows say different things of splits. group: its column's name"""
        good = [row for row in self.rows() if not row.fault]
        named = [row for row in good if row.split]
        pairs = {(str(row.group), row.split) for row in named if row.group is not None}
        torn = len(pairs) - len({name for name, _ in pairs})
        lines = []
        if torn:
            lines.append(f"doubtful: {torn:,} groups of --group-column {group} have rows that "
                         "name different splits")
        if 0 < len(named) < len(good):
            lines.append(f"splits: {len(named):,} rows name theirs, and for the other "
                         f"{len(good) - len(named):,} a hash decides: name all of them if these "
                         "are training data alone")
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
              row: Row) -> list[Record | Fault] | None:
        """A row's records; None if it is of another split. labels: of images, by content."""
        if (row.split or split) != split:
            return None
        try:
            if row.fault:
                raise row.fault
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
        records = [Record(image, text, photo) for text in row.captions]
        return [label(record, labels) if row.labelled else record for record in records]


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
    """Finds an image in any subfolder, too, if only one file there fits the table's path.

    A name may lack its ending: 1000268201 is 1000268201.jpg.
    """

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
                for path in chain.from_iterable(map(files_below, self.below)):
                    self.by_name.setdefault(path.name, []).append(path)
                    if is_image(path):
                        self.by_name.setdefault(path.stem, []).append(path)
            wanted = PurePosixPath(image.replace("\\", "/"))
            fitting = {path.as_posix() for path in self.by_name.get(wanted.name, [])
                       if path.as_posix().endswith((f"/{wanted}", f"/{wanted}{path.suffix}"))}
            if not fitting:
                raise
        return Path(self.single(sorted(fitting), image))


def open_folder(source: Path, roots: Sequence[Path], columns: Columns = Columns(),
                captions_from: str = "") -> OwnPairs:
    """A folder's images with captions, or those of one table.

    First are looked for: a table in the folder, text files beside images, tables in subfolders, and
    subfolders whose names are labels.
    roots: folders of the images; columns: of tables, if their names aren't known ones
    captions_from: NAMES or FOLDERS, of the images, and nothing else is looked for
    Raises ValueError if there is nothing, and if one of several tables would do.
    """
    folder = source if source.is_dir() else source.parent
    files = list(files_below(folder))
    if captions_from:
        return open_names(folder, files, captions_from)
    if source != folder:
        return open_tables(folder, [read_form(source, columns)], roots, columns)
    top = [path for path in files if path.parent == folder]
    faults: list[ValueError] = []
    forms = tables_among(top, columns, faults)
    texts = [] if forms else list(text_rows(folder, files))
    if any(isinstance(row.image, Path) for row in texts):
        return OwnPairs([Part(folder, split_by_folders(texts, folder), Finder(roots))],
                        "text files beside the images: each line is a caption")
    for _, beside in [] if forms else groupby(files, lambda path: path.parent):
        forms += tables_among(list(beside), columns, [])
    if forms:
        return open_tables(folder, forms, roots, columns)
    if faults:                                   # what is no table may stand for other captions
        raise faults[0]
    for path in files:
        if name := set_with(path.name):
            raise ValueError(f"{folder} has no captions of your own, and {path.name} may be of the "
                             f"public set {name}: minalbef prepare {name} --from {folder} reads "
                             "it. If it isn't, move it elsewhere")
    own = open_names(folder, files, FOLDERS)
    if len({row.captions[0] for row in own.rows() if not row.fault}) > 1:
        return own
    raise ValueError(f"{folder} has {sum(map(is_image, files)):,} images, and no captions that can "
                     "be recognised: write a table, captions.csv with the columns file and "
                     "caption, or a text file beside each image, 1.txt beside 1.jpg; or name what "
                     f"else has them: --captions-from {NAMES}, images' file names, or "
                     f"--captions-from {FOLDERS}, labels. Tars are read by minalbef prepare shards")


def files_below(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those below it, sorted.

    Hidden folders are left out, and what `prepare` wrote: --out may be below the folder.
    """
    for parent, folders, names in os.walk(folder):
        if "about.json" in names:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.endswith(FAULTS))


def is_image(path: Path) -> bool:
    """Whether a file is an image by its name."""
    return path.suffix.lower() in SUFFIXES


# tables

def tables_among(paths: list[Path], columns: Columns, faults: list[ValueError]) -> list[Form]:
    """The first of TABLES among a folder's files, or else all that hold images and captions.

    faults: why a table can't be read, to which this function adds; it may be another table's
    Raises ValueError for one of TABLES that can't be read.
    """
    images = {path.stem for path in paths if is_image(path)}
    forms: dict[str, Form] = {}
    for path in paths:
        if path.suffix not in ENDINGS + OTHERS or path.stem in images:   # it is an image's own
            continue
        try:
            form = read_form(path, columns)
            if form.layout.is_complete:
                forms[path.name] = form
            elif path.suffix in ENDINGS:
                check_layout(path, form.names, form.layout, columns)
        except ValueError as error:
            if path.name in TABLES and path.suffix not in OTHERS:
                raise
            if path.suffix in ENDINGS:
                faults.append(error)
    known = [forms[name] for name in TABLES if name in forms]
    return known[:1] or list(forms.values())


def open_tables(folder: Path, forms: Sequence[Form], roots: Sequence[Path],
                columns: Columns) -> OwnPairs:
    """The images and captions of a table, or of one for each split: train.csv and val.csv.

    Raises ValueError for a table without the columns needed, and if several would do.
    """
    names = [form.path.relative_to(folder).as_posix() for form in forms]
    splits = [split_in(name) for name in names]
    if len(forms) == 1:
        splits = [alone(splits[0])]
    elif "" in splits or len(set(splits)) < len(splits):
        raise ValueError(f"{folder} has {len(names):,} tables of images and captions, such as "
                         f"{' and '.join(names[:FEW])}; "
                         f"name the one that you mean, such as --from {forms[0].path}")
    parts = []
    descriptions = []
    notes = []
    for form, name, split in zip(forms, names, splits):
        check_layout(form.path, form.names, form.layout, columns)
        table = list(rows(form, split))
        if not split and not form.layout.split:
            table = split_by_folders(table, folder)
        find = FinderBelow(list(dict.fromkeys([form.path.parent, *roots])))
        parts.append(Part(form.path, table, find))
        descriptions.append(f"{name} ({split})" if split else name)
        descriptions[-1] += form.describe()
        if form.encoding == LATIN:
            notes.append(f"doubtful: {name} isn't in UTF-8, and was read as Latin-1: if letters "
                         "are wrong, save it in UTF-8")
    return OwnPairs(parts, "; and ".join(descriptions), notes)


def split_in(name: str) -> str:
    """The split that a path's words name, such as val/metadata.csv; "" for none and for several."""
    words = re.split("[^a-z]+", name.rpartition(".")[0].lower())
    splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else ""


def alone(split: str) -> str:
    """The split of a set of which all rows name this one; "" for train, which is then divided.

    So test.csv alone is a test, and train.csv alone is all that there is.
    """
    return "" if split == "train" else split


# splits by folders

def split_by_folders(table: list[Row], folder: Path) -> list[Row]:
    """Rows with the splits that their images' folders name, such as test/1.jpg, if any.

    A single name beside other folders may be an ordinary word: train, beside car and bus. With two
    names, an image elsewhere is a fault, since it may be of either.
    """
    splits = [first_split(folders_of(row.image, folder)) for row in table]
    names = set(filter(None, splits))
    outside = [row for row, split in zip(table, splits) if not split and row.image is not None]
    if len(names) < 2 and (outside or not any(map(alone, names))):
        return table
    named = []
    for row, split in zip(table, splits):
        if not split and not row.fault:
            row = row._replace(fault=Fault("no split", f"{row.image} is in no folder train, "
                                           "validation or test, as others are", "move it into one"))
        named.append(row._replace(split=split))
    return named


def folders_of(image: Any, folder: Path) -> Sequence[str]:
    """The names of the folders of an image, as a table has it, or below the folder."""
    if isinstance(image, Path):
        image = image.relative_to(folder).as_posix()
    return PurePosixPath(str(image).replace("\\", "/")).parts[:-1]


def first_split(folders: Iterable[str]) -> str:
    """The split that the first of these folders' names means; "" if none does."""
    return next((SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES), "")


# captions beside images, and in their names

def text_rows(folder: Path, files: Iterable[Path]) -> Iterator[Row]:
    """The rows of images with a text file of their name beside them, in the same folder.

    A .txt without an image has a row, too; it is counted as one whose image is missing.
    """
    images: dict[Path, list[Path]] = {}
    texts: dict[Path, list[Path]] = {}
    for path in files:
        if is_image(path):
            images.setdefault(path.with_suffix(""), []).append(path)
        elif path.suffix in BESIDE:
            texts.setdefault(path.with_suffix(""), []).append(path)
    for stem, paths in texts.items():
        text = min(paths, key=lambda path: BESIDE.index(path.suffix))
        if stem in images or text.suffix == ".txt":
            yield text_row(folder, text, images.get(stem, []))


def text_row(folder: Path, text: Path, beside: Sequence[Path]) -> Row:
    """The row of a text file, whose lines, or whose JSON, are the captions of an image beside it."""
    if not beside:
        return Row(str(text.relative_to(folder).with_suffix(".jpg")), [text.stem])
    if len(beside) > 1:
        return Row(beside[0], fault=Fault("ambiguous image", f"{text} may be of {beside[0].name} "
                                          f"or {beside[1].name}", "give them different names"))
    try:
        content, encoding = read_text(text)
        if encoding == LATIN:
            raise ValueError("it may be in Latin-1")
        captions = [line for line in content.splitlines() if line.strip()]
        if text.suffix == ".json":
            form = read_form(text)
            captions = next(rows(form)).captions if form.layout.captions else []
    except (OSError, ValueError) as error:
        return Row(beside[0], fault=Fault("unreadable text", f"{text} isn't in UTF-8 or can't be "
                                          f"read: {error}", "save it in UTF-8"))
    return Row(beside[0], captions)


def open_names(folder: Path, files: Iterable[Path], source: str) -> OwnPairs:
    """Images whose captions are their own names or those of their folders, which are labels."""
    images = [path for path in files if is_image(path)]
    random.Random(0).shuffle(images)             # the first few show several labels
    if source == NAMES:
        named = split_by_folders([name_row(image) for image in images], folder)
        return OwnPairs([Part(folder, named, Finder(None))], "the names of the images' files")
    labelled = [label_row(folder, image) for image in images]
    labels = sorted({row.captions[0] for row in labelled if not row.fault})
    description = f"the names of the images' {len(labels):,} folders, {shown(labels)}"
    note = f"labels: {description}; a table, or a text file beside each image, holds captions"
    return OwnPairs([Part(folder, labelled, Finder(None))], description, [note])


def name_row(image: Path) -> Row:
    """The row of an image whose name is its caption, less a counter: a_red_car_2.jpg, a cat (1)."""
    return Row(image, [words_in(re.sub(r"([_-]+\d+| *\(\d+\))$", "", image.stem))])


def label_row(folder: Path, image: Path) -> Row:
    """The row of an image whose folder's name is its label: golden_retriever/1.jpg.

    The folders train, val and test below `folder` are none.
    """
    *above, name = folders_of(image, folder) or [""]
    if not name or not above and first_split([name]):
        return Row(fault=Fault("no label", f"{image} is in no folder whose name is a caption",
                               "move it into one"))
    return Row(image, [words_in(name)], first_split(above), labelled=True)


def words_in(name: str) -> str:
    """A file's or folder's name as words."""
    return re.sub("[_-]+", " ", name).strip()


def shown(texts: Sequence[str]) -> str:
    """The first few of several texts, in quotation marks."""
    more = f" and {len(texts) - FEW:,} more" if len(texts) > FEW else ""
    return ", ".join(map(quote, texts[:FEW])) + more


def quote(text: str, length: int = 80) -> str:
    """A text in quotation marks, shortened, and without escape sequences that a terminal obeys."""
    return repr(text if len(text) <= length else f"{text[:length]}...")
