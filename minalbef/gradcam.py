"""Which part of the picture a word looked at: Grad-CAM of the cross-attention."""
from collections.abc import Callable

import torch
from torch import Tensor

from minalbef.albef import ALBEF

Score = Callable[[Tensor], Tensor]    # fused (b, l, d) -> (b,), what the map is to explain


def match_score(model: ALBEF) -> Score:
    """Explain "the text belongs to the picture": ITM's logit for yes."""
    return lambda fused: model.match_logits(fused)[:, 1]


def word_score(model: ALBEF, tokens: Tensor, hidden: Tensor) -> Score:
    """Explain a masked word: the logit of each true piece, summed. tokens: (b, l) unmasked; hidden: (b, l) bool."""
    def score(fused: Tensor) -> Tensor:
        rows, places = hidden.nonzero(as_tuple=True)
        logits = model.word_logits(fused[rows, places])                          # (m, v)
        true = logits.gather(1, tokens[hidden][:, None])[:, 0]
        return true.new_zeros(len(tokens)).index_add(0, rows, true)
    return score


def relevance(model: ALBEF, image_tokens: Tensor, text_tokens: Tensor, keep: Tensor, score: Score | None = None,
              layers: slice | int = slice(None)) -> Tensor:
    """Per word, how much each patch spoke for the score: (b, 1 + n, d), (b, l, d), (b, l) -> (b, l, n), 0 where padded.

    score: `match_score(model)` when not given. For `word_score`, text_tokens come from the text with the word masked
    layers: which of fusion's layers; their maps are summed. The last layer's words other than [CLS] cannot reach
        `match_score`, so their map is 0 there, and of one layer alone the original takes the third of six

    A map is the attention's weight times its gradient where that is positive, mean over heads; the picture's own [CLS]
    is no place and is left out. Weights and gradients of the model stay as they are.
    """
    with torch.enable_grad():
        # a model whose weights want no gradient still has to give one for its attention
        text_tokens = text_tokens.detach().requires_grad_()
        fused, weights = model.fuse(text_tokens, keep, image_tokens.detach(), return_weights=True)
        weights = [weights[layers]] if isinstance(layers, int) else weights[layers]
        gradients = torch.autograd.grad((score or match_score(model))(fused).sum(), weights)
    maps = sum((w.detach() * g.clamp(min=0)).mean(1) for w, g in zip(weights, gradients))       # (b, l, 1 + n)
    return maps[:, :, 1 - image_tokens.shape[1]:] * keep[:, :, None]
