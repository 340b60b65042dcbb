"""What the captioners share: the mask, the loss and the likelihood of a caption, word after word.

A captioner is a model with `next_word_logits(tokens, keep, image_tokens)`: (b, l), (b, l) and
(b, 1 + n, i) -> (b, l, v), at each word the logits of the word that follows it.
"""
import torch
import torch.nn.functional as F
from torch import Tensor


def causal(keep: Tensor) -> Tensor:
    """Which words each word may see, itself and those before it: (b, l) -> (b, l, l)."""
    length = keep.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=keep.device).tril()
    return keep[:, None] & before


def add_end(tokens: Tensor, keep: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """Texts that end with a token, such as [SEP]: (b, l) and (b, l) -> (b, l + 1) each."""
    rows = torch.arange(len(tokens), device=tokens.device)
    last = keep.sum(1)
    tokens, keep = F.pad(tokens, (0, 1)), F.pad(keep, (0, 1))
    tokens[rows, last] = end
    keep[rows, last] = True
    return tokens, keep


def caption_loss(logits: Tensor, tokens: Tensor, keep: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each word but the first, [CLS]: the mean over words.

    logits (b, l, v), of `next_word_logits`; smoothing: of labels, as BLIP's
    """
    words = keep[:, 1:]
    return F.cross_entropy(logits[:, :-1][words], tokens[:, 1:][words], label_smoothing=smoothing)


def log_likelihood(logits: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
    """The log-probability of each caption, the sum over its words: -> (b,)."""
    log_probabilities = logits[:, :-1].log_softmax(-1)
    words = log_probabilities.gather(-1, tokens[:, 1:, None])[..., 0]       # (b, l - 1)
    return (words * keep[:, 1:]).sum(1)
