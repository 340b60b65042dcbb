"""Training steps on this machine: samples a second, memory, hours of the whole run, FLOPs by part.

Images are noise and captions are random words; the embedded scenes are those of the run.
"""
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.modules import module as every_module
from torch.utils.flop_counter import FlopCounterMode

from minalbef import train
from minalbef.config import Config
from minalbef.fast import loop
from minalbef.presets import PRESETS, preset
from minalbef.pretrain import Pretrain
from minalbef.recipes.pretrain import begin
from minalbef.recipes.report import command, commit, describe_device, now
from minalbef.scenes.batches import SceneBatches
from minalbef.system import checkpoint, distributed
from minalbef.system.limits import nearest
from minalbef.system.metrics import TICK
from minalbef.system.settings import read_changes, replace_checked
from minalbef.system.tokenizer import Tokenizer
from minalbef.system.training import check_negatives
from minalbef.tasks.base import Task
from minalbef.tasks.table import TASKS, find_task_of_preset

WARM_UP = 2                           # steps that allocate the optimiser's state
COMPILING = 20                        # steps in which new lengths may still be compiled
COUNTED = 3                           # steps whose FLOPs are counted
BATCHES = 4                           # of noise, which take turns
WORDS = ("a bird sits on the red roof of an old house while two men in green coats walk their dogs "
         "along a wide river").split()
# Words of a caption: the eight that COCO asked its writers for at least, and so many more on
# average, geometrically
SHORTEST, MORE = 8, 3.0
PART = re.compile(r"(student|teacher)\.(?:albef\.)?(?!albef$)(\w+)")
REST = "backward passes, losses, optimiser"


def find_recipe(name: str, changes: Sequence[str] = ()) -> tuple[Config, str]:
    """The settings of a preset or of a run folder, with your changes, and its task.

    Raises ValueError for neither.
    """
    options = read_changes(tuple(changes))
    if name in PRESETS:
        task = find_task_of_preset(name)
        return preset(name, **options), task.name if task else "pretrain"
    if not (checkpoint.run_folder(name) / "config.json").exists():
        raise ValueError(f"{name!r} is neither a run folder nor a preset{nearest(name, PRESETS)}; "
                         f"presets are {', '.join(PRESETS)}")
    config, task_name, *_ = checkpoint.read_run(name)
    return replace_checked(config, **options), task_name


class Steps:
    """Training steps as `train.fit` takes them, with a full queue.

    Processes that torchrun started share them.
    """

    def __init__(self, config: Config, task: str = "pretrain", full_texts: bool = False):
        """full_texts: all captions have config.text_length; or else lengths like COCO's

        Raises ValueError for a device that isn't there, or a batch that is too small for the task.
        """
        self.device = distributed.join(config.device)
        check_negatives(task, TASKS[task].least_rows, config)
        torch.manual_seed(config.seed)
        self.batch: Callable[[int], Any]
        if task == "pretrain" and config.objects:
            self.task, tokenizer, config = begin(config)
            self.batch = SceneBatches(config, tokenizer)
        else:
            self.task = TASKS[task].module(config)
            tokenizer = Tokenizer.train([" ".join(WORDS)], min(config.vocab_size, 512))
            batches = []
            for step in range(BATCHES):
                batch = make_batch(TASKS[task], config, tokenizer, step, full_texts)
                batches.append(batch.pin_memory() if self.device.type == "cuda" else batch)
            self.batch = lambda step: batches[step % BATCHES]
        self.config = config
        self.task.to(self.device).train()
        if isinstance(self.task, Pretrain):
            fill_queue(self.task, config.queue_size, self.device)
        self.optimiser = train.choose_optimiser(self.task, config)
        self.model = loop.wrap(self.task, self.device)

    def __call__(self, step: int, batch: Any = None) -> None:
        """Take the step of this number. batch: by default that of the step"""
        batch = self.batch(step) if batch is None else batch
        train.train_step(self.model, self.task, self.optimiser, batch, step, self.config,
                         self.device)

    def wait(self) -> None:
        """Until the GPU has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def make_batch(task: Task, config: Config, tokenizer: Tokenizer, step: int,
               full_texts: bool = True) -> Any:
    """This process's batch of noise images and random words, fixed by seed and step."""
    rank = distributed.rank()
    rows = config.batch // distributed.world()
    rng = np.random.default_rng([config.seed, step, rank])
    records = []
    for i in range(rows):
        image, second_image = rng.integers(0, 256, (2, 48, 64, 3), np.uint8)
        length = config.text_length
        if not full_texts:
            length = SHORTEST + rng.geometric(1 / (1 + MORE)) - 1
        text = " ".join(rng.choice(WORDS, length))
        record_id = config.batch * step + rows * rank + i
        records.append(task.dummy_record(image, second_image, text, record_id))
    return task.collate(records, tokenizer, config.image_size, config.text_length)


def fill_queue(task: Pretrain, size: int, device: torch.device) -> None:
    """Fill the queue with random features, in place."""
    image, text = F.normalize(torch.randn(2, size, task.config.embed_dim, device=device), dim=-1)
    task.queue.push(image, text, -1 - torch.arange(size, device=device))


def measure_step(config: Config, task: str = "pretrain", steps: int = 10, full_texts: bool = False
                 ) -> dict[str, Any]:
    """Speed, memory and FLOPs of a recipe's steps, and the hours of its whole run.

    steps: how many to time; they are spread over the run, whose losses may begin later
    full_texts: see Steps
    """
    work = Steps(config, task, full_texts)
    config = work.config
    numbers = [int((i + 0.5) / steps * config.steps) for i in range(steps)]
    with loop.recompute_and_compile(work.task, config):
        for i in range(COMPILING if config.compile else WARM_UP):
            work(numbers[-1 - i % steps])                # at first the last, which has all losses
        seconds, cpu_seconds = time_steps(work, numbers)
    memory = peak_memory(work.device)
    parts = count_parts(work, numbers[::max(1, steps // COUNTED)])
    flops = sum(parts.values())
    return {
        "steps_of_the_run": config.steps,
        "hours_of_the_run": config.steps * seconds / 3600,
        "samples_per_second": config.batch / seconds,
        "seconds_per_step": seconds,
        "cpu_seconds_per_step": cpu_seconds,
        "peak_memory_gb": memory,
        "precision": distributed.precision_on(work.device, config.precision),
        "processes": distributed.world(),
        "gflop_per_sample": flops * distributed.world() / config.batch / 1e9,
        "tflop_per_second": flops / seconds / 1e12,
        "gflop_by_part": {name: value / 1e9 for name, value in parts.items()},
    }


def time_steps(work: Steps, numbers: Sequence[int]) -> tuple[float, float]:
    """Seconds of a step, by the clock and of this process's CPU.

    A CPU paints scenes between steps; for a GPU they are ready, as from a loader's workers.
    """
    batches: list[Any] = [None] * len(numbers)
    if work.device.type == "cuda":
        batches = [work.batch(number).pin_memory() for number in numbers]
    work.wait()
    start = time.perf_counter()
    cpu_start = time.process_time()
    for number, batch in zip(numbers, batches):
        work(number, batch)
    work.wait()
    seconds = max(time.perf_counter() - start, TICK)
    return seconds / len(numbers), (time.process_time() - cpu_start) / len(numbers)


def peak_memory(device: torch.device) -> float | None:
    """GB: a GPU's peak, or this process's; None where the system doesn't report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status")           # a child inherits its parent's getrusage
    if status.exists():
        peak = re.search(r"^VmHWM:\s*(\d+)", status.read_text(encoding="utf-8"), re.MULTILINE)
        if peak:
            return int(peak[1]) * 1024 / 1e9
    try:
        import resource
    except ImportError:                          # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def count_flops() -> FlopCounterMode:
    """Counts the FLOPs of matrix products that run inside it; a multiply-add is two.

    torch's own counter misses the CPU's fused attention, whose backward pass recomputes the scores:
    five products, not four.
    """
    def forward(q: torch.Size, k: torch.Size, v: torch.Size, *_: Any, **__: Any) -> int:
        return 4 * q[0] * q[1] * q[2] * k[2] * q[3]

    def backward(gradient: torch.Size, q: torch.Size, k: torch.Size, v: torch.Size, *_: Any,
                 **__: Any) -> int:
        return 10 * q[0] * q[1] * q[2] * k[2] * q[3]

    aten = torch.ops.aten
    return FlopCounterMode(display=False, custom_mapping={
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward})


def count_parts(work: Steps, numbers: Sequence[int]) -> dict[str, float]:
    """Mean FLOPs of these steps: of each part's forward passes, and of all else; see `count_flops`.

    Layers are neither recomputed nor compiled meanwhile: each counts once.
    """
    part_of: dict[Any, str] = {}
    for path, part in work.task.named_modules():
        if match := PART.fullmatch(path):
            part_of |= dict.fromkeys(part.modules(), " ".join(match.groups()))
    flops: Counter[str] = Counter()
    active = []
    counter = count_flops()

    def enter(module: Any, inputs: Any) -> None:
        if module in part_of:                    # a part may be entered by one of its layers
            active.append(counter.get_total_flops())

    def leave(module: Any, inputs: Any, output: Any) -> None:
        if module in part_of:
            before = active.pop()
            if not active:
                flops[part_of[module]] += counter.get_total_flops() - before

    hooks = (every_module.register_module_forward_pre_hook(enter),
             every_module.register_module_forward_hook(leave))
    try:
        with torch.compiler.set_stance("force_eager"), counter:
            for number in numbers:
                work(number)
    finally:
        for hook in hooks:
            hook.remove()
    flops[REST] = counter.get_total_flops() - flops.total()
    return {name: value / len(numbers) for name, value in flops.items() if value}


def show(figures: dict[str, Any]) -> None:
    """Print as JSON, in four digits, with command, date, code and machine."""
    about = {"command": command(), "date": now(), "commit": commit(), "device": describe_device()}
    print(json.dumps(about | round_figures(figures), indent=1))


def round_figures(value: Any) -> Any:
    """Numbers in four digits, in nested dictionaries."""
    if isinstance(value, dict):
        return {key: round_figures(inner) for key, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
