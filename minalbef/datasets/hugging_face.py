"""Hugging Face datasets by name, hf-dataset://OWNER/NAME, by the library `datasets`.

Their images lie in tables of bytes; each is written as a file, named by its content, when its
caption is read.
"""
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from minalbef.data import Record
from minalbef.datasets import pairs
from minalbef.datasets.readers import (
    Fault,
    FaultHandler,
    Roots,
    caption_records,
    field,
    parse_entries,
    refuse,
    stable_hash,
)
from minalbef.datasets.tables import CAPTIONS, SPLIT_NAMES, Columns, alone, find_columns
from minalbef.system.images import FORMATS, content_hash
from minalbef.system.writing import restate

SCHEME = "hf-dataset://"
EXTRA = "pip install 'minalbef[datasets]' brings it"


class HubDataset:
    """A dataset with columns of images and captions, each image still as its file's bytes."""

    def __init__(self, address: str, columns: Columns = Columns()):
        """address: hf-dataset://OWNER/NAME, or with /CONFIG, or a folder: hf-dataset:///my/folder

        columns: their names, if they aren't known ones
        Raises ValueError if it can't be loaded, and if there is no column for either.
        """
        self.address = address
        self.parts = load(address.removeprefix(SCHEME))      # by the dataset's names of splits
        self.others: list[str] = []                          # splits that aren't read
        if len(self.parts) > 1:
            self.others = [name for name in self.parts if name.lower() not in SPLIT_NAMES]
        for name in self.others:
            del self.parts[name]
        if not self.parts:
            raise ValueError(f"{address} has the splits {', '.join(self.others)}, which are none "
                             f"of {', '.join(SPLIT_NAMES)}; save one by save_to_disk and name its "
                             "folder")
        features = next(iter(self.parts.values())).features
        self.columns = choose_columns(address, features, columns)
        self.names_splits = bool(self.columns.split or len(self.parts) > 1
                                 or alone(SPLIT_NAMES.get(next(iter(self.parts)).lower(), "")))
        self.names = getattr(features[self.columns.caption], "names", None)   # of classes
        self.has_labels = self.names is not None or self.columns.has_labels

    def describe(self) -> str:
        """Where images and captions are read from, to print."""
        counts = ", ".join(f"{len(part):,} rows of {name}" for name, part in self.parts.items())
        others = f"; not read: {', '.join(self.others)}" if self.others else ""
        return (f"{self.address}, {counts}: images from {self.columns.image!r}, "
                f"captions from {self.columns.caption!r}{others}")

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows: image {"bytes", "path"}, caption, and split if it is known.

        Raises ValueError for an unknown split in a column: its rows would all be lost.
        """
        import datasets
        for name, part in self.parts.items():
            part = part.cast_column(self.columns.image, datasets.Image(decode=False))
            part = part.select_columns([column for column in self.columns if column])
            for number, row in enumerate(part):
                split = row.get(self.columns.split) or (name if self.names_splits else "")
                if split:
                    split = pairs.known_split(str(split), f"{self.address}: row {number}")
                yield {"image": row[self.columns.image], "split": split,
                       "group": row.get(self.columns.group),
                       "caption": self.caption_of(row[self.columns.caption])}

    def caption_of(self, value: Any) -> Any:
        """A caption as it is, or for a class its name."""
        if self.names and isinstance(value, int):
            return self.names[value].replace("_", " ")
        return value


def load(name: str) -> dict[str, Any]:
    """A dataset's splits by name: from a folder, or else from the hub, which downloads it.

    Raises ValueError without the library, and for what isn't there.
    """
    with restate("the library `datasets` is not installed", EXTRA, ImportError):
        # by name: a folder called datasets, where you are, would be imported as an empty package
        from datasets import load_dataset, load_from_disk
    folder = Path(name)
    with restate(f"{SCHEME}{name} cannot be loaded", "check name, configuration "
                 f"({SCHEME}OWNER/NAME/CONFIG) and network; `hf auth login` opens sets with terms",
                 Exception):                                 # a library's, of many types
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            loaded = load_from_disk(name)
        elif folder.is_dir():
            loaded = load_dataset(name)
        else:
            owner, *rest = name.split("/", 2)
            loaded = load_dataset("/".join([owner, *rest[:1]]), *rest[1:])
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def choose_columns(address: str, features: Any, columns: Columns) -> Columns:
    """The columns of images and captions; a class's name is a caption, too.

    Raises ValueError, which lists the columns, if there is none for either.
    """
    import datasets
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    classes = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    image = columns.image or next(iter(images), "")
    caption = find_columns(features, columns).caption
    if not caption and not columns.caption:
        caption = next(iter(classes), "")
    present = ", ".join(f"{name!r} ({getattr(kind, 'dtype', type(kind).__name__)})"
                        for name, kind in features.items())
    if image not in images:
        where = f"{image!r}" if image else "any of them"
        raise ValueError(f"{address} has the columns {present}, and no images in {where}; name "
                         "their column with --image-column. Links must be downloaded first, such "
                         "as by img2dataset")
    if not caption:
        lacking = f"no column {columns.caption!r}" if columns.caption else \
            f"none called {', '.join(CAPTIONS)}"
        raise ValueError(f"{address} has the columns {present} and {lacking}; "
                         "name the caption's column with --caption-column")
    found = find_columns(features, columns)
    if columns.group and not found.group:
        raise ValueError(f"{address} has the columns {present} and no {columns.group!r}, by which "
                         "--group-column keeps rows together")
    return Columns(image, caption, found.split, found.group)


def read_hub_dataset(path: Path, dataset: HubDataset, root: Roots = "images",
                     on_fault: FaultHandler = refuse, split: str = "train") -> Iterator[Record]:
    """A dataset's images with captions, those of one split -> a record for each caption.

    path: its address, which `dataset` knows. root: the folder to write the images into; of several
        the first. What lies there already stays
    Without splits, a hash of each image decides; a class's name is a label: see `pairs.read_pairs`.
    """
    folder = Path(root if isinstance(root, (str, Path)) else (root or ["images"])[0])
    labels = pairs.Labels()

    def parse(row: dict[str, Any]) -> Iterable[Record | Fault]:
        named = row["split"]
        if (named or split) != split:
            return []
        try:
            data = image_bytes(row["image"])
            suffix = suffix_of(data)
            captions = field(row, "caption", (str, list))
        except Fault as fault:
            if not named and split != "train":
                return []                                    # it is told when "train" is read
            raise fault
        photo = content_hash(data)
        group = row.get("group")
        if (named or pairs.split_of(photo if group is None else stable_hash(str(group)))) != split:
            return []
        digest = blake2b(data).hexdigest()
        path = folder / digest[:2] / f"{digest[:16]}{suffix}"
        if not path.is_file() or path.stat().st_size != len(data):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if isinstance(captions, str):
            captions = [captions]
        if dataset.has_labels:
            return labels.records(path, captions, photo)
        return caption_records(path, captions, photo)
    yield from parse_entries(dataset.address, dataset.rows(), parse, on_fault)


def image_bytes(image: Any) -> bytes:
    """The bytes of an image's file. Raises Fault if there are none."""
    if not image:
        raise Fault("missing image", "the row has no image", "leave it out")
    try:
        return image["bytes"] or Path(image["path"]).read_bytes()
    except (OSError, TypeError) as error:
        raise Fault("missing image", f"{image['path']} cannot be read: {error}",
                    "get it again") from error


def suffix_of(data: bytes) -> str:
    """What the name of an image's file ends in, by its first bytes. Raises Fault for no image."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            return f".{str(image.format).lower()}".replace("jpeg", "jpg")
    except Exception as error:                               # as in `images.open_image`
        raise Fault("unreadable image", f"{len(data):,} bytes are no image: {error}",
                    "leave it out") from error
