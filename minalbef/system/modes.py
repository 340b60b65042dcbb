"""A module for a while in evaluation mode."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode, and each of its parts back into its own mode afterwards.

    Compiled layers run uncompiled: evaluation's shapes would fill their cache, and training would
    fall back to eager.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for part, mode in modes:
            part.training = mode
