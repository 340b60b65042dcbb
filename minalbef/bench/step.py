"""Benchmark of a pretraining step: time, memory and FLOPs, in total and by phase."""
import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from minalbef import train
from minalbef.config import Config
from minalbef.draws import step_generator
from minalbef.fast import loop
from minalbef.fast.pretrain import in_form
from minalbef.metrics import TICK
from minalbef.pretrain import Pretrain, PretrainBatch
from minalbef.recipes.cards import gpu_named
from minalbef.recipes.machine import matmul_peak, peak_memory
from minalbef.recipes.report import command, commit, describe_device, now

LOG = logging.getLogger("minalbef")
ROUNDS = 5                            # of timing; the fastest is nearest to a quiet machine
WARM_UP = 2                           # steps that allocate the optimiser's state
COMPILING = 20                        # steps in which new lengths may still be compiled
COUNTED = 20                          # steps whose FLOPs are counted, where texts differ in length
FIRST_WORD = 5                        # word ids below it are special
# Tokens of a caption: [CLS], the eight words that COCO asked its writers for at least, and so many
# more on average, geometrically: 12 in all
SHORTEST, MORE = 9, 3.0
# a product takes much longer than its launch
CPU_PRODUCT, GPU_PRODUCT = 2048, 8192
# phase, module of the task, methods: what a step is made of besides the optimiser, and "other"
PARTS = (
    ("teacher", "teacher", "encode_image encode_text image_feature text_feature fuse word_logits"),
    ("image", "student", "encode_image"),
    ("text", "student", "encode_text"),
    ("itc", "student", "image_feature text_feature"),
    ("itc", "", "compare align"),
    ("negatives", "", "pair"),
    ("fusion", "student.fusion", "keys_values"),
    ("fusion", "student", "fuse"),
    ("mlm_head", "student", "word_logits"),
    ("after_step", "", "after_step"),
)


class Phases:
    """Adds up a clock's readings while named parts run; a part within a part isn't counted."""

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.spent: dict[str, float] = defaultdict(float)
        self.inside = False

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self.inside:
            yield
            return
        self.inside = True
        start = self.clock()
        try:
            yield
        finally:
            self.inside = False
            self.spent[name] += self.clock() - start

    def watch(self, name: str, owner: Any, method: str) -> AbstractContextManager:
        """Meanwhile a method of an object, a class or a module counts as the named part."""
        plain = getattr(owner, method)

        def call(*args: Any, **options: Any) -> Any:
            with self(name):
                return plain(*args, **options)

        return mock.patch.object(owner, method, call)


class Steps:
    """Pretraining steps on made-up data, with a full queue and no ramp of alpha.

    full_texts: all texts have config.text_length; or else lengths as real captions', drawn anew for
        each step, in batches that are padded to their longest
    """

    def __init__(self, config: Config, device: str = "cpu", full_texts: bool = True):
        torch.manual_seed(config.seed)
        self.config = replace(config, alpha_ramp=False)
        self.device = find_device(device)
        self.count = 0
        self.task = in_form(Pretrain, config)(config).to(self.device)
        groups = train.parameter_groups(self.task, config)
        self.optimiser = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
        self.batch = make_batch(config)
        if self.device.type == "cuda":
            self.batch = self.batch.pin_memory()
        self.full_texts = full_texts
        image = torch.randn(config.queue_size, config.embed_dim, device=self.device)
        text = torch.randn(config.queue_size, config.embed_dim, device=self.device)
        keys = -1 - torch.arange(config.queue_size, device=self.device)
        self.task.queue.push(F.normalize(image, dim=-1), F.normalize(text, dim=-1), keys)

    def __call__(self) -> None:
        """One step, as train.fit takes it."""
        batch = self.batch
        if not self.full_texts:
            batch = cut_texts(batch, step_generator(self.config.seed, self.count))
        train.train_step(self.task, self.task, self.optimiser, batch, self.count, self.config,
                         self.device)
        self.count += 1

    def clock(self) -> float:
        """Seconds: process time on a CPU, else wall time after a synchronise."""
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def by_phase(self, clock: Callable[[], float], steps: int) -> dict[str, float]:
        """What a step's phases cost, by the given clock."""
        phases = Phases(clock)
        parts: list[tuple[str, Any, str]] = [
            ("backward", torch.Tensor, "backward"),
            ("optimiser", torch.nn.utils, "get_total_norm"),
            ("optimiser", torch.nn.utils, "clip_grads_with_norm_"),
            ("optimiser", self.optimiser, "step"),
            ("optimiser", self.optimiser, "zero_grad"),
        ]
        for name, path, methods in PARTS:
            module = self.task.get_submodule(path)
            parts += [(name, module, method) for method in methods.split()]
        with ExitStack() as stack:
            for part in parts:
                stack.enter_context(phases.watch(*part))
            start = clock()
            for _ in range(steps):
                self()
            rest = clock() - start - sum(phases.spent.values())
        costs = dict(phases.spent) | {"other": rest}
        return {name: value / steps for name, value in costs.items()}


def make_batch(config: Config) -> PretrainBatch:
    """A batch of noise and of texts of full length, each with an image of its own."""
    if config.vocab_size <= FIRST_WORD:
        raise ValueError(f"vocab_size={config.vocab_size} leaves no words: {FIRST_WORD} are "
                         "special; take more")
    b, size = config.batch, config.image_size
    tokens = torch.randint(FIRST_WORD, config.vocab_size, (b, config.text_length))
    tokens[:, 0] = 2                                 # [CLS]
    keep = torch.ones_like(tokens, dtype=torch.bool)
    return PretrainBatch(torch.randn(b, 3, size, size), tokens, keep, torch.arange(b))


def cut_texts(batch: PretrainBatch, generator: torch.Generator) -> PretrainBatch:
    """The batch with captions of random lengths, padded to its longest."""
    rows, most = batch.tokens.shape
    more = torch.empty(rows).geometric_(1 / (1 + MORE), generator=generator) - 1
    lengths = (SHORTEST + more).clamp(max=most)                          # (b,)
    longest = int(lengths.max())
    keep = torch.arange(longest) < lengths[:, None]                      # (b, longest)
    tokens = batch.tokens[:, :longest] * keep
    if batch.tokens.is_pinned():
        return replace(batch, tokens=tokens.pin_memory(), keep=keep.pin_memory())
    return replace(batch, tokens=tokens, keep=keep)


def find_device(name: str) -> torch.device:
    """Raises ValueError for a device that this machine doesn't have."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if name not in names:
        raise ValueError(f"device={name!r} is not there; this machine has {', '.join(names)}")
    return torch.device(name)


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


class Compiled(NamedTuple):
    """What torch.compile has done in this process."""

    attempts: int                     # graphs that it set out to compile
    graphs: int                       # graphs that it compiled

    def faults(self, settled: "Compiled") -> list[str]:
        """What slows training down, of what happened since `settled`, in words."""
        faults = []
        late = self.attempts - settled.attempts
        if late:
            faults.append(f"{late} compilations after step {COMPILING}: each takes seconds, and "
                          "should be over by then")
        if self.attempts > self.graphs:
            faults.append(f"{self.attempts - self.graphs} layers fell back to eager: torch gave "
                          "up compiling them, TORCH_LOGS=recompiles says why")
        return faults


class Timing(NamedTuple):
    """What the clocks say of some steps, in seconds, and the peak of memory in MB."""

    rounds: list[float]               # wall time, of ROUNDS parts
    cpu: float                        # process time, of one step
    phases: dict[str, float]          # by Steps.clock, of one step
    peak: float | None
    faults: list[str]                 # of compilation, in words


def compiled() -> Compiled:
    """What torch.compile has done so far."""
    frames = torch._dynamo.utils.counters["frames"]      # torch has no public count
    return Compiled(frames["total"], frames["ok"])


def measure_step(config: Config, device: str = "cpu", steps: int = 20, full_texts: bool = False,
                 peak_size: int | None = None) -> dict[str, Any]:
    """Time, memory and FLOPs of a pretraining step, by phase too: `minalbef bench step`.

    full_texts: see Steps
    peak_size: side of the matrices whose product the step's speed is divided by
    """
    base = peak_memory()
    on_cpu = find_device(device).type == "cpu"
    work = Steps(config, device, full_texts)
    steps = max(1, steps // ROUNDS) * ROUNDS
    timing = time_steps(work, steps)
    for fault in timing.faults:
        LOG.warning("Fault: %s", fault)
    # of plain layers: recomputed or compiled ones would distort it
    with torch.compiler.set_stance("force_eager"), count_flops() as counter:
        flops = work.by_phase(counter.get_total_flops, 1 if full_texts else min(steps, COUNTED))
    size = peak_size or (CPU_PRODUCT if on_cpu else GPU_PRODUCT)
    by_wall, by_cpu = matmul_peak(device, size, half=config.precision == "bf16")
    total = sum(flops.values())
    rate = steps / sum(timing.rounds)
    gpu = None if on_cpu else gpu_named(torch.cuda.get_device_name(work.device))
    return {
        "samples_per_second": rate * config.batch,
        "seconds_per_step": 1 / rate,
        "cpu_seconds_per_step": timing.cpu,
        "best_samples_per_second": steps / ROUNDS * config.batch / min(timing.rounds),
        "peak_memory_mb": timing.peak,
        "base_memory_mb": base if on_cpu else None,
        "flops_per_step": total,
        "matmul_peak_gflops": by_wall,
        "matmul_peak_gflops_by_cpu": by_cpu if on_cpu else None,
        "share_of_matmul_peak": total * rate / by_wall / 1e9,
        "share_of_matmul_peak_by_cpu": total / timing.cpu / by_cpu / 1e9 if on_cpu else None,
        "share_of_bf16_peak": total * rate / gpu.bf16 / 1e12 if gpu and gpu.bf16 else None,
        "faults": timing.faults,
        "breakdown": breakdown(timing.phases, flops),
    }


def time_steps(work: Steps, steps: int) -> Timing:
    """Time so many steps, after those that allocate the optimiser's state and compile."""
    rounds = []
    with loop.recompute_and_compile(work.task, work.config):
        for _ in range(COMPILING if work.config.compile else WARM_UP):
            work()
        settled = compiled()
        work.clock()
        cpu = time.process_time()
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for _ in range(steps // ROUNDS):
                work()
            work.clock()
            rounds.append(time.perf_counter() - start)
        cpu = max(time.process_time() - cpu, TICK) / steps
        peak = peak_memory()
        if work.device.type != "cpu":
            peak = torch.cuda.max_memory_allocated(work.device) / 1e6
        faults = compiled().faults(settled) if work.config.compile else []
        phases = work.by_phase(work.clock, max(1, steps // 2))
    return Timing(rounds, cpu, phases, peak, faults)


def breakdown(seconds: dict[str, float], flops: dict[str, float]) -> dict[str, dict[str, float]]:
    """Time and work of each phase."""
    total = sum(seconds.values())
    table = {}
    for name, value in seconds.items():
        table[name] = {"seconds": value, "share": value / total, "gflop": flops[name] / 1e9}
    return table


def show(result: dict[str, Any]) -> None:
    """Print as JSON, in four digits, with command, date, code and machine."""
    about = {"command": command(), "date": now(), "commit": commit(), "device": describe_device()}
    print(json.dumps(about | round_figures(result), indent=1))


def round_figures(value: Any) -> Any:
    """Numbers in four digits, in nested dictionaries."""
    if isinstance(value, dict):
        return {key: round_figures(inner) for key, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
