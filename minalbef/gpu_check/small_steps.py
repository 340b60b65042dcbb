"""Each recipe of the paper in small: its task, batches of noise, and products in TF32 or not."""
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from minalbef import train
from minalbef.config import Config
from minalbef.presets import preset
from minalbef.recipes.rehearse import WORDS, make_batch
from minalbef.tasks.base import Task
from minalbef.tasks.table import TASKS
from minalbef.tokenizer import Tokenizer

# init_std: with weights this large the losses depend on every input, also before training
SMALL = dict(image_size=64, patch_size=16, image_width=64, image_depth=2, image_heads=2,
             vocab_size=256, text_width=64, text_heads=2, text_depth=2, fusion_depth=2,
             embed_dim=32, queue_size=32, init_std=0.1, batch=8)


@dataclass
class SmallRecipe:
    """A recipe in small."""

    task: Task
    config: Config
    module: Any                       # the task's module
    optimiser: torch.optim.Optimizer
    tokenizer: Tokenizer

    def batch(self, step: int) -> Any:
        """The batch of a step, on the CPU."""
        return make_batch(self.task, self.config, self.tokenizer, step)

    def train(self, step: int, device: torch.device, batch: Any = None) -> None:
        """One training step; the module is on the device."""
        rows = self.batch(step) if batch is None else batch
        train.train_step(self.module, self.module, self.optimiser, rows, step, self.config, device)


def recipe_names() -> list[str]:
    """The default preset of every task."""
    return [task.preset for task in TASKS.values()]


def make_recipe(name: str, changes: Mapping[str, Any], device: torch.device) -> SmallRecipe:
    """A preset of the paper in small, with fixed seed; its teacher takes part from the start."""
    task = next(task for task in TASKS.values() if task.preset == name)
    config = replace(preset(name, **SMALL | dict(changes)), alpha_ramp=False)
    torch.manual_seed(config.seed)
    module = task.module(config).to(device).train()
    optimiser = torch.optim.AdamW(train.parameter_groups(module, config), lr=config.lr,
                                  betas=config.betas, fused=True)
    tokenizer = Tokenizer.train([" ".join(WORDS)], config.vocab_size)
    return SmallRecipe(task, config, module, optimiser, tokenizer)


@contextmanager
def fp32_products(tf32: bool) -> Iterator[None]:
    """Meanwhile products of fp32 are in TF32, or exact."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
