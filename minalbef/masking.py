"""Which words to mask, and what to put in their place: BERT's 80/10/10 (section 3.2)."""
import torch
from torch import Tensor


def mask_words(tokens: Tensor, special: tuple[int, ...], mask_id: int, rate: float | Tensor,
               choose: Tensor, kind: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Mask a share of the words: 80% become [MASK], 10% another word, 10% stay as they are.

    tokens: (b, l); special: ids that are never masked; rate: the share, or (b, l) shares
    choose, kind: (b, l) uniforms; words: (b, l) ids to put in
    -> masked (b, l), and chosen (b, l) bool: where a word is to be predicted
    """
    chosen = (choose < rate) & ~torch.isin(tokens, torch.tensor(special, device=tokens.device))
    masked = torch.where(chosen & (kind < 0.8), mask_id, tokens)
    return torch.where(chosen & (kind >= 0.8) & (kind < 0.9), words, masked), chosen


def mask_rates(tokens: Tensor, keep: Tensor, vocab_size: int, rate: float, power: float,
               usual: float = 0.01) -> Tensor:
    """The rate for every word, lower for the frequent ones, which teach little: -> (v,)

    tokens, keep: (b, l) of captions to count. A word that makes up more than `usual` of them is
    masked (usual / its share) ** power as often; with power 0 all alike, as in the paper.
    """
    share = torch.bincount(tokens[:, 1:][keep[:, 1:]], minlength=vocab_size) / keep[:, 1:].sum()
    return rate * (usual / share.clamp(min=usual)) ** power
