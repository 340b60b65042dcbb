"""Several processes, or one: without a process group every function does nothing."""
import gc
import logging
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

LOG = logging.getLogger("minalbef")


def device_of(name: str = "auto") -> torch.device:
    """This process's GPU, or the CPU if there is none.

    name: "auto"; or "cpu", "cuda", "mps" (Apple's) to insist
    Raises ValueError where there are fewer GPUs than processes.
    """
    if torch.backends.mps.is_available():
        alone = int(os.environ.get("WORLD_SIZE", 1)) == 1        # gloo doesn't reach Apple's GPU
        if name == "mps" or name == "auto" and alone:
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


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, in order: (b, ...) -> (b * world, ...). No gradient."""
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
    """The largest n of all processes. On the CPU: no GPU is waited for."""
    if world() > 1:
        largest = torch.tensor(n)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        n = int(largest)
    return n


class _GatherWithGradient(torch.autograd.Function):
    """`gather`, whose backward pass sums the gradients of all processes' losses."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return gather(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        rows = grad.new_empty(len(grad) // world(), *grad.shape[1:])
        # torch 2.13 renamed it
        scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)
        scatter(rows, grad.contiguous())
        return rows


def fetch(x: Tensor, rows: Tensor, local: bool = False) -> tuple[Tensor, Tensor]:
    """Rows of the global batch, with gradient: x (b, ...), rows (p,) counted over all processes.

    local: they are all of this process, or don't matter: nothing is sent
    -> pool (k, ...), whose first b rows are x, and index (p,) of the rows in it
    """
    if local or world() == 1:
        return x, rows % len(x)
    everything = _GatherWithGradient.apply(x) if x.requires_grad else gather(x)
    return torch.cat([x, everything[rows]]), len(x) + torch.arange(len(rows), device=rows.device)
