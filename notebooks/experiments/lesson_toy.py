"""The lesson's plateau in a toy: `python notebooks/experiments/lesson_toy.py`, half a minute.

A question has two signs, a word and a place, and is true where their product is 1: XOR. The word is
1 more often than -1, by the bias. The place is an input or, as in `tiny`, itself a product of two:
the order of names, and the image. Writes lesson_toy.json and lesson_toy.png beside itself.
"""
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef.cli.main import run_script
from minalbef.recipes.report import commit, now
from results import write_json

PATH = Path(__file__).with_suffix(".json")
BIASES = (0.0, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
BOUND = 0.68                          # of the running loss
RATES = {"SGD": 0.1, "Adam": 0.001}
FACTORS = {1: "place is an input", 2: "place is a product"}


def plateau(bias: float, optimiser: str, factors: int = 1, first: float = 0.05, nets: int = 8,
            batch: int = 128, hidden: int = 32, steps: int = 4000) -> tuple[Tensor, Tensor]:
    """Train `nets` at once: -> each one's steps until it leaves ln 2, and accuracy of rare words.

    factors: inputs whose product is the place. first: the size of the first weights.
    Both (nets,); NaN: never left, or there was no rare word
    """
    torch.manual_seed(0)
    into = (first * torch.randn(nets, 1 + factors, hidden)).requires_grad_()
    out = (first * torch.randn(nets, hidden, 1)).requires_grad_()
    stepper = getattr(torch.optim, optimiser)([into, out], lr=RATES[optimiser])
    end = torch.full((nets,), torch.nan)
    rare = end.clone()
    running = torch.full((nets,), 2.0).log()
    for step in range(1, steps + 1):
        word = 2.0 * (torch.rand(nets, batch, 1) < (1 + bias) / 2) - 1
        parts = 2.0 * (torch.rand(nets, batch, factors) < 0.5) - 1
        answer = word[..., 0] * parts.prod(2)                        # (nets, batch)
        score = (F.gelu(torch.cat([word, parts], 2) @ into) @ out)[..., 0]
        loss = F.softplus(-answer * score).mean(1)
        loss.sum().backward()                            # each net has its own weights
        stepper.step()
        stepper.zero_grad()
        running = 0.96 * running + 0.04 * loss.detach()
        new = end.isnan() & (running < BOUND)
        end[new] = step
        is_rare = word[..., 0] < 0
        right = (answer * score > 0) & is_rare
        rare[new] = right.sum(1)[new] / is_rare.sum(1)[new]
        if not end.isnan().any():
            break
    return end, rare


def measure(factors: int, optimiser: str) -> list[dict[str, Any]]:
    """A row for each bias: the mean plateau, None if a net never left it, and the rare word."""
    rows = []
    for bias in BIASES:
        end, rare = plateau(bias, optimiser, factors)
        all_left = not end.isnan().any()
        rows.append({"bias": bias, "steps": round(end.mean().item(), 1) if all_left else None,
                     "rare": round(rare.mean().item(), 3) if all_left and bias < 1 else None})
        print(FACTORS[factors], optimiser, rows[-1], flush=True)
    return rows


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Plateau against bias, both logarithmic, each with a thin line for 1/b."""
    figure, axes = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    for title, rows in results.items():
        points = [row for row in rows if row["bias"] and row["steps"]]
        line, = axes.loglog([row["bias"] for row in points], [row["steps"] for row in points], "o-",
                            label=title)
        by_law = [points[-1]["steps"] / bias for bias in BIASES[1:]]
        axes.loglog(BIASES[1:], by_law, lw=0.6, ls="--",
                    color=line.get_color())
    axes.set(xlabel="bias b of the word (dashed: 1/b)", ylabel="steps until ln 2 is left",
             xticks=BIASES[1:], xticklabels=BIASES[1:])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(out: Path = PATH) -> None:
    """Train the toy with each bias and each optimiser.

    Args:
        out: the file to write, and the figure beside it
    """
    torch.set_num_threads(1)
    results = {f"{title}, {optimiser}": measure(factors, optimiser)
               for factors, title in FACTORS.items() for optimiser in RATES}
    write_json(out, {"command": "python notebooks/experiments/lesson_toy.py", "date": now(),
                     "commit": commit(), "results": results})
    draw(results, out.with_suffix(".png"))


if __name__ == "__main__":
    run_script(main)
