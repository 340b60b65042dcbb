"""Several processes, or one: every function does nothing where there is no process group."""
import gc
import logging
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

LOG = logging.getLogger("minalbef")


def device_of(name: str = "auto") -> torch.device:
    """This process's GPU, or the CPU if there is none. name: "auto"; or "cpu", "cuda", "mps" (Apple's) to insist.

    Raises ValueError where there are fewer GPUs than processes.
    """
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1                # processes don't reach each other from Apple's
    if torch.backends.mps.is_available() and (name == "mps" or name == "auto" and alone):
        return torch.device("mps")
    count = torch.cuda.device_count() if name != "mps" and torch.cuda.is_available() else 0
    place = int(os.environ.get("LOCAL_RANK", 0))
    if name == "cpu" or name == "auto" and not count:
        return torch.device("cpu")
    if place >= count:
        raise ValueError(f"device={name!r}: process {place} of this machine has no GPU, of which there are {count}; "
                         "start as many processes as there are GPUs, or take device=cpu")
    return torch.device("cuda", place)


def device_at_hand(name: str) -> torch.device:
    """Where to evaluate a run that was trained with device=name: on a GPU if there is one, unless it says cpu."""
    return device_of("cpu" if name == "cpu" else "auto")


def start(name: str = "auto") -> torch.device:
    """Join the processes that torchrun started, if it did; -> this process's device, see `device_of`.

    Raises ConnectionError where they do not reach each other.
    """
    device = device_of(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if device.type == "mps":
        LOG.warning("device=mps: we haven't tested Apple's GPU; torch names what falls back to the CPU")
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        # NCCL refuses a CPU's tensors, and those of the stop flag shall not wait for the GPU: they go by gloo
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ConnectionError(
                f"the processes do not reach each other ({reason}). Each takes the network that its machine's name "
                "stands for, and with Debian's /etc/hosts that is 127.0.1.1: name another one, as in "
                "GLOO_SOCKET_IFNAME=eth0, on every machine (ip -brief address lists them)") from error
    return device


def stop() -> None:
    """Leave the process group, all together."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()                           # rank 0 hosts the rendezvous store, and must not leave first
        gc.collect()                             # DDP's reference cycle would hold the group until the interpreter
        dist.destroy_process_group()             # ends, and gloo's threads abort one process in some thirty


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if world() > 1 else 0


def own_rows(count: int, rank: int, world: int) -> slice:
    """Rows of one process when `world` processes share `count` rows in order."""
    return slice(count * rank // world, count * (rank + 1) // world)


def gather(x: Tensor) -> Tensor:
    """Rows of all processes, in their order: (b, ...) -> (b * world, ...). No gradient."""
    if world() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def total(x: Tensor) -> Tensor:
    """Sum over the processes. No gradient."""
    if world() > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


def longest(n: int) -> int:
    """The largest of the processes' n. On the CPU: no GPU is waited for."""
    if world() > 1:
        largest = torch.tensor(n)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        n = int(largest)
    return n


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return gather(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        rows = grad.new_empty(len(grad) // world(), *grad.shape[1:])
        scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)     # its name since torch 2.13
        scatter(rows, grad.contiguous())                         # other processes' losses reach our rows, too
        return rows


def fetch(x: Tensor, rows: Tensor, near: bool = False) -> tuple[Tensor, Tensor]:
    """Rows of the global batch, with gradient: x (b, ...), rows (p,) counted over all processes.

    near: they are all of this process, or do not count: nothing travels.
    -> pool (k, ...), whose first b rows are x, and index (p,) of the wanted rows in it
    """
    if near or world() == 1:
        return x, rows % len(x)
    everyone = _GatherWithGradient.apply(x) if x.requires_grad else gather(x)
    return torch.cat([x, everyone[rows]]), len(x) + torch.arange(len(rows), device=rows.device)
