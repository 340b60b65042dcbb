"""The last K teacher features of images and texts, with their ids (section 3.2, after MoCo)."""
import torch
from torch import Tensor, nn


class FeatureQueue(nn.Module):
    """More keys than a batch holds. Only filled slots count; any batch fits: the end wraps around.

    The original starts with random vectors, which act as negatives for a lap, and wants K divisible
    by the batch.
    """

    image: Tensor
    text: Tensor
    ids: Tensor

    def __init__(self, size: int, embed_dim: int):
        super().__init__()
        self.register_buffer("image", torch.zeros(size, embed_dim))
        self.register_buffer("text", torch.zeros(size, embed_dim))
        self.register_buffer("ids", torch.zeros(size, dtype=torch.long))
        self.pointer = 0               # the slot that is written next
        self.filled = 0

    def features(self) -> tuple[Tensor, Tensor, Tensor]:
        """What was pushed and not yet overwritten: image (k, e), text (k, e), ids (k,)."""
        return self.image[:self.filled], self.text[:self.filled], self.ids[:self.filled]

    @torch.no_grad()
    def push(self, image: Tensor, text: Tensor, ids: Tensor) -> None:
        """Overwrite the oldest: image, text (b, e), ids (b,).

        Of a batch larger than the queue, the last rows stay.
        """
        size = len(self.ids)
        image, text, ids = image[-size:], text[-size:], ids[-size:]
        slots = (self.pointer + torch.arange(len(ids), device=self.ids.device)) % size
        self.image[slots], self.text[slots], self.ids[slots] = image, text, ids
        self.pointer = (self.pointer + len(ids)) % size
        self.filled = min(size, self.filled + len(ids))

    def get_extra_state(self) -> dict[str, int]:
        return {"pointer": self.pointer, "filled": self.filled}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.pointer = state["pointer"]
        self.filled = state["filled"]
