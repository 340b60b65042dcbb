"""What the tests of several tasks compare with the original's figures: gradients, and the grounding model."""
import math

import torch
from torch import nn

from golden_encoders import CONFIG
from golden_rule import figures, fill, image, off, original_state
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.weights import key_table

LARGE = 1e-5, 2e-6                                      # tolerance where values are large, absolute and relative
GOLDEN = {"small": dict(image_size=32, patch_size=8, image_heads=4, text_heads=4, text_depth=2, fusion_depth=2),
          "native": dict(image_size=96, patch_size=4, image_heads=12, text_heads=12, text_depth=6, fusion_depth=6)}


def gradient_differences(student: nn.Module, loss: torch.Tensor, recorded: dict) -> dict[str, float]:
    """Of every parameter that has one, here or there: {what: difference of norms over tolerance}."""
    student.zero_grad()
    loss.backward()
    ours = {name.removeprefix("albef."): p.grad for name, p in student.named_parameters() if p.grad is not None}
    norms = {name: grad.norm() for name, grad in key_table.write(ours, {}, {}, CONFIG.text_depth, bert=False).items()
             if not name.endswith("position_ids")}
    result = {"grad_norm_total": off(torch.stack(list(norms.values())).norm(), recorded["grad_norm_total"], *LARGE)}
    theirs = recorded.get("grad_norms", norms)
    return result | {f"gradient of {name}": off(norms.get(name, math.nan), theirs.get(name, math.nan), *LARGE)
                     for name in norms.keys() | theirs.keys()}


def golden_case(name: str) -> tuple:
    """The original's grounding model in our form, with its pictures, tokens and keep."""
    config = Config(**GOLDEN[name], image_width=48, image_depth=4, text_width=48, vocab_size=64, positions=40,
                    embed_dim=16)
    model, arrays = ALBEF(config).eval(), figures("grounding")["arrays"]
    shapes = key_table.write(model.state_dict(), {}, {}, config.text_depth, bert=False)
    keys = [(key, list(value.shape)) for key, value in shapes.items() if not key.endswith(tuple(key_table.TIED))]
    pixels = image(f"grounding.image.{name}", 2, 3, config.image_size, config.image_size)
    return (fill(model, key_table.read(original_state(keys)).student), pixels,
            arrays[f"{name}/input_ids"].long(), arrays[f"{name}/attention_mask"].bool())
