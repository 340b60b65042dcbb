"""The original's full-size checkpoints of every task, as tensors that take no memory."""

import re

import torch
from torch import Tensor

from golden_rule import figures

SCRIPTS = {
    "pretrain": None,
    "retrieval": "Retrieval.py",
    "grounding": "Grounding.py",
    "entailment": "VE.py",
    "vqa": "VQA.py",
    "text_assignment": "Pretrain_nlvr.py",
    "nlvr2": "NLVR.py (from TA checkpoint)",
}
MAPS = figures("full_checkpoint_key_maps")
PRETRAINING = {key: tuple(shape) for key, shape, *_ in figures("full_state_dict_keys")["keys"]}
LABELS = {"entailment": 3, "nlvr2": 2, "text_assignment": 3}


def shapes(task: str) -> dict[str, tuple[int, ...]]:
    """Every key of the task's model, at 256 pixels, and its shape."""
    if task == "pretrain":
        return PRETRAINING
    table = MAPS[SCRIPTS[task]]
    before = shapes("text_assignment") if task == "nlvr2" else PRETRAINING
    renamed = table.get("renamed_used", {})
    old = {*table["unexpected"], *renamed.values()}  # some were recorded after they were renamed
    new = {}
    for key, shape in before.items():
        if key not in old and key.replace("bert.", "") not in old:
            new[key] = shape
    assert len(new) == table["identical"]
    for key, source in renamed.items():
        new[key] = before[source]
    width = before["visual_encoder.norm.weight"][0]
    for key in table["missing_in_checkpoint"]:
        if key == "idx_queue":
            new[key] = (1, PRETRAINING["image_queue"][1])
        elif "_head" in key:
            rows = width if ".0." in key else LABELS[task]
            new[key] = (rows, width) if key.endswith("weight") else (rows,)
        else:
            new[key] = new[key.replace("_m.", ".", 1)]
    assert len(new) == table["n_model_keys"]
    return new


def same_as(key: str, task: str) -> str:
    """The key whose weight this one repeats, or itself."""
    key = key.replace("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight")
    key = key.replace("cls.predictions.decoder.bias", "cls.predictions.bias")
    if task in ("nlvr2", "text_assignment") and (
        match := re.search(r"layer\.(\d+)\.crossattention\.self\.(key|value)", key)
    ):
        key = key.replace(f"layer.{match[1]}.", f"layer.{int(match[1]) // 2 * 2}.")
    return key


def full_state(task: str) -> dict[str, Tensor]:
    """A state dict in which every weight has a number of its own, and tied ones the same."""
    state: dict[str, Tensor] = {}
    for i, (key, shape) in enumerate(shapes(task).items()):
        if key.endswith("position_ids"):
            state[key] = torch.arange(shape[-1])[None]
        elif key in ("queue_ptr", "idx_queue"):
            state[key] = torch.full(shape, i)
        else:
            state[key] = state.get(same_as(key, task), torch.tensor(float(i)).expand(shape))
    for key in state:
        state[key] = state[same_as(key, task)]
    return state
