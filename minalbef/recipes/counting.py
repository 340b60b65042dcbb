"""A step counted operation by operation: it runs on tensors without data, of any size at once.

No weights are made and nothing is computed: torch works out shapes alone (device="meta"). What is
noted is what a GPU would do: FLOPs of products, bytes that kernels read and write, how many kernels
there are, and how much memory is in use after each.
"""
import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from minalbef import distributed
from minalbef.config import Config, ModelConfig, ObjectiveConfig
from minalbef.fast import loop
from minalbef.recipes.rehearse import WORDS, make_batch
from minalbef.tasks.table import TASKS
from minalbef.tokenizer import Tokenizer

# Everything grows with the rows along a line: two counts say it for any number
FEW, TWICE = 8, 16
BLOCK = 512                           # bytes; CUDA's allocator hands out multiples


def norm_outputs(x: Tensor, shape: list[int], *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """A layer norm of (..., *shape) without data: -> it, mean and 1 / deviation (..., 1, ...)."""
    statistics = (*x.shape[:-len(shape)], *len(shape) * [1])
    mean = x.new_empty(statistics, dtype=torch.float32)
    return torch.empty_like(x), mean, torch.empty_like(mean)


def norm_gradients(grad: Tensor, x: Tensor, shape: list[int], mean: Tensor, deviation: Tensor,
                   weight: Tensor, bias: Tensor, wanted: list[bool]) -> tuple[Tensor | None, ...]:
    """Its backward pass: gradients (..., *shape), (*shape) and (*shape), None where not wanted."""
    inputs = (x, weight, bias)
    return tuple(torch.empty_like(y) if need else None for y, need in zip(inputs, wanted))


# torch works these shapes out by other operations, in milliseconds each
BY_HAND = {
    torch.ops.aten.native_layer_norm.default: norm_outputs,
    torch.ops.aten.native_layer_norm_backward.default: norm_gradients,
}


class Work(NamedTuple):
    """What a forward and backward pass of some rows takes, of one micro-batch."""

    flops: float                      # of products, a multiply-add is two
    moved: float                      # bytes that kernels read and write, products included
    kernels: int
    products: int                     # of the kernels
    activations: float                # bytes at the fullest moment, without the next
    gradients: float                  # bytes of parameters' gradients at that moment


@dataclass(frozen=True)
class Pass:
    """The notes of one pass; see Recorder."""

    flops: float
    moved: float
    kernels: int
    products: int
    memory: np.ndarray                # (operations,) bytes in use after each, without the weights
    gradients: np.ndarray             # (operations,) of those, gradients of parameters


class Recorder(TorchDispatchMode):
    """Notes every operation that runs inside it on tensors of the device "meta"."""

    def __init__(self, weights: list[Tensor]):
        super().__init__()
        self.flops = 0.0
        self.moved = 0.0
        self.kernels = 0
        self.products = 0
        self.in_use = 0
        self.memory: list[int] = []
        self.begins: dict[int, int] = {}         # by storage: the operation that made it
        self.storages = weakref.WeakSet(weight.untyped_storage() for weight in weights)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operation = func._overloadpacket
        if operation not in flop_registry and operation is not torch.ops.aten.native_dropout:
            with self:                           # torch.linear, say, consists of others
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = BY_HAND.get(func, func)(*args, **kwargs)
        if operation in flop_registry:
            self.flops += flop_registry[operation](*args, **kwargs, out_val=result)
            self.products += 1
        results = tensors(result)
        inputs = tensors((args, kwargs))
        if not inputs and not results:           # the CPU's own work
            return result
        for x in results:
            self.note_storage(x.untyped_storage())
        self.memory.append(self.in_use)
        if inputs and launches(func):
            self.kernels += 1
            self.moved += sum(map(size, inputs + results))
        return result

    def note_storage(self, storage: torch.UntypedStorage) -> None:
        """Memory of a tensor is in use until nothing refers to it."""
        if storage in self.storages:
            return
        self.storages.add(storage)
        self.begins[storage._cdata] = len(self.memory)
        blocks = -(-storage.nbytes() // BLOCK) * BLOCK
        self.in_use += blocks
        weakref.finalize(storage, self.release, blocks)

    def release(self, amount: int) -> None:
        """So many bytes are free again."""
        self.in_use -= amount

    def result(self, parameters: list[torch.nn.Parameter]) -> Pass:
        """What was noted. parameters: whose gradients are counted apart from activations."""
        gradients = np.zeros(len(self.memory))
        for parameter in parameters:
            if parameter.grad is not None:
                begin = self.begins[parameter.grad.untyped_storage()._cdata]
                gradients[begin:] += size(parameter.grad)
        return Pass(self.flops, self.moved, self.kernels, self.products, np.array(self.memory),
                    gradients)


def tensors(tree: Any) -> list[Tensor]:
    """The tensors without data among arguments or results."""
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor) and x.is_meta]


def size(x: Tensor) -> int:
    """Bytes; of an expanded tensor those that are there."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


def launches(func: Any) -> bool:
    """Whether an operation is a kernel on a GPU: views and empty tensors aren't."""
    name = func._schema.name
    return not (func.is_view or "empty" in name or name in ("aten::_unsafe_view", "aten::detach"))


def fused_attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None,
                    dropout_p: float = 0.0) -> Tensor:
    """Attention in one kernel, which keeps no weights: without data torch would choose a plain one.

    The shapes are those of F.scaled_dot_product_attention.
    """
    if attn_mask is not None:
        attn_mask = attn_mask.to(q.dtype).expand(*q.shape[:3], k.shape[2])
    trains = torch.is_grad_enabled()
    operation = torch.ops.aten._scaled_dot_product_efficient_attention
    return operation(q, k, v, attn_mask, trains, dropout_p)[0]


def cpu_attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None,
                  dropout_p: float = 0.0) -> Tensor:
    """Attention of a CPU: plain where there is dropout."""
    if not dropout_p:
        return fused_attention(q, k, v, attn_mask)
    scores = q / q.shape[-1] ** 0.5 @ k.mT
    if attn_mask is not None:
        scores = scores.masked_fill(attn_mask, 0.0)
    return F.dropout(scores.softmax(-1), dropout_p) @ v


def fused_dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
                  ) -> Tensor:
    """Dropout in one kernel, whose mask has a byte per number."""
    return torch.native_dropout(x, p, True)[0] if training and p else x


@contextlib.contextmanager
def as_alone_on(device: str) -> Iterator[None]:
    """Meanwhile kernels are those of a "cuda" or "cpu" device, and this process is the only one."""
    with contextlib.ExitStack() as stack:
        attention = cpu_attention if device == "cpu" else fused_attention
        patches = [(F, "scaled_dot_product_attention", attention),
                   (torch, "autocast", lambda *_, **__: contextlib.nullcontext()),
                   (distributed, "world", lambda: 1)]
        if device == "cuda":
            patches.append((F, "dropout", fused_dropout))
        for owner, name, function in patches:
            stack.enter_context(mock.patch.object(owner, name, function))
        yield


def run_pass(task: str, config: Config, device: str) -> Pass:
    """One forward and backward pass of config.batch rows, without data."""
    tokenizer = Tokenizer.train([" ".join(WORDS)], 512)          # the config's may be too small
    batch = make_batch(TASKS[task], config, tokenizer, 0)
    tokens = torch.full((config.batch, config.text_length), config.vocab_size - 1)
    tokens[:, 0] = tokenizer.cls
    batch = replace(batch, tokens=tokens, keep=tokens >= 0)      # all texts are as long as they may
    meta = torch.device("meta")
    with torch.random.fork_rng(devices=[]), as_alone_on(device):
        with meta:
            module = TASKS[task].module(config)
        module.train()
        if hasattr(module, "cpu_rates"):     # words are masked on the CPU
            module.cpu_rates = torch.full((config.vocab_size,), config.mask_rate)
        if hasattr(module, "queue"):
            module.queue.filled = config.queue_size
        draws = module.draws(config.steps - 1)
        weights = [*module.parameters(), *module.buffers()]
        batch.to(meta)                           # the first batch leaves constants there
        with loop.recompute_and_compile(module, config), Recorder(weights) as recorder:
            loop.backward(module, module, batch, config.alpha, draws, config, meta)
    return recorder.result(list(module.parameters()))


@lru_cache(maxsize=64)
def _count_twice(task: str, config: Config, device: str) -> tuple[Pass, Pass]:
    """`run_pass` of FEW and of TWICE as many rows."""
    few, twice = [run_pass(task, replace(config, batch=rows), device) for rows in (FEW, TWICE)]
    assert len(few.memory) == len(twice.memory), "the operations depend on the number of rows"
    return few, twice


def count_work(config: Config, rows: float, task: str = "pretrain", device: str = "cuda",
               precision: str = "fp32", checkpointing: bool = False, accumulates: bool = False
               ) -> Work:
    """What a forward and backward pass takes, of a step in which every loss takes part.

    rows: of a micro-batch
    device: "cuda" or "cpu", whose attention and dropout keep more
    precision, checkpointing: in place of the config's
    accumulates: gradients of all parameters are there from the start: of earlier micro-batches, or
        in DDP's buckets
    """
    settings = settings_that_count(config, precision, checkpointing)
    few, twice = _count_twice(task, settings, device)
    share = (rows - FEW) / (TWICE - FEW)

    def at(a: Any, b: Any) -> Any:
        return a + share * (b - a)

    between = Pass(at(few.flops, twice.flops), at(few.moved, twice.moved), few.kernels,
                   few.products, at(few.memory, twice.memory), at(few.gradients, twice.gradients))
    return summarise(between, accumulates)


def count_work_once(config: Config, rows: int, task: str = "pretrain", device: str = "cuda",
                    precision: str = "fp32", checkpointing: bool = False,
                    accumulates: bool = False) -> Work:
    """`count_work` in half the time, where only one number of rows is asked for."""
    settings = settings_that_count(config, precision, checkpointing)
    return summarise(run_pass(task, replace(settings, batch=rows), device), accumulates)


def settings_that_count(config: Config, precision: str, checkpointing: bool) -> Config:
    """The config of a step in which every loss takes part; what doesn't matter is the default."""
    values: dict[str, Any] = {}
    for part in (ModelConfig, ObjectiveConfig):
        values |= {item.name: getattr(config, item.name) for item in fields(part)}
    values |= dict(match_from=0.0, queue_from=0.0, hard_from=0.0, precision=precision,
                   checkpointing=checkpointing)
    return Config(**values)


def summarise(noted: Pass, accumulates: bool) -> Work:
    """A pass at its fullest moment."""
    memory = noted.memory
    gradients = noted.gradients
    if accumulates:
        memory = memory + gradients[-1] - gradients
        gradients = np.full_like(gradients, gradients[-1])
    fullest = memory.argmax()
    return Work(noted.flops, noted.moved, noted.kernels, noted.products,
                float(memory[fullest] - gradients[fullest]), float(gradients[fullest]))
