"""The explorer, a model to play with in a single HTML file without a server. See explorer*.js."""
import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader
from jinja2.utils import htmlsafe_json_dumps
from torch import Tensor

from emojiscenes.painting import FINISHES, RGB, emoji, sheet
from emojiscenes.scenes import Scenes
from minalbef import Run, checkpoint, load


def write_explorer(run: Run, out: Path, captions: int = 5000) -> None:
    """Write the explorer of a run, and its warm start if it has one.

    captions: of training, whose words the model knows
    Raises ValueError for a run of other data or another task, OSError if `out` can't be written.
    """
    if run.task != "pretrain" or not run.config.objects:
        raise ValueError(f"{run.path} is not a pretrained model of the embedded scenes; "
                         "the explorer needs one, like tiny. For a page of your own pictures, "
                         "name their folder with --images")
    write_html("explorer.html", page_values(run, captions), out)


def write_html(template: str, values: dict[str, Any], out: Path) -> None:
    """Write a page into one file: a template of this folder, and the values its scripts read.

    Raises OSError if `out` can't be written.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=loader, autoescape=True).get_template(template)
    text = page.render(values=htmlsafe_json_dumps(values, separators=(",", ":")))
    checkpoint.write_atomically(out, lambda path: path.write_text(text, encoding="utf-8"))


def page_values(run: Run, captions: int) -> dict[str, Any]:
    """All that the page's scripts need: the model, its tokenizer, and the world's emoji."""
    config = run.config
    train = Scenes("train", config.seed, objects=config.objects)
    words: set[str] = set()
    for i in range(captions):
        words.update(train.draw(i).text.split())
    vendors = set().union(*train.vendors.values())
    start = None
    if (run.path / "start").is_dir():
        start = pack(load(run.path / "start").model.image_encoder.state_dict())
    return {
        "config": config.to_dict(),
        "emoji": emoji() | {"objects": emoji()["objects"][:config.objects]},
        "start": start,
        "colours": RGB,
        "weights": pack(run.model.state_dict()),
        "finishes": sorted(set(FINISHES)) if config.restyle else [],
        "vocab": vocabulary(run),
        "words": sorted(words),
        "sheets": {vendor: drawings(vendor, config.objects) for vendor in sorted(vendors)},
    }


def vocabulary(run: Run) -> dict[str, int]:
    """A run's word pieces and their ids."""
    tokenizer = json.loads((run.path / "tokenizer.json").read_text(encoding="utf-8"))
    return tokenizer["model"]["vocab"]


def pack(weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float16) -> dict[str, Any]:
    """Tensors -> their names and shapes in order, and their values in base64.

    dtype: torch.float16 or torch.float32
    """
    data = b"".join(value.to(dtype).numpy().tobytes() for value in weights.values())
    shapes = [(name, list(value.shape)) for name, value in weights.items()]
    bits = torch.finfo(dtype).bits
    return {"shapes": shapes, "bits": bits, "data": base64.b64encode(data).decode()}


def drawings(vendor: str, count: int) -> str:
    """A vendor's sheet with its first `count` objects, as WebP in base64."""
    cell = emoji()["cell"]
    columns = emoji()["columns"]
    rows = -(-count // columns)
    cropped = sheet(vendor).crop((0, 0, columns * cell, rows * cell))
    used = (count - 1) % columns + 1                     # cells of the last row
    cropped.paste((0, 0, 0, 0), (used * cell, (rows - 1) * cell, columns * cell, rows * cell))
    file = io.BytesIO()
    cropped.save(file, "webp", lossless=True, method=6)
    return base64.b64encode(file.getvalue()).decode()
