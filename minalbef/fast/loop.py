"""What `train.fit` does with fast=true: micro-batches, bf16 copies, processes, compiling."""
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint as activation_checkpoint

from minalbef.config import Config
from minalbef.data import Rows
from minalbef.ema import Trainable
from minalbef.fast.half import half_weights
from minalbef.layers import Layer
from minalbef.system import checkpoint, distributed

# compiled forms of a layer: fusion layers have 14, and torch leaves those past its limit uncompiled
VARIANTS = 64


def split_batch(batch: Any, draws: Any, config: Config) -> list[tuple[Any, Any]]:
    """A step's micro-batches, each with its draws; what isn't Rows goes to all of them."""
    count = config.accumulate
    if count == 1:
        return [(batch, draws)]
    rows = config.batch // distributed.world()

    def cut(examples: Any, i: int) -> Any:
        return examples.part(i, count, rows) if isinstance(examples, Rows) else examples

    return [(cut(batch, i), cut(draws, i)) for i in range(count)]


def backward(model: nn.Module, task: Trainable, batch: Any, alpha: float, draws: Any,
             config: Config, device: torch.device, weights: Mapping[str, float] | None = None
             ) -> tuple[dict[str, Tensor], Any]:
    """A step's losses, and their gradients accumulated over micro-batches: -> losses, carry.

    batch and draws, if they are Rows, are cut where they are made, and each micro-batch is sent to
    the device in turn.
    model: the task, or DDP around it, which reduces the gradients in the last micro-batch
    weights: of losses by name, in their sum; those not listed weigh 1

    Dropout aside, micro-batches are equivalent to the whole batch wherever a loss is a mean over
    examples: masked words (counted over all micro-batches), answers, entailment, NLVR2. They are
    not where a loss compares rows: ITC contrasts a row with its micro-batch and the queue, and ITM
    and text assignment draw negatives from the micro-batch. Where micro-batches have siblings in
    unequal number, their loss is the mean of the micro-batches' means. The warm start's BatchNorm,
    too, sees one micro-batch.
    """
    passes = task.prepare(split_batch(batch, draws, config))
    half = distributed.precision_on(device, config.precision) == "bf16"
    weights = weights or {}
    losses_of: list[dict[str, Tensor]] = []
    carries = []
    for i, (rows, noise) in enumerate(passes):
        rows = rows.to(device) if isinstance(rows, Rows) else rows
        noise = noise.to(device) if isinstance(noise, Rows) else noise
        last = i + 1 == len(passes)
        reduces = last or not isinstance(model, DistributedDataParallel)
        synchronise = nullcontext() if reduces else model.no_sync()  # type: ignore[operator]
        copies = half_weights(task) if half else nullcontext()
        with synchronise, copies:                # checkpointing needs the copies in backward, too
            losses, carry = model(rows, alpha, noise)
            total = sum(weights.get(name, 1.0) * loss for name, loss in losses.items())
            (total / len(passes)).backward()
        losses_of.append({name: loss.detach() for name, loss in losses.items()})
        carries.append(carry)
    if len(passes) == 1:
        return losses_of[0], carries[0]
    means = {}
    for name in losses_of[0]:
        means[name] = torch.stack([losses[name] for losses in losses_of]).mean()
    if carries[0] is None:
        return means, None
    return means, tuple(map(torch.cat, zip(*carries)))


class Recomputed:
    """A layer that keeps its input alone, and computes the rest again in the backward pass."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        call = super().__call__                          # type: ignore[misc]  # of nn.Module
        if torch.is_grad_enabled():
            return activation_checkpoint(call, *args, use_reentrant=False, **options)
        return call(*args, **options)


@lru_cache
def recomputed(kind: Any) -> Any:
    """A class of layers whose activations are computed again."""
    return type(kind.__name__, (Recomputed, kind), {"__module__": kind.__module__})


@contextmanager
def recompute_and_compile(task: nn.Module, config: Config) -> Iterator[None]:
    """Meanwhile the encoders' layers run as config.checkpointing and config.compile say.

    Layers alone: a gather among processes must not run twice, and layers of a kind share one
    compiled form. The teacher's are compiled, too, and all stay compiled afterwards. Weights keep
    their names.
    """
    layers = [layer for layer in task.modules() if isinstance(layer, Layer)]
    for layer in layers:
        if config.compile:
            layer.compile()
        trained = any(p.requires_grad for p in layer.parameters())
        if config.checkpointing and trained:
            layer.__class__ = recomputed(type(layer))    # type: ignore[arg-type]
    limit = nullcontext()
    if config.compile:
        limit = torch._dynamo.config.patch(recompile_limit=VARIANTS)
    try:
        with limit:
            yield
    finally:
        for layer in layers:
            if isinstance(layer, Recomputed):
                layer.__class__ = type(layer).__bases__[1]


def wrap(task: Trainable, device: torch.device) -> nn.Module:
    """The task in DDP, where several processes train it."""
    if distributed.world() == 1:
        return task
    if device.type == "cuda":
        return in_ddp(task, [device], task.unused_parts)
    # unless it searches, DDP regroups the gradients after the first step: a run of three processes
    # that is resumed would sum them in another order than one that was never stopped
    return in_ddp(task, None, None)


def in_ddp(task: nn.Module, devices: list[torch.device] | None,
           unused_parts: Collection[str] | None) -> nn.Module:
    """The task in DDP, which searches each step for weights without a gradient if not told of them.

    If it finds any, it waits for the GPU.
    unused_parts: see `Trainable`
    """
    unused = []
    for name, _ in task.named_parameters():
        if checkpoint.part_of(name.removeprefix("student.")) in (unused_parts or ()):
            unused.append(name)
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(task, unused)
    with warnings.catch_warnings():              # torch 2.13 renames broadcast_buffers
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(task, devices, broadcast_buffers=False,
                                       find_unused_parameters=unused_parts is None,
                                       gradient_as_bucket_view=True)
