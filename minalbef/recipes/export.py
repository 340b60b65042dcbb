"""A run in ONNX, to be used without torch: image encoder, text encoder, and fusion with both heads, a graph each."""
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.data import MEAN, STD
from minalbef.run import Run
from minalbef.writing import explain, write_atomically

MOST = 2 ** 20                        # rows of a batch: torch 2.6 refuses a batch without a bound


def image(model: ALBEF, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """RGB (b, s, s, 3) uint8 -> image tokens (b, 1 + n, d), feature (b, e)."""
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    tokens = model.encode_image((pixels.permute(0, 3, 1, 2) - mean) / std)
    return tokens, model.image_feature(tokens)


def text(model: ALBEF, tokens: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """tokens (b, l) int64, keep (b, l) bool -> text tokens (b, l, d), feature (b, e)."""
    read = model.encode_text(tokens, keep)
    return read, model.text_feature(read, keep)


def fusion(model: ALBEF, text_tokens: Tensor, keep: Tensor, image_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """-> match logits (b, 2): no, yes; word logits (b, l, v)."""
    fused = model.fuse(text_tokens, keep, image_tokens)
    return model.match_logits(fused), model.word_logits(fused)


class Graph(nn.Module):
    """One of these functions, `part`, as the module that torch exports."""

    def __init__(self, part: Callable, model: ALBEF):
        super().__init__()
        self.part, self.model = part, model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.part(self.model, *inputs)


@torch.no_grad()
def export(run: Run, folder: Path) -> None:
    """Write image.onnx, text.onnx, fusion.onnx, whose batch and length may be any, and tokenizer.json.

    Raises ValueError without the packages of the extra `onnx`, and for a run that lacks a head.
    """
    if lacking := [*run.absent, *run.untrained]:
        raise ValueError(f"{run.path} has no trained {', '.join(lacking)}, whose outputs would be noise; name a run "
                         "that has all heads, such as one of pretraining")
    with explain("torch cannot write ONNX here", "pip install 'minalbef[onnx]' brings what it needs", ImportError):
        import onnxscript  # noqa: F401
    batch, length = torch.export.Dim("batch", max=MOST), torch.export.Dim("length", max=run.config.positions)
    picture, sentence = {0: batch}, {0: batch, 1: length}        # which axes of an input are free
    # examples: an axis of length 1 would count as fixed
    pixels = torch.zeros(2, run.config.image_size, run.config.image_size, 3, dtype=torch.uint8)
    tokens, keep = torch.full((2, 3), run.tokenizer.cls), torch.ones(2, 3, dtype=torch.bool)
    seen, read = image(run.model, pixels)[0], text(run.model, tokens, keep)[0]
    for part, inputs, outputs in (
            (image, {"pixels": (pixels, picture)}, ["image_tokens", "image_feature"]),
            (text, {"tokens": (tokens, sentence), "keep": (keep, sentence)}, ["text_tokens", "text_feature"]),
            (fusion, {"text_tokens": (read, sentence), "keep": (keep, sentence), "image_tokens": (seen, picture)},
             ["match_logits", "word_logits"])):
        examples, axes = zip(*inputs.values())
        with warnings.catch_warnings(action="ignore"):           # torch's exporter warns of its own calls
            # strict: else the batch is fixed where a forward takes len() of a tensor
            traced = torch.export.export(Graph(part, run.model).eval(), examples, dynamic_shapes=(axes,), strict=True)
            graph = torch.onnx.export(traced, dynamo=True, verbose=False, input_names=[*inputs], output_names=outputs,
                                      dynamic_shapes=(axes,))
        write_atomically(Path(folder) / f"{part.__name__}.onnx", lambda path: graph.save(path, external_data=False))
    write_atomically(Path(folder) / "tokenizer.json", run.tokenizer.save)
