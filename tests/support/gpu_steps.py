"""Training steps of any preset, on a GPU, with random weights and data."""
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch

from minalbef import distributed, train
from minalbef.fast import loop
from minalbef.presets import preset
from minalbef.pretrain import Pretrain
from minalbef.recipes import rehearse
from minalbef.tasks.table import TASKS, find_task_of_preset
from minalbef.tokenizer import Tokenizer


class Steps:
    """Steps as `train.fit` takes them, in the state of a run's middle: the queue is full.

    The processes that torchrun started share them.
    """

    def __init__(self, name: str, changes: dict[str, Any]):
        self.device = distributed.join("cuda")
        self.spec = find_task_of_preset(name) or TASKS["pretrain"]
        self.config = replace(preset(name, **changes), alpha_ramp=False)
        vocabulary = min(self.config.vocab_size, 512)
        self.tokenizer = Tokenizer.train([" ".join(rehearse.WORDS)], vocabulary)
        with torch.device(self.device):
            self.task = self.spec.module(self.config).train()
        if isinstance(self.task, Pretrain):
            self.task.queue.filled = self.config.queue_size
            self.task.rates_at_hand = self.task.rates.cpu()
        groups = train.parameter_groups(self.task, self.config)
        self.optimiser = torch.optim.AdamW(groups, betas=self.config.betas, fused=True)
        self.model = loop.wrap(self.task, self.device)
        self.batches: dict[int, Any] = {}
        self.count = 0

    def layers(self) -> AbstractContextManager[None]:
        """Meanwhile layers are recomputed and compiled as the config says."""
        return loop.recompute_and_compile(self.task, self.config)

    def batch(self, length: int) -> Any:
        """This process's rows, in pinned memory. length: of the longest text, 0 for the limit"""
        if length not in self.batches:
            rows = self.config.batch // distributed.world()
            text_length = length or self.config.text_length
            config = replace(self.config, batch=rows, text_length=text_length)
            batch = rehearse.make_batch(self.spec, config, self.tokenizer, 0)
            self.batches[length] = batch.pin_memory()
        return self.batches[length]

    def __call__(self, length: int = 0) -> None:
        """One step of training; see `batch`."""
        train.train_step(self.model, self.task, self.optimiser, self.batch(length), self.count,
                         self.config, self.device)
        self.count += 1
