"""An index: the features of a folder's images in a file, so that a search opens only the best."""
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minalbef import checkpoint
from minalbef.data import NO_FILE, list_images
from minalbef.metrics import progress
from minalbef.run import IMAGE_CHUNK, Run
from minalbef.writing import restate, write_atomically


@torch.no_grad()
def write_index(run: Run, images: Path, out: Path) -> dict[str, str]:
    """Write the features of a folder's images, subfolders included, into a file.

    -> why images cannot be read, by path below the folder
    Raises ValueError for a folder without images, and if `out` exists and is no index of this
    folder.
    """
    run.embed_texts("a")                         # raises ValueError without a shared space
    images = Path(images).resolve()
    if not images.is_dir():
        raise ValueError(f"{images} is no folder; name the one that holds the images")
    check_out(out, images)
    stamps, broken, features = embed_folder(run, images)
    about = {
        "folder": str(images),
        "run": str(run.path),
        "weights": hash_of_weights(run),
        "files": stamps,
        "upright": run.config.upright,
    }
    metadata = {"index": json.dumps(about)}
    write_atomically(out, lambda path: save_file({"features": features}, path, metadata))
    return broken


def check_out(out: Path, images: Path) -> None:
    """Raises ValueError if a file exists and isn't the index of this folder."""
    if not out.exists():
        return
    about, _ = _read(out)
    if about["folder"] != str(images):
        raise ValueError(f"{out} is the index of {about['folder']}; "
                         "name another file with --out, or remove it")


def embed_folder(run: Run,
                 folder: Path) -> tuple[dict[str, list[int]], dict[str, str], Tensor]:
    """A folder's images -> their stamps by path, why others cannot be read, and features (n, e).

    Raises ValueError if no image can be read.
    """
    stamps: dict[str, list[int]] = {}
    broken: dict[str, str] = {}
    features: list[Tensor] = []
    pixels: list[Tensor] = []
    for path in progress(list_images(folder), "images", quiet=False):
        name = path.relative_to(folder).as_posix()
        try:
            stamp = _stamp(path)                 # before the image is opened: a later change shows
            pixels.append(run.transform(path))
            stamps[name] = stamp
        except (OSError, ValueError) as error:
            broken[name] = str(error)
        if len(pixels) == IMAGE_CHUNK:
            features.append(embed(run, pixels))
            pixels = []
    if pixels:
        features.append(embed(run, pixels))
    if not stamps:
        raise ValueError(f"no image of {folder} can be read, the first because "
                         f"{next(iter(broken.values()))}")
    return stamps, broken, torch.cat(features)


def embed(run: Run, pixels: list[Tensor]) -> Tensor:
    """Features in the shared space, on the CPU: n times (3, s, s) -> (n, e)."""
    images = torch.stack(pixels).to(run.device)
    return run.model.image_feature(run.model.encode_image(images)).cpu()


class Index(NamedTuple):
    """A folder's images and their features."""

    folder: Path
    paths: list[Path]                 # images that are unchanged since they were indexed
    features: Tensor                  # theirs, (n, e)
    stale: list[str]                  # changed or vanished images, by path below the folder


def read_index(run: Run, path: Path) -> Index:
    """What `write_index` wrote, without images that have changed or vanished.

    Raises ValueError for another run's index, and for a damaged one.
    """
    about, features = _read(path)
    if about["weights"] != hash_of_weights(run):
        raise ValueError(f"{path} was written with other weights than those of {run.path}: name "
                         f"{about['run']} with --run, or index {about['folder']} again")
    upright = about.get("upright", True)         # older versions read all images so
    if upright != run.config.upright:
        way = "upright" if upright else "as stored"
        raise ValueError(f"{path} was written with images opened {way}, and {run.path} reads "
                         f"them otherwise; index {about['folder']} again")
    folder = Path(about["folder"])
    paths: list[Path] = []
    stale: list[str] = []
    rows: list[int] = []
    for row, (name, stamp) in enumerate(about["files"].items()):
        image = folder / name
        if image.exists() and _stamp(image) == stamp:
            paths.append(image)
            rows.append(row)
        else:
            stale.append(name)
    if not paths:
        raise ValueError(f"all images of {path} have changed or vanished; "
                         f"index {about['folder']} again")
    return Index(folder, paths, features[rows], stale)


def hash_of_weights(run: Run) -> str:
    """A hash that identifies a run's weights."""
    if run.step is not None:                     # in training, when there are no final weights yet
        return checkpoint.digest_of(run.model.state_dict())
    with open(run.path / "model.safetensors", "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _stamp(path: Path) -> list[int]:
    """A file's size and time of change, which show that it has changed."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _read(path: Path) -> tuple[dict[str, Any], Tensor]:
    """An index's notes and features. Raises ValueError for any other file."""
    with restate(f"{path} is no index", "`minalbef index FOLDER` writes one; or name another file",
                 OSError, SafetensorError, KeyError, TypeError, ValueError):
        if path.exists() and not path.is_file():                 # opening a pipe would wait forever
            raise ValueError(NO_FILE)
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["index"])
            features = file.get_tensor("features").clone()
        if not {"folder", "run", "weights"} <= about.keys() or len(about["files"]) != len(features):
            raise ValueError("its parts do not fit")
    return about, features
