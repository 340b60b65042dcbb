"""Hugging Face datasets by name, hf-dataset://OWNER/NAME, by the library `datasets`.

Their images lie in tables of bytes; each is written as a file, named by its content, when its
caption is read.
"""
from functools import partial
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from minalbef.datasets.pairs import OwnPairs, Part
from minalbef.datasets.readers import Fault
from minalbef.datasets.tables import (
    LABELS,
    SPLIT_NAMES,
    Columns,
    Row,
    alone,
    check_columns,
    find_columns,
    known_split,
)
from minalbef.system.images import FORMATS
from minalbef.system.writing import restate

SCHEME = "hf-dataset://"
EXTRA = "pip install 'minalbef[datasets]' brings it"


def open_dataset(address: str, folder: Path, columns: Columns = Columns()) -> OwnPairs:
    """A Hugging Face dataset with columns of images and captions.

    address: hf-dataset://OWNER/NAME, or with /CONFIG, or a folder: hf-dataset:///my/folder
    folder: for the images; columns: their names, if they aren't known ones
    Raises ValueError if it can't be loaded, if there is no column for either, and for an unknown
    split in a column: its rows would all be lost.
    """
    parts = load(address.removeprefix(SCHEME))   # by the dataset's names of splits
    others = [name for name in parts if name.lower() not in SPLIT_NAMES]
    if len(others) == len(parts):                # a single one is all there is
        others = []
    parts = {name: part for name, part in parts.items() if name not in others}
    columns = choose_columns(address, next(iter(parts.values())).features, columns)
    rows = []
    for name, part in parts.items():
        if len(parts) == 1:
            name = alone(SPLIT_NAMES.get(name.lower(), ""))
        rows += rows_of(address, part, name, columns)
    counts = ", ".join(f"{len(part):,} rows of {name}" for name, part in parts.items())
    description = (f"{address}, {counts}: images from {columns.image!r}, captions from "
                   f"{columns.caption!r}")
    if others:
        description += f"; not read: {', '.join(others)}"
    return OwnPairs([Part(address, rows, partial(save_image, folder))], description)


def rows_of(address: str, part: Any, split: str, columns: Columns) -> list[Row]:
    """A split's rows, of which an image is (the column of images, its number)."""
    import datasets
    images = part.select_columns(columns.image).cast_column(columns.image,
                                                            datasets.Image(decode=False))
    classes = getattr(part.features[columns.caption], "names", None)
    labelled = classes is not None or columns.caption.strip().lower() in LABELS
    rows = []
    for number, row in enumerate(part.select_columns([name for name in columns[1:] if name])):
        caption = row[columns.caption]
        if classes and isinstance(caption, int):
            caption = classes[caption].replace("_", " ")
        name = row.get(columns.split) or split
        if name:
            name = known_split(str(name), f"{address}: row {number}")
        rows.append(Row((images, number), caption, name, row.get(columns.group), labelled))
    return rows


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


def choose_columns(address: str, features: Any, wanted: Columns) -> Columns:
    """The columns of images and captions; a class's name is a caption, too.

    Raises ValueError, which lists the columns, if there is none for either.
    """
    import datasets
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    classes = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    columns = find_columns(features, wanted)
    columns = columns._replace(image=wanted.image or next(iter(images), ""))
    if not wanted.caption and not columns.caption:
        columns = columns._replace(caption=next(iter(classes), ""))
    if columns.image not in images:
        where = f"{columns.image!r}" if columns.image else "any of them"
        raise ValueError(f"{address} has the columns {', '.join(map(repr, features))}, and no "
                         f"images in {where}; name their column with --image-column. Links must "
                         "be downloaded first, such as by img2dataset")
    check_columns(address, features, columns, wanted)
    return columns


def save_image(folder: Path, place: tuple[Any, int]) -> Path:
    """Write an image into the folder, named by its content: -> its file.

    place: a column of images, and the image's number. Raises Fault if there is no image.
    """
    images, number = place
    image = images[number][images.column_names[0]]
    try:
        data = image["bytes"] or Path(image["path"]).read_bytes()
        with Image.open(BytesIO(data), formats=FORMATS) as opened:
            suffix = f".{str(opened.format).lower()}".replace("jpeg", "jpg")
    except Exception as error:                               # as in `data.open_image`
        raise Fault("unreadable image", f"row {number} has no image: {error}",
                    "leave it out") from error
    digest = blake2b(data).hexdigest()
    path = folder / digest[:2] / f"{digest[:16]}{suffix}"
    if not path.is_file() or path.stat().st_size != len(data):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return path
