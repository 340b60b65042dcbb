"""Prove that two implementations are the same: for chapters that rebuild a part, tests and graders."""
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

FAINT = 1e-3                          # shrinks weights and input until a norm's eps shows, 1e-5 or 1e-6


def check_same(A: Callable, B: Callable, *args: Any, make_input: Callable[[], Any], tol: float = 1e-5,
               seed: int = 0, blank: bool = False) -> None:
    """Compare A with B, under one set of weights and on one input: outputs, and the gradients of everything.

    A, B: classes of modules, made with `args`; or modules; or functions, of tensors, arrays, pictures or numbers
    make_input: -> a tensor, or a tuple of arguments
    tol: largest difference allowed, as a share of the largest value
    blank: A is for a reader to write, and may still raise NotImplementedError
    Prints one line; raises AssertionError that names the first output, weight or gradient that differs.
    """
    names = _name(A), _name(B)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        a, b = (_build(module, args) for module in (A, B))
        if isinstance(a, nn.Module) and isinstance(b, nn.Module):
            # biases at 0 and gains at 1 would hide that one is missing
            _change(a, lambda weight: weight.add_(0.1 * torch.randn_like(weight)) if weight.dim() else weight)
            _load(a, b, names)
        inputs = make_input()
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)

    try:
        out_a, grad_a = _run(a, inputs, seed)
    except NotImplementedError:
        if not blank:
            raise
        return print(f"{names[0]}: yours to write; compared with {names[1]} once you have")
    out_b, grad_b = _run(b, inputs, seed)
    for where, x in out_a.items():
        assert not x.isnan().any(), f"{names[0]}: its {where} has NaN in it, so nothing can be compared"
    _compare("output", out_a, out_b, names, tol)
    # a gradient that is truly zero is noise: hold it against the largest of them all
    largest = max((g.abs().max().item() for g in grad_a.values() if g.numel()), default=0.0)
    _compare("gradient", grad_a, grad_b, names, tol, least=0.1 * largest)
    for f in (a, b):
        _change(f, lambda weight: weight.mul_(FAINT))
    (faint_a, _), (faint_b, _) = (_run(f, _map(inputs, lambda x: x * FAINT), seed) for f in (a, b))
    _compare("output for tiny weights and input (is a norm's eps another?)", faint_a, faint_b, names, tol)

    inside = sum(name.startswith("parameter") for name in grad_a)
    slopes = f" and the same gradients for {f'{inside} parameters' if inside else 'its inputs'}" if largest else ""
    # the tolerance, not the difference: that is another on another CPU, and chapters are compared with their outputs
    print(f"{names[0]} and {names[1]}: same output (within {tol:g}){slopes}")


def _name(f: Any) -> str:
    kind = type(f) if isinstance(f, nn.Module) else f
    name = getattr(kind, "__name__", str(kind))
    package = getattr(kind, "__module__", "__main__").split(".")[0]
    return name if package == "__main__" else f"{package}.{name}"


def _build(f: Any, args: tuple) -> Any:
    f = f(*args) if isinstance(f, type) else copy.deepcopy(f)    # the caller's own modules stay as they are
    return f.eval() if isinstance(f, nn.Module) else f


@torch.no_grad()
def _change(f: Any, change: Callable[[Tensor], Tensor]) -> None:
    """Change each weight of a module, in place."""
    for weight in f.parameters() if isinstance(f, nn.Module) else ():
        change(weight)


def _load(a: nn.Module, b: nn.Module, names: tuple[str, str]) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    wrong = [f"{names[1]} has {name}, {names[0]} has not" for name in theirs if name not in ours]
    wrong += [f"{names[0]} has {name}, {names[1]} has not" for name in ours if name not in theirs]
    wrong += [f"{name} is {tuple(ours[name].shape)} in {names[0]} and {tuple(theirs[name].shape)} in {names[1]}"
              for name in ours if name in theirs and ours[name].shape != theirs[name].shape]
    assert not wrong, "the weights do not fit:\n  " + "\n  ".join(wrong)
    b.load_state_dict(ours)


def _run(f: Any, inputs: tuple, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs by place, and gradients of a fixed random mixture of them by place; no gradient counts as zero."""
    inputs = _map(inputs, lambda x: x.detach().clone().requires_grad_())
    output = f(*inputs)
    outputs = {f"[{place}]" if place else "": x for place, x in _tensors(output)}
    leaves = {f"input {place}": x for place, x in _tensors(inputs) if x.requires_grad}
    if isinstance(f, nn.Module):                                 # a twin counts under both names: untied, it shows
        leaves |= {f"parameter {name}": p for name, p in f.named_parameters(remove_duplicate=False) if p.requires_grad}
    g = torch.Generator().manual_seed(seed + 1)                 # not the input's: along x itself, a norm has no slope
    total = sum((x * torch.randn(x.shape, generator=g)).sum() for x in outputs.values() if x.requires_grad)
    grads: Sequence[Tensor | None] = [None] * len(leaves)
    if isinstance(total, Tensor) and leaves:
        grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    gradients = {name: torch.zeros_like(x) if grad is None else grad for (name, x), grad in zip(leaves.items(), grads)}
    return {f"output{place}": x.detach() for place, x in outputs.items()}, gradients


def _compare(what: str, a: dict, b: dict, names: tuple[str, str], tol: float, least: float = 0.0) -> None:
    """AssertionError for a difference above tol times the largest value, or `least`."""
    odd = sorted(a.keys() ^ b.keys())
    assert not odd, f"{what}: {names[0] if odd[0] in a else names[1]} alone has {odd[0]}"
    for place, x in a.items():
        y = b[place]
        assert x.shape == y.shape, f"{place} is {tuple(x.shape)} in {names[0]} and {tuple(y.shape)} in {names[1]}"
        if not x.numel():
            continue
        x, y = x.double(), y.double()
        apart = torch.where((x == y) | (x.isnan() & y.isnan()), 0, (x - y).abs()).nan_to_num(torch.inf).max().item()
        finite = x[x.isfinite()]
        limit = tol * max(finite.abs().max().item() if finite.numel() else 0.0, least)
        assert apart <= limit, (
            f"{names[0]} and {names[1]} differ: {what}, {place}: by {apart:.1e} where {limit:.1e} is allowed")


def _tensors(value: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, (np.ndarray, Image.Image, int, float)):
        yield place, torch.as_tensor(np.array(value))
    elif isinstance(value, (tuple, list, dict)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(part, f"{place}.{key}" if place else str(key))


def _map(inputs: tuple, change: Callable[[Tensor], Tensor]) -> tuple:
    return tuple(change(x) if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs)
