"""The golden files' weights and inputs, made anew by their rule: from names and shapes, with numpy.

And how far a figure of ours is from one of theirs.
"""
import json
import math
import re
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden"
SEED = 20210716


def figures(name: str) -> dict:
    """A file of recorded figures: those of its .json, and under "arrays" those of its .npz."""
    path = GOLDEN / f"{name}.npz"
    arrays = {}
    if path.exists():
        for key, value in np.load(path).items():
            arrays[key] = torch.from_numpy(value)
    text = (GOLDEN / f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text) | {"arrays": arrays}


def chance(name: str) -> np.random.Generator:
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def image(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(chance(name).standard_normal(shape).astype(np.float32))


def weight(name: str, shape: list[int]) -> torch.Tensor:
    """The value of one of the original's parameters or buffers."""
    def base(name: str) -> np.ndarray:
        z = chance(name).standard_normal(shape)
        if len(shape) != 1:
            return 0.15 * z
        return 1 + 0.1 * z if name.endswith(".weight") else 0.1 * z

    if name == "temp":
        value = np.float64(0.07)
    elif name in ("image_queue", "text_queue"):
        value = chance(name).standard_normal(shape)
        value = value / np.linalg.norm(value, axis=0)
    elif "_m." in name:
        value = base(name.replace("_m.", ".", 1)) + 0.05 * chance(name).standard_normal(shape)
    else:
        value = base(name)
    return torch.from_numpy(np.asarray(value, np.float32))


def original_state(recorded: list) -> dict[str, torch.Tensor]:
    """A state dict of the original's from a golden file's `state_keys`.

    Each is (key, shape) or (key, shape, repeated key). position_ids count up; queue_ptr and
    idx_queue are left out, since the rule does not give them.
    """
    state: dict[str, torch.Tensor] = {}
    for key, shape, *once in recorded:
        if key.endswith("position_ids"):
            state[key] = torch.arange(shape[-1])[None]
        elif key not in ("queue_ptr", "idx_queue"):
            state[key] = state[once[0]] if once else weight(key, shape)
    return state


def fill(module: nn.Module, weights: dict[str, torch.Tensor], absent: str = "") -> nn.Module:
    """Load weights named as `key_table.read` names them, strictly.

    A task's model says albef.* for ALBEF's own. absent: a pattern of the module's names that the
    file may lack; whatever else is missing or left over is an error
    """
    names = {key: key.removeprefix("albef.") for key in module.state_dict()}
    state = {key: weights[name] for key, name in names.items() if name in weights}
    for key in names.keys() - state.keys():
        assert absent and re.match(absent, names[key]), f"{key} is missing"
    unexpected = set(weights) - set(names.values())
    assert not unexpected, unexpected
    module.load_state_dict(state, strict=False)
    return module


def off(value, expected, atol: float, rtol: float = 0.0) -> float:
    """The worst difference, as a multiple of what is tolerated.

    Above 1 is wrong, and so are other shapes and NaN.
    """
    value = torch.as_tensor(value, dtype=torch.float64).detach()
    expected = torch.as_tensor(expected, dtype=torch.float64).detach()
    if value.shape != expected.shape or value.isnan().any():
        return math.inf
    return ((value - expected).abs() / (atol + rtol * expected.abs())).max().item()


def checksum(x: torch.Tensor) -> list:
    x = x.detach().double()
    return [x.sum().item(), x.norm().item(), list(x.shape)]


def wrong(differences: dict[str, float]) -> dict[str, float]:
    """Those that are not tolerated: {} where all is well."""
    return {name: value for name, value in differences.items() if not value <= 1}
