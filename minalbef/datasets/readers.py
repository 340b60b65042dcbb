"""Readers of caption lists: the original's, Karpathy's splits, and COCO's and Flickr30k's own.

The downstream tasks' sets are read in public.py, tars in shards.py, your own tables in pairs.py.

A reader is called as reader(file, root=..., on_fault=...), where root is the images' folder, or
several. It yields records one at a time. A record holds the path of its image, which is opened when
a batch is made; with root=None nothing checks that the file exists. A bad entry yields no record:
it goes to on_fault as a Fault, which by default is raised.
"""
import codecs
import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TextIO, TypeVar

from minalbef.data import Record
from minalbef.system.tokenizer import clean, has_words
from minalbef.system.writing import restate

CHUNK = 1 << 20                       # characters that are read at a time
LARGEST = 16 * CHUNK                  # of an entry: a broken file is noticed before it is all read
# folders to look in, by album: never in another's, since two albums may have equal file names
FOLDERS = {
    "": ("", "images", "train2014", "val2014"),
    "vg": ("", "images", "VG_100K", "VG_100K_2"),
    "flickr": ("", "images", "flickr30k-images"),
}
MISSING = "missing image"             # a kind of fault
LONGEST = 500                         # characters of a fault's message, which may quote a long text
FORMAT_PAGE = "docs/public.md#formats shows the format"
SEPARATORS = re.compile(r"[\s,]*")    # between entries
COCO = re.compile(r"COCO_(?:train|val|test)20\d\d_0*(\d+)(?![\w-])")   # and no crop of it
FLICKR = re.compile(r"flickr\.com/(?:.*/)?(\d+)_")

R = TypeVar("R")
Roots = str | Path | Sequence[str | Path] | None
FaultHandler = Callable[["Fault"], object]


class Fault(ValueError):
    """A bad entry: what is wrong with it, and the way out.

    kind: a few words to count faults by
    count: how many entries are lost
    image: the image whose caption is lost; split: the split of the entry; if they are known
    """

    def __init__(self, kind: str, problem: str, way_out: str = "leave it out or mend it",
                 count: int = 1, image: Path | None = None, split: str = ""):
        if len(problem) > LONGEST:
            problem = f"{problem[:LONGEST]}..."
        # a stranger's file name may contain escape sequences, which a terminal would obey
        problem = "".join(c if c.isprintable() else repr(c)[1:-1] for c in problem)
        super().__init__(f"{problem}; {way_out}")
        self.kind = kind
        self.problem = problem
        self.way_out = way_out
        self.count = count
        self.image = image
        self.split = split


def refuse(fault: Fault) -> NoReturn:
    """Raise the fault."""
    raise fault


def ignore(fault: Fault) -> None:
    """Do nothing, since another reader of the same file reports the fault."""


def encoding_of(path: Path) -> str:
    """UTF-8, or UTF-16 where the file begins with its mark. No other encoding is guessed."""
    with open(path, "rb") as file:
        mark = file.read(2)
    return "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def entries(path: Path) -> Iterator[Any]:
    """Stream the entries of a JSON list, or of JSON lines, in little memory.

    Raises ValueError for a broken file.
    """
    try:
        with open(path, encoding=encoding_of(path)) as file:
            yield from decode_entries(file)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}. It must be JSON, a list or lines; "
                         "get it again") from error


def decode_entries(file: TextIO) -> Iterator[Any]:
    """`entries` of an open file. Raises ValueError for an entry that is not JSON."""
    decoder = json.JSONDecoder()
    text = file.read(CHUNK).lstrip()
    is_list = text.startswith("[")
    position = 1 if is_list else 0
    number = 0
    while True:
        separators = SEPARATORS.match(text, position)
        assert separators                                    # it matches nothing, too
        position = separators.end()
        if is_list and text[position:position + 1] == "]":
            return
        try:
            entry, position = decoder.raw_decode(text, position)
        except ValueError as error:
            # the entry may continue in the next chunk
            chunk = file.read(CHUNK)
            if not chunk and not is_list and position == len(text):
                return
            if not chunk or len(text) - position > LARGEST:
                raise ValueError(f"entry {number} is not JSON ({error})") from None
            text = text[position:] + chunk
            position = 0
        else:
            yield entry
            number += 1


def load(path: Path, *keys: str) -> Any:
    """Load a whole JSON file, which has a list under each of the keys.

    Raises ValueError for any other file.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}. It must be JSON; "
                         "get it again") from error
    for key in keys:
        if not isinstance(value, dict) or not isinstance(value.get(key), list):
            raise ValueError(f"{path} has no list {key!r}, so it isn't the file that its name "
                             "says; get it again")
    return value


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
        if entry.get("coco_id"):
            photo = f"coco:{entry['coco_id']}"
        elif entry.get("flickr_id"):
            photo = f"flickr:{entry['flickr_id']}"
        else:
            continue
        url = entry.get("url") or str(entry.get("image_id"))
        aliases[f"vg:{PurePosixPath(url).stem}"] = photo
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
        self.shortened: dict[str, str] = {}      # which shortened path of the list led to a file
        self.exact: set[str] | None = None       # files found as the list has them; None: not kept

    def __call__(self, image: str) -> Path:
        """The path of an image. Raises Fault if there is no such file, or if several would do."""
        if self.roots is None:
            return Path(image)
        # never leave the roots: of /a/b.jpg and ../a/b.jpg, try only a/b.jpg and b.jpg
        path = os.path.splitdrive(image)[1].replace(os.sep, "/")             # Windows: C:\a\b.jpg
        parts = PurePosixPath(f"/{path}".rpartition("/../")[2].lstrip("/")).parts
        for skip in dict.fromkeys([0, min(self.skip, max(0, len(parts) - 1)), *range(len(parts))]):
            found = self.find(parts[skip:])
            if len(found) > 1:
                raise Fault("ambiguous image", f"image {image!r} may be {found[0]} or {found[1]}",
                            "give them different names, or name only one folder with --images")
            if found and (skip == 0 or not self.has_folder(parts[:-1])):
                self.check_owner(found[0], image, skip)
                self.skip = skip
                return Path(found[0])
        raise Fault(MISSING, f"image {image!r} is not below "
                    f"{' or '.join(map(str, self.roots))}",
                    "get it, or name its folder with --images")

    def check_owner(self, file: str, image: str, skip: int) -> None:
        """Raises Fault for a file that another path of the list has led to, if one was cut."""
        owner = image
        if skip:
            owner = self.shortened.setdefault(file, image)
            if self.exact and file in self.exact:
                owner = file
        elif self.exact is not None:
            owner = self.shortened.get(file, image)
            self.exact.add(file)
        if owner != image:
            raise Fault("ambiguous image", f"image {image!r} and {owner!r} would be the same file, "
                        f"{file}", "get the one that is missing, or mend its path")

    def find(self, parts: Sequence[str]) -> list[str]:
        """The files of this path below the roots: one, or several that differ."""
        found: dict[str, str] = {}
        for root in self.roots or ():
            for folder in self.folders:
                path = os.path.join(root, folder, *parts)
                if os.path.isfile(path):
                    found.setdefault(os.path.realpath(path), path)
        return list(found.values())

    def has_folder(self, parts: Sequence[str]) -> bool:
        """Whether the folder that the list names is there: what isn't in it is missing."""
        return any(os.path.isdir(os.path.join(root, folder, *parts))
                   for root in self.roots or () for folder in self.folders)


def field(entry: Any, name: str, types: type | tuple[type, ...] = str) -> Any:
    """A field of an entry. Raises Fault if it is absent, empty or of another type."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if value is None:
        raise Fault("malformed", f"there is no {name!r}", FORMAT_PAGE)
    if not isinstance(value, types) or value == "" or value == []:
        raise Fault("malformed", f"{name!r} is {value!r}", FORMAT_PAGE)
    if isinstance(value, int) and abs(value) >> 63:
        raise Fault("malformed", f"{name!r} is {value}, which doesn't fit into 63 bits",
                    FORMAT_PAGE)
    return value


def check_text(text: Any, cleaner: Callable[[str], str] = clean) -> str:
    """The text itself, if words remain after cleaning. Raises Fault otherwise."""
    try:
        if isinstance(text, str) and has_words(cleaner(text)):
            return text
    except ValueError as error:
        raise Fault("broken text", str(error).rpartition("; ")[0]) from error
    raise Fault("no words", f"the text {text!r} has no words")


def check_id(names: dict[str, str], key: Any, name: str, what: str) -> None:
    """Record that an id stands for an image, or for a question about one.

    names: what each earlier id stands for. Raises Fault if this one stands for something else.
    """
    earlier = names.setdefault(str(key), name)
    if earlier != name:
        raise Fault("duplicate id", f"{what} {key!r} of {name!r} is also that of {earlier!r}")


def parse_entries(path: str | Path, items: Iterable[Any],
                  parse: Callable[[Any], Iterable[R | Fault]],
                  on_fault: FaultHandler) -> Iterator[R]:
    """The records that `parse` makes of each entry.

    Faults that it raises or yields go to `on_fault`, with the file and the entry's number.
    """
    for number, entry in enumerate(items):
        results: list[R | Fault] = []
        try:
            results.extend(parse(entry))
        except Fault as error:
            results.append(error)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
                RecursionError) as error:
            problem = f"{type(error).__name__}: {error}"
            results.append(Fault("malformed", problem, FORMAT_PAGE))
        for result in results:
            if isinstance(result, Fault):
                problem = f"{path}: entry {number}: {result.problem}"
                on_fault(Fault(result.kind, problem, result.way_out, result.count, result.image,
                               result.split))
            else:
                yield result


def caption_records(image: Path, texts: Iterable[Any], photo: int) -> Iterator[Record | Fault]:
    """A record for each of an image's texts, or a Fault for a text without words."""
    for text in texts:
        try:
            yield Record(image, check_text(text), photo)
        except Fault as fault:
            fault.image = image
            yield fault


def captions(path: Path, root: Roots = None, on_fault: FaultHandler = refuse, key: str = "caption",
             album: str = "", aliases: Mapping[str, str] = {}) -> Iterator[Record]:
    """The original's lists of captions -> a record for each caption.

    An entry is {image, caption, image_id} with a caption or a list of them; image_id is optional.
    key: the field of the caption, which is "text" in RefCOCO+'s training list
    album, aliases: see `photo_id`
    """
    find = Finder(root, album)
    images: dict[str, str] = {}

    def parse(entry: Any) -> Iterable[Record | Fault]:
        image = field(entry, "image")
        texts = field(entry, key, (str, list))
        if "image_id" in entry:
            check_id(images, entry["image_id"], image, "image_id")
        if isinstance(texts, str):
            texts = [texts]
        return caption_records(find(image), texts, photo_id(image, album, aliases))
    return parse_entries(path, entries(path), parse, on_fault)


def karpathy(path: Path, root: Roots = None, on_fault: FaultHandler = refuse,
             split: str = "train", album: str = "") -> Iterator[Record]:
    """dataset_coco.json or dataset_flickr30k.json -> a record for each sentence.

    split: "train" includes COCO's "restval"
    """
    find = Finder(root, album)
    splits = {"train", "restval"} if split == "train" else {split}
    images: dict[str, str] = {}

    def parse(entry: Any) -> Iterable[Record | Fault]:
        if field(entry, "split") not in splits:
            return []
        image = str(PurePosixPath(entry.get("filepath", ""), field(entry, "filename")))
        check_id(images, entry.get("imgid", image), image, "imgid")
        image_path = find(image)
        texts = [sentence.get("raw") for sentence in field(entry, "sentences", list)]
        return caption_records(image_path, texts, photo_id(image, album))
    return parse_entries(path, load(path, "images")["images"], parse, on_fault)


def coco_captions(path: Path, root: Roots = None,
                  on_fault: FaultHandler = refuse) -> Iterator[Record]:
    """COCO's own captions_train2014.json, or val, or 2017 -> a record for each caption, by image.

    Raises ValueError if the file's name doesn't say which of COCO's images it lists.
    """
    match = re.search(r"(train|val)20\d\d", Path(path).stem)
    if match is None:
        raise ValueError(f"{path} has no name such as captions_train2014.json, which says where "
                         "its images are; give it its own name again")
    part = match[0]
    find = Finder(root)
    contents = load(path, "images", "annotations")
    texts: dict[Any, list[Any]] = {}
    for entry in contents["annotations"]:
        if isinstance(entry, dict):
            texts.setdefault(entry.get("image_id"), []).append(entry.get("caption"))

    def parse(entry: Any) -> Iterable[Record | Fault]:
        number = field(entry, "id", int)
        image = find(f"{part}/{field(entry, 'file_name')}")
        if number not in texts:
            raise Fault("no words", f"image {number} has no caption among the annotations")
        photo = photo_id(f"COCO_{part}_{number:012d}")       # 2017's names are numbers alone
        return caption_records(image, texts[number], photo)
    return parse_entries(path, contents["images"], parse, on_fault)


def flickr_table(path: Path, root: Roots = None, on_fault: FaultHandler = refuse,
                 split: str = "train") -> Iterator[Record]:
    """flickr_annotations_30k.csv -> a record for each sentence.

    Its columns are filename, split and raw, a JSON list of sentences.
    """
    find = Finder(root, "flickr")

    def parse(row: Any) -> Iterable[Record | Fault]:
        if field(row, "split") != split:
            return []
        image = field(row, "filename")
        image_path = find(image)
        photo = photo_id(image, "flickr")
        return caption_records(image_path, json.loads(field(row, "raw")), photo)

    with restate(f"{path} cannot be read", "it must be a table in UTF-8; get it again",
                 OSError, UnicodeDecodeError, csv.Error):
        with open(path, newline="", encoding="utf-8-sig") as file:
            yield from parse_entries(path, csv.DictReader(file, strict=True), parse, on_fault)
