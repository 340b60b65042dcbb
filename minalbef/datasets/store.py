"""The project's records on disk: JSON lines and an index of their offsets, for random access."""
import json
import os
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from torch.utils.data import ConcatDataset, Dataset, Subset

from minalbef.config import Config
from minalbef.data import hold_upright
from minalbef.datasets.choices import ChoiceRecord
from minalbef.datasets.readers import in_share
from minalbef.datasets.shards import Member
from minalbef.tasks.table import TASKS
from minalbef.writing import explain

Folders = str | Path | Sequence[str | Path]                # prepared sets, or splits of them: one, or several
NAME = re.compile(r"\w[\w.-]*")       # a file's, which leads nowhere else
KINDS = {kind.__name__: kind for task in TASKS.values() for kind in task.records} | {"ChoiceRecord": ChoiceRecord}


class Records(Dataset):
    """A split as `minalbef prepare` wrote it: record i in the files' order. Its picture is a path, which a batch opens.

    root: where the pictures are now, if they have moved
    upright: whether the set is your own, whose pictures are held as `data.Upright`
    Raises ValueError for a folder that holds no such split.
    """

    def __init__(self, folder: str | Path, split: str, root: str | Path | None = None):
        self.opened, about = (folder, split, root), read_about(folder)
        if split not in about["splits"]:
            raise ValueError(f"{folder} has no split {split!r}; there are {', '.join(about['splits'])}")
        self.path, self.upright = file_of(folder, split, ".jsonl"), is_upright(about, folder)
        self.kind, self.root = KINDS[about["splits"][split]["kind"]], Path(root or about["root"])
        try:
            self.places = np.lib.format.open_memmap(self.path.with_suffix(".npy"), mode="r")
            if self.places.ndim != 1 or self.places.dtype.kind not in "iu" or not len(self.places):
                raise ValueError("the index is damaged")
            if self.path.stat().st_size != self.places[-1]:
                raise ValueError("the index is another file's")
            # both stay open: `prepare` may replace the set meanwhile, and workers must not share a file offset
            self.lines = np.memmap(self.path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path} and its index cannot be read: {error}; prepare the set again") from error

    def __len__(self) -> int:
        return len(self.places) - 1

    def __reduce__(self):
        return Records, self.opened                              # a worker opens the files itself

    def __getitem__(self, i: int):
        i = range(len(self))[i]
        with explain(f"record {i} of {self.path} is damaged", "prepare the set again", ValueError):
            values = json.loads(self.lines[self.places[i]:self.places[i + 1]].tobytes())
            if not isinstance(values, dict) or not values.keys() <= {field.name for field in fields(self.kind)}:
                raise ValueError("it is no record")
        def place(image):
            return self.root / image if isinstance(image, str) else Member(self.root / image[0], *image[1:])
        read = {"image": place, "images": lambda pair: tuple(map(place, pair))}
        record = self.kind(**{name: read.get(name, to_tuples)(value)
                              for name, value in values.items()})
        return hold_upright(record) if self.upright else record


def read_about(folder: str | Path) -> dict:
    """What `prepare` noted of a set. Raises ValueError for no notes, and for damaged ones.

    The file may be a stranger's: what it names is only ever a file of its own folder.
    """
    path = Path(folder) / "about.json"
    with explain(f"{folder} holds no prepared records", "`minalbef prepare` makes them", OSError):
        text = path.read_bytes()
    with explain(f"{path} is damaged", "prepare the set again", ValueError, RecursionError):
        about = json.loads(text)
        check_about(about)
    return about


def check_about(about) -> None:
    """Raises ValueError for what `prepare` doesn't write into about.json."""
    if not isinstance(about, dict) or not isinstance(about.get("splits"), dict):
        raise ValueError("it names no splits")
    for name in ("set", "root"):
        if not isinstance(about.get(name), str):
            raise ValueError(f"{name!r} is {about.get(name)!r} and must be a string")
    for split, noted in about["splits"].items():
        if not isinstance(noted, dict) or noted.get("kind") not in [*KINDS]:
            raise ValueError(f"split {split!r} has no kind of records, which is one of "
                             f"{', '.join(KINDS)}: {noted!r}")
        file = noted.get("file", split)
        if not isinstance(file, str) or not NAME.fullmatch(file) or not NAME.fullmatch(split):
            raise ValueError(f"split {split!r} has the file {file!r}, which is no name of a file "
                             "in this folder")
        for what in ("records", "pictures"):
            if not isinstance(noted.get(what, 0), int):
                raise ValueError(f"{what!r} of split {split!r} is {noted[what]!r} and no number")


def is_upright(about: dict, folder: str | Path) -> bool:
    """Whether a set's pictures are opened upright; False for one that an older version wrote."""
    if (upright := about.get("upright", False)) not in (True, False):
        raise ValueError(f"{folder}/about.json is damaged: upright is {upright!r}; "
                         "prepare the set again")
    return upright


def sets_upright(data: Sequence[str | Path]) -> bool:
    """Whether prepared sets' pictures are opened upright. Raises ValueError where sets differ."""
    folders = [place_of(name)[0] for name in data]
    upright = [folder for folder in folders if is_upright(read_about(folder), folder)]
    stored = [folder for folder in folders if folder not in upright]
    if upright and stored:
        upright, stored = (", ".join(map(str, some)) for some in (upright, stored))
        raise ValueError(f"the pictures of {upright} are opened upright, those of {stored} as "
                         "stored, and a model learns one way: train on one after the other, or "
                         "prepare an older set of your own again")
    return bool(upright)


def check_upright(config: Config, data: Sequence[str | Path]) -> None:
    """Raises ValueError for settings that open pictures otherwise than the sets to train on say."""
    upright = sets_upright(data)
    if config.upright != upright:
        way = "upright" if upright else "as stored"
        raise ValueError(f"upright={config.upright}: the pictures of {', '.join(map(str, data))} "
                         f"are opened {way}, as about.json says; take upright={upright}")


def folders_of(data: Folders | None) -> tuple[str | Path, ...]:
    """Prepared sets as a tuple, also where there is but one."""
    return (data,) if isinstance(data, str | Path) else tuple(data or ())


def place_of(data: str | Path, split: str = "train") -> tuple[Path, str]:
    """prepared/coco, or one of its splits, as prepared/coco/test -> the folder and the split, by default `split`."""
    path = Path(data)
    named = not (path / "about.json").exists() and (path.parent / "about.json").exists()
    return (path.parent, path.name) if named else (path, split)


def open_records(task: str, data: Sequence[str | Path], share: float = 1.0) -> Dataset:
    """Training records of prepared sets, one after the other. share: of their pictures, see readers.in_share

    Raises ValueError for records of another task, and for a share without any.
    """
    opened = [Records(*place_of(one)) for one in data]
    for records in opened:
        if records.kind not in (kinds := TASKS[task].records):
            raise ValueError(f"{records.path} holds records of {records.kind.__name__}, and {task} learns from "
                             f"{' or '.join(kind.__name__ for kind in kinds)}: name a set prepared for it with --data")
    whole = opened[0] if len(opened) == 1 else ConcatDataset(opened)
    if share == 1:
        return whole
    some = [i for i in range(len(whole)) if in_share(whole[i].id, share)]
    if not some:
        raise ValueError(f"share={share} of the {len(whole):,} records of {', '.join(map(str, data))} is not one of "
                         "them; take a larger share")
    return Subset(whole, some)


def file_of(folder: str | Path, split: str, ending: str) -> Path:
    """A file of a prepared split. Raises KeyError for an unknown split, ValueError as `read_about`."""
    return Path(folder) / (read_about(folder)["splits"][split].get("file", split) + ending)


def to_tuples(value):
    """Lists as tuples, all the way down."""
    return tuple(map(to_tuples, value)) if isinstance(value, list) else value


def line(record, root: Path) -> bytes:
    """A record as a line of JSON, its pictures relative to root."""
    def place(image):
        path = os.path.relpath(image.path if isinstance(image, Member) else image, root).replace(os.sep, "/")
        return [path, image.offset, image.size] if isinstance(image, Member) else path
    write = {"image": place, "images": lambda pair: [*map(place, pair)]}
    values = {name: write[name](value) if name in write else value for name, value in vars(record).items()}
    return json.dumps(values).encode() + b"\n"
