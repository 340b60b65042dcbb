"""Hugging Face datasets by name, hf-dataset://OWNER/NAME, by the library `datasets`.

Their images lie in tables of bytes; each is written as a file, named by its content, when its
caption is read.
"""
import os
from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from minalbef.datasets.forms import (
    SPLIT_NAMES,
    Columns,
    Fault,
    Form,
    Layout,
    Row,
    check_layout,
    find_layout,
    rows,
)
from minalbef.datasets.pairs import OwnPairs, Part, alone
from minalbef.system.images import FORMATS, SUFFIXES
from minalbef.system.writing import restate

SCHEME = "hf-dataset://"
SAVED = ("dataset_dict.json", "state.json")      # of `save_to_disk`
EXTRA = "pip install 'minalbef[datasets]' brings it"


def is_dataset(folder: Path) -> bool:
    """Whether a folder is one that `datasets` wrote, or as the hub has it: of parquet.

    In a folder with images or tars, parquet is what img2dataset wrote of them.
    """
    endings = {Path(name).suffix for _, _, names in os.walk(folder) for name in names}
    return any((folder / name).is_file() for name in SAVED) \
        or ".parquet" in endings and not endings & {".tar", *SUFFIXES}


def open_dataset(address: str, folder: Path, columns: Columns = Columns()) -> OwnPairs:
    """A Hugging Face dataset with columns of images and captions.

    address: a folder, or hf-dataset://OWNER/NAME, or with /CONFIG
    folder: for the images; columns: their names, if they aren't known ones
    Raises ValueError if it can't be loaded, if there is no column for either, and for an unknown
    split in a column: its rows would all be lost.
    """
    parts = load(address.removeprefix(SCHEME))   # by the dataset's names of splits
    named = {name: part for name, part in parts.items() if name.lower() in SPLIT_NAMES}
    others = [name for name in parts if name not in named] if named else []
    parts = named or parts                       # a single one is all there is
    layout = choose_columns(address, next(iter(parts.values())).features, columns)
    table: list[Row] = []
    for name, part in parts.items():
        split = SPLIT_NAMES.get(name.lower(), "")
        table += rows_of(address, part, alone(split) if len(parts) == 1 else split, layout)
    counts = ", ".join(f"{len(part):,} rows of {name}" for name, part in parts.items())
    description = (f"{address}, {counts}: images from {layout.image!r}, captions from "
                   f"{', '.join(map(repr, layout.captions))}")
    if others:
        description += f"; not read: {', '.join(others)}"
    return OwnPairs([Part(address, table, partial(save_image, folder))], description)


def rows_of(address: str, part: Any, split: str, layout: Layout) -> Iterator[Row]:
    """A split's rows, of which an image is (the column of images, its number)."""
    import datasets
    images = part.select_columns(layout.image).cast_column(layout.image,
                                                           datasets.Image(decode=False))
    others = part.select_columns([name for name in (*layout.captions, layout.split, layout.group)
                                  if name])
    form = Form(Path(address), [], layout, iter(others))
    names = getattr(part.features[layout.captions[0]], "names", None)
    for number, row in enumerate(rows(form, split)):
        captions = row.captions
        if names:
            captions = [names[caption].replace("_", " ") for caption in captions]
        yield row._replace(image=(images, number), captions=captions,
                           labelled=row.labelled or bool(names))


def load(name: str) -> dict[str, Any]:
    """A dataset's splits by name: from a folder, or else from the hub, which downloads it.

    Raises ValueError without the library, and for what isn't there.
    """
    with restate("the library `datasets` is not installed", EXTRA, ImportError):
        # by name: a folder called datasets, where you are, would be imported as an empty package
        from datasets import load_dataset, load_from_disk
    with restate(f"{SCHEME}{name} cannot be loaded", "check name, configuration "
                 f"({SCHEME}OWNER/NAME/CONFIG) and network; `hf auth login` opens sets with terms",
                 Exception):                                 # a library's, of many types
        if any(Path(name, file).is_file() for file in SAVED):
            loaded = load_from_disk(name)
        elif Path(name).is_dir():
            loaded = load_dataset(name)
        else:
            owner, *rest = name.split("/", 2)
            loaded = load_dataset("/".join([owner, *rest[:1]]), *rest[1:])
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def choose_columns(address: str, features: Any, wanted: Columns) -> Layout:
    """The columns of images and captions; a class's name is a caption, too.

    Raises ValueError, which lists the columns, if there is none for either.
    """
    import datasets
    images = [name for name, kind in features.items()
              if isinstance(kind, datasets.Image) or isinstance(kind, dict) and "bytes" in kind]
    classes = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    layout = find_layout(features, wanted)
    layout = layout._replace(image=wanted.image or next(iter(images), ""))
    if not wanted.caption and not layout.captions:
        layout = layout._replace(captions=tuple(classes[:1]))
    if layout.image not in images:
        raise ValueError(f"{address} has the columns {', '.join(map(repr, features))}, and no "
                         f"images in {layout.image or 'any'}; name their column with "
                         "--image-column. Links must be downloaded first: img2dataset --url_list "
                         f"{address} --input_format parquet --output_folder shards")
    check_layout(address, features, layout, wanted)
    return layout


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
