"""Training steps of any preset on random weights and data, on the null GPU."""
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch

from minalbef import distributed, train
from minalbef.config import Config
from minalbef.presets import preset
from minalbef.recipes import rehearse
from minalbef.tasks.table import TASKS, find_task_of_preset
from minalbef.tokenizer import Tokenizer


class Steps:
    """Steps as `train.fit` takes them: batches in pinned memory, a full queue, a teacher that counts."""

    def __init__(self, name: str, changes: dict[str, Any], device: torch.device):
        task = find_task_of_preset(name) or TASKS["pretrain"]
        self.spec = task
        self.config: Config = replace(preset(name, **changes), alpha_ramp=False)
        self.device = device
        self.tokenizer = Tokenizer.train([" ".join(rehearse.WORDS)], min(self.config.vocab_size, 512))
        with torch.device(device):
            self.task = task.module(self.config).train()
        if hasattr(self.task, "queue"):
            self.task.queue.filled = self.config.queue_size
        if hasattr(self.task, "rates_at_hand"):
            self.task.rates_at_hand = torch.full((self.config.vocab_size,), self.config.mask_rate)
        groups = train.parameter_groups(self.task, self.config)
        self.optimiser = torch.optim.AdamW(groups, lr=self.config.lr, betas=self.config.betas, fused=True)
        self.model = train.wrap(self.task, device)

    def layers(self) -> AbstractContextManager[None]:
        """Meanwhile layers are recomputed and compiled as the config says."""
        return train.recompute_and_compile(self.task, self.config)

    def batch(self, step: int, length: int | None = None) -> Any:
        """This process's rows of noise. length: of the longest text"""
        config = replace(self.config, batch=self.config.batch // distributed.world(),
                         text_length=length or self.config.text_length)
        return rehearse.make_batch(self.spec, config, self.tokenizer, step).pin_memory()

    def __call__(self, step: int, batch: Any) -> None:
        """One step of training."""
        train.train_step(self.model, self.task, self.optimiser, batch, step, self.config, self.device)
