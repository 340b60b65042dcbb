"""Features of a folder's images, kept in a file for the next search or evaluation."""
import hashlib
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from minalbef.albef import full
from minalbef.system import checkpoint
from minalbef.system.images import list_images
from minalbef.system.metrics import progress
from minalbef.system.writing import MALFORMED, require_file, restate, write_atomically
from minalbef.tasks.run import IMAGE_CHUNK, Run

LOG = logging.getLogger("minalbef")


class Features(NamedTuple):
    """The images of a folder and its subfolders, by their features."""

    folder: Path
    paths: list[Path]                 # images that can be read
    features: Tensor                  # theirs, (n, e) in the shared space or (n, d) of [CLS]
    broken: list[str]                 # why others can't be read


@torch.no_grad()
def embed_folder(run: Run, folder: Path, keep_in: Path | None = None,
                 cls: bool = False) -> Features:
    """Features of a folder's images, subfolders included.

    keep_in: the run's folder of results, for a file of the features. It is read in place of the
        images while neither their names, sizes and times nor the model have changed.
    cls: the image encoder's [CLS], before the projection to the shared space
    Raises ValueError for a folder without images, and where none can be read.
    """
    if not cls:
        run.require("image_proj", "text_proj")
    folder = Path(folder).resolve()
    paths = images_in(folder)
    kind = "cls" if cls else "features"
    file = keep_in / f"{folder.name}.{kind}.safetensors" if keep_in else None
    key = key_of(run, paths)
    kept = read_features(file, key) if file and file.exists() else None
    broken, features = kept or embed_paths(run, paths, cls)
    check_readable(folder, len(features), broken)
    if file and not kept:
        write_features(file, key, broken, features)
    readable = [path for path in paths if str(path) not in broken]
    return Features(folder, readable, features, [*broken.values()])


def images_in(folder: Path) -> list[Path]:
    """The images of a folder and its subfolders, by path. Raises ValueError for none."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; name the one that holds the images")
    return cast(list[Path], list_images(folder))                 # of a folder they are paths


def check_readable(folder: Path, readable: int, broken: dict[str, str]) -> None:
    """Raises ValueError where no image can be read. broken: why, by path"""
    if not readable:
        raise ValueError(f"no image of {folder} can be read, the first because "
                         f"{next(iter(broken.values()))}")


def key_of(run: Run, paths: list[Path]) -> str:
    """A hash of what features depend on: the model, and each image's name, size and time."""
    about: list[Any] = [run.config.to_dict(), checkpoint.digest_of(run.model.state_dict())]
    for path in paths:
        status = path.stat() if path.exists() else path.lstat()
        about.append([str(path), status.st_size, status.st_mtime_ns])
    return hashlib.blake2b(json.dumps(about).encode(), digest_size=16).hexdigest()


def embed_paths(run: Run, paths: list[Path], cls: bool = False
                ) -> tuple[dict[str, str], Tensor]:
    """-> why images can't be read, by path; features of all others, on the CPU.

    cls: see `embed_folder`
    """
    broken: dict[str, str] = {}
    features = []
    pixels: list[Tensor] = []
    for i, path in enumerate(progress(paths, "images", quiet=False)):
        try:
            pixels.append(run.transform(path))
        except (OSError, ValueError) as error:
            broken[str(path)] = str(error)
        if len(pixels) == IMAGE_CHUNK or pixels and i == len(paths) - 1:
            tokens = run.model.encode_image(torch.stack(pixels).to(run.device))
            feature = full(tokens[:, 0]) if cls else run.model.image_feature(tokens)
            features.append(feature.cpu())
            pixels = []
    return broken, torch.cat(features) if features else torch.empty(0)


def read_features(file: Path, key: str) -> tuple[dict[str, str], Tensor] | None:
    """What `write_features` wrote under this key; None for another key.

    Raises ValueError for a damaged file.
    """
    with restate(f"{file} is damaged", "remove it, and the images are read again", *MALFORMED):
        require_file(file)
        with safe_open(file, "pt") as opened:
            about = opened.metadata()
            features = opened.get_tensor("features").clone()
        if about["key"] != key:
            return None
        return json.loads(about["broken"]), features


def write_features(file: Path, key: str, broken: dict[str, str], features: Tensor) -> None:
    """Keep features for the next search. Where the run's folder can't be written, a warning."""
    about = {"key": key, "broken": json.dumps(broken)}
    try:
        write_atomically(file, lambda path: save_file({"features": features}, path, about))
    except OSError as error:
        LOG.warning("the images' features aren't kept for the next search: %s", error)
