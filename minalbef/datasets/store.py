"""Prepared records on disk: JSON lines and an index of their offsets, for random access."""
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Dataset, Subset

from minalbef.config import Config
from minalbef.datasets.readers import in_share
from minalbef.evaluation.choices import ChoiceRecord
from minalbef.evaluation.loop import Records as RecordSequence
from minalbef.system.images import ImageFile
from minalbef.system.writing import MALFORMED, check_fields, restate
from minalbef.tasks.table import TASKS

Folders = str | Path | Sequence[str | Path]                # prepared sets, or splits of them
TEXTS = ("text", "question")
FILE_NAME = re.compile(r"\w[\w.-]*")  # never a path, which could lead to another folder
# what about.json must say of a set and of each split, and of which type it is
ABOUT = {"set": str, "root": str, "command": str, "upright": bool, "splits": dict, "seal": str}
NOTES = {"kind": str, "file": str, "digest": str, "origin": str, "records": int, "pictures": int}
DEFAULTS = {"group": None, "match": None, "kind": ""}      # of records: they aren't written
HASHED = 1 << 26                      # bytes of records: up to so many are hashed when opened


def record_types() -> dict[str, type]:
    """All types of records, by name: those of the tasks, and ChoiceRecord."""
    types: dict[str, type] = {}
    for task in TASKS.values():
        for record_type in task.records:
            types[record_type.__name__] = record_type
    types["ChoiceRecord"] = ChoiceRecord
    return types


KINDS = record_types()


class Records(Dataset[Any]):
    """A split as `minalbef prepare` wrote it: records by number, in the order of the set's files.

    A record holds the path of its image, which is opened when a batch is made.
    root: where the images are now, if they have moved
    upright: whether the set is your own, whose images are opened so
    Raises ValueError for a folder that holds no such split, and for records that have changed.
    """

    def __init__(self, folder: str | Path, split: str, root: str | Path | None = None):
        self.arguments = folder, split, root
        about = read_about(folder)
        if split not in about["splits"]:
            raise ValueError(f"{folder} has no split {split!r}; "
                             f"there are {', '.join(about['splits'])}")
        self.path = file_of(folder, split, ".jsonl")
        self.upright = about["upright"]
        self.kind = KINDS[about["splits"][split]["kind"]]
        self.command = about["command"]
        self.root = Path(root or about["root"])
        with restate(f"{self.path} and its index cannot be read", "prepare the set again", OSError,
                     ValueError, IndexError):
            # both files stay open: `prepare` may replace the set meanwhile. Memory maps have no
            # file offset, which workers would share
            self.offsets = np.lib.format.open_memmap(self.path.with_suffix(".npy"), mode="r")
            self.lines = np.memmap(self.path, np.uint8, "r")
            if self.offsets.ndim != 1 or self.offsets.dtype.kind not in "iu" \
                    or self.offsets[-1] != len(self.lines):
                raise ValueError("the index is damaged, or another file's")
        if len(self.lines) <= HASHED:
            hash_of(folder, split)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return Records, self.arguments                       # a worker opens the files itself

    def __getitem__(self, i: int) -> Any:
        i = range(len(self))[i]
        with restate(f"record {i} of {self.path} is damaged", "prepare the set again", *MALFORMED):
            line = self.lines[self.offsets[i]:self.offsets[i + 1]]
            return from_line(line.tobytes(), self.kind, self.root, self.command, self.upright)


def from_line(line: bytes, kind: type, root: Path, command: str = "",
              upright: bool = False) -> Any:
    """The record that `to_line` wrote. Raises one of MALFORMED for another line.

    command: makes the set again, for an error; upright: how its images are opened
    """
    values = json.loads(line)

    def locate(image: Any) -> ImageFile:
        path, digest, *place = image
        offset, size = place or (0, None)
        return ImageFile(root / path, offset, size, digest, command, upright)
    for name, value in values.items():
        if name == "image":
            values[name] = locate(value)
        elif name == "images":
            values[name] = tuple(map(locate, value))
        elif name in TEXTS and not isinstance(value, str):
            raise ValueError(f"its {name} is {value!r} and must be text")
        else:
            values[name] = to_tuples(value)
    return kind(**values)


def to_tuples(value: Any) -> Any:
    """The value with all lists in it as tuples."""
    return tuple(map(to_tuples, value)) if isinstance(value, list) else value


def to_line(record: Any, root: Path) -> bytes:
    """A record as a line of JSON, with images relative to root."""
    values = {}
    for name, value in vars(record).items():
        if name not in DEFAULTS or value != DEFAULTS[name]:
            values[name] = value
    if "image" in values:
        values["image"] = relative_image(values["image"], root)
    if "images" in values:
        values["images"] = [relative_image(image, root) for image in values["images"]]
    return json.dumps(values).encode() + b"\n"


def relative_image(image: ImageFile, root: Path) -> list[str | int | None]:
    """An image's path relative to root and its hash; of an image in a tar also where it is."""
    path = os.path.relpath(image.path, root).replace(os.sep, "/")
    line = [path, image.hash]
    return line if image.size is None else [*line, image.offset, image.size]


def read_about(folder: str | Path) -> dict[str, Any]:
    """What `prepare` noted about a set, its manifest.

    Raises ValueError for no notes, and for damaged ones. The file may be a stranger's, so it can
    only name files of its own folder.
    """
    path = Path(folder) / "about.json"
    with restate(f"{folder} holds no prepared records", "`minalbef prepare` makes them", OSError):
        text = path.read_bytes()
    with restate(f"{path} is damaged", "prepare the set again", ValueError, RecursionError):
        about = check_fields(json.loads(text), ABOUT)
        for split, notes in about["splits"].items():
            check_fields(notes, NOTES)
            names = about["set"], split, notes["file"]
            if notes["kind"] not in KINDS or not all(map(FILE_NAME.fullmatch, names)):
                raise ValueError(f"'set' is {about['set']!r}, and its split {split!r} has the file "
                                 f"{notes['file']!r} of kind {notes['kind']!r}: set, split and "
                                 "file must be names of this folder, no paths, and the kind one "
                                 f"of {', '.join(KINDS)}")
        if about["seal"] != seal(about):
            raise ValueError("it has changed since the set was prepared")
    return about


def digest_of(file: str | Path) -> str:
    """The hash of a split's records."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()[:32]


def hash_of(folder: str | Path, split: str) -> str:
    """The hash of a prepared split's records, which hold the hashes of its images.

    Raises ValueError where the records aren't those that `prepare` wrote.
    """
    about = read_about(folder)
    file = file_of(folder, split, ".jsonl")
    with restate(f"{file} cannot be read", f"prepare the set again: minalbef {about['command']}",
                 OSError):
        digest = digest_of(file)
    if digest != about["splits"][split]["digest"]:
        raise ValueError(f"{file} has changed since the set was prepared; prepare the set again: "
                         f"minalbef {about['command']}")
    return digest


def seal(about: dict[str, Any]) -> str:
    """The hash of a whole prepared set: its records, their images, and how these are opened.

    Where it lies and how it was made isn't part of it.
    """
    parts = [about["set"], str(about["upright"])]
    for split, notes in sorted(about["splits"].items()):
        parts += [split, notes["digest"], notes["origin"], notes["kind"]]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def sets_upright(data: Sequence[str | Path]) -> bool:
    """Whether prepared sets' images are opened upright. Raises ValueError if sets differ."""
    folders = [place_of(name)[0] for name in data]
    upright = [str(folder) for folder in folders if read_about(folder)["upright"]]
    stored = [str(folder) for folder in folders if str(folder) not in upright]
    if upright and stored:
        raise ValueError(f"the images of {', '.join(upright)} are opened upright, those of "
                         f"{', '.join(stored)} as stored, and a model learns one way: train on "
                         "one after the other")
    return bool(upright)


def check_upright(config: Config, data: Sequence[str | Path]) -> None:
    """Raises ValueError if settings open images otherwise than the training sets say."""
    upright = sets_upright(data)
    if config.upright != upright:
        way = "upright" if upright else "as stored"
        raise ValueError(f"upright={config.upright}: the images of {', '.join(map(str, data))} "
                         f"are opened {way}, as about.json says; take upright={upright}")


def folders_of(data: Folders | None) -> tuple[str | Path, ...]:
    """Prepared sets as a tuple, even if there is only one."""
    return (data,) if isinstance(data, str | Path) else tuple(data or ())


def place_of(data: str | Path, split: str = "train") -> tuple[Path, str]:
    """The folder and split of a prepared set, such as prepared/coco or prepared/coco/test.

    split: the split if `data` names none
    """
    path = Path(data)
    if not (path / "about.json").exists() and (path.parent / "about.json").exists():
        return path.parent, path.name
    return path, split


def open_records(task: str, data: Sequence[str | Path], share: float = 1.0) -> RecordSequence:
    """Training records of prepared sets, one after the other.

    share: of their images, see readers.in_share
    Raises ValueError for records of another task, and for a share without any record.
    """
    sets = [Records(*place_of(name)) for name in data]
    kinds = TASKS[task].records
    for records in sets:
        if records.kind not in kinds:
            raise ValueError(f"{records.path} holds records of {records.kind.__name__}, and {task} "
                             f"learns from {' or '.join(kind.__name__ for kind in kinds)}: "
                             "name a set prepared for it with --data")
    dataset: Records | ConcatDataset[Any] = sets[0] if len(sets) == 1 else ConcatDataset(sets)
    if share == 1:
        return dataset
    numbers = [i for i in range(len(dataset)) if in_share(dataset[i].id, share)]
    if not numbers:
        raise ValueError(f"data_fraction={share} of the {len(dataset):,} records of "
                         f"{', '.join(map(str, data))} is less than one of them; "
                         "take a larger share")
    return Subset(dataset, numbers)


def file_of(folder: str | Path, split: str, ending: str) -> Path:
    """A file of a prepared split.

    Raises KeyError for an unknown split, and ValueError as `read_about`.
    """
    return Path(folder) / (read_about(folder)["splits"][split]["file"] + ending)
