"""Files of images and captions, told apart by their content -> rows of image, captions, split.

A table with , ; tab or | between its columns, or JSON: a list or lines of objects, COCO's images
and annotations, Karpathy's splits, LLaVA's conversations, or captions by their image's file name.
"""
import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TextIO

from minalbef.system.images import SUFFIXES
from minalbef.system.writing import restate

CHUNK = 1 << 20                       # characters that are read at a time
LARGEST = 16 * CHUNK                  # of an entry: a broken file is noticed before it is all read
FIRST = 100                           # entries of JSON to find columns in: one may be broken
LONGEST = 500                         # characters of a fault's message, which may quote a long text
BETWEEN = re.compile(r"[\s,]*")       # entries of a list
SEPARATORS = {",": "','", "\t": "tab", ";": "';'", "|": "'|'"}
TOKEN = re.compile(r"[^\t]+\.\w+#\d+\t")         # Flickr30k's and Flickr8k's own: 1.jpg#0, caption
IMAGE_CELL = re.compile(rf"({'|'.join(map(re.escape, SUFFIXES))})\"?\s*([,;|\t]|$)", re.IGNORECASE)
LINK = re.compile(r"https?://\S+")
LATIN = "cp1252"
LATIN_TEXT = re.compile("[\0-\x7f\xa0-\xff€‚„…‘’“”•–—™ŒœŠšŽžŸ]*")
# columns by name, in any case: ours, the original's, Hugging Face's, open_clip's, Kaggle's
IMAGES = ("file", "image", "file_name", "filename", "filepath", "file_path", "image_path",
          "image_name", "image_file", "img_path", "img", "path", "image_id")
CAPTIONS = ("caption", "text", "captions", "title", "comment", "sentence", "description", "raw",
            "label")
# columns of labels: a label is right for every image that has it, a caption for its own
LABELS = ("label", "labels", "class", "class_name", "category")
LINKS = ("url", "image_url", "img_url", "link")
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


class Fault(ValueError):
    """A bad entry: what is wrong with it, and the way out.

    kind: a few words to count faults by
    count: how many entries are lost
    """

    def __init__(self, kind: str, problem: str, way_out: str = "leave it out or mend it",
                 count: int = 1):
        if len(problem) > LONGEST:
            problem = f"{problem[:LONGEST]}..."
        # a stranger's file name may contain escape sequences, which a terminal would obey
        problem = "".join(c if c.isprintable() else repr(c)[1:-1] for c in problem)
        super().__init__(f"{problem}; {way_out}")
        self.kind = kind
        self.problem = problem
        self.way_out = way_out
        self.count = count

    def at(self, place: str) -> "Fault":
        """The same fault, with its place."""
        return Fault(self.kind, f"{place}: {self.problem}", self.way_out, self.count)


class Columns(NamedTuple):
    """Names of columns that the user gives; "" for one to be recognised."""

    image: str = ""
    caption: str = ""
    group: str = ""                   # rows with the same value must stay in one split


class Layout(NamedTuple):
    """A table's columns to use, as it spells them; "" for one that is absent."""

    image: str = ""
    captions: tuple[str, ...] = ()
    split: str = ""
    group: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether both image and caption have a column."""
        return bool(self.image and self.captions)


class Row(NamedTuple):
    """An image with its captions, whatever they stand in."""

    image: Any = None
    captions: Any = ()
    split: str = ""                   # "": a hash decides
    group: Any = None                 # rows of one group stay in one split
    labelled: bool = False            # whether the caption is a label, right for all that have it
    fault: Fault | None = None        # why it can't be read


class Form(NamedTuple):
    """An open file of captions: all names of its columns, those to use, and its entries.

    entries: dicts by column, or Faults
    note: how it is read
    """

    path: Path
    names: list[str]
    layout: Layout
    entries: Iterator[Any]
    note: str = ""
    encoding: str = ""

    def describe(self) -> str:
        """How it is read, and from which columns."""
        layout = self.layout
        description = (f"{self.note}: images from {layout.image!r}, captions from "
                       f"{', '.join(map(repr, layout.captions))}")
        return f"{description}, splits from {layout.split!r}" if layout.split else description


def find_layout(names: Iterable[Any], wanted: Columns = Columns()) -> Layout:
    """Which of a table's columns hold image, captions, split and group.

    Captions may stand in several, caption1 to caption5.
    """
    present = {name.strip().lower(): name for name in names if isinstance(name, str)}

    def first(*candidates: str) -> str:
        return next((present[name] for name in candidates if name in present), "")
    captions: tuple[str, ...] = ()
    for name in [wanted.caption.lower()] if wanted.caption else CAPTIONS:
        numbered = re.compile(re.escape(name) + r"[ _-]?\d+")
        captions = tuple(present[key] for key in present if numbered.fullmatch(key))
        if name in present:
            captions = (present[name],)
        if captions:
            break
    images = [wanted.image.lower()] if wanted.image else IMAGES
    return Layout(first(*images), captions, first("split"), first(wanted.group.lower()))


def check_layout(where: str | Path, names: Iterable[str], layout: Layout,
                 wanted: Columns) -> None:
    """Raises ValueError, which lists a table's columns, for no image, caption or group."""
    for what, column, known in (("image", layout.image, IMAGES),
                                ("caption", layout.captions, CAPTIONS),
                                ("group", layout.group, ())):
        name = getattr(wanted, what)
        if column or not (name or known):
            continue
        problem = f"no column {name!r}" if name else f"none called {', '.join(known)}"
        present = ", ".join(map(repr, names)) or "(none)"
        raise ValueError(f"{where} has the columns {present} and {problem}; name the {what}'s "
                         f"column with --{what}-column; or if these are no names, put a line with "
                         "names above them, such as file,caption")


def read_form(path: Path, wanted: Columns = Columns()) -> Form:
    """Open a file of captions; its layout is incomplete if it is none.

    Raises ValueError for a file that can't be read, and for a list of links.
    """
    with restate(f"{path} cannot be read", "check its permissions", OSError), \
            open(path, encoding=encoding_of(path), errors="replace") as file:
        start = file.read(LONGEST).lstrip()
    return json_form(path, wanted) if start[:1] in ("[", "{") else table_form(path, wanted)


def rows(form: Form, split: str = "") -> Iterator[Row]:
    """A file's rows. split: of all of them, if the file's name says so

    Raises ValueError for an unknown split: its rows would all be lost.
    """
    layout = form.layout
    labelled = layout.captions[0].strip().lower() in LABELS
    lists = False                     # whether a caption's cell holds a JSON list of them
    for number, entry in enumerate(form.entries):
        if not isinstance(entry, dict | Fault):
            entry = Fault("malformed", f"{entry!r} is no object with image and caption")
        if isinstance(entry, Fault):
            yield Row(split=split, fault=entry)
            continue
        # pandas' index is a column whose name is "", too
        name = entry.get(layout.split) if layout.split else None
        group = entry.get(layout.group) if layout.group else None
        if name:
            name = known_split(str(name), f"{form.path}: row {number}")
        row = Row(entry.get(layout.image), [], name or split, group, labelled)
        cells = [entry.get(column) for column in layout.captions]
        lists = lists or number == 0 and str(cells[0]).startswith('["')
        try:
            texts = [json.loads(cell) for cell in cells] if lists else cells
        except (ValueError, TypeError) as error:
            fault = Fault("malformed", f"{cells!r} is no list of captions: {error}")
            yield row._replace(fault=fault)
            continue
        for text in texts:
            row.captions.extend(text if isinstance(text, list) else [text])
        if len(cells) > 1:            # fewer captions than columns
            row = row._replace(captions=[text for text in row.captions if text])
        image = row.image
        if isinstance(image, str | int) and not isinstance(image, bool):
            row = row._replace(image=str(image).strip())
        yield row


def known_split(name: str, where: str) -> str:
    """The split that a name means: val is validation. Raises ValueError for an unknown name."""
    split = SPLIT_NAMES.get(name.strip().lower())
    if split is None:
        raise ValueError(f"{where} has split {name!r}, which is none of {', '.join(SPLIT_NAMES)}; "
                         "mend it or leave it empty")
    return split


# JSON

def json_form(path: Path, wanted: Columns) -> Form:
    """Open a file of JSON, with the layout of the first complete entries."""
    objects = chain.from_iterable(map(unpack, entries(path)))
    first = list(islice(objects, FIRST))
    names = [list(entry) for entry in first if isinstance(entry, dict)] or [[]]
    layouts = [find_layout(columns, wanted) for columns in names]
    best = max(range(len(names)), key=lambda i: (layouts[i].is_complete, len(names[i])))
    return Form(path, names[best], layouts[best], chain(first, objects))


def unpack(entry: Any) -> Iterable[Any]:
    """An entry of a foreign form as entries with image and caption; any other as it is."""
    if not isinstance(entry, dict) or not entry:
        return [entry]
    images = entry.get("images")
    if isinstance(images, list) and isinstance(entry.get("annotations"), list):
        return coco_entries(images, entry["annotations"])
    if isinstance(images, list) and images and isinstance(images[0], dict):
        return map(karpathy_entry, images)
    if isinstance(entry.get("conversations"), list):         # LLaVA's: the question has no caption
        turns = filter(is_object, entry["conversations"])
        texts = [turn.get("value") for turn in turns if turn.get("from") == "gpt"]
        return [{"image": entry.get("image"), "caption": texts[:1]}]
    if all(str(name).lower().endswith(SUFFIXES) for name in entry):
        return [{"image": name, "caption": texts} for name, texts in entry.items()]
    return [entry]


def is_object(value: Any) -> bool:
    """Whether a value of JSON is an object."""
    return isinstance(value, dict)


def coco_entries(images: list[Any], annotations: list[Any]) -> Iterator[Any]:
    """COCO's captions by image: those of an instances.json have none, and are left as they are."""
    texts: dict[str, list[Any]] = {}
    for annotation in annotations:
        if is_object(annotation) and "caption" in annotation:
            texts.setdefault(str(annotation.get("image_id")), []).append(annotation["caption"])
    for image in images:
        if is_object(image) and texts:
            number = str(image.get("id"))
            yield {"image": image.get("file_name"), "caption": texts.get(number, [])}
        else:
            yield image


def karpathy_entry(image: Any) -> Any:
    """An image of Karpathy's splits with its sentences."""
    if not is_object(image) or not isinstance(image.get("sentences"), list):
        return image
    name = PurePosixPath(str(image.get("filepath", "")), str(image.get("filename")))
    texts = [sentence.get("raw") for sentence in filter(is_object, image["sentences"])]
    return {"image": str(name), "caption": texts, "split": image.get("split")}


def entries(path: Path) -> Iterator[Any]:
    """The entries of a JSON list or of JSON lines, in little memory, or a single object.

    Raises ValueError for a broken file.
    """
    with restate(f"{path} cannot be read", "it must be JSON, a list or lines; get it again",
                 OSError, ValueError, RecursionError), \
            open(path, encoding=encoding_of(path)) as file:
        start = file.read(1)
        while start.isspace():
            start = file.read(1)
        yield from list_entries(file) if start == "[" else line_entries(start, file)


def list_entries(file: TextIO) -> Iterator[Any]:
    """The entries of an open JSON list, behind its bracket."""
    decoder = json.JSONDecoder()
    text = ""
    position = 0
    number = 0
    while True:
        separators = BETWEEN.match(text, position)
        assert separators                                    # it matches nothing, too
        position = separators.end()
        if text[position:position + 1] == "]":
            return
        try:
            entry, position = decoder.raw_decode(text, position)
        except ValueError as error:
            # the entry may continue in the next chunk
            chunk = file.read(CHUNK)
            if not chunk or len(text) - position > LARGEST:
                raise ValueError(f"entry {number} is not JSON ({error})") from None
            text = text[position:] + chunk
            position = 0
        else:
            yield entry
            number += 1


def line_entries(start: str, file: TextIO) -> Iterator[Any]:
    """The objects of JSON lines, or a single object in several lines. start: what is read"""
    line = start + file.readline()
    try:
        first = json.loads(line)
    except ValueError:
        if line.strip():
            yield json.loads(line + file.read())
        return
    yield first
    for line in file:
        if line.strip():
            yield json.loads(line)


def load(path: Path, *keys: str) -> Any:
    """Load a whole JSON file, which has a list under each of the keys.

    Raises ValueError for any other file.
    """
    with restate(f"{path} cannot be read", "it must be JSON; get it again", OSError, ValueError,
                 RecursionError):
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    for key in keys:
        if not isinstance(value, dict) or not isinstance(value.get(key), list):
            raise ValueError(f"{path} has no list {key!r}, so it isn't the file that its name "
                             "says; get it again")
    return value


# tables

def table_form(path: Path, wanted: Columns) -> Form:
    """Open a table with a header, or Flickr's lists without one; the separator is found.

    Raises ValueError for a list of links, whose images have to be downloaded first.
    """
    with restate(f"{path} cannot be read", "it must be a table in UTF-8: save it as that",
                 OSError, UnicodeDecodeError):
        text, encoding = read_text(path)
    is_list = TOKEN.match(text)
    if is_list:
        text = "image\tcaption\n" + re.sub(r"(?m)^([^\t\n]+)#\d+\t", r"\1\t", text)
    layout = Layout()
    names: list[str] = []
    separator = ","
    for candidate in SEPARATORS:
        header = next(csv_rows([text.partition("\n")[0]], candidate, strict=False), [""])
        columns = [name.strip() for name in header]
        found = find_layout(columns, wanted)
        if (found.is_complete, len(columns)) > (layout.is_complete, len(names)):
            layout, names, separator = found, columns, candidate
    check_links(path, names, separator, layout)
    table = csv_rows(io.StringIO(text, newline=""), separator, quoted=not is_list)
    note = f", separated by {SEPARATORS[separator]}"
    return Form(path, names, layout, table_entries(path, table, names, layout, separator), note,
                encoding)


def check_links(path: Path, names: list[str], separator: str, layout: Layout) -> None:
    """Raises ValueError, with the command that downloads them, for a list of images' addresses."""
    links = [name for name in names if name.lower() in LINKS]
    has_header = not any(map(LINK.fullmatch, names))
    if has_header and (layout.image or not links):
        return
    header = ""
    if not has_header:
        names = ["url" if LINK.fullmatch(name) else "caption" for name in names]
        header = f"put a line with the columns' names first, {separator.join(names)!r}, then "
        links = ["url"]
    caption = layout.captions[0] if layout.captions else "caption"
    ending = "tsv" if separator == "\t" else "csv"
    raise ValueError(f"{path} holds links and no images; {header}download them: img2dataset "
                     f"--url_list {path} --input_format {ending} --url_col {links[0]} --caption_col "
                     f"{caption} --output_format webdataset --output_folder shards; and read them: "
                     "minalbef prepare shards --from shards")


def table_entries(path: Path, table: Iterator[list[str]], names: list[str], layout: Layout,
                  separator: str) -> Iterator[dict[str, str] | Fault]:
    """The rows of a table, by column's name. Of a last column, all that is left is the caption."""
    with restate(f"{path} cannot be read", "mend that line", csv.Error):
        next(table, None)                                    # the header
        for row in table:
            while row and not row[-1].strip():
                row.pop()
            rest = len(names) - 1
            swallowed = [line for cell in row for line in cell.splitlines()[1:]]
            if any(map(IMAGE_CELL.search, swallowed)):
                yield Fault("rows within quotation marks", f"{row!r} is a row and {len(swallowed)} "
                            "more, between two quotation marks", "close the first one, or write "
                            'it twice: ""', count=len(swallowed) + 1)
            elif len(row) > len(names) and names[-1] in layout.captions:
                yield dict(zip(names, [*row[:rest], f"{separator} ".join(row[rest:])]))
            elif len(row) > len(names):
                yield Fault("malformed", f"{row!r} has {len(row)} fields, the header {len(names)}",
                            f"put a text with {SEPARATORS[separator]} in it between quotes")
            elif row:
                yield dict(zip(names, row))


def csv_rows(lines: Iterable[str], separator: str, strict: bool = True,
             quoted: bool = True) -> Iterator[list[str]]:
    """Rows of a table. With "|" nothing is quoted: Kaggle's has single quotation marks in texts."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted and separator != "|" else csv.QUOTE_NONE
    return csv.reader(lines, delimiter=separator, quoting=quoting, skipinitialspace=True,
                      strict=strict)


# text

def encoding_of(path: Path) -> str:
    """UTF-8, or UTF-16 where the file begins with its mark."""
    with open(path, "rb") as file:
        mark = file.read(2)
    return "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def read_text(path: Path) -> tuple[str, str]:
    """A text file -> its text and encoding: UTF-8, UTF-16 with a mark, or else Windows' Latin-1.

    Raises UnicodeDecodeError for other encodings, as far as they can be told.
    """
    data = path.read_bytes()
    encoding = encoding_of(path)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        encoding = LATIN
        text = data.decode(LATIN)
    if "\0" in text or encoding == LATIN and not LATIN_TEXT.fullmatch(text):
        raise UnicodeDecodeError(encoding, data, 0, 1, "it has characters that no text has")
    return text, encoding
