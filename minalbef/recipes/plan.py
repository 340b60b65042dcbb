"""What pretraining costs on given GPUs: parameters, memory, FLOPs, hours; does it fit, and what to change if not."""
from bisect import bisect_left
from dataclasses import dataclass, replace

from minalbef.config import Config, nearest, read_changes
from minalbef.presets import preset
from minalbef.recipes.cost import count_parameters, memory_bytes, step_flops
from minalbef.tasks.table import find_task_of_preset

GB, GIB = 1e9, 2 ** 30
MANY = 2 ** 32                        # rows: more than any GPU holds
HEADROOM = 0.9                        # usable share of a GPU's memory; CUDA and fragmentation take the rest


@dataclass(frozen=True)
class GPU:
    """memory in GiB; bf16: dense matmuls with fp32 accumulation, in TFLOP/s"""

    memory: float
    bf16: float


# From NVIDIA's data sheets, for GeForce its Ampere (GA102), Ada and Blackwell architecture papers, and AMD's data sheet
# of the MI300X. Where a sheet gives the figure "with sparsity", this is half of it.
GPUS = {"B200": GPU(180, 2250), "H200": GPU(141, 989), "H100": GPU(80, 989), "H100-PCIe": GPU(80, 756),
        "A100-80": GPU(80, 312), "A100-40": GPU(40, 312), "MI300X": GPU(192, 1307), "L40S": GPU(48, 362),
        "A6000": GPU(48, 155), "L4": GPU(24, 121), "A10": GPU(24, 125), "RTX-5090": GPU(32, 209),
        "RTX-4090": GPU(24, 165), "RTX-3090": GPU(24, 71)}


def gpu_named(name: str) -> GPU | None:
    """The card of the table for torch's name of a GPU, such as "NVIDIA H100 80GB HBM3"; None if there is none."""
    words = name.upper().replace("-", " ").replace("GB", " ").split()
    found = [key for key in GPUS if all(word in words for word in key.upper().replace("-", " ").split())]
    return GPUS[max(found, key=len)] if found else None


@dataclass(frozen=True)
class Plan:
    """A run on given GPUs in bf16. memory: needed on each GPU, in bytes, see cost.memory_bytes; room: usable of it."""

    config: Config
    gpus: int
    gpu: str
    utilisation: float
    accumulate: int = 1
    checkpointing: bool = False

    @property
    def rows(self) -> int:
        """Rows of a GPU in one pass."""
        return self.config.batch // self.gpus // self.accumulate

    @property
    def parameters(self) -> int:
        return count_parameters(self.config)[0]

    @property
    def memory(self) -> dict[str, float]:
        return self.memory_for(self.rows)

    def memory_for(self, rows: int) -> dict[str, float]:
        """What a pass of so many rows needs."""
        return memory_bytes(self.config, rows, True, False, self.gpus, self.accumulate, self.checkpointing)

    @property
    def room(self) -> float:
        return HEADROOM * GPUS[self.gpu].memory * GIB

    @property
    def fits(self) -> bool:
        return self.memory["all"] <= self.room

    @property
    def flops(self) -> float:
        """Of a step on all GPUs, without recomputation by checkpointing, as model FLOPs utilisation (MFU) counts."""
        return step_flops(self.config, self.rows, self.gpus) * self.gpus * self.accumulate

    @property
    def samples_per_second(self) -> float:
        whole = step_flops(self.config, self.rows, self.gpus, self.checkpointing)        # of a pass, on one GPU
        return self.rows * self.gpus * GPUS[self.gpu].bf16 * 1e12 * self.utilisation / whole

    @property
    def hours(self) -> float:
        return self.config.steps * self.config.batch / self.samples_per_second / 3600

    def most_rows(self) -> int:
        """Most rows that fit a GPU in one pass; 0 where not even one does."""
        return bisect_left(range(1, MANY), True, key=lambda rows: self.memory_for(rows)["all"] > self.room)

    def ways_out(self) -> list[str]:
        """What to change if it does not fit, the cheapest first."""
        batch, ways, local = self.config.batch, [], replace(self, config=replace(self.config, hard_negatives="local"))
        if self.gpus > 1 and self.config.hard_negatives == "global" and local.fits:
            ways.append("hard negatives from its own rows: hard_negatives=local")
        if not self.checkpointing and replace(self, checkpointing=True).fits:
            ways.append("activation checkpointing, about a quarter slower: --checkpointing")
        whole = [k for k in range(2, batch // self.gpus + 1) if batch % (self.gpus * k) == 0]
        if k := next((k for k in whole if replace(self, accumulate=k).fits), None):
            ways.append(f"a step in {k} passes of {batch // self.gpus // k} rows: --accumulate {k} "
                        "(negatives in the batch then come from a pass)")
        more = [n for n in range(self.gpus + 1, 129) if batch % n == 0]
        if n := next((n for n in more if replace(self, gpus=n, accumulate=1).fits), None):
            ways.append(f"more of them: --gpus {n}")
        if larger := [name for name in GPUS if replace(self, gpu=name).fits]:
            larger.sort(key=lambda name: (GPUS[name].memory, GPUS[name].bf16))
            ways.append("a larger one: " + ", ".join(larger))
        return ways or ["fewer rows, smaller pictures or a narrower model; no card of the table holds this one"]


def plan(preset_name: str, changes: tuple[str, ...] = (), gpus: int = 1, gpu: str = "H100", utilisation: float = 0.4,
         accumulate: int | None = None, checkpointing: bool = False) -> Plan:
    """What pretraining by a preset costs in bf16; `describe` puts it in words.

    accumulate: passes a step, by default the preset's; checkpointing: switch it on if the preset has it off
    Raises ValueError for an unknown preset or card, a preset of another task, a batch that GPUs can't share evenly.
    """
    config = preset(preset_name, **read_changes(tuple(changes)))
    task = find_task_of_preset(preset_name)
    if task and task.begins_from:
        raise ValueError(f"{preset_name} fine-tunes; what is planned is pretraining: give its preset, such as paper-4m")
    if gpu not in GPUS:
        raise ValueError(f"no card {gpu!r}{nearest(gpu, GPUS)}; there are {', '.join(GPUS)}")
    accumulate = config.accumulate if accumulate is None else accumulate
    if gpus < 1 or accumulate < 1 or config.batch % (gpus * accumulate):
        raise ValueError(f"batch={config.batch} is not a multiple of gpus={gpus} times accumulate={accumulate}; "
                         "take numbers that divide it")
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation={utilisation} is a share of the card's peak, over 0 and at most 1; 0.4 is usual")
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
    parts = ", ".join(f"{name} {size / GB:.2g}" for name, size in memory.items() if name != "all")
    passes = f" in {plan.accumulate} passes" if plan.accumulate > 1 else ""
    lines = [f"{config.name} on {plan.gpus} x {plan.gpu} ({card.memory:g} GiB, {card.bf16:g} TFLOP/s in bf16)",
             f"parameters  {plan.parameters / 1e6:.1f}M, and a teacher of as many",
             f"a step      {config.batch} rows, {config.batch // plan.gpus} a GPU{passes}: "
             f"{plan.flops / 1e12:.3g} TFLOP",
             f"a GPU       {memory['all'] / GB:.3g} GB at most, of {plan.room / GB:.3g} usable ({parts})",
             f"time        {plan.samples_per_second:,.0f} samples/s at {plan.utilisation:.0%} of the peak: "
             f"{config.steps:,} steps in {duration(3600 * plan.hours)}"]
    most = f"{plan.most_rows()} rows a GPU and pass would"
    if plan.fits:
        return "\n".join([*lines, f"It fits; up to {most}."])
    return "\n".join([*lines, f"It does not fit; {most}. Take one of these:", *(f"- {way}" for way in plan.ways_out())])
