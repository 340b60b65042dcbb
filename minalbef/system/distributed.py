"""Several processes, or one: without a process group every function does nothing."""
import gc
import logging
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

LOG = logging.getLogger("minalbef")
_groups: dict[int, dist.ProcessGroup] = {}       # of this process's peers, by their number


def device_of(name: str = "auto") -> torch.device:
    """This process's GPU, or the CPU if there is none.

    name: "auto"; or "cpu", "cuda", "mps" (Apple's, untested, so that "auto" doesn't take it)
    Raises ValueError where there are fewer GPUs than processes.
    """
    if name == "mps" and torch.backends.mps.is_available():
        return torch.device("mps")
    count = 0
    if name != "mps" and torch.cuda.is_available():
        count = torch.cuda.device_count()
    if name == "cpu" or name == "auto" and not count:
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if local_rank >= count:
        raise ValueError(f"device={name!r}: process {local_rank} of this machine has no GPU, of "
                         f"which there are {count}; start as many processes as there are GPUs, or "
                         "take device=cpu")
    return torch.device("cuda", local_rank)


def device_at_hand(name: str) -> torch.device:
    """Where to evaluate a run trained with device=name: on a GPU if there is one and not "cpu"."""
    return device_of("cpu" if name == "cpu" else "auto")


def precision_on(device: torch.device, precision: str = "auto") -> str:
    """What products are computed in: bf16 by default on a GPU that has it, such as A100; else fp32.

    Matrix products in fp32 are not in TF32, torch's default: a GPU's losses then equal a CPU's to
    four digits, and similarities over a low temperature need them. V100 and T4 have neither format.
    """
    if precision != "auto":
        return precision
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bf16 else "fp32"


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """Meanwhile products are computed in `precision_on` the device."""
    enabled = precision_on(device, precision) == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def join(name: str = "auto") -> torch.device:
    """Join the processes that torchrun started, if it did: -> this process's device.

    name: see `device_of`. Raises ConnectionError where the processes don't reach each other.
    """
    device = device_of(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if device.type == "mps":
        LOG.warning("device=mps: we haven't tested Apple's GPU; "
                    "torch names what falls back to the CPU")
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        # the stop flag goes by gloo, which takes a CPU's tensors and doesn't wait for the GPU
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            dist.init_process_group(backend)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ConnectionError(
                f"the processes do not reach each other ({reason}). Each takes the network of its "
                "machine's name, and with Debian's /etc/hosts that is 127.0.1.1: name another one, "
                "as in GLOO_SOCKET_IFNAME=eth0, on every machine (ip -brief address lists "
                "them)") from error
    return device


def leave() -> None:
    """Leave the process group, all together."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()                           # rank 0 hosts the rendezvous store: it leaves last
        # DDP's reference cycle would keep the group until the interpreter ends, where gloo's
        # threads abort one process in about thirty
        gc.collect()
        _groups.clear()
        dist.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if world() > 1 else 0


def rank_rows(count: int, rank: int, world: int) -> slice:
    """The rows of one process when `world` processes share `count` rows in order."""
    return slice(count * rank // world, count * (rank + 1) // world)


def peers(reach: str) -> range:
    """The processes whose rows reach this one: "global", all; "machine", this machine's; "local".

    torchrun says how many a machine has, and starts as many on each.
    """
    if reach == "local":
        return range(rank(), rank() + 1)
    count = world()
    if reach == "machine":
        count = min(count, int(os.environ.get("LOCAL_WORLD_SIZE", count)))
    first = rank() // count * count
    return range(first, first + count)


def peer_group(reach: str) -> dist.ProcessGroup | None:
    """The process group of `peers`; None is that of all. All processes call it at once."""
    size = len(peers(reach))
    if size == world():
        return None
    if size not in _groups:
        _groups[size], _ = dist.new_subgroups(size)
    return _groups[size]


def gather(x: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """The rows of all processes, in order: (b, ...) -> (b * world, ...). No gradient.

    group: of its processes alone
    """
    if world() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, x.contiguous(), group)
    return torch.cat(parts)


def total(x: Tensor) -> Tensor:
    """Sum over the processes. No gradient."""
    if world() > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


def longest(n: int) -> int:
    """The largest n of all processes. On the CPU: no GPU is waited for."""
    if world() > 1:
        largest = torch.tensor(n)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        n = int(largest)
    return n


class _GatherWithGradient(torch.autograd.Function):
    """`gather`, whose backward pass sums the gradients of all its processes' losses."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        return gather(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        count = dist.get_world_size(ctx.group)
        rows = grad.new_empty(len(grad) // count, *grad.shape[1:])
        # torch 2.13 renamed it
        scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)
        scatter(rows, grad.contiguous(), group=ctx.group)
        return rows, None


def fetch(x: Tensor, rows: Tensor, reach: str = "global") -> tuple[Tensor, Tensor]:
    """Rows of the global batch, with gradient: x (b, ...), rows (p,) counted over all processes.

    reach: they are rows of `peers`, or don't matter
    -> pool (k, ...), whose first b rows are x, and index (p,) of the rows in it

    All peers send all their rows: to send the wanted ones alone, the CPU would have to wait for the
    GPU to know how many go where. Image tokens of 64 rows in bf16 are 25 MB, so 8 GPUs of a machine
    receive 0.18 GB each, and as much in the backward pass: a millisecond by NVLink. 80 GPUs would
    receive 2 GB, over a network: there, reach "machine" keeps it at 0.18.
    """
    count = len(peers(reach))
    if count == 1:
        return x, rows % len(x)
    group = peer_group(reach)
    everything = _GatherWithGradient.apply(x, group) if x.requires_grad else gather(x, group)
    selected = everything[rows % len(everything)]
    return torch.cat([x, selected]), len(x) + torch.arange(len(rows), device=rows.device)
