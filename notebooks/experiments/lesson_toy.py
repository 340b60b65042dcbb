"""The lesson's plateau in a toy: `python notebooks/experiments/lesson_toy.py`, ten seconds.

A question has two signs, a word and a place, and is true where their product is 1: XOR. The word is
1 more often than -1, by the bias. Writes lesson_toy.json and lesson_toy.png beside itself.
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
BIASES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
BOUND = 0.66                          # of the running loss
RATES = {"SGD": 0.1, "Adam": 0.001}


def plateau(bias: float, optimiser: str, first: float = 0.02, nets: int = 8, batch: int = 128,
            hidden: int = 16, steps: int = 4000) -> tuple[Tensor, Tensor]:
    """Train `nets` at once: -> steps until each leaves ln 2, and its accuracy on the rare word then.

    first: the size of the first weights. Both (nets,); NaN: never left, or no rare word was there
    """
    torch.manual_seed(0)
    into = (first * torch.randn(nets, 2, hidden)).requires_grad_()
    out = (first * torch.randn(nets, hidden, 1)).requires_grad_()
    stepper = getattr(torch.optim, optimiser)([into, out], lr=RATES[optimiser])
    left = torch.full((nets,), torch.nan)
    rare = left.clone()
    running = torch.full((nets,), 2.0).log()
    for step in range(1, steps + 1):
        word = 2.0 * (torch.rand(nets, batch) < (1 + bias) / 2) - 1
        place = 2.0 * (torch.rand(nets, batch) < 0.5) - 1
        score = (F.gelu(torch.stack([word, place], 2) @ into) @ out)[..., 0]      # (nets, batch)
        loss = F.softplus(-word * place * score).mean(1)
        loss.sum().backward()                            # each net has its own weights
        stepper.step()
        stepper.zero_grad()
        running = 0.96 * running + 0.04 * loss.detach()
        new = left.isnan() & (running < BOUND)
        left[new] = step
        right = (word * place * score > 0).float()
        rare[new] = (right * (word < 0)).sum(1)[new] / (word < 0).sum(1)[new]
        if not left.isnan().any():
            break
    return left, rare


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Plateau against bias, both logarithmic, and a line for 1/b."""
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for optimiser, rows in results.items():
        some = [row for row in rows if row["bias"]]
        axes.loglog([row["bias"] for row in some], [row["steps"] for row in some], "o-",
                    label=optimiser)
        axes.axhline(rows[0]["steps"], lw=0.8, ls=":", color=axes.lines[-1].get_color())
    last = results["SGD"][-1]["steps"]
    axes.loglog(BIASES[1:], [last / bias for bias in BIASES[1:]], "k--", lw=0.8, label="1/b")
    axes.set(xlabel="bias b of the word (dotted: none)", ylabel="steps until ln 2 is left")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(out: Path = PATH) -> None:
    """Train the toy with each bias and each optimiser.

    Args:
        out: the file to write, and the figure beside it
    """
    torch.set_num_threads(1)
    results: dict[str, list[dict[str, Any]]] = {}
    for optimiser in RATES:
        results[optimiser] = []
        for bias in BIASES:
            left, rare = plateau(bias, optimiser)
            results[optimiser].append({
                "bias": bias, "steps": round(left.mean().item(), 1),
                "rare": round(rare.mean().item(), 3) if bias < 1 else None})
            print(optimiser, results[optimiser][-1], flush=True)
    write_json(out, {"command": "python notebooks/experiments/lesson_toy.py", "date": now(),
                     "commit": commit(), "first": 0.02, "nets": 8, "results": results})
    draw(results, out.with_suffix(".png"))


if __name__ == "__main__":
    run_script(main)
