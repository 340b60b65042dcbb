"""The explorer, explorer.html: a model to play with, in one file without a server. Its code is in explorer*.js."""
import base64
import io
import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from jinja2.utils import htmlsafe_json_dumps
from torch import Tensor

from emojiscenes.painting import FINISHES, RGB, emoji, sheet
from emojiscenes.scenes import Scenes
from minalbef import Run, checkpoint, load


def write_explorer(run: Run, out: Path, captions: int = 5000) -> None:
    """Write the explorer of a run, with its warm start where it has one. captions: of training, for the words it knows.

    Raises ValueError for a run of other data or another task, OSError where the file cannot be written.
    """
    if run.task != "pretrain" or not run.config.objects:
        raise ValueError(f"{run.path} is no pretrained model of the embedded scenes; the explorer needs one, like tiny")
    start, train = run.path / "start", Scenes("train", run.config.seed, objects=run.config.objects)
    values = {"config": run.config.to_dict(), "emoji": emoji() | {"objects": emoji()["objects"][:run.config.objects]},
              "start": pack(load(start).model.image_encoder.state_dict()) if start.is_dir() else None, "colours": RGB,
              "weights": pack(run.model.state_dict()), "finishes": sorted({*FINISHES}) if run.config.restyle else [],
              "vocab": json.loads((run.path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"],
              "words": sorted({word for i in range(captions) for word in train.draw(i).text.split()}),
              "sheets": {x: drawings(x, run.config.objects) for x in sorted(set().union(*train.vendors.values()))}}
    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("explorer.html")
    text = page.render(values=htmlsafe_json_dumps(values, separators=(",", ":")))
    checkpoint.write_atomically(out, lambda path: path.write_text(text, encoding="utf-8"))


def pack(weights: dict[str, Tensor]) -> dict:
    """Tensors in fp16, one after the other, in base64; and their names and shapes in that order."""
    data = b"".join(x.half().numpy().tobytes() for x in weights.values())
    return {"shapes": [(name, list(x.shape)) for name, x in weights.items()], "data": base64.b64encode(data).decode()}


def drawings(vendor: str, count: int) -> str:
    """A vendor's sheet with the first `count` kinds alone, as WebP in base64."""
    cell, columns = emoji()["cell"], emoji()["columns"]
    kept = sheet(vendor).crop((0, 0, columns * cell, -(-count // columns) * cell))
    kept.paste((0, 0, 0, 0), (((count - 1) % columns + 1) * cell, kept.height - cell, kept.width, kept.height))
    kept.save(file := io.BytesIO(), "webp", lossless=True, method=6)
    return base64.b64encode(file.getvalue()).decode()
