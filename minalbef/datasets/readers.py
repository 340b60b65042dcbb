"""Readers of caption lists: the original's, Karpathy's splits, COCO's and Flickr30k's own.

The tasks' sets: public.py; tars: shards.py; tables of your own: pairs.py

A reader is called as reader(file, root=folder or folders of the pictures, fault=handler of a bad entry). It yields
records one at a time; a record holds its picture's path, which a batch opens. With root=None no picture is looked for.
A bad entry is left out and goes to `fault`, which by default raises it; it is a ValueError.
"""
import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from minalbef.data import Record
from minalbef.tokenizer import clean, has_words
from minalbef.writing import explain

CHUNK = 1 << 20                       # characters read at a time
LARGEST = 16 * CHUNK                  # of one entry: a broken file is recognised without reading it all
# folders to look in, by album: never in another's, for two albums may have equal file names
PLACES = {"": ("", "images", "train2014", "val2014"), "vg": ("", "images", "VG_100K", "VG_100K_2"),
          "flickr": ("", "images", "flickr30k-images")}
LONGEST = 500                         # letters of a fault's message, which may quote a long text
COCO = re.compile(r"COCO_(?:train|val|test)20\d\d_0*(\d+)")
FLICKR = re.compile(r"flickr\.com/(?:.*/)?(\d+)_")

Roots = Path | Sequence[Path] | None


class Fault(ValueError):
    """What is wrong with an entry, and the way out. kind: a few words, to count by; entries: how many are lost."""

    def __init__(self, kind: str, what: str, way: str = "leave it out or mend it", entries: int = 1):
        what = what if len(what) <= LONGEST else f"{what[:LONGEST]}..."
        # a stranger's name may hold what a terminal obeys
        what = "".join(c if c.isprintable() else repr(c)[1:-1] for c in what)
        super().__init__(f"{what}; {way}")
        self.kind, self.what, self.way, self.entries = kind, what, way, entries


def refuse(fault: Fault):
    """Raise the fault."""
    raise fault


def ignore(fault: Fault) -> None:
    """Nothing: another reader of the same file reports the fault."""


def entries(path: Path) -> Iterator:
    """Entries of a JSON list or of JSON lines, streamed in little memory. Raises ValueError for a broken file."""
    decoder, text, at, number = json.JSONDecoder(), "", 0, 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(CHUNK).lstrip()
            whole = text.startswith("[")
            at = 1 if whole else 0
            while True:
                at = re.compile(r"[\s,]*").match(text, at).end()
                if whole and text[at:at + 1] == "]":
                    return
                try:
                    entry, at = decoder.raw_decode(text, at)
                except ValueError as error:                      # perhaps it goes on in the next chunk
                    more = file.read(CHUNK)
                    if not more and not whole and at == len(text):
                        return
                    if not more or len(text) - at > LARGEST:
                        raise ValueError(f"entry {number} is no JSON ({error})") from None
                    text, at = text[at:] + more, 0
                else:
                    yield entry
                    number += 1
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}. It must be JSON, a list or lines; get it again") from error


def load(path: Path, *keys: str):
    """A whole JSON file, with a list under each of `keys`. Raises ValueError for another kind of file."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}. It must be JSON; get it again") from error
    for key in keys:
        if not isinstance(value, dict) or not isinstance(value.get(key), list):
            raise ValueError(f"{path} has no list {key!r}; it is another file than its name says")
    return value


def number_of(name: str) -> int:
    """63 bits of a hash: the same in every process, file and year."""
    return int.from_bytes(blake2b(name.encode(errors="replace"), digest_size=8).digest()) >> 1


def in_share(photo: int, share: float) -> bool:
    """Whether a photograph is in a share of all: by a hash of its id, so that 0.01 is part of 0.1, always."""
    return share >= 1 or number_of(f"share {photo}") < share * 2 ** 63


def photo_id(image: str, album: str = "", same: Mapping[str, str] = {}) -> int:
    """An id for a photograph, equal in all sets that contain it: COCO's number, Flickr's, or its name in its album.

    album: the set, where the file's name is the photograph's number there: "vg", "flickr"
    same: aliases of an album's photographs, as {"vg:2370463": "coco:547168"}, see `relations`
    """
    if found := COCO.search(image):
        name = f"coco:{found[1]}"
    elif found := FLICKR.search(image):
        name = f"flickr:{found[1]}"
    else:
        name = f"{album}:{PurePosixPath(image).stem.lstrip('0')}" if album else image
    return number_of(same.get(name, name))


def relations(path: Path) -> dict[str, str]:
    """Visual Genome's image_data.json -> which of its pictures are COCO's or else Flickr's, for `photo_id`.

    A picture's file is named as its url ends, which is not its image_id everywhere.
    """
    return {f"vg:{PurePosixPath(entry.get('url') or str(entry.get('image_id'))).stem}":
            f"coco:{entry['coco_id']}" if entry.get("coco_id") else f"flickr:{entry['flickr_id']}"
            for entry in entries(path) if entry.get("coco_id") or entry.get("flickr_id")}


class Finder:
    """Where a list's pictures lie: below a root as the list says, or with folders left out that only its maker had."""

    def __init__(self, roots: Roots, album: str = ""):
        self.places = PLACES[album]
        self.roots = [roots] if isinstance(roots, (str, Path)) else roots
        self.known = ("", "", 0)

    def __call__(self, image: str) -> Path:
        if self.roots is None:
            return Path(image)
        # nothing leads out of the roots: of /a/b.jpg and ../a/b.jpg, only a/b.jpg and b.jpg are looked for
        image = os.path.splitdrive(image)[1].replace(os.sep, "/")            # on Windows, of C:\a\b.jpg
        parts = PurePosixPath(f"/{image}".rpartition("/../")[2].lstrip("/")).parts
        places = [(root, place) for root in self.roots for place in self.places]
        tries = [(*one, i) for i in range(len(parts)) for one in places]        # as the list says, then with less of it
        for root, place, first in (*tries[:len(places)], self.known, *tries[len(places):]):
            path = os.path.join(root, place, *parts[first:])
            if root and os.path.isfile(path):
                self.known = root, place, first
                return Path(path)
        raise Fault("missing picture", f"picture {image!r} is not below {' or '.join(map(str, self.roots))}",
                    "get it, or name its folder with --images")


def field(entry, name: str, kind: type | tuple = str):
    """A field of an entry, which must be there, of that kind, and not empty."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or value == "" or value == []:
        raise Fault("malformed", f"{name!r} is {value!r}" if value is not None else f"there is no {name!r}",
                    "docs/data.md shows the format")
    if isinstance(value, int) and abs(value) >> 63:
        raise Fault("malformed", f"{name!r} is {value}, which 63 bits do not hold", "docs/data.md shows the format")
    return value


def words(text, cleaned: Callable = clean) -> str:
    """A text that has some, as its task cleans it."""
    try:
        if isinstance(text, str) and has_words(cleaned(text)):
            return text
    except ValueError as error:
        raise Fault("broken text", str(error).rpartition("; ")[0]) from error
    raise Fault("no words", f"the text {text!r} has no words")


def once(seen: dict, key, image: str, what: str):
    """Remember that `key` is this picture's. Raises Fault if it was another's: one id must not be two pictures'."""
    if seen.setdefault(str(key), image) != image:
        raise Fault("duplicate id", f"{what} {key!r} of {image!r} is also that of {seen[str(key)]!r}")


def read(path: Path, items: Iterable, parse: Callable, fault: Callable) -> Iterator:
    """The records of parse(entry), for every entry; Faults that it raises or yields go to `fault`, with their place."""
    for number, entry in enumerate(items):
        found = []
        try:
            found.extend(parse(entry))
        except Fault as wrong:
            found.append(wrong)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            found.append(Fault("malformed", f"{type(error).__name__}: {error}", "docs/data.md shows the format"))
        for one in found:
            if isinstance(one, Fault):
                fault(Fault(one.kind, f"{path}: entry {number}: {one.what}", one.way))
            else:
                yield one


def each(texts: Iterable, make: Callable) -> Iterator:
    """make(text) for each text that has words; a Fault for another."""
    for text in texts:
        try:
            yield make(words(text))
        except Fault as wrong:
            yield wrong


def captions(path: Path, root: Roots = None, fault: Callable = refuse, key: str = "caption", album: str = "",
             same: Mapping[str, str] = {}) -> Iterator[Record]:
    """The original's lists of captions: [{image, caption: one or several, image_id: perhaps}] -> a record a caption.

    key: where the caption is; "text" in RefCOCO+'s training list. album, same: as of `photo_id`
    """
    find, seen = Finder(root, album), {}

    def parse(entry):
        image, given = field(entry, "image"), field(entry, key, (str, list))
        if "image_id" in entry:
            once(seen, entry["image_id"], image, "image_id")
        place, photo = find(image), photo_id(image, album, same)
        return each([given] if isinstance(given, str) else given, lambda text: Record(place, text, photo))
    return read(path, entries(path), parse, fault)


def karpathy(path: Path, root: Roots = None, fault: Callable = refuse, split: str = "train",
             album: str = "") -> Iterator[Record]:
    """dataset_coco.json or dataset_flickr30k.json -> a record a sentence. "train" takes COCO's "restval", too."""
    find, wanted, seen = Finder(root, album), {split, "restval"} if split == "train" else {split}, {}

    def parse(entry):
        if field(entry, "split") not in wanted:
            return []
        image = str(PurePosixPath(entry.get("filepath", ""), field(entry, "filename")))
        once(seen, entry.get("imgid", image), image, "imgid")
        place, photo = find(image), photo_id(image, album)
        texts = [one.get("raw") for one in field(entry, "sentences", list)]
        return each(texts, lambda text: Record(place, text, photo))
    return read(path, load(path, "images")["images"], parse, fault)


def coco_captions(path: Path, root: Roots = None, fault: Callable = refuse) -> Iterator[Record]:
    """COCO's own captions_train2014.json, or val, or 2017 -> a record a caption, by picture.

    Raises ValueError where the file's name doesn't say which of COCO's pictures it lists.
    """
    part = re.search(r"(train|val)20\d\d", Path(path).stem)
    if part is None:
        raise ValueError(f"{path} has no name such as captions_train2014.json, which says where "
                         "its pictures are; give it its own name again")
    whole, find = load(path, "images", "annotations"), Finder(root)
    texts: dict[int, list] = {}
    for entry in whole["annotations"]:
        if isinstance(entry, dict):
            texts.setdefault(entry.get("image_id"), []).append(entry.get("caption"))

    def parse(entry):
        number = field(entry, "id", int)
        place = find(f"{part[0]}/{field(entry, 'file_name')}")
        if number not in texts:
            raise Fault("no words", f"picture {number} has no caption among the annotations")
        photo = photo_id(f"COCO_{part[0]}_{number:012d}")        # 2017's files are called by number
        return each(texts[number], lambda text: Record(place, text, photo))
    return read(path, whole["images"], parse, fault)


def flickr_table(path: Path, root: Roots = None, fault: Callable = refuse,
                 split: str = "train") -> Iterator[Record]:
    """flickr_annotations_30k.csv: filename, split, raw (a JSON list) -> a record a sentence."""
    find = Finder(root, "flickr")

    def parse(row):
        if field(row, "split") != split:
            return []
        image = field(row, "filename")
        place, photo = find(image), photo_id(image, "flickr")
        return each(json.loads(field(row, "raw")), lambda text: Record(place, text, photo))

    with explain(f"{path} cannot be read", "it must be a table in UTF-8; get it again",
                 OSError, UnicodeDecodeError, csv.Error):
        with open(path, newline="", encoding="utf-8-sig") as file:
            yield from read(path, csv.DictReader(file, strict=True), parse, fault)
