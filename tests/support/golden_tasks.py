"""What tests of several tasks compare with the original: gradients, and the grounding model."""
import math

import torch
from torch import nn

from golden_encoders import CONFIG
from golden_rule import figures, fill, image, off, original_state
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.weights import key_table

LARGE = 1e-5, 2e-6  # tolerance where values are large, absolute and relative
GOLDEN = {
    "small": dict(
        image_size=32, patch_size=8, image_heads=4, text_heads=4, text_depth=2, fusion_depth=2,
    ),
    "native": dict(
        image_size=96, patch_size=4, image_heads=12, text_heads=12, text_depth=6, fusion_depth=6,
    ),
}


def gradient_differences(
    student: nn.Module, loss: torch.Tensor, recorded: dict
) -> dict[str, float]:
    """Of every parameter that has one, here or there.

    -> {what: difference of norms over tolerance}
    """
    student.zero_grad()
    loss.backward()
    grads = {}
    for name, p in student.named_parameters():
        if p.grad is not None:
            grads[name.removeprefix("albef.")] = p.grad
    norms = {}
    for name, grad in key_table.write(grads, {}, {}, CONFIG.text_depth, bert=False).items():
        if not name.endswith("position_ids"):
            norms[name] = grad.norm()
    total = torch.stack(list(norms.values())).norm()
    differences = {"grad_norm_total": off(total, recorded["grad_norm_total"], *LARGE)}
    expected = recorded.get("grad_norms", norms)
    for name in norms.keys() | expected.keys():
        norm = norms.get(name, math.nan)
        differences[f"gradient of {name}"] = off(norm, expected.get(name, math.nan), *LARGE)
    return differences


def golden_case(name: str) -> tuple:
    """The original's grounding model in our form, with its pictures, tokens and keep."""
    config = Config(
        **GOLDEN[name], image_width=48, image_depth=4, text_width=48, vocab_size=64, positions=40,
        embed_dim=16,
    )
    model = ALBEF(config).eval()
    arrays = figures("grounding")["arrays"]
    written = key_table.write(model.state_dict(), {}, {}, config.text_depth, bert=False)
    keys = []
    for key, value in written.items():
        if not key.endswith(tuple(key_table.TIED)):
            keys.append((key, list(value.shape)))
    fill(model, key_table.read(original_state(keys)).student)
    pixels = image(f"grounding.image.{name}", 2, 3, config.image_size, config.image_size)
    tokens = arrays[f"{name}/input_ids"].long()
    return model, pixels, tokens, arrays[f"{name}/attention_mask"].bool()
