"""Which part of the picture a word, a sentence or the picture's own [CLS] looked at: Grad-CAM of attention."""
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from minalbef.albef import ALBEF
from minalbef.layers import record_weights

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
    """Per word, how much each patch raised the score: (b, 1 + n, d), (b, l, d), (b, l) -> (b, l, n), 0 where padded.

    score: `match_score(model)` when not given. For `word_score`, text_tokens come from the text with the word masked
    layers: which of fusion's layers; their maps are summed. The last layer's words other than [CLS] cannot reach
        `match_score`, so their map is 0 there; the original takes the third of six alone

    A map is the attention's weight times its gradient where that is positive, mean over heads; the picture's own [CLS]
    is no place and is left out. Weights and gradients of the model stay as they are.
    """
    with torch.enable_grad(), record_weights(model.fusion, "cross") as weights:
        # a model whose weights want no gradient still has to give one for its attention
        fused = model.fuse(text_tokens.detach().requires_grad_(), keep, image_tokens.detach())
        found = layer_map((score or match_score(model))(fused), weights, layers)                  # (b, l, n or 1 + n)
    return found[:, :, 1 - image_tokens.shape[1]:] * keep[:, :, None]


def pair_relevance(model: ALBEF, image_tokens: tuple[Tensor, Tensor], text_tokens: Tensor, keep: Tensor, score: Score,
                   layers: slice | int = slice(None)) -> tuple[Tensor, Tensor]:
    """`relevance` for NLVR2's fusion, which reads two pictures: a map of each. layers: of its pairs of layers."""
    rows = torch.arange(2 * len(keep)).unflatten(0, (2, -1)).T
    with torch.enable_grad(), record_weights(model.fusion, "cross") as weights:
        fused = model.fuse(text_tokens.detach().requires_grad_(), keep, (torch.cat(image_tokens).detach(), rows))
        scores = score(fused)
        maps = [layer_map(scores, weights[i::2], layers) for i in (0, 1)]        # the layers of a pair look in turn
    first, second = (found[:, :, 1 - image_tokens[0].shape[1]:] * keep[:, :, None] for found in maps)
    return first, second


def image_relevance(model: ALBEF, image: Tensor, tokens: Tensor, keep: Tensor, block: int) -> Tensor:
    """How much each patch raised ITC's similarity of image and text: (b, 3, s, s), (b, l), (b, l) -> (b, n).

    block: which of the image encoder's; the map is that of its [CLS], which alone enters the similarity. Unlike
    `relevance` it needs no fusion, and cannot tell words apart.
    """
    with torch.enable_grad(), record_weights(model.image_encoder) as weights:
        image_feature = model.image_feature(model.encode_image(image.detach().requires_grad_()))
        similarity = (image_feature * model.text_feature(model.encode_text(tokens, keep), keep)).sum(1)
        return layer_map(similarity / model.temperature, weights, block)[:, 0, 1:]


def layer_map(score: Tensor, weights: list[Tensor], layers: slice | int) -> Tensor:
    """`cam` of each of these layers' attention, summed: (b,), (b, h, q, k) each -> (b, q, k)."""
    some = [weights[layers]] if isinstance(layers, int) else weights[layers]
    gradients = torch.autograd.grad(score.sum(), some, retain_graph=True)
    return reduce(torch.add, (cam(one.detach(), gradient) for one, gradient in zip(some, gradients)))


def cam(weights: Tensor, gradients: Tensor) -> Tensor:
    """Attention that raised the score, mean over heads: (b, h, q, k) twice -> (b, q, k)."""
    return (weights * gradients.clamp(min=0)).mean(1)


def text_map(maps: Tensor, counted: Tensor) -> Tensor:
    """One map for a text, the mean of its words' by `relevance`: (b, l, n), (b, l) bool, such as keep -> (b, n).

    The original counts padding, too: the scale of its maps then depends on the other texts of the batch
    """
    return (maps * counted[:, :, None]).sum(1) / counted.sum(1, keepdim=True).clamp(min=1)
