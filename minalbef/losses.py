"""The three objectives and their soft targets: tensors in, tensors out (sections 3.2 and 3.3)."""
import torch
import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy to a distribution: (b, k) and (b, k) -> (b,)."""
    return -(target * F.log_softmax(logits, -1)).sum(-1)


def distilled_cross_entropy(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None,
                            alpha: float = 0.0) -> Tensor:
    """Cross-entropy to labels, mixed with that to the teacher's opinion (eq. 7).

    logits (b, k), labels (b,), teacher_logits (b, k)  -> (b,)
    """
    loss = F.cross_entropy(logits, labels, reduction="none")
    if alpha and teacher_logits is not None:
        loss = (1 - alpha) * loss + alpha * soft_cross_entropy(logits, teacher_logits.softmax(-1))
    return loss


def itc_targets(positive: Tensor, teacher_sim: Tensor, alpha: float) -> Tensor:
    """What each query should pick: its positives, evenly, mixed with the teacher's opinion (eq. 6).

    positive: (b, k) bool; teacher_sim: (b, k), over temperature; alpha: trust in the teacher
    -> (b, k), rows sum to 1
    """
    own = positive / positive.sum(-1, keepdim=True)
    return alpha * teacher_sim.softmax(-1) + (1 - alpha) * own if alpha else own


def itc_loss(sim: Tensor, teacher_sim: Tensor, alpha: float, positive: Tensor | None = None
             ) -> Tensor:
    """Contrast each query with its own key and with all the others (eq. 1 and 2; 6 with a teacher).

    sim, teacher_sim: (b, k), already over temperature; key i < b is query i's own
    alpha: how far to trust the teacher, from 0 (positives alone) to 1
    positive: (b, k) bool, where a query has more keys than its own; the original knows only its own
    -> scalar
    """
    if positive is None:
        positive = torch.eye(*sim.shape, dtype=torch.bool, device=sim.device)
    return soft_cross_entropy(sim, itc_targets(positive, teacher_sim, alpha)).mean()


def hard_negatives(sim: Tensor, own: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one wrong key a query, by similarity (section 3.2, contrastive hard negatives).

    sim: (b, k), over temperature; own: (b, k) bool, keys that must not be drawn
    uniform: (b, k) in (0, 1)
    -> index (b,), and valid (b,) bool: False where every key is the query's own, and nothing can be
        drawn

    The sampler is Gumbel's: argmax(log p - log(-log u)) is a draw from p, and needs no softmax. The
    original zeroes its own key after the softmax; a confident row then leaves nothing to draw from,
    and training stops.
    """
    logits = sim.float().masked_fill(own, -torch.inf)
    return (logits - torch.log(-torch.log(uniform))).argmax(-1), ~own.all(-1)


def itm_loss(logits: Tensor, labels: Tensor, valid: Tensor, count: Tensor | float) -> Tensor:
    """Match or not (section 3.2): logits (r, 2), labels (r,), valid (r,).

    count: the number of valid rows of all processes, over the number of processes
    -> the sum over valid rows, over count
    """
    return (F.cross_entropy(logits, labels, reduction="none") * valid).sum() / count


def mlm_loss(logits: Tensor, labels: Tensor, count: Tensor | float,
             teacher_logits: Tensor | None = None, alpha: float = 0.0) -> Tensor:
    """Which word was masked (eq. 3; 7 with a teacher): logits (m, v), labels (m,).

    count: the number of masked words of all processes, over the number of processes
    -> the sum over words, over count; 0 where nothing is masked: the original gives NaN
    """
    loss = distilled_cross_entropy(logits, labels, teacher_logits, alpha).sum()
    count = torch.as_tensor(count)
    return loss / count.where(count > 0, 1)      # it may lie between 0 and 1
