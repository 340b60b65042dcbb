"""A set of scenes of which some captions are false, in a known way: what CapFilt is to clean.

Its share of false captions is NOISE. Only a made world knows which they are, and so what a filter
should drop: `score` says how well it did.
"""
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from emojiscenes.grammar import words
from emojiscenes.scenes import Drawn, Scenes
from emojiscenes.stream import Stream
from minalbef.config import Config
from minalbef.datasets.loader import order
from minalbef.scenes import questions
from minalbef.scenes.batches import SceneBatches, longest_text
from minalbef.scenes.pretrain import SceneBatch
from minalbef.system.tokenizer import Tokenizer

SIZE = 12_800                         # scenes of the set
NOISE = (0.2, 0.0, 0.2)               # shares: one thing changed, words missing, of another scene


def noisy_set(config: Config, size: int = SIZE) -> list[Drawn]:
    """A set with false captions, whose `noise` says so: "wrong" or "foreign"."""
    scenes = Scenes("train", seed=config.seed, size=config.image_size, objects=config.objects,
                    restyle=config.restyle, noise=NOISE)
    return list(map(scenes.draw, range(size)))


class SetBatches(SceneBatches):
    """Pairs of a set, in another order each epoch; only an image's own captions count as true."""

    def __init__(self, config: Config, tokenizer: Tokenizer, pairs: Sequence[Drawn]):
        """Raises ValueError for a set without pairs."""
        super().__init__(config, tokenizer)
        if not pairs:
            raise ValueError("no pair is left to train on; a filter that refuses all of them was "
                             "trained too little")
        self.pairs = pairs

    def __call__(self, step: int) -> SceneBatch:
        return replace(super().__call__(step), match=None)

    def draw_bucket(self, bucket: int) -> list[list[Drawn]]:
        """See SceneBatches: batches of captions of like length, in any order."""
        count = self.config.bucket * self.config.batch
        examples = []
        for i in range(bucket * count, (bucket + 1) * count):
            epoch, place = divmod(i, len(self.pairs))
            examples.append(self.pairs[int(order(len(self.pairs), self.config.seed, epoch)[place])])
        examples.sort(key=lambda pair: longest_text([pair]))
        batches = []
        for i in range(0, count, self.config.batch):
            batches.append(examples[i:i + self.config.batch])
        return Stream("bucket", self.config.seed, bucket).shuffle(batches)


def score(pairs: Sequence[Drawn], dropped: Tensor) -> dict[str, float]:
    """A filter against the truth: precision and recall of what it drops, (p,) bool, by name.

    chance: the precision of one that drops by chance
    """
    noise = np.array([pair.noise for pair in pairs])
    false = torch.from_numpy(noise != "")
    figures = {"filter chance": false.float().mean().item(),
               "filter precision": share_of(false, dropped),
               "filter recall": share_of(dropped, false),
               "filter true dropped": share_of(dropped, ~false)}
    for kind in ("wrong", "foreign"):
        of_kind = torch.from_numpy(noise == kind)
        figures[f"filter recall {kind}"] = share_of(dropped, of_kind)
    return figures


def score_written(written: Sequence[Drawn], accepted: Tensor, names: Sequence[str]
                  ) -> dict[str, float]:
    """A captioner: how many captions are kept, and how many name only objects that are there.

    accepted: (p,) bool. names: of all objects
    """
    there = torch.tensor([named(pair.text, names) <= questions.object_names(pair.scene)
                          for pair in written])
    return {"written kept": accepted.float().mean().item(),
            "written objects there": there.float().mean().item(),
            "kept objects there": share_of(there, accepted)}


def named(text: str, names: Sequence[str]) -> set[str]:
    """The objects that a text names, in singular or plural."""
    padded = f" {text} "
    return {name for name in names if f" {name} " in padded or f" {words(name)[1]} " in padded}


def share_of(part: Tensor, among: Tensor) -> float:
    """The share of the rows `among` that are `some`, bool each; 0 of none."""
    return (part & among).sum().item() / max(1, among.sum().item())
