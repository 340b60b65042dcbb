"""Boxes and phrases of scenes' objects, for X-VLM: only a made world has them for nothing."""
from dataclasses import dataclass

import torch
from torch import Tensor

from emojiscenes.grammar import phrase, size_of
from emojiscenes.language import Noun, Object, Scene, fits
from emojiscenes.stream import Stream
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.pretrain import SceneBatch
from minalbef.scenes.records import box_of


@dataclass(frozen=True)
class BoxBatch(SceneBatch):
    """A SceneBatch with a phrase and a box of one object of each scene."""

    phrases: Tensor | None = None     # (b, w) and (b, w) bool
    phrase_keep: Tensor | None = None
    boxes: Tensor | None = None       # (b, 4) centre x, y, width, height, in shares of the sides
    alone: Tensor | None = None       # (b,) bool: no other object has its name
    fits: Tensor | None = None        # (b, B) bool: phrase i may be said of object j
    columns = ("match", "fits")


class BoxBatches(SceneBatches):
    """The embedded scenes with boxes: step -> the BoxBatch."""

    def __call__(self, step: int) -> BoxBatch:
        batch = super().__call__(step)
        examples = self.batches[step % self.config.bucket]
        things = []
        nouns = []
        alone = []
        for example in examples:
            stream = Stream("box", self.config.seed, example.id)
            thing, is_alone = choose(example.scene, stream)
            things.append(thing)
            nouns.append(Noun(thing.name, size_of(thing)))
            alone.append(is_alone)
        tokens, keep = self.tokenizer.encode(list(map(phrase, nouns)))
        may_fit = []
        for noun in nouns:
            may_fit.append([fits(noun, thing) is not False for thing in things])
        return BoxBatch(**vars(batch), phrases=tokens, phrase_keep=keep,
                        boxes=torch.tensor(list(map(box_of, things))),
                        alone=torch.tensor(alone), fits=torch.tensor(may_fit))


def choose(scene: Scene, stream: Stream) -> tuple[Object, bool]:
    """One of a scene's objects, and whether no other has its name, as it is wherever it can be."""
    names = [thing.name for thing in scene.objects]
    alone = [thing for thing in scene.objects if names.count(thing.name) == 1]
    return stream.pick(alone or scene.objects), bool(alone)
