"""The page of a run and your images, to search and ask in a browser: one file, without a server.

Python encodes the images and the page's JavaScript does all else: text encoder, shared space,
fusion and heads. So the page needs no image encoder, which is half of a model, nothing depends on
how a browser decodes an image, and what is shown can be a small lossy thumbnail. Tokens are fp16,
which moved `tiny`'s match of clip art by at most 2e-4; weights in fp16 moved it by up to 1.4e-3,
more than the 1e-3 that a page may differ from torch, so they are fp32.
"""
import base64
import io
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from minalbef.data import transform
from minalbef.recipes.features import check_readable, images_in
from minalbef.recipes.report import similarity_weight
from minalbef.recipes.search import FIRST, resize
from minalbef.recipes.vocabulary import trained_words
from minalbef.system.images import open_image
from minalbef.system.limits import printable
from minalbef.system.metrics import progress
from minalbef.tasks.run import IMAGE_CHUNK, Run
from minalbef.viz.explorer import pack, require_ours, vocabulary, write_html

MOST_PICTURES = 500
MOST_WEIGHTS = 15_000_000             # 80 MB in the file
THUMBNAIL = 160                       # pixels of an image's longer side in the page
QUALITY = 80                          # of WebP: 3 to 5 KB each

MUCH = 1000.0                         # a weight of similarity beside which ITM counts for nothing


def write_page(run: Run, folder: Path, out: Path) -> tuple[int, dict[str, str]]:
    """Write the page of a folder's images, subfolders included.

    -> how many it has, and why others can't be read, by path below the folder
    Raises ValueError for a run without a shared space, fusion or matching head, a model or a folder
    that is too big for a page, and a folder without images. Raises OSError if `out` can't be
    written.
    """
    run.require("image_proj", "text_proj", "fusion", "match_head")
    require_ours(run, "text_encoder")        # images are computed here
    weights = page_weights(run)
    pictures, tokens, broken = read_folder(run, page_images(folder), folder)
    words = trained_words(run.path, run.config)
    values = {
        "config": run.config.to_dict(),
        "weights": pack(weights, torch.float32),
        "vocab": vocabulary(run),
        "words": None if words is None else sorted(words),
        "guesses": not {"word_head"} & {*run.absent, *run.untrained},
        "first": FIRST,
        "weight": min(similarity_weight(run.path), MUCH),    # JSON has no infinity
        "folder": folder.resolve().name,
        "pictures": pictures,
        "tokens": pack({"tokens": tokens}),
        "unread": len(broken),
    }
    write_html("explorer_pictures.html", values, out)
    return len(pictures), broken


def page_weights(run: Run) -> dict[str, Tensor]:
    """The weights that the page needs: all but the image encoder's.

    Raises ValueError for more than MOST_WEIGHTS.
    """
    weights = {}
    for name, value in run.model.state_dict().items():
        if not name.startswith("image_encoder."):
            weights[name] = value.cpu()
    count = sum(value.numel() for value in weights.values())
    if count > MOST_WEIGHTS:
        raise ValueError(f"{run.path} has {count:,} weights besides its image encoder's, and a "
                         f"page runs at most {MOST_WEIGHTS:,}: it is for models like tiny (0.5 "
                         "million) to small (13 million); search your images with `minalbef "
                         "search --images`")
    return weights


def page_images(folder: Path) -> list[Path]:
    """The images of a folder and its subfolders, by path.

    Raises ValueError for none, and for more than MOST_PICTURES.
    """
    paths = images_in(folder)
    if len(paths) > MOST_PICTURES:
        raise ValueError(f"{folder} has {len(paths):,} images, and a page at most {MOST_PICTURES}; "
                         "name one of its subfolders, or copy those you want into a new folder and "
                         "name that; `minalbef search --images` searches any number")
    return paths


@torch.no_grad()
def read_folder(run: Run, paths: list[Path],
                folder: Path) -> tuple[list[dict[str, Any]], Tensor, dict[str, str]]:
    """-> what the page shows of each image, tokens (n, 1 + p, d), and why others can't be read.

    Raises ValueError if no image can be read.
    """
    pictures: list[dict[str, Any]] = []
    broken: dict[str, str] = {}
    pixels: list[Tensor] = []
    for path in progress(paths, "images", quiet=False):
        name = path.relative_to(folder).as_posix()
        try:
            image = open_image(path, run.config.upright)
        except (OSError, ValueError) as error:
            broken[name] = str(error)
            continue
        pixels.append(transform(image, run.config.image_size))
        pictures.append({"name": printable(name), **thumbnail(image)})
    check_readable(folder, len(pictures), broken)
    chunks = torch.stack(pixels).split(IMAGE_CHUNK)
    tokens = [run.model.encode_image(chunk.to(run.device)).cpu() for chunk in chunks]
    return pictures, torch.cat(tokens), broken


def thumbnail(image: Image.Image) -> dict[str, Any]:
    """A small copy as WebP in base64, with its size."""
    small = resize(image, min(THUMBNAIL, max(image.size)))
    file = io.BytesIO()
    small.save(file, "webp", quality=QUALITY)
    data = base64.b64encode(file.getvalue()).decode()
    return {"width": small.width, "height": small.height, "data": data}
