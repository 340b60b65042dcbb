"""The seams: all that the tests of your package call. Built otherwise? Change a seam's body,
not its signature.

Weights come by the package's names of parameters: {"q.weight": ..., "q.bias": ...}, and
gradients must reach them. `dropout` counts in training alone. b batch, n tokens, k keys, l
words, d width (They are modelled on the adapters of Stanford's CS336:
https://github.com/stanford-cs336/assignment1-basics)
"""
from torch import Tensor, nn

from minalbef import ema, losses, masking
from minalbef.config import Config
from minalbef.feature_queue import FeatureQueue
from minalbef.fusion import FusionLayer
from minalbef.layers import Attention, record_weights
from minalbef.text import TextLayer
from minalbef.vision import Block, ViT

Weights = dict[str, Tensor]


def run_attention(weights: Weights, x: Tensor, source: Tensor | None,
                  keep: Tensor | None, heads: int, dropout: float = 0.0,
                  training: bool = False) -> tuple[Tensor, Tensor]:
    """What x (b, n, d) takes from source (b, k, s), or itself -> (b, n, d), weights
    (b, h, n, k) before dropout.

    keep: (b, k) or (b, n, k) bool, True = visible
    """
    source_width = None if source is None else source.shape[-1]
    attend = _filled(Attention(x.shape[-1], heads, source_width, dropout), weights,
                     training)
    with record_weights(attend) as recorded:
        attend(x, source, keep)
    return attend(x, source, keep), recorded[0]


def run_block(weights: Weights, x: Tensor, heads: int) -> Tensor:
    """A pre-norm block of the image encoder: (b, n, d) -> (b, n, d)."""
    return _filled(Block(x.shape[-1], heads, len(weights["mlp.fc1.bias"])), weights)(x)


def run_vit(weights: Weights, config: Config, image: Tensor) -> Tensor:
    """The image encoder: (b, 3, s, s) -> (b, 1 + n, d), [CLS] first."""
    return _filled(ViT(config), weights)(image)


def run_text_layer(weights: Weights, x: Tensor, keep: Tensor, heads: int,
                   dropout: float = 0.0, training: bool = False) -> Tensor:
    """A post-norm layer: (b, l, d), keep (b, l) bool -> (b, l, d)."""
    wide = len(weights["mlp.fc1.bias"])
    layer = _filled(TextLayer(x.shape[-1], heads, wide, dropout), weights, training)
    return layer(x, keep)


def run_fusion_layer(weights: Weights, x: Tensor, keep: Tensor, image_tokens: Tensor,
                     heads: int, queries: int | None = None,
                     image_keep: Tensor | None = None, dropout: float = 0.0,
                     training: bool = False) -> Tensor:
    """Words attend to words, then to the image: (b, l, d), keep (b, l) bool, (b, k, i) ->
    (b, queries or l, d).

    queries: only the first so many words ask; image_keep: (b, k) bool, which of the image's
    tokens may be seen
    """
    wide = len(weights["mlp.fc1.bias"])
    layer = _filled(FusionLayer(x.shape[-1], heads, wide, image_tokens.shape[-1],
                                dropout), weights, training)
    keys_values = layer.cross.k(image_tokens), layer.cross.v(image_tokens)
    return layer(x, keep, keys_values, image_keep, queries=queries)


def run_itc_loss(sim: Tensor, teacher_sim: Tensor, alpha: float,
                 positive: Tensor | None = None) -> Tensor:
    """Queries against keys, (b, k) over temperature, with the teacher's opinion; `positive`:
    (b, k) bool -> scalar."""
    return losses.itc_loss(sim, teacher_sim, alpha, positive)


def run_hard_negatives(sim: Tensor, positive: Tensor,
                       uniform: Tensor) -> tuple[Tensor, Tensor]:
    """A wrong key drawn for each query, by softmax(sim): all (b, k) -> index (b,), valid
    (b,). Use `uniform` or not."""
    return losses.hard_negatives(sim, positive, uniform)


def run_itm_loss(logits: Tensor, labels: Tensor, valid: Tensor, count: float) -> Tensor:
    """Match or not: (r, 2), (r,), (r,) bool -> the sum over valid rows, over count."""
    return losses.itm_loss(logits, labels, valid, count)


def run_mlm_loss(logits: Tensor, labels: Tensor, count: Tensor | float,
                 teacher_logits: Tensor | None, alpha: float) -> Tensor:
    """Hidden words: (m, v), (m,) -> the sum over words, over count; 0 where nothing is hidden."""
    return losses.mlm_loss(logits, labels, count, teacher_logits, alpha)


def run_mask_words(tokens: Tensor, special: tuple[int, ...], mask_id: int,
                   rate: float | Tensor, choose: Tensor, kind: Tensor,
                   words: Tensor) -> tuple[Tensor, Tensor]:
    """80/10/10: (b, l) ids, uniforms `choose` and `kind`, `words` to put in -> masked (b, l),
    chosen (b, l) bool."""
    return masking.mask_words(tokens, special, mask_id, rate, choose, kind, words)


def run_make_teacher(student: nn.Module) -> nn.Module:
    """A copy of the student that no gradient reaches, in evaluation."""
    return ema.make_teacher(student)


def run_update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's parameters, in place."""
    ema.update_teacher(teacher, student, momentum)


def run_queue(size: int, pushes: list[tuple[Tensor, Tensor, Tensor]]
              ) -> tuple[Tensor, Tensor, Tensor]:
    """Push image (b, e), text (b, e), ids (b,), batch after batch -> what stays: (k, e),
    (k, e), (k,), in any order."""
    queue = FeatureQueue(size, pushes[0][0].shape[1])
    for image, text, ids in pushes:
        queue.push(image, text, ids)
    return queue.features()


def _filled(module: nn.Module, weights: Weights, training: bool = False) -> nn.Module:
    """A module with the weights given in the place of its parameters: a copy of them would
    cut gradients off."""
    if weights.keys() != module.state_dict().keys():
        raise ValueError(f"weights are {sorted(weights)}; the module has "
                         f"{sorted(module.state_dict())}")
    for name, weight in weights.items():
        owner = module.get_submodule(name.rpartition(".")[0])
        last = name.rpartition(".")[2]
        delattr(owner, last)
        setattr(owner, last, weight)
    return module.train(training)
