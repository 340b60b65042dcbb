"""A run in ONNX, for use without torch: image encoder, text encoder, and fusion with both heads."""
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.data import MEAN, STD
from minalbef.system.writing import restate, write_atomically
from minalbef.tasks.run import Run

MOST = 2 ** 20                        # rows of a batch: torch 2.6 refuses a batch without a bound


def image(model: ALBEF, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """RGB (b, s, s, 3) uint8 -> image tokens (b, 1 + n, d), feature (b, e)."""
    mean = 255 * torch.tensor(MEAN)[:, None, None]
    std = 255 * torch.tensor(STD)[:, None, None]
    tokens = model.encode_image((pixels.permute(0, 3, 1, 2) - mean) / std)
    return tokens, model.image_feature(tokens)


def text(model: ALBEF, tokens: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """tokens (b, l) int64, keep (b, l) bool -> text tokens (b, l, d), feature (b, e)."""
    text_tokens = model.encode_text(tokens, keep)
    return text_tokens, model.text_feature(text_tokens, keep)


def fusion(model: ALBEF, text_tokens: Tensor, keep: Tensor,
           image_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """-> match logits (b, 2): no, yes; word logits (b, l, v)."""
    fused = model.fuse(text_tokens, keep, image_tokens)
    return model.match_logits(fused), model.word_logits(fused)


class Graph(nn.Module):
    """One of these functions, `part`, as the module that torch exports."""

    def __init__(self, part: Callable[..., tuple[Tensor, Tensor]], model: ALBEF):
        super().__init__()
        self.part = part
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.part(self.model, *inputs)


class Input(NamedTuple):
    """A graph's input: its name, an example, and the axes whose length may vary."""

    name: str
    example: Tensor
    axes: dict[int, Any]


@torch.no_grad()
def export(run: Run, folder: Path) -> None:
    """Write image.onnx, text.onnx, fusion.onnx and tokenizer.json.

    Batch and text length of the graphs may vary.
    Raises ValueError without the packages of the extra `onnx`, for a run that lacks a head, and
    where a file has the folder's name.
    """
    run.require(*run.untrained, *run.absent)
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder to write, new or old")
    with restate("torch cannot write ONNX here",
                 "pip install 'minalbef[onnx]' brings what it needs", ImportError):
        import onnxscript  # noqa: F401
    model = run.model
    size = run.config.image_size
    batch = torch.export.Dim("batch", max=MOST)
    length = torch.export.Dim("length", max=run.config.positions)
    image_axes = {0: batch}
    text_axes = {0: batch, 1: length}
    # an axis of length 1 in an example would count as fixed
    pixels = Input("pixels", torch.zeros(2, size, size, 3, dtype=torch.uint8), image_axes)
    tokens = Input("tokens", torch.full((2, 3), run.tokenizer.cls), text_axes)
    keep = Input("keep", torch.ones(2, 3, dtype=torch.bool), text_axes)
    image_tokens = Input("image_tokens", image(model, pixels.example)[0], image_axes)
    text_tokens = Input("text_tokens", text(model, tokens.example, keep.example)[0], text_axes)
    write_graph(folder / "image.onnx", Graph(image, model), [pixels],
                ["image_tokens", "image_feature"])
    write_graph(folder / "text.onnx", Graph(text, model), [tokens, keep],
                ["text_tokens", "text_feature"])
    write_graph(folder / "fusion.onnx", Graph(fusion, model), [text_tokens, keep, image_tokens],
                ["match_logits", "word_logits"])
    write_atomically(folder / "tokenizer.json", run.tokenizer.save)


def write_graph(path: Path, graph: Graph, inputs: list[Input], outputs: list[str]) -> None:
    """Write a module as an ONNX file. outputs: their names"""
    examples = tuple(item.example for item in inputs)
    axes = tuple(item.axes for item in inputs)
    names = [item.name for item in inputs]
    with warnings.catch_warnings(action="ignore"):           # which torch's own code causes
        # strict: otherwise the batch is fixed where a forward takes len() of a tensor
        program = torch.export.export(graph.eval(), examples, dynamic_shapes=(axes,), strict=True)
        onnx = torch.onnx.export(program, dynamo=True, verbose=False, input_names=names,
                                 output_names=outputs, dynamic_shapes=(axes,))
    assert onnx
    write_atomically(path, lambda path: onnx.save(path, external_data=False))
