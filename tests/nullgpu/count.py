"""What a training step costs, counted on the null GPU:
`count.py PRESET[,PRESET...] [FIELD=VALUE ...]`.

    python tests/nullgpu/count.py paper-4m batch=64 precision=bf16
    python tests/nullgpu/count.py paper-4m batch=64 precision=bf16 compile=true lengths=25,22,24

Beside the preset's fields there is `lengths`: of the longest text, in as many steps before the one
that is counted, whose is the limit. Prints JSON, of several presets by their names. Host times are
process time: other processes make them longer.
"""
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters

from minalbef.bench import step as bench
from minalbef.fast import loop
from minalbef.system import distributed
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.table import TASKS

# steps that allocate and compile; DDP times its first ten, and waits for that
WARM_UP = ",".join(11 * ["0"])
TIMED = 5                             # steps


class Steps(bench.Steps):
    """Steps as `train.fit` takes them, in the state of a run's middle: the queue is full."""

    def __init__(self, name: str, settings: dict[str, str]):
        changes = [f"{field}={value}" for field, value in settings.items()]
        fixed = ["device=cuda", "alpha_ramp=false"]
        config, self.name = bench.find_recipe(name, [*fixed, *changes])
        super().__init__(config, self.name, full_texts=True)
        vocabulary = min(config.vocab_size, 512)
        self.tokenizer = Tokenizer.train([" ".join(bench.WORDS)], vocabulary)
        self.batches: dict[int, Any] = {}
        self.count = 0

    def take(self, length: int = 0) -> None:
        """One step. length: of the longest text, 0 for the limit"""
        if length not in self.batches:
            config = replace(self.config, text_length=length or self.config.text_length)
            batch = bench.make_batch(TASKS[self.name], config, self.tokenizer, 0)
            self.batches[length] = batch.pin_memory()
        self(self.count, self.batches[length])
        self.count += 1


def main(names: str, *changes: str) -> None:
    """Print what a step costs."""
    settings = dict(change.split("=", 1) for change in changes)
    steps = {name: count(name, dict(settings)) for name in names.split(",")}
    if distributed.rank() == 0:
        print(json.dumps(steps if len(steps) > 1 else steps[names], indent=1))
    # NCCL's barrier doesn't wait here, and gloo's does
    distributed.longest(0)
    distributed.leave()


def count(name: str, settings: dict[str, str]) -> dict:
    """What a step of a preset costs."""
    import gpu_counts

    lengths = [int(length) for length in settings.pop("lengths", WARM_UP).split(",")]
    step = Steps(name, settings)
    graphs = []
    with loop.recompute_and_compile(step.task, step.config):
        for length in lengths:
            step.take(length)
            graphs.append(counters["stats"]["unique_graphs"])
        step.take()
        torch.cuda.reset_peak_memory_stats()
        with gpu_counts.count() as counts:
            step.take()
        counts["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
        counts["host_ms"] = [time_step(step) for _ in range(TIMED)]
    if step.config.compile:
        counts["graphs"] = [*graphs, counters["stats"]["unique_graphs"]]
    return counts


def time_step(step: Steps) -> float:
    """Milliseconds of process time."""
    start = time.process_time()
    step.take()
    return round(1e3 * (time.process_time() - start), 1)


def start_on_null_gpu() -> None:
    """Run this script again, on the null GPU."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
    import null_gpu

    lack = null_gpu.find_lack()
    if lack:
        raise SystemExit(lack)
    raise SystemExit(null_gpu.run(__file__, *sys.argv[1:]).returncode)


if __name__ == "__main__":
    if "NULLGPU" not in os.environ:
        start_on_null_gpu()
    main(*sys.argv[1:])
