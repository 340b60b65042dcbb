"""The original's checkpoints as small files with real numbers, which the golden files give."""

import torch

from golden_rule import figures, original_state
from minalbef.weights import key_table

TASKS = {
    "encoders": "pretrain", "retrieval": "retrieval", "ve": "entailment", "vqa_small": "vqa",
    "vqa_native": "vqa", "nlvr_small": "nlvr2", "nlvr_native": "nlvr2",
    "nlvr_ta_small": "text_assignment", "nlvr_ta_native": "text_assignment",
}
HEADS = dict(image_heads=4, text_heads=4)
UNEQUAL = dict(
    stem="patch", image_mlp_ratio=3.0, text_mlp_ratio=2.5, text_depth=2, dropout=0.0, pos_scale=0.0
)


def small_state(file: str) -> dict[str, torch.Tensor]:
    """A golden file's weights, with the counters that its rule leaves out."""
    recorded = figures(file)["state_keys"]
    counters = {
        key: torch.arange(12, 12 + shape[-1]).reshape(shape)
        for key, shape, *_ in recorded
        if key in ("queue_ptr", "idx_queue")
    }
    return original_state(recorded) | counters


def as_file(task) -> dict[str, torch.Tensor]:
    queue = {
        "image": task.queue.image,
        "text": task.queue.text,
        "pointer": torch.tensor([task.queue.pointer]),
    }
    return key_table.write(
        task.student.state_dict(), task.teacher.state_dict(), queue,
        len(task.student.text_encoder.layers), True,
    )
