"""The explorer, a model to play with in a single HTML file without a server. See explorer*.js."""
import base64
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader
from jinja2.utils import htmlsafe_json_dumps
from safetensors.torch import load_file
from torch import Tensor, nn

from emojiscenes.painting import FINISHES, RGB, emoji, sheet
from emojiscenes.scenes import Scenes
from minalbef import Run, load
from minalbef.config import Config, ModelConfig
from minalbef.system import checkpoint
from minalbef.system.writing import write_text
from minalbef.viz.playback import write_training

PAPER = "tiny-paper"                  # the second model of the page
FREE = {"vocab_size", "dropout", "init_std", "pos_scale"}     # in these a page's models may differ
BITS = 14                             # of a weight in the page; 15 would make it 6 MB
SAME = {item.name for item in fields(ModelConfig)} - FREE | {"objects"}


def write_explorer(run: Run, out: Path, captions: int = 5000) -> str:
    """Write the explorer of a run, with its warm start if it has one, and PAPER beside it.

    Where the run has checkpoints, they are written into a script beside it, explorer_training.js
    beside explorer.html.
    captions: of training, whose words the model knows
    -> why PAPER isn't in it, or ""; the page says so, too
    Raises ValueError for a run of other data or another task, OSError if `out` can't be written.
    """
    if run.task != "pretrain" or not run.config.objects:
        raise ValueError(f"{run.path} is not a pretrained model of the embedded scenes; "
                         "the explorer needs one, like tiny. For a page of your own pictures, "
                         "name their folder with --images")
    require_ours(run, "image_encoder", "text_encoder")
    values = page_values(run, captions)
    values["training"] = write_training(run, stored_weights(run.model), script_beside(out))
    write_html("explorer.html", values, out)
    return values["alone"]


def require_ours(run: Run, *parts: str) -> None:
    """Raises ValueError for an encoder of yours: a page computes in the browser, which has ours."""
    for part in parts:
        value = getattr(run.config, part)
        if value != getattr(Config, part):
            raise ValueError(f"{run.path} has {part}={value}, and the page's browser computes our "
                             "encoders alone; ask it by search and predict, or, where its text "
                             "encoder is bert, on a page of your images with --images")


def script_beside(out: Path) -> Path:
    """The script with a run's checkpoints, beside its page."""
    return out.with_name(f"{out.stem}_training.js")


def write_html(template: str, values: dict[str, Any], out: Path) -> None:
    """Write a page into one file: a template of this folder, and the values its scripts read.

    Raises OSError if `out` can't be written.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=loader, autoescape=True).get_template(template)
    text = page.render(values=htmlsafe_json_dumps(values, separators=(",", ":")),
                       training=values.get("training"))
    write_text(out, text)


def page_values(run: Run, captions: int) -> dict[str, Any]:
    """All that the page's scripts need: the models, their tokenizers, and the world's emoji."""
    config = run.config
    train = Scenes("train", config.seed, objects=config.objects)
    words: set[str] = set()
    for i in range(captions):
        words.update(train.draw(i).text.split())
    vendors = set().union(*train.vendors.values())
    start = None
    if (run.path / "start").is_dir():
        start = deflate(load(run.path / "start").model.image_encoder.state_dict())
    alone = why_alone(run)
    return {
        "config": config.to_dict(),
        "name": name_of(run),
        "paper": None if alone else paper_values(),
        "alone": alone,
        "bits": BITS,
        "emoji": emoji() | {"objects": emoji()["objects"][:config.objects]},
        "start": start,
        "colours": RGB,
        "weights": deflate(run.model.state_dict()),
        "finishes": sorted(set(FINISHES)) if config.restyle else [],
        "vocab": vocabulary(run),
        "words": sorted(words),
        "sheets": {vendor: drawings(vendor, config.objects) for vendor in sorted(vendors)},
    }


def name_of(run: Run) -> str:
    """The name of the shipped run with the same weights, which the page's readers can look up."""
    digest = checkpoint.digest_of(run.model.state_dict())
    for name in checkpoint.SHIPPED:
        file = checkpoint.run_folder(name) / "model.safetensors"
        if file.is_file() and checkpoint.digest_of(load_file(file)) == digest:
            return name
    return "this run"


def why_alone(run: Run) -> str:
    """Why the page of a run can't have PAPER beside it, or "" where it can."""
    if name_of(run) == PAPER:
        return f"it is {PAPER}, and the page has no other"
    if not (checkpoint.run_folder(PAPER) / "model.safetensors").is_file():
        return f"{PAPER} isn't installed where this page was written"
    try:
        paper = load(PAPER).config
    except ValueError as error:                  # of a model whose file you have changed
        return str(error)
    for name in sorted(SAME):
        theirs, ours = getattr(paper, name), getattr(run.config, name)
        if theirs != ours:
            return f"{PAPER} doesn't fit beside it: {name} is {theirs} there, and {ours} here"
    return ""


def paper_values() -> dict[str, Any]:
    """The second model: the paper's objectives alone, without minimal pairs."""
    run = load(PAPER)
    return {
        "name": PAPER,
        "settings": run.config.to_dict(),
        "vocab": vocabulary(run),
        "weights": deflate(run.model.state_dict()),
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


def quantise(value: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor -> its numbers as int16 of BITS bits, and the scale of each row: (r, n) and (r, 1).

    A row is what makes one number of a layer's output; a vector is one row.
    """
    rows = value.reshape(len(value) if value.ndim > 1 else 1, -1)
    scales = rows.abs().amax(1, keepdim=True) / (2 ** (BITS - 1) - 1)
    scales = torch.where(scales > 0, scales, 1.0)
    return (rows / scales).round().to(torch.int16), scales


def stored_weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights as the page has them, rounded."""
    weights = {}
    for name, value in model.state_dict().items():
        numbers, scales = quantise(value)
        weights[name] = (numbers * scales).view(value.shape)
    return weights


def deflate(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Tensors -> names and shapes in order, and their numbers, quantised and compressed, in base64.

    All low bytes come first, then all high ones, which are much the same everywhere. Compressed
    like this, fp16 takes 1% less, and moved `tiny`'s match of 200 test scenes by up to .009; this
    moved it by .0011 (`pytest tests/pages/test_explorer.py -k says`, 2026-11-30).
    """
    shapes = [(name, list(value.shape)) for name, value in weights.items()]
    quantised = [quantise(value) for value in weights.values()]
    data = b"".join(numbers.numpy().tobytes() for numbers, _ in quantised)
    scales = b"".join(scales.numpy().tobytes() for _, scales in quantised)
    compressed = zlib.compress(data[0::2] + data[1::2], 9)
    return {"shapes": shapes, "scales": base64.b64encode(scales).decode(),
            "data": base64.b64encode(compressed).decode()}


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
