"""An index: the features of a folder's pictures in a file, so that a search opens the best of them alone."""
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minalbef import checkpoint
from minalbef.data import list_images
from minalbef.metrics import progress
from minalbef.run import IMAGE_CHUNK, Run
from minalbef.writing import explain, write_atomically


@torch.no_grad()
def write_index(run: Run, images: Path, out: Path) -> dict[str, str]:
    """Read the pictures of a folder and its subfolders into a file that names them and the run.

    -> why a picture cannot be read, by its path in the folder
    Raises ValueError for a folder without pictures, and for a file that is there and no index of this folder.
    """
    run.embed_texts("a")                         # raises where the run has no shared space
    images = Path(images).resolve()
    if not images.is_dir():
        raise ValueError(f"{images} is no folder; name the one that holds the pictures")
    if out.exists() and (other := _read(out)[0]["folder"]) != str(images):
        raise ValueError(f"{out} is the index of {other}; name another file with --out, or remove it")
    files, broken, features, pixels, paths = {}, {}, [], [], list_images(images)
    for path in progress(paths, "pictures", quiet=False):
        name = path.relative_to(images).as_posix()
        try:
            seen = _seen(path)                   # before it is opened: a later change shows
            pixels.append(run.transform(path))
            files[name] = seen
        except (OSError, ValueError) as error:
            broken[name] = str(error)
        if len(pixels) == IMAGE_CHUNK or pixels and path is paths[-1]:
            features.append(run.model.image_feature(run.model.encode_image(torch.stack(pixels).to(run.device))).cpu())
            pixels = []
    if not files:
        raise ValueError(f"no picture of {images} can be read, the first because {next(iter(broken.values()))}")
    about = {"folder": str(images), "run": str(run.path), "weights": hash_of_weights(run),
             "files": files, "upright": run.config.upright}
    write_atomically(out, lambda path: save_file({"features": torch.cat(features)}, path, {"index": json.dumps(about)}))
    return broken


class Index(NamedTuple):
    """What `read_index` gives."""

    folder: Path
    paths: list[Path]                 # pictures that are as they were when they were indexed
    features: Tensor                  # theirs, (n, e)
    gone: list[str]                   # all others, by their path in the folder


def read_index(run: Run, path: Path) -> Index:
    """What `write_index` wrote, without pictures that have changed or vanished.

    Raises ValueError for an index of another run's, and for a damaged one.
    """
    about, features = _read(path)
    if about["weights"] != hash_of_weights(run):
        raise ValueError(f"{path} was written with other weights than those of {run.path}: name {about['run']} with "
                         f"--run, or index {about['folder']} again")
    upright = about.get("upright", True)         # before it was recorded, all pictures were read so
    if upright != run.config.upright:
        way = "upright" if upright else "as stored"
        raise ValueError(f"{path} was written with pictures opened {way}, and {run.path} reads "
                         f"them otherwise; index {about['folder']} again")
    folder = Path(about["folder"])
    paths = [folder / name for name in about["files"]]
    same = [path.exists() and _seen(path) == seen for path, seen in zip(paths, about["files"].values())]
    if not any(same):
        raise ValueError(f"all pictures of {path} have changed or vanished; index {about['folder']} again")
    kept = [path for path, fits in zip(paths, same) if fits]
    gone = [name for name, fits in zip(about["files"], same) if not fits]
    return Index(folder, kept, features[torch.tensor(same)], gone)


def hash_of_weights(run: Run) -> str:
    if run.step is not None:                     # in training, its file of weights is yet to come
        return checkpoint.digest_of(run.model.state_dict())
    with open(run.path / "model.safetensors", "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _seen(path: Path) -> list[int]:
    """Size and time of change: what of a file shows that it is another now."""
    return [path.stat().st_size, path.stat().st_mtime_ns]


def _read(path: Path) -> tuple[dict, Tensor]:
    with explain(f"{path} is no index", "`minalbef index FOLDER` writes one; or name another file", OSError,
                 SafetensorError, KeyError, TypeError, ValueError):
        with safe_open(path, "pt") as file:
            about, features = json.loads(file.metadata()["index"]), file.get_tensor("features").clone()
        if not {"folder", "run", "weights"} <= about.keys() or len(about["files"]) != len(features):
            raise ValueError("its parts do not fit")
    return about, features
