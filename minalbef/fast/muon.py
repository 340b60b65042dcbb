"""Muon (Jordan et al. 2024), for the matrices of a model; AdamW for the rest."""
from typing import Any

import torch
from torch import Tensor, nn

# Newton-Schulz iterations towards the nearest orthogonal matrix: X <- aX + (bXX' + c(XX')^2)X.
# The coefficients are You Jiacheng's (x.com/YouJiacheng/status/1905861218138804534)
ITERATIONS = ((4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037),
              (2.8769, -3.1427, 1.2046), (2.8366, -3.0525, 1.2012))
NESTEROV = 0.95                       # Muon's momentum
RMS = 0.2                             # of Muon's updates, about that of AdamW's: they share a rate


class Muon(torch.optim.AdamW):
    """AdamW, and Muon (Jordan et al. 2024) for groups with "muon": all directions of a matrix move.

    The momentum's singular values are replaced by ones, nearly. torch.optim.Muon does this to one
    matrix at a time; here those of one shape go together, which is faster on a CPU (tried.md), and
    convolutions count as matrices (out, in x height x width).
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of all groups; the matrices' gradients are None afterwards."""
        for group in self.param_groups:
            if group.get("muon"):
                self.step_matrices(group)
        return super().step(closure)                     # skips weights without a gradient

    def step_matrices(self, group: dict[str, Any]) -> None:
        """Muon's step, with decay as in AdamW, in place."""
        by_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:                                # AdamW expects its count of steps
                state.update(step=torch.tensor(0.0), momentum=torch.zeros_like(p))
            state["step"] += 1
            state["momentum"].lerp_(p.grad, 1 - NESTEROV)
            update = p.grad.lerp(state["momentum"], NESTEROV).flatten(1)
            by_shape.setdefault(update.shape, []).append((p, update))
            p.grad = None
        for shape, pairs in by_shape.items():
            updates = orthogonalise(torch.stack([update for _, update in pairs]))
            rate = group["lr"] * RMS * max(shape) ** 0.5
            for (p, _), update in zip(pairs, updates):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(update.view_as(p), alpha=rate)


def orthogonalise(matrices: Tensor) -> Tensor:
    """(n, a, b): the same with singular values of 0.9 to 1.15, but for those that are near zero."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for a, b, c in ITERATIONS:
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x if wide else x.mT


def is_hidden(name: str, p: nn.Parameter) -> bool:
    """Whether a weight is a matrix from features to features, or a convolution between them."""
    if p.ndim == 4:
        return p.shape[1] > 3                            # not of pixels
    return p.ndim == 2 and (".blocks." in name or ".layers." in name)
