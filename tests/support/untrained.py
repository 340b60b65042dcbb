"""A model that has learnt nothing, with all that surrounds one: for tests of what is made from a run."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from emojiscenes.scenes import Scenes
from minalbef.albef import ALBEF
from minalbef.presets import preset
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.run import Run


@cache
def untrained() -> Run:
    """A small `tiny` of 12 objects; the same weights each time."""
    config = preset("tiny", objects=12, image_depth=1, fusion_depth=2, epoch=640)
    source = Scenes("train", objects=config.objects)
    tokenizer = Tokenizer.train((source.draw(i).text for i in range(2000)), config.vocab_size)
    torch.manual_seed(0)
    config = replace(config, vocab_size=len(tokenizer))
    return Run(ALBEF(config).eval(), tokenizer, config, Path("untrained"))
