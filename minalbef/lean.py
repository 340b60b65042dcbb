"""The same layers for less: computed again on the way back, or compiled; a network's results stay what they are."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from minalbef.config import Config
from minalbef.fusion import FusionLayer
from minalbef.text import TextLayer
from minalbef.vision import Block

LAYERS = (Block, TextLayer, FusionLayer)


@contextmanager
def lean(task: nn.Module, config: Config) -> Iterator[None]:
    """Meanwhile the encoders' layers, the teacher's too, run as config.compile and config.checkpointing say.

    Layers alone: gathering among processes must not be done twice, and layers of a kind share one compiled form. Weights keep
    their names.
    """
    layers = [layer for layer in task.modules() if isinstance(layer, LAYERS)] * (config.compile or config.checkpointing)
    for layer in layers:
        if config.compile:
            layer.forward = torch.compile(layer.forward)
        if config.checkpointing and any(p.requires_grad for p in layer.parameters()):
            layer.forward = partial(again, layer.forward, config.dropout > 0)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)     # the instance's; the class's shows again


def again(run: Callable, chance: bool, *args, **options):
    """Keep what the layer reads alone, and run it again for its gradients. chance: with the same dropout, if there is any."""
    if not torch.is_grad_enabled():
        return run(*args, **options)
    return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=chance, **options)
