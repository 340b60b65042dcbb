"""What pretraining costs on given GPUs: memory, FLOPs, hours; does it fit, and what if not?"""
from bisect import bisect_left
from dataclasses import dataclass, replace

from minalbef.config import Config, nearest, read_changes
from minalbef.presets import preset
from minalbef.recipes.cost import count_parameters, memory_bytes, step_flops
from minalbef.tasks.table import find_task_of_preset

GB, GIB = 1e9, 2 ** 30
MANY = 2 ** 32                        # rows: more than any GPU holds
HEADROOM = 0.9                        # usable share of a GPU's memory; the rest is fragmented
MOST_GPUS = 128                       # as many as the advice goes up to


@dataclass(frozen=True)
class GPU:
    """memory in GiB; bf16: dense matmuls with fp32 accumulation, in TFLOP/s"""

    memory: float
    bf16: float


# From NVIDIA's data sheets, for GeForce its Ampere (GA102), Ada and Blackwell architecture papers,
# and AMD's data sheet of the MI300X. Where a sheet gives the figure "with sparsity", half of it.
GPUS = {
    "B200": GPU(180, 2250),
    "H200": GPU(141, 989),
    "H100": GPU(80, 989),
    "H100-PCIe": GPU(80, 756),
    "A100-80": GPU(80, 312),
    "A100-40": GPU(40, 312),
    "MI300X": GPU(192, 1307),
    "L40S": GPU(48, 362),
    "A6000": GPU(48, 155),
    "L4": GPU(24, 121),
    "A10": GPU(24, 125),
    "RTX-5090": GPU(32, 209),
    "RTX-4090": GPU(24, 165),
    "RTX-3090": GPU(24, 71),
}


def gpu_named(name: str) -> GPU | None:
    """The card of the table for torch's name of a GPU, such as "NVIDIA H100 80GB HBM3"."""
    words = name.upper().replace("-", " ").replace("GB", " ").split()
    matches = []
    for key in GPUS:
        if all(word in words for word in key.upper().replace("-", " ").split()):
            matches.append(key)
    if not matches:
        return None
    return GPUS[max(matches, key=len)]


@dataclass(frozen=True)
class Plan:
    """A run on given GPUs in bf16."""

    config: Config
    gpus: int
    gpu: str
    utilisation: float
    accumulate: int = 1
    checkpointing: bool = False

    @property
    def rows(self) -> int:
        """Rows per GPU and micro-batch."""
        return self.config.batch // self.gpus // self.accumulate

    @property
    def parameters(self) -> int:
        """Of the student."""
        return count_parameters(self.config)[0]

    @property
    def memory(self) -> dict[str, float]:
        """Bytes that each GPU needs, by purpose, see cost.memory_bytes."""
        return self.memory_for(self.rows)

    def memory_for(self, rows: int) -> dict[str, float]:
        """The same for micro-batches of so many rows."""
        return memory_bytes(self.config, rows, True, False, self.gpus, self.accumulate,
                            self.checkpointing)

    @property
    def room(self) -> float:
        """Usable bytes of each GPU."""
        return HEADROOM * GPUS[self.gpu].memory * GIB

    @property
    def fits(self) -> bool:
        """Whether each GPU has the memory it needs."""
        return self.memory["all"] <= self.room

    @property
    def flops(self) -> float:
        """Of a step on all GPUs, without recomputation by checkpointing, as MFU counts them."""
        return step_flops(self.config, self.rows, self.gpus) * self.gpus * self.accumulate

    @property
    def samples_per_second(self) -> float:
        """At the utilisation that was asked for."""
        flops = step_flops(self.config, self.rows, self.gpus, self.checkpointing)
        speed = GPUS[self.gpu].bf16 * 1e12 * self.utilisation
        return self.rows * self.gpus * speed / flops

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return self.config.steps * self.config.batch / self.samples_per_second / 3600

    def most_rows(self) -> int:
        """Most rows per micro-batch that fit a GPU; 0 where not even one does."""
        return bisect_left(range(1, MANY), True,
                           key=lambda rows: self.memory_for(rows)["all"] > self.room)

    def ways_out(self) -> list[str]:
        """What to change if it does not fit, the cheapest first."""
        ways = []
        local = replace(self, config=replace(self.config, hard_negatives="local"))
        if self.gpus > 1 and self.config.hard_negatives == "global" and local.fits:
            ways.append("hard negatives from its own rows: hard_negatives=local")
        if not self.checkpointing and replace(self, checkpointing=True).fits:
            ways.append("activation checkpointing, about a quarter slower: --checkpointing")
        ways += self.more_passes() + self.more_gpus() + self.larger_gpus()
        return ways or ["fewer rows, smaller images or a narrower model; "
                        "no card of the table holds this one"]

    def more_passes(self) -> list[str]:
        """The fewest micro-batches that fit, in words, if any number does."""
        rows = self.config.batch // self.gpus
        for count in range(2, rows + 1):
            if self.config.batch % (self.gpus * count) == 0:
                if replace(self, accumulate=count).fits:
                    return [f"a step in {count} micro-batches of {rows // count} rows: "
                            f"--accumulate {count} "
                            "(in-batch negatives then come from a micro-batch)"]
        return []

    def more_gpus(self) -> list[str]:
        """The fewest GPUs of this kind that fit, in words, if any number does."""
        for count in range(self.gpus + 1, MOST_GPUS + 1):
            if self.config.batch % count == 0 and replace(self, gpus=count, accumulate=1).fits:
                return [f"more of them: --gpus {count}"]
        return []

    def larger_gpus(self) -> list[str]:
        """The cards of the table that fit, in words, if any does."""
        names = [name for name in GPUS if replace(self, gpu=name).fits]
        names.sort(key=lambda name: (GPUS[name].memory, GPUS[name].bf16))
        return ["a larger one: " + ", ".join(names)] if names else []


def plan(preset_name: str, changes: tuple[str, ...] = (), gpus: int = 1, gpu: str = "H100",
         utilisation: float = 0.4, accumulate: int | None = None,
         checkpointing: bool = False) -> Plan:
    """What pretraining by a preset costs in bf16; `describe` puts it in words.

    accumulate: micro-batches per step, by default the preset's
    checkpointing: switch it on if the preset has it off
    Raises ValueError for an unknown preset or card, a preset of another task, a batch that GPUs
    can't share evenly.
    """
    config = preset(preset_name, **read_changes(tuple(changes)))
    task = find_task_of_preset(preset_name)
    if task and task.begins_from:
        raise ValueError(f"{preset_name} fine-tunes; what is planned is pretraining: "
                         "give its preset, such as paper-4m")
    if gpu not in GPUS:
        raise ValueError(f"no card {gpu!r}{nearest(gpu, GPUS)}; there are {', '.join(GPUS)}")
    if accumulate is None:
        accumulate = config.accumulate
    if gpus < 1 or accumulate < 1 or config.batch % (gpus * accumulate):
        raise ValueError(f"batch={config.batch} is not a multiple of gpus={gpus} times "
                         f"accumulate={accumulate}; take numbers that divide it")
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation={utilisation} is a share of the card's peak, over 0 and at "
                         "most 1; 0.4 is usual")
    return Plan(config, gpus, gpu, utilisation, accumulate, checkpointing or config.checkpointing)


def duration(seconds: float) -> str:
    """A time in the unit that suits it: seconds, minutes or hours, the larger ones from two on."""
    value, unit = seconds, "seconds"
    for larger, size in (("minutes", 60), ("hours", 3600)):
        if seconds >= 2 * size:
            value, unit = seconds / size, larger
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def describe(plan: Plan) -> str:
    """A plan in words: what it costs, whether it fits, and what to change if not."""
    config, memory, card = plan.config, plan.memory, GPUS[plan.gpu]
    parts = ", ".join(f"{name} {memory[name] / GB:.2g}" for name in memory if name != "all")
    passes = f" in {plan.accumulate} micro-batches" if plan.accumulate > 1 else ""
    lines = [f"{config.name} on {plan.gpus} x {plan.gpu} ({card.memory:g} GiB, {card.bf16:g} "
             "TFLOP/s in bf16)",
             f"parameters  {plan.parameters / 1e6:.1f}M, and a teacher of as many",
             f"a step      {config.batch} rows, {config.batch // plan.gpus} per GPU{passes}: "
             f"{plan.flops / 1e12:.3g} TFLOP",
             f"a GPU       {memory['all'] / GB:.3g} GB at most, of {plan.room / GB:.3g} usable "
             f"({parts})",
             f"time        {plan.samples_per_second:,.0f} samples/s at {plan.utilisation:.0%} of "
             f"the peak: {config.steps:,} steps in {duration(3600 * plan.hours)}"]
    most = f"{plan.most_rows()} rows per GPU and micro-batch would"
    if plan.fits:
        return "\n".join([*lines, f"It fits; up to {most}."])
    ways = [f"- {way}" for way in plan.ways_out()]
    return "\n".join([*lines, f"It does not fit; {most}. Take one of these:", *ways])
