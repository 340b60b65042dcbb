"""Readers of captions lists in all forms, and what every reader does: ids, finding, checking.

The downstream tasks' sets are read in public.py, tars in shards.py, your own files in pairs.py.

A reader is called as reader(file, root=..., on_fault=...), where root is the images' folder, or
several. It yields records one at a time. A record holds the path of its image, which is opened when
a batch is made; with root=None nothing checks that the file exists. A bad entry yields no record:
it goes to on_fault as a Fault, which by default is raised. `parse_entries` checks all records.
"""
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

from minalbef.data import Record
from minalbef.datasets.forms import Columns, Fault, Row, check_layout, entries, read_form, rows
from minalbef.system.images import ImageFile
from minalbef.system.tokenizer import clean, has_words
from minalbef.tasks.vqa import clean_question

# what an entry that isn't what it should be raises in a reader
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
# folders to look in, by album: never in another's, since two albums may have equal file names
FOLDERS = {
    "": ("", "images", "train2014", "val2014"),
    "vg": ("", "images", "VG_100K", "VG_100K_2"),
    "flickr": ("", "images", "flickr30k-images"),
}
MISSING = "missing image"             # a kind of fault
CLEANERS = {"text": clean, "texts": clean, "question": clean_question}      # of records' texts
FORMAT_PAGE = "docs/public.md#formats shows the format"
# COCO_val2014_000000000139.jpg, and since 2017 val2017/000000000139.jpg; and no crop of it
COCO = re.compile(r"(?:COCO_(?:train|val|test)20\d\d_|(?:train|val|test)2017/)0*(\d+)(?![\w-])")
FLICKR = re.compile(r"flickr\.com/(?:.*/)?(\d+)_")

R = TypeVar("R")
Roots = str | Path | Sequence[str | Path] | None
FaultHandler = Callable[[Fault], object]


def refuse(fault: Fault) -> NoReturn:
    """Raise the fault."""
    raise fault


def ignore(fault: Fault) -> None:
    """Do nothing, since another reader of the same file reports the fault."""


def stable_hash(name: str) -> int:
    """63 bits of a hash that is the same in every process and every version of Python."""
    digest = blake2b(name.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def in_share(photo: int, share: float) -> bool:
    """Whether a photograph belongs to a share of all, decided by a hash of its id.

    A smaller share is always part of a larger one.
    """
    return share >= 1 or stable_hash(f"share {photo}") < share * 2 ** 63


def photo_id(image: str, album: str = "", aliases: Mapping[str, str] = {}) -> int:
    """An id for a photograph, the same in all sets that contain it.

    It comes from COCO's number, from Flickr's, or else from the file's name.
    album: the set, if its file names are the photographs' numbers: "vg" or "flickr"
    aliases: the same photographs in other sets, as {"vg:2370463": "coco:547168"}, see
        `read_aliases`
    """
    coco = COCO.search(image)
    flickr = FLICKR.search(image)
    if coco:
        name = f"coco:{coco[1]}"
    elif flickr:
        name = f"flickr:{flickr[1]}"
    elif album:
        number = PurePosixPath(image).stem.lstrip("0")
        name = f"{album}:{number}"
    else:
        name = image
    return stable_hash(aliases.get(name, name))


def read_aliases(path: Path) -> dict[str, str]:
    """Which of Visual Genome's images are COCO's or else Flickr's, for `photo_id`.

    path: its image_data.json. An image's file is named as its url ends, which isn't always its
    image_id.
    """
    aliases: dict[str, str] = {}
    for entry in entries(path):
        for album in ("flickr", "coco"):
            if entry.get(f"{album}_id"):
                url = entry.get("url") or str(entry.get("image_id"))
                aliases[f"vg:{PurePosixPath(url).stem}"] = f"{album}:{entry[f'{album}_id']}"
    return aliases


class Finder:
    """Finds a list's images below their folders.

    A path is tried as the list has it, then without its first folders, if only the list's maker
    had them: /their/disk/val2014/7.jpg is val2014/7.jpg. What fits twice is a fault.
    """

    def __init__(self, roots: Roots, album: str = ""):
        self.folders = FOLDERS[album]
        self.roots = [roots] if isinstance(roots, (str, Path)) else roots
        self.skip = 0                            # folders that the latest image's path had too many
        self.latest: dict[str, Path] = {}        # an image's captions are neighbours
        self.owners: dict[str, str] = {}         # which shortened path of the list led to a file
        self.keeps_all = False                   # also files found as the list has them

    def __call__(self, image: Any) -> Any:
        """The path of an image; a path or a place in a tar stays.

        Raises Fault if there is no such file, or if several would do.
        """
        if isinstance(image, (Path, ImageFile)):
            return image
        if not isinstance(image, str):
            raise Fault("malformed", f"the image is {image!r}", FORMAT_PAGE)
        if image not in self.latest:
            self.latest = {image: Path(image) if self.roots is None else self.search(image)}
        return self.latest[image]

    def search(self, image: str) -> Path:
        """The path of an image. Raises Fault, see `__call__`."""
        # never leave the roots: of /a/b.jpg and ../a/b.jpg, try only a/b.jpg and b.jpg
        path = os.path.splitdrive(image)[1].replace(os.sep, "/")             # Windows: C:\a\b.jpg
        parts = PurePosixPath(f"/{path}".rpartition("/../")[2].lstrip("/")).parts
        for skip in dict.fromkeys([0, min(self.skip, max(0, len(parts) - 1)), *range(len(parts))]):
            files = self.files(parts[skip:])
            if len(files) > 1 or files and (skip == 0 or not self.has_folder(parts[:-1])):
                self.skip = skip
                return Path(self.single(files, image, skip > 0))
        raise Fault(MISSING, f"image {image!r} is not below "
                    f"{' or '.join(map(str, self.roots or ()))}",
                    "get it, or name its folder with --images")

    def single(self, files: Sequence[str], image: str, is_cut: bool = False) -> str:
        """The only file that fits an image; is_cut: without the first folders of its path.

        Raises Fault for several, and for a file that another path of the list has led to.
        """
        claim = image if is_cut else files[0]
        owner = claim
        if is_cut or self.keeps_all:
            owner = self.owners.setdefault(files[0], claim)
        problem = ""
        if len(files) > 1:
            problem = f"image {image!r} may be {files[0]} or {files[1]}"
        elif owner != claim:
            problem = f"image {image!r} and {owner!r} would be the same file, {files[0]}"
        if problem:
            raise Fault("ambiguous image", problem, "get the one that is missing, give them "
                        "different names, or name only one folder with --images")
        return files[0]

    def files(self, parts: Sequence[str]) -> list[str]:
        """The files of this path below the roots: one, or several that differ."""
        files: dict[str, str] = {}
        for root in self.roots or ():
            for folder in self.folders:
                path = os.path.join(root, folder, *parts)
                if os.path.isfile(path):
                    files.setdefault(os.path.realpath(path), path)
        return list(files.values())

    def has_folder(self, parts: Sequence[str]) -> bool:
        """Whether the folder that the list names is there: what isn't in it is missing."""
        return any(os.path.isdir(os.path.join(root, folder, *parts))
                   for root in self.roots or () for folder in self.folders)


def parse_entries(path: str | Path, items: Iterable[Any],
                  parse: Callable[[Any], Iterable[R | Fault] | None],
                  find: Callable[[Any], Any], on_fault: FaultHandler) -> Iterator[R]:
    """The records that `parse` makes of each entry, checked by `check_record`.

    parse: an entry -> its records, also Faults; None if it belongs to another split
    find: an image as a record of `parse` has it -> its file, see `Finder`
    Faults go to `on_fault`, with the file and the entry's number.
    """
    for number, entry in enumerate(items):
        results: list[R | Fault] = []
        try:
            records = parse(entry)
            if records is None:
                continue
            results.extend(records)
            if not results:
                results.append(Fault("no words", "it has no caption"))
        except Fault as fault:
            results.append(fault)
        except MALFORMED as error:
            problem = f"{type(error).__name__}: {error}, in {entry!r}"
            results.append(Fault("malformed", problem, FORMAT_PAGE))
        for result in results:
            if not isinstance(result, Fault):
                result = check_record(result, find)
            if isinstance(result, Fault):
                on_fault(result.at(f"{path}: entry {number}"))
            else:
                yield result


def check_record(record: Any, find: Callable[[Any], Any]) -> Any:
    """The record with its images' files; or a Fault for a missing image, a bad text or id."""
    values = vars(record)
    try:
        if "images" in values:
            record = replace(record, images=tuple(map(find, values["images"])))
        else:
            record = replace(record, image=find(values["image"]))
    except Fault as fault:
        return fault
    for name, cleaner in CLEANERS.items():
        texts = values.get(name, ())
        for text in texts if isinstance(texts, tuple) else [texts]:
            if fault_of_text := text_fault(text, cleaner):
                return fault_of_text
    if not isinstance(record.id, int) or abs(record.id) >> 63:
        return Fault("malformed", f"its id {record.id!r} is no whole number of 63 bits",
                     FORMAT_PAGE)
    return record


def text_fault(text: Any, cleaner: Callable[[str], str]) -> Fault | None:
    """A Fault for what isn't a text in which words remain after cleaning."""
    try:
        if isinstance(text, str) and has_words(cleaner(text)):
            return None
    except ValueError as error:
        return Fault("broken text", str(error).rpartition("; ")[0])
    return Fault("no words", f"the text {text!r} has no words")


def captions(path: Path, root: Roots = None, on_fault: FaultHandler = refuse, split: str = "",
             album: str = "", aliases: Mapping[str, str] = {}, folder: str = "") -> Iterator[Record]:
    """A list of captions in any form of forms.py -> a record for each caption.

    split: the only one to read, of a list that names splits; album, aliases: see `photo_id`
    folder: of the images, where the list leaves it out
    """
    form = read_form(path)
    check_layout(path, form.names, form.layout, Columns())

    def parse(row: Row) -> list[Record | Fault] | None:
        if row.split != split and split:
            return None
        if row.fault:
            return [row.fault]
        image = f"{folder}/{row.image}" if folder else row.image
        photo = photo_id(str(image), album, aliases)
        return [Record(image, text, photo) for text in row.captions]
    return parse_entries(path, rows(form), parse, Finder(root, album), on_fault)
