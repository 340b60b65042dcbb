"""Training steps of any preset on a GPU, whose longest text has the length that one asks for."""
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from minalbef.bench import step
from minalbef.bench.step import WORDS, find_recipe, make_batch
from minalbef.fast import loop
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.table import TASKS


class Steps(step.Steps):
    """Steps as `train.fit` takes them, in the state of a run's middle: the queue is full."""

    def __init__(self, name: str, changes: dict[str, Any]):
        settings = [f"{field}={value}" for field, value in changes.items()]
        config, self.name = find_recipe(name, ["device=cuda", "alpha_ramp=false", *settings])
        super().__init__(config, self.name, full_texts=True)
        vocabulary = min(config.vocab_size, 512)
        self.tokenizer = Tokenizer.train([" ".join(WORDS)], vocabulary)
        self.batches: dict[int, Any] = {}
        self.count = 0

    def layers(self) -> AbstractContextManager[None]:
        """Meanwhile layers are recomputed and compiled as the config says."""
        return loop.recompute_and_compile(self.task, self.config)

    def of_length(self, length: int) -> Any:
        """This process's rows, in pinned memory. length: of the longest text, 0 for the limit"""
        if length not in self.batches:
            config = replace(self.config, text_length=length or self.config.text_length)
            batch = make_batch(TASKS[self.name], config, self.tokenizer, 0)
            self.batches[length] = batch.pin_memory()
        return self.batches[length]

    def take(self, length: int = 0) -> None:
        """One step of training; see `of_length`."""
        self(self.count, self.of_length(length))
        self.count += 1
