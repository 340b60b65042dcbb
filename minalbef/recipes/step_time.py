"""How long a training step takes on a GPU, estimated from what its operations do.

A step's products need arithmetic, and every kernel reads and writes memory; neither is done at the
speed of the data sheet, and each kernel takes a moment to begin. Meanwhile the host launches the
kernels of the next layers, loader workers open the next images, and gradients travel to the other
GPUs. The slowest of these sets the pace. All of it is assumed, once well and once badly, so a plan
has two ends; `minalbef gpu-check` measures where between them your machine lies.
"""
from dataclasses import dataclass
from typing import NamedTuple

from minalbef.config import Config
from minalbef.recipes.cards import GPU
from minalbef.recipes.cost import (
    count_parameters,
    exchanged_bytes,
    has_queue,
    step_flops,
)
from minalbef.recipes.counting import count_work
from minalbef.tasks.table import TASKS

# Bytes per parameter that gradient clipping, AdamW and the teacher read and write
UPDATE_BYTES = 44
UPDATE_KERNELS = 270                  # theirs, and copies to the GPU; counted on the null GPU
STATE_BYTES = 16                      # per parameter of a checkpoint: weights, teacher, AdamW's two
MACHINE = 8                           # GPUs
HIDDEN = 0.6                          # of a step: its backward pass, while gradients are sent
# An image of 640 x 480 pixels on a core: decoding it, and what grows with the side it is cropped
# to, in seconds at 256 pixels (`minalbef bench data`, 2026-11-29, AMD EPYC)
DECODE, AUGMENT = 0.0028, 0.0013
PAINT = 0.001                         # seconds per scene, with what a batch takes besides


class Reach(NamedTuple):
    """What is reached of a data sheet's figures, and what a kernel costs besides."""

    products: float                   # share of the peak: cuBLAS at widths of 768 to 3,072
    memory: float                     # share of the bandwidth
    network: float                    # share of links and network
    kernel: float                     # seconds on the GPU, until it is under way
    launch: float                     # seconds on the host, in Python and in torch
    copy: float                       # bytes a second to the host, which writes beside training


BEST = Reach(0.8, 0.9, 0.8, 2e-6, 12e-6, 20e9)
WORST = Reach(0.6, 0.7, 0.4, 4e-6, 20e-6, 5e9)
# a CPU's kernels are its products' own time, and there is no host to wait for
BEST_CPU = Reach(0.75, 0.9, 0.8, 0.0, 0.0, 2e9)
WORST_CPU = Reach(0.55, 0.5, 0.4, 5e-6, 0.0, 0.5e9)


class Terms(NamedTuple):
    """Seconds of a step, by what they are spent on."""

    products: float
    memory: float                     # with each kernel's beginning
    host: float
    network: float                    # that nothing hides
    feed: float                       # 0 where the number of cores isn't known
    saves: float

    @property
    def gpu(self) -> float:
        """Kernels run one after the other."""
        return self.products + self.memory

    @property
    def step(self) -> float:
        """The slowest of what goes on at the same time, and what nothing hides."""
        return max(self.gpu + self.network, self.host, self.feed) + self.saves

    @property
    def limit(self) -> str:
        """What sets the pace."""
        if max(self.host, self.feed) > self.gpu + self.network:
            return "the host" if self.host > self.feed else "the feed"
        parts = {"products": self.products, "memory": self.memory, "the network": self.network}
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True)
class Load:
    """What a step asks of each GPU and of what surrounds it."""

    flops: float                      # of products, recomputation included
    moved: float                      # bytes that kernels read and write
    kernels: int
    rows: float                       # bytes of other ranks' features and tokens, and gradients
    gradients: float                  # bytes that an all-reduce sends and fetches
    gpus: int
    images: float                     # to open
    side: int                         # of the images, in pixels; 0 for scenes, which are painted
    checkpoint: float                 # bytes
    save_every: int                   # steps


def load(config: Config, task: str, gpus: int, accumulate: int, precision: str,
         checkpointing: bool) -> Load:
    """The load of a step of config.batch rows on so many GPUs.

    precision: "bf16" or "fp32", in place of the config's, as are accumulate and checkpointing
    """
    rows = config.batch / gpus / accumulate
    work = count_work(config, rows, task, precision=precision, checkpointing=checkpointing)
    more = 1.0                        # other ranks' hard negatives have keys and values, too
    if has_queue(task):
        more = step_flops(config, rows, gpus) / step_flops(config, rows)
    parameters, _ = count_parameters(config, task)
    exchanged = exchanged_bytes(config, task, rows * accumulate, gpus, precision == "bf16")
    return Load(
        flops=more * work.flops * accumulate,
        moved=more * work.moved * accumulate + UPDATE_BYTES * parameters,
        kernels=work.kernels * accumulate + UPDATE_KERNELS,
        rows=exchanged,
        gradients=2 * 4 * parameters,
        gpus=gpus,
        images=rows * accumulate * TASKS[task].images,
        side=0 if config.objects else config.image_size,
        checkpoint=STATE_BYTES * parameters,
        save_every=config.save_every,
    )


def image_seconds(side: int) -> float:
    """A core's time for one image."""
    if not side:
        return PAINT
    return DECODE + AUGMENT * (side / 256) ** 2


def sending_seconds(size: float, gpus: int, card: GPU, network: float) -> float:
    """To send bytes around a ring of GPUs, and around one of machines: each gets all but its own.

    network: Gbit/s of each machine
    """
    here = min(gpus, MACHINE)
    machines = -(-gpus // MACHINE)
    inside = size * (here - 1) / here / (1e9 * card.link)
    between = size * (machines - 1) / machines / (1e9 * network / 8)
    return inside + between


def estimate(load: Load, card: GPU, precision: str, reach: Reach, cores: float = 0,
             network: float = 100) -> Terms:
    """Seconds of a step on a card.

    cores: that load images, for each GPU. network: Gbit/s of each machine, where there are several
    """
    products = load.flops / (1e12 * card.peak(precision) * reach.products)
    memory = load.moved / (1e9 * card.bandwidth * reach.memory) + load.kernels * reach.kernel
    rows = sending_seconds(load.rows, load.gpus, card, network) / reach.network
    gradients = sending_seconds(load.gradients, load.gpus, card, network) / reach.network
    return Terms(
        products=products,
        memory=memory,
        host=load.kernels * reach.launch,
        network=rows + max(0.0, gradients - HIDDEN * (products + memory)),
        feed=load.images * image_seconds(load.side) / cores if cores else 0.0,
        saves=load.checkpoint / reach.copy / load.save_every,
    )
