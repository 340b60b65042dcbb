"""Grad-CAM of attention: which patches raised the score of a word, a text or an image."""
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from minalbef.albef import ALBEF
from minalbef.layers import record_weights

Score = Callable[[Tensor], Tensor]    # fused (b, l, d) -> (b,), the score to explain


def match_score(model: ALBEF) -> Score:
    """The score of "the text matches the image": ITM's logit for yes."""
    return lambda fused: model.match_logits(fused)[:, 1]


def word_score(model: ALBEF, tokens: Tensor, hidden: Tensor) -> Score:
    """The score of masked words: the summed logits of their true pieces.

    tokens: (b, l) before masking; hidden: (b, l) bool, the masked ones
    """
    def score(fused: Tensor) -> Tensor:
        rows, positions = hidden.nonzero(as_tuple=True)
        logits = model.word_logits(fused[rows, positions])                   # (m, v)
        true = logits.gather(1, tokens[hidden][:, None])[:, 0]               # (m,)
        return true.new_zeros(len(tokens)).index_add(0, rows, true)
    return score


def relevance(model: ALBEF, image_tokens: Tensor, text_tokens: Tensor, keep: Tensor,
              score: Score | None = None, layers: slice | int = slice(None)) -> Tensor:
    """How much each patch raised the score, per word.

    image_tokens (b, 1 + n, d), text_tokens (b, l, d), keep (b, l) -> (b, l, n)
    score: by default `match_score(model)`. For `word_score`, encode the text with the word masked
    layers: fusion layers, whose maps are summed; the original takes the third of six alone. In the
        last layer only [CLS] reaches `match_score`, so the maps of all other words are 0

    A map is attention times its positive gradient, averaged over heads. It leaves out the image's
    [CLS], which has no place in the image, and is 0 at padding. Weights and gradients of the model
    don't change.
    """
    score = score or match_score(model)
    with torch.enable_grad(), record_weights(model.fusion, "cross") as weights:
        # requires_grad_: attention needs a gradient even if the model's weights don't
        fused = model.fuse(text_tokens.detach().requires_grad_(), keep, image_tokens.detach())
        maps = layer_map(score(fused), weights, layers)                      # (b, l, n or 1 + n)
    patches = image_tokens.shape[1] - 1
    return maps[:, :, -patches:] * keep[:, :, None]


def pair_relevance(model: ALBEF, image_tokens: tuple[Tensor, Tensor], text_tokens: Tensor,
                   keep: Tensor, score: Score,
                   layers: slice | int = slice(None)) -> tuple[Tensor, Tensor]:
    """`relevance` for NLVR2's fusion, which reads two images: -> a map for each.

    layers: of the pairs of fusion layers
    """
    both = torch.cat(image_tokens).detach()                                  # (2 b, 1 + n, d)
    rows = torch.arange(2 * len(keep)).unflatten(0, (2, -1)).T               # (b, 2)
    with torch.enable_grad(), record_weights(model.fusion, "cross") as weights:
        scores = score(model.fuse(text_tokens.detach().requires_grad_(), keep, (both, rows)))
        first = layer_map(scores, weights[0::2], layers)         # a pair's layers take turns
        second = layer_map(scores, weights[1::2], layers)
    patches = both.shape[1] - 1
    mask = keep[:, :, None]
    return first[:, :, -patches:] * mask, second[:, :, -patches:] * mask


def image_relevance(model: ALBEF, image: Tensor, tokens: Tensor, keep: Tensor,
                    block: int) -> Tensor:
    """How much each patch raised ITC's similarity: (b, 3, s, s), (b, l), (b, l) -> (b, n).

    block: of the image encoder; the map is of its [CLS], since the similarity reads nothing else.
    Unlike `relevance` it needs no fusion, and has no map per word.
    """
    with torch.enable_grad(), record_weights(model.image_encoder) as weights:
        image_feature = model.image_feature(model.encode_image(image.detach().requires_grad_()))
        text_feature = model.text_feature(model.encode_text(tokens, keep), keep)
        similarity = (image_feature * text_feature).sum(1) / model.mean_temperature
        return layer_map(similarity, weights, block)[:, 0, 1:]


def layer_map(score: Tensor, weights: list[Tensor], layers: slice | int) -> Tensor:
    """`cam` summed over layers: (b,), a (b, h, q, k) for each layer -> (b, q, k)."""
    attention = [weights[layers]] if isinstance(layers, int) else weights[layers]
    gradients = torch.autograd.grad(score.sum(), attention, retain_graph=True)
    maps = [cam(layer.detach(), gradient) for layer, gradient in zip(attention, gradients)]
    return reduce(torch.add, maps)


def cam(weights: Tensor, gradients: Tensor) -> Tensor:
    """Attention that raised the score, averaged over heads: (b, h, q, k) twice -> (b, q, k)."""
    return (weights * gradients.clamp(min=0)).mean(1)


def text_map(maps: Tensor, counted: Tensor) -> Tensor:
    """The map of a text, the mean of its words' by `relevance`: (b, l, n), (b, l) -> (b, n).

    counted: bool, the words to average, such as keep. The original counts padding, too: the scale
        of its maps then depends on the other texts of the batch
    """
    return (maps * counted[:, :, None]).sum(1) / counted.sum(1, keepdim=True).clamp(min=1)
