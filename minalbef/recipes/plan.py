"""What training costs on given GPUs: memory, FLOPs, hours; does it fit, and what if not?"""
import math
from bisect import bisect_left
from dataclasses import dataclass, replace

from minalbef.config import Config, nearest, read_changes
from minalbef.presets import preset
from minalbef.recipes.cards import GPU, GPUS, gpu_named
from minalbef.recipes.cost import count_parameters, has_queue, memory_bytes, step_flops
from minalbef.recipes.step_time import (
    BEST,
    BEST_CPU,
    MACHINE,
    WORST,
    WORST_CPU,
    Load,
    Terms,
    estimate,
    image_seconds,
    load,
)
from minalbef.tasks.table import find_task_of_preset

__all__ = ["GPU", "GPUS", "Plan", "describe", "duration", "gpu_named", "plan"]

GB, GIB = 1e9, 2 ** 30
MANY = 2 ** 32                        # rows: more than any GPU holds
HEADROOM = 0.9                        # usable share of a GPU's memory; the rest is fragmented
MOST_GPUS = 128                       # as many as the advice goes up to
LONGEST = 30                          # words; fine-tuning's texts are cut there
NETWORK = 100                         # Gbit/s between machines


@dataclass(frozen=True)
class Plan:
    """A run on given GPUs."""

    config: Config
    gpus: int
    gpu: str
    utilisation: float | None = None
    accumulate: int = 1
    checkpointing: bool = False
    task: str = "pretrain"
    precision: str = "bf16"
    cores: float = 0                  # that load images, for each GPU; 0: as many as it takes
    network: float = NETWORK          # Gbit/s
    price: float = 0                  # of a GPU for an hour; 0: not said

    @property
    def rows(self) -> int:
        """Rows per GPU and micro-batch."""
        return self.config.batch // self.gpus // self.accumulate

    @property
    def parameters(self) -> int:
        """Of the student."""
        return count_parameters(self.config, self.task)[0]

    @property
    def memory(self) -> dict[str, float]:
        """Bytes that each GPU needs, by purpose, see cost.memory_bytes."""
        return self.memory_for(self.rows)

    def memory_for(self, rows: int) -> dict[str, float]:
        """The same for micro-batches of so many rows."""
        return memory_bytes(self.config, rows, self.precision == "bf16", self.gpu == "CPU",
                            self.gpus, self.accumulate, self.checkpointing, self.task)

    @property
    def room(self) -> float:
        """Usable bytes of each GPU."""
        return HEADROOM * GPUS[self.gpu].memory * GIB

    @property
    def fits(self) -> bool:
        """Whether each GPU has the memory it needs."""
        return self.memory["all"] <= self.room

    @property
    def load(self) -> Load:
        """What a step asks of each GPU."""
        return self.load_with(self.checkpointing)

    def load_with(self, checkpointing: bool) -> Load:
        """The same with or without checkpointing."""
        return load(self.config, self.task, self.gpus, self.accumulate, self.precision,
                    checkpointing)

    @property
    def flops(self) -> float:
        """Of a step on all GPUs, without recomputation by checkpointing, as MFU counts them."""
        if has_queue(self.task):
            row = step_flops(self.config, self.rows, self.gpus)
            return row * self.gpus * self.accumulate
        return self.load_with(False).flops * self.gpus

    @property
    def terms(self) -> tuple[Terms, Terms]:
        """What a step's seconds are spent on, at best and at worst."""
        reaches = (BEST_CPU, WORST_CPU) if self.gpu == "CPU" else (BEST, WORST)
        card = GPUS[self.gpu]
        best, worst = [estimate(self.load, card, self.precision, reach, self.cores, self.network)
                       for reach in reaches]
        return best, worst

    @property
    def seconds(self) -> tuple[float, float]:
        """Of a step, at best and at worst; with a utilisation both follow from it."""
        if self.utilisation is None:
            best, worst = self.terms
            return best.step, worst.step
        peak = 1e12 * GPUS[self.gpu].peak(self.precision)
        seconds = self.load.flops / (peak * self.utilisation)
        return seconds, seconds

    @property
    def share_of_peak(self) -> tuple[float, float]:
        """MFU, at worst and at best."""
        best, worst = self.seconds
        peak = 1e12 * GPUS[self.gpu].peak(self.precision) * self.gpus
        return self.flops / worst / peak, self.flops / best / peak

    @property
    def hours_between(self) -> tuple[float, float]:
        """Of the whole run, at best and at worst."""
        best, worst = self.seconds
        return self.config.steps * best / 3600, self.config.steps * worst / 3600

    @property
    def hours(self) -> float:
        """The middle of hours_between."""
        return sum(self.hours_between) / 2

    @property
    def samples_per_second(self) -> float:
        """On all GPUs, at the speed of `hours`."""
        return self.config.batch / (sum(self.seconds) / 2)

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
        names = []
        for name, card in GPUS.items():
            if card.peak(self.precision) and name != "CPU" and replace(self, gpu=name).fits:
                names.append(name)
        names.sort(key=lambda name: (GPUS[name].memory, GPUS[name].bf16))
        return ["a larger one: " + ", ".join(names)] if names else []


def plan(preset_name: str, changes: tuple[str, ...] = (), gpus: int = 1, gpu: str = "H100",
         utilisation: float | None = None, accumulate: int | None = None,
         checkpointing: bool = False, cores: float = 0, network: float = NETWORK,
         price: float = 0) -> Plan:
    """What training by a preset costs; `describe` puts it in words.

    It is planned in bf16 where the card has it, unless changes say precision=fp32.
    utilisation: the share of the card's peak that you know, in place of the estimate
    accumulate: micro-batches per step, by default the preset's
    checkpointing: switch it on if the preset has it off
    cores, network, price: see Plan
    Raises ValueError for an unknown preset or card, a precision that the card lacks, a batch that
    GPUs can't share evenly.
    """
    options = read_changes(tuple(changes))
    config = preset(preset_name, **options)
    task = find_task_of_preset(preset_name)
    if gpu not in GPUS:
        raise ValueError(f"no card {gpu!r}{nearest(gpu, GPUS)}; there are {', '.join(GPUS)}")
    if accumulate is None:
        accumulate = config.accumulate
    if gpus < 1 or accumulate < 1 or config.batch % (gpus * accumulate):
        raise ValueError(f"batch={config.batch} is not a multiple of gpus={gpus} times "
                         f"accumulate={accumulate}; take numbers that divide it")
    if utilisation is not None and not 0 < utilisation <= 1:
        raise ValueError(f"utilisation={utilisation} is a share of the card's peak, over 0 and at "
                         "most 1; leave it out for an estimate")
    for name, value in (("cores", cores), ("network", network), ("price", price)):
        if value < 0 or name == "network" and not value:
            raise ValueError(f"{name}={value:g} must be more than 0; leave it out for the default")
    if task and task.begins_from:
        config = replace(config, text_length=min(config.text_length, LONGEST))
    return Plan(config, gpus, gpu, utilisation, accumulate, checkpointing or config.checkpointing,
                task.name if task else "pretrain", choose_precision(gpu, options), cores, network,
                price)


def choose_precision(gpu: str, options: dict[str, str]) -> str:
    """What the options say, or bf16 where a card has it. Raises ValueError where it has not."""
    has_half = GPUS[gpu].bf16 > 0
    precision = options.get("precision", "auto")
    if precision == "bf16" and not has_half:
        raise ValueError(f"{gpu} has no bf16, which torch would emulate slowly; leave "
                         "precision=bf16 out, to plan in fp32")
    if precision != "auto":
        return precision
    return "bf16" if has_half else "fp32"


def duration(seconds: float) -> str:
    """A time in the unit that suits it: seconds, minutes or hours, the larger ones from two on."""
    unit, size = unit_of(seconds)
    value = seconds / size
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def unit_of(seconds: float) -> tuple[str, float]:
    """The unit that suits a time, and its seconds."""
    if seconds >= 7200:
        return "hours", 3600
    return ("minutes", 60) if seconds >= 120 else ("seconds", 1)


def two_digits(value: float) -> str:
    """A number rounded to two digits: 1,234 -> "1,200"."""
    if not value:
        return "0"
    rounded = round(value, 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.0f}" if abs(rounded) >= 10 else f"{rounded:.2g}"


def between(low: float, high: float) -> str:
    """Two ends in two digits, or one if they are alike."""
    ends = two_digits(low), two_digits(high)
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def describe(plan: Plan) -> str:
    """A plan in words: what it costs, whether it fits, and what to change if not."""
    config, memory, card = plan.config, plan.memory, GPUS[plan.gpu]
    parts = ", ".join(f"{name} {memory[name] / GB:.2g}" for name in memory if name != "all")
    passes = f" in {plan.accumulate} micro-batches" if plan.accumulate > 1 else ""
    lacks = "" if card.bf16 or plan.gpu == "CPU" else ", as it has no bf16"
    lines = [f"{config.name} on {plan.gpus} x {plan.gpu} ({card.memory:g} GiB at "
             f"{card.bandwidth:,g} GB/s, {card.peak(plan.precision):g} TFLOP/s in "
             f"{plan.precision}{lacks})",
             f"parameters  {plan.parameters / 1e6:.1f}M, and a teacher of as many",
             f"a step      {config.batch} rows, {config.batch // plan.gpus} per GPU{passes}: "
             f"{plan.flops / 1e12:.3g} TFLOP",
             f"a GPU       {memory['all'] / GB:.3g} GB at most, of {plan.room / GB:.3g} usable "
             f"({parts})"]
    if plan.utilisation is None:
        lines += describe_terms(plan)
    lines += describe_time(plan) + describe_batch(plan)
    most = f"{plan.most_rows()} rows per GPU and micro-batch would"
    if plan.fits:
        return "\n".join([*lines, f"It fits; up to {most}."])
    ways = [f"- {way}" for way in plan.ways_out()]
    return "\n".join([*lines, f"It does not fit; {most}. Take one of these:", *ways])


def describe_terms(plan: Plan) -> list[str]:
    """What a step's milliseconds are spent on, a line each."""
    best, worst = plan.terms
    work = plan.load

    def milliseconds(name: str) -> str:
        return between(1e3 * getattr(best, name), 1e3 * getattr(worst, name)) + " ms"

    lines = [f"products    {milliseconds('products')} per GPU and step, for "
             f"{work.flops / 1e12:.3g} TFLOP",
             f"memory      {milliseconds('memory')} more: {work.kernels:,} kernels read and write "
             f"{two_digits(work.moved / GB)} GB"]
    if best.host:
        lines.append(f"host        {milliseconds('host')} meanwhile, to launch them")
    if plan.gpus > 1:
        network = f" at {plan.network:g} Gbit/s" if plan.gpus > MACHINE else ""
        lines.append(f"network     {milliseconds('network')} that nothing hides{network}: "
                     f"{two_digits(work.gradients / GB)} GB of gradients, "
                     f"{two_digits(work.rows / GB)} of features and hard negatives")
    slow, fast = plan.config.batch / worst.step, plan.config.batch / best.step
    images = work.images * plan.gpus / plan.config.batch
    needs = [rate * images * image_seconds(work.side) / plan.gpus for rate in (slow, fast)]
    have = f"; there are {plan.cores:g}" if plan.cores else ""
    lines.append(f"feed        {between(images * slow, images * fast)} images/s: "
                 f"{between(*needs)} cores per GPU load them{have}")
    lines.append(f"saves       {two_digits(work.checkpoint / GB)} GB every {work.save_every:,} "
                 "steps, written beside training")
    return lines


def describe_time(plan: Plan) -> list[str]:
    """The time of a step and of the run, what limits it, and its price."""
    low, high = plan.hours_between
    unit, size = unit_of(3600 * high)
    run = f"{between(3600 * low / size, 3600 * high / size)} {unit}"
    steps = f"{plan.config.steps:,} steps in {run}"
    if plan.utilisation is None:
        best, worst = plan.terms
        limits = best.limit if best.limit == worst.limit else f"{best.limit} or {worst.limit}"
        shares = [100 * share for share in plan.share_of_peak]
        lines = [f"time        {between(1e3 * best.step, 1e3 * worst.step)} ms a step, limited by "
                 f"{limits}, at {between(*shares)}% of the peak: {steps}"]
    else:
        lines = [f"time        {plan.samples_per_second:,.0f} samples/s at {plan.utilisation:.0%} "
                 f"of the peak: {steps}"]
    if plan.price:
        total = between(plan.price * plan.gpus * low, plan.price * plan.gpus * high)
        lines.append(f"price       {plan.gpus} x {plan.price:g} an hour: {total}")
    return lines


def describe_batch(plan: Plan) -> list[str]:
    """What would go with a batch of another size than the preset's, and does not."""
    paper = preset(plan.config.name)
    times = plan.config.batch / paper.batch
    if times == 1:
        return []
    scaled = {
        "lr": float(f"{paper.lr * times ** 0.5:.2g}"),
        "warmup_steps": max(1, round(paper.warmup_steps / times)),
    }
    if has_queue(plan.task):
        scaled["queue_size"] = max(1, round(paper.queue_size * times))
    scaled["teacher_momentum"] = float(f"{paper.teacher_momentum ** times:.3g}")
    options = []
    for name, value in scaled.items():
        if getattr(plan.config, name) == getattr(paper, name):
            options.append(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}")
    if not options:
        return []
    return [f"batch       {times:.2g} times the preset's. To go with it, untested: "
            f"{' '.join(options)} (lr by the square root, the rest by the number of images)"]
