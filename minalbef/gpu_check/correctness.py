"""Part 2: does each recipe compute on the GPU what it computes on the CPU?"""
import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from minalbef.bench.step import compiled
from minalbef.fast import loop
from minalbef.gpu_check.parts import FAIL, PASS, Result, Setting, pass_or_fail, write_result
from minalbef.gpu_check.small_steps import (
    SmallRecipe,
    fp32_products,
    make_recipe,
    recipe_names,
)

CPU = torch.device("cpu")


class Tolerance(NamedTuple):
    """How far the GPU may be from the CPU's fp32."""

    loss: float                       # of the loss, or of 1 where it is smaller
    cosine: float                     # of the gradients, at least


# bf16 has 8 bits of mantissa: each factor of a product is off by up to 0.4%. On a CPU, with three
# seeds, the losses of these recipes in bf16 were off by at most 0.2%, and their gradients' cosine
# was at least 0.97 (2026-11-29)
TOLERANCES = {"fp32": Tolerance(1e-4, 0.9999), "bf16": Tolerance(0.01, 0.95)}


@dataclass(frozen=True)
class Variant:
    """A way to compute a step."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    backend: SDPBackend | None = None            # of attention; None: torch's choice
    operation: str = ""                          # that the backend consists of


FP32 = {"precision": "fp32"}
BF16 = {"precision": "bf16"}
EFFICIENT = "_scaled_dot_product_efficient_attention"
PLAIN = (Variant("plain", FP32), Variant("plain", BF16))
# of the first recipe; compilation, which may take its time, comes last
MORE = (
    Variant("attention: math", FP32, SDPBackend.MATH),
    Variant("attention: efficient", FP32, SDPBackend.EFFICIENT_ATTENTION, EFFICIENT),
    Variant("attention: efficient", BF16, SDPBackend.EFFICIENT_ATTENTION, EFFICIENT),
    Variant("attention: flash", BF16, SDPBackend.FLASH_ATTENTION,
            "_scaled_dot_product_flash_attention"),
    Variant("attention: cuDNN", BF16, SDPBackend.CUDNN_ATTENTION,
            "_scaled_dot_product_cudnn_attention"),
    Variant("checkpointing", FP32 | {"checkpointing": True}),
    Variant("two micro-batches", FP32 | {"accumulate": 2}),
    Variant("compiled", FP32 | {"compile": True}),
    Variant("compiled", BF16 | {"compile": True}),
)


def check(setting: Setting) -> Result:
    """Compare losses and gradients of each recipe in small; PASS if all are within tolerance."""
    names = recipe_names()
    jobs = [(name, variant) for name in names for variant in PLAIN]
    jobs += [(names[0], variant) for variant in MORE]
    rows: list[dict] = []
    for name, variant in jobs:
        print(f"{name}, {variant.name}, {variant.changes['precision']}", flush=True)
        rows.append(compare_or_explain(name, variant, setting))
        result = summarise(rows)
        write_result(setting.folder, result._replace(finished=False))    # it may be killed
    return result


def summarise(rows: list[dict]) -> Result:
    """The verdict, and the largest differences."""
    failures = [row for row in rows if row["verdict"] != PASS]
    figure = f"{len(rows) - len(failures)} of {len(rows)} agree with the CPU"
    for precision in TOLERANCES:
        comparisons = [row for row in rows if row["precision"] == precision and "cosine" in row]
        if comparisons:
            loss = max(row["loss_difference"] for row in comparisons)
            cosine = min(row["cosine"] for row in comparisons)
            figure += (f"; {precision}: losses within {loss:.1e}, gradients' cosine at least "
                       f"{cosine:.5f}")
    if failures:
        first = failures[0]
        figure += (f"; the first that doesn't: {first['recipe']}, {first['variant']} in "
                   f"{first['precision']} {first.get('problem', '')}").rstrip()
    return Result(pass_or_fail(not failures), figure, {"comparisons": rows})


def compare_or_explain(name: str, variant: Variant, setting: Setting) -> dict[str, Any]:
    """Figures of a variant of a recipe; or the "problem" where it fails, such as in a kernel."""
    row = {"recipe": name, "variant": variant.name, "precision": variant.changes["precision"]}
    try:
        return row | compare_variant(name, variant, setting)
    except Exception as error:                   # whatever it is: the others are compared
        first = (str(error).splitlines() or [""])[0]
        return row | {"verdict": FAIL, "problem": f"{type(error).__name__}: {first}"}


def compare_variant(name: str, variant: Variant, setting: Setting) -> dict[str, Any]:
    """How far a variant on the device is from plain layers in fp32 on the CPU."""
    plain = {"precision": "fp32", "checkpointing": False, "compile": False, "dropout": 0.0}
    reference = make_recipe(name, {**setting.changes, **variant.changes, **plain}, CPU)
    reference.train(0, CPU)                      # the teacher lags behind, the queue has features
    candidate = replace(reference, config=replace(reference.config, **variant.changes),
                     module=copy.deepcopy(reference.module).to(setting.device))
    limit = TOLERANCES[variant.changes["precision"]]
    losses, gradient = backward(reference, CPU)
    graphs = compiled().graphs
    with fp32_products(tf32=False), attention(variant) as counter:
        other_losses, other_gradient = backward(candidate, setting.device)
    differences = []
    for key, loss in losses.items():
        differences.append(abs(loss - other_losses[key]) / max(1.0, abs(loss)))
    largest = torch.tensor(differences).max().item()         # NaN if one of them is
    cosine = torch.cosine_similarity(gradient, other_gradient, 0).item()
    row = {"loss_difference": largest, "cosine": cosine,
           "verdict": pass_or_fail(largest <= limit.loss and cosine >= limit.cosine)}
    if variant.operation:                        # a card may lack it, and then it isn't used
        operations = [str(operation) for operation in counter.get_flop_counts()["Global"]]
        row["used"] = any(variant.operation in operation for operation in operations)
    if candidate.config.compile and compiled().graphs == graphs:
        row |= {"verdict": FAIL, "problem": "nothing was compiled"}
    return row


def backward(recipe: SmallRecipe, device: torch.device) -> tuple[dict[str, float], Tensor]:
    """The losses of step 1, and all gradients in one vector on the CPU."""
    module, config = recipe.module, recipe.config
    with loop.recompute_and_compile(module, config):
        losses, _ = loop.backward(module, module, recipe.batch(1), config.alpha, module.draws(1),
                                   config, device)
    gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    values = {name: loss.item() for name, loss in losses.items()}
    return values, torch.cat(gradients).double().cpu()


@contextmanager
def attention(variant: Variant) -> Iterator[FlopCounterMode]:
    """Meanwhile attention is the variant's backend, or plain products where that refuses a shape.

    -> what counts the operations; without a backend it counts nothing, as torch compiles nothing
        while it counts
    """
    counter = FlopCounterMode(display=False)
    if variant.backend is None:
        yield counter
        return
    with sdpa_kernel([variant.backend, SDPBackend.MATH], set_priority=True), counter:
        yield counter
