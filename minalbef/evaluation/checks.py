"""Check that two implementations agree: for chapters that rebuild a part, tests and graders."""
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

FAINT = 1e-3                          # shrinks weights and input so that a norm's eps matters
Function = Any                        # a module or a function, which takes what make_input makes


def check_same(A: Callable, B: Callable, *args: Any, make_input: Callable[[], Any],
               tol: float = 1e-5, seed: int = 0, blank: bool = False) -> None:
    """Compare outputs and all gradients of A and B, with the same weights on the same input.

    A, B: classes of modules, made with `args`; or modules; or functions of tensors, arrays, images
        or numbers
    make_input: -> a tensor, or a tuple of arguments
    tol: the largest difference allowed, as a share of the largest value
    blank: A is for a reader to write, and may still raise NotImplementedError
    Prints one line. Raises AssertionError that names the first output, weight or gradient that
    differs.
    """
    names = (_name(A), _name(B))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        a = _build(A, args)
        b = _build(B, args)
        if isinstance(a, nn.Module) and isinstance(b, nn.Module):
            _disturb(a)
            _copy_weights(a, b, names)
        inputs = make_input()
    if not isinstance(inputs, tuple):
        inputs = (inputs,)

    try:
        outputs, gradients = _run(a, inputs, seed)
    except NotImplementedError:
        if not blank:
            raise
        print(f"{names[0]}: yours to write; compared with {names[1]} once you have")
        return
    other_outputs, other_gradients = _run(b, inputs, seed)
    for name, x in outputs.items():
        assert not x.isnan().any(), f"{names[0]}: its {name} has NaN: nothing can be compared"
    _compare("output", outputs, other_outputs, names, tol)
    # a gradient that should be zero is noise: its limit is a share of the largest of them all
    largest = max([_largest(gradient) for gradient in gradients.values()], default=0.0)
    _compare("gradient", gradients, other_gradients, names, tol, least=0.1 * largest)
    _compare_faint(a, b, inputs, seed, names, tol)
    # print the tolerance: the difference itself varies by CPU, and chapters compare their outputs
    print(f"{names[0]} and {names[1]}: same output (within {tol:g}){_of_gradients(gradients)}")


def _of_gradients(gradients: dict[str, Tensor]) -> str:
    """What `check_same` says of gradients that agree; nothing if all are zero."""
    if not any(gradient.any() for gradient in gradients.values()):
        return ""
    count = sum(name.startswith("parameter") for name in gradients)
    if count:
        return f" and the same gradients for {count} parameters"
    return " and the same gradients for its inputs"


def _name(f: Function) -> str:
    if isinstance(f, nn.Module):
        f = type(f)
    name = getattr(f, "__name__", str(f))
    package = getattr(f, "__module__", "__main__").split(".")[0]
    if package == "__main__":
        return name
    return f"{package}.{name}"


def _build(f: Function, args: tuple) -> Function:
    if isinstance(f, type):
        f = f(*args)
    else:
        f = copy.deepcopy(f)                     # the caller's modules don't change
    if isinstance(f, nn.Module):
        f.eval()
    return f


@torch.no_grad()
def _disturb(module: nn.Module) -> None:
    """Add noise to the weights: biases of 0 and gains of 1 would hide that one is missing."""
    for weight in module.parameters():
        if weight.dim():
            weight.add_(0.1 * torch.randn_like(weight))


def _copy_weights(a: nn.Module, b: nn.Module, names: tuple[str, str]) -> None:
    """Load a's weights into b. Raises AssertionError that lists what doesn't fit."""
    weights = a.state_dict()
    target = b.state_dict()
    misfits = []
    for name in target:
        if name not in weights:
            misfits.append(f"{names[1]} has {name}, {names[0]} has not")
    for name in weights:
        if name not in target:
            misfits.append(f"{names[0]} has {name}, {names[1]} has not")
    for name, value in weights.items():
        if name in target and value.shape != target[name].shape:
            misfits.append(f"{name} is {tuple(value.shape)} in {names[0]} "
                           f"and {tuple(target[name].shape)} in {names[1]}")
    assert not misfits, "the weights do not fit:\n  " + "\n  ".join(misfits)
    b.load_state_dict(weights)


def _run(f: Function, inputs: tuple, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """-> outputs by position, and the gradients of a fixed random mixture of them, or zeros."""
    inputs = _map(inputs, lambda x: x.detach().clone().requires_grad_())
    outputs = {}
    for position, x in _tensors(f(*inputs)):
        outputs[f"output[{position}]" if position else "output"] = x
    leaves = {f"input {position}": x for position, x in _tensors(inputs) if x.requires_grad}
    if isinstance(f, nn.Module):
        # tied weights count under each of their names, so that an untied copy differs
        for name, parameter in f.named_parameters(remove_duplicate=False):
            if parameter.requires_grad:
                leaves[f"parameter {name}"] = parameter
    # not a mixture by the input: along x itself, the gradient of a norm is 0
    generator = torch.Generator().manual_seed(seed + 1)
    terms = []
    for x in outputs.values():
        if x.requires_grad:
            terms.append((x * torch.randn(x.shape, generator=generator)).sum())
    grads: Sequence[Tensor | None] = [None] * len(leaves)
    if terms and leaves:
        total: Any = sum(terms)
        grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    gradients = {}
    for (name, leaf), grad in zip(leaves.items(), grads):
        gradients[name] = torch.zeros_like(leaf) if grad is None else grad
    return {name: x.detach() for name, x in outputs.items()}, gradients


def _compare_faint(a: Function, b: Function, inputs: tuple, seed: int, names: tuple[str, str],
                   tol: float) -> None:
    """Compare outputs for tiny weights and inputs; shrinks the weights of a and b."""
    for f in (a, b):
        if isinstance(f, nn.Module):
            with torch.no_grad():
                for weight in f.parameters():
                    weight.mul_(FAINT)
    inputs = _map(inputs, lambda x: x * FAINT)
    kind = "output for tiny weights and input (is a norm's eps different?)"
    _compare(kind, _run(a, inputs, seed)[0], _run(b, inputs, seed)[0], names, tol)


def _compare(kind: str, a: dict[str, Tensor], b: dict[str, Tensor], names: tuple[str, str],
             tol: float, least: float = 0.0) -> None:
    """Raises AssertionError for a difference above tol times the largest value, or `least`."""
    for name in sorted(a.keys() ^ b.keys()):
        assert False, f"{kind}: {names[0] if name in a else names[1]} alone has {name}"
    for position, x in a.items():
        y = b[position]
        assert x.shape == y.shape, (f"{position} is {tuple(x.shape)} in {names[0]} "
                                    f"and {tuple(y.shape)} in {names[1]}")
        if not x.numel():
            continue
        difference = _difference(x.double(), y.double())
        finite = x[x.isfinite()].double()
        limit = tol * max(_largest(finite), least)
        if difference > limit:
            where = kind if position == kind else f"{kind}, {position}"
            raise AssertionError(f"{names[0]} and {names[1]} differ: {where}: "
                                 f"{_in_words(x, y, names, difference, limit)}")


def _in_words(x: Tensor, y: Tensor, names: tuple[str, str], difference: float, limit: float
              ) -> str:
    """How x and y differ: a number that is no fraction says more than a difference does."""
    if x.numel() == 1 and not x.is_floating_point() and not y.is_floating_point():
        return f"{x.item()} in {names[0]}, {y.item()} in {names[1]}"
    return f"by {difference:.1e} where {limit:.1e} is allowed"


def _difference(x: Tensor, y: Tensor) -> float:
    """The largest difference of two tensors; equal infinities and NaN in both don't count."""
    equal = (x == y) | (x.isnan() & y.isnan())
    return torch.where(equal, 0, (x - y).abs()).nan_to_num(torch.inf).max().item()


def _largest(x: Tensor) -> float:
    if not x.numel():
        return 0.0
    return x.abs().max().item()


def _tensors(value: Any, position: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested tuples, lists and dicts, with where they are."""
    if isinstance(value, Tensor):
        yield position, value
    elif isinstance(value, (np.ndarray, Image.Image, int, float)):
        yield position, torch.as_tensor(np.array(value))
    elif isinstance(value, (tuple, list, dict)):
        if not isinstance(value, dict):
            value = dict(enumerate(value))
        for key, entry in value.items():
            yield from _tensors(entry, f"{position}.{key}" if position else str(key))


def _map(inputs: tuple, change: Callable[[Tensor], Tensor]) -> tuple:
    """Apply a function to the floating-point tensors of a tuple."""
    results = []
    for x in inputs:
        if isinstance(x, Tensor) and x.is_floating_point():
            x = change(x)
        results.append(x)
    return tuple(results)
