"""What your package must do. A seam gives all of its points or none, and a failure names the
property that is broken.

`pytest test_mine.py` counts your points; MINE_SEED=7 draws other inputs. Who grades you draws
his own, and tests more. PYTEST_DONT_REWRITE: the numbers would tell the answer, not the
mistake.
"""
import dis
import functools
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minalbef.config import Config

# the picture's tokens are of another width than the words
HEADS = 3
WIDTH = 12
IMAGE = 8


def points(n: int) -> Callable[[Callable], Callable]:
    """What a seam gives."""
    def give(test: Callable) -> Callable:
        @functools.wraps(test)
        def in_words(adapters: ModuleType, g: Generator) -> None:
            try:
                test(adapters, g)
            except (AssertionError, NotImplementedError, ImportError):
                raise
            except Exception as problem:
                # students hear the property, not an error of torch
                says = _checked(problem.__traceback__, test)
                why = type(problem).__name__
                if isinstance(problem, NameError):               # a file that is no Python
                    why = f"{why}: {problem}"
                raise AssertionError(f"{says} (this stops with {why})") from problem
        in_words.points = n
        return in_words
    return give


def _checked(trace: TracebackType | None, test: Callable) -> str:
    """The message of the check at which a test stopped: the sentence in that call, or the
    next one in the code."""
    while trace and trace.tb_frame.f_code is not test.__code__:
        trace = trace.tb_next
    otherwise = "every input that the docstring allows must give a result"
    if not trace:
        return otherwise
    steps = list(dis.get_instructions(test))
    here = [step.positions for step in steps if step.offset <= trace.tb_lasti][-1]
    inside = []
    after = []
    for step in steps:
        if not isinstance(step.argval, str) or len(step.argval) <= 20:
            continue
        if here.lineno <= step.positions.lineno <= here.end_lineno:
            inside.append(step.argval)
        if step.offset > trace.tb_lasti:
            after.append(step.argval)
    return [*inside[-1:], *after, otherwise][0]


def equal(got: Tensor, want: Tensor | float, says: str, tol: float = 1e-4) -> None:
    got = torch.as_tensor(got)
    want = torch.as_tensor(want)
    assert got.shape == want.shape and torch.allclose(
        got.double(), want.double(), rtol=tol, atol=tol), says


def same(answer: Callable[..., Tensor], formula: Callable[..., Tensor], *args: Any,
         says: str, tol: float = 1e-4) -> None:
    """Values, and gradients of all that is given: tensors, and weights by name."""
    results = []
    for call in (answer, formula):
        inputs = [{name: x.clone().requires_grad_() for name, x in part.items()}
                  if isinstance(part, dict) else part.clone().requires_grad_()
                  for part in args]
        leaves = [leaf for part in inputs
                  for leaf in (part.values() if isinstance(part, dict) else [part])]
        out = call(*inputs)
        mix = torch.cos(torch.arange(out.numel()).double()).view_as(out)
        slopes = (torch.autograd.grad((out * mix).sum(), leaves, allow_unused=True)
                  if out.requires_grad else leaves)
        results.append((out,
                        [0 * leaf if slope is None else slope
                         for slope, leaf in zip(slopes, leaves)]))
    (got, slopes), (want, wants) = results
    equal(got, want, says, tol)
    for slope, want_slope in zip(slopes, wants):
        size = max(1, want_slope.abs().max().item())
        equal(slope / size, want_slope / size,
              f"{says}, in the gradients of inputs and weights too", tol)


def careful(answer: Callable, *args: Any) -> Any:
    """Call an answer: it must overwrite nothing, and set no seed."""
    def state(part: Any) -> Any:
        if isinstance(part, nn.Module):
            return [p.training for p in part.modules()], [
                p.requires_grad for p in part.parameters()]
        if isinstance(part, (tuple, list, dict)):
            return [state(item)
                    for item in (part.values() if isinstance(part, dict) else part)]
        return (part.tolist(), part.requires_grad) if isinstance(part, Tensor) else None

    before = state(args)
    chance = torch.get_rng_state()
    seed = 2 ** 40 + 7
    # one that no answer sets
    torch.manual_seed(seed)
    out = answer(*args)
    seeded = torch.initial_seed() != seed
    torch.set_rng_state(chance)
    assert state(args) == before, (
        "what the caller gave stays as it was: values, whether they "
        "learn, modules' modes")
    assert not seeded, "no seed is set: that of a program is its caller's"
    return out


def weights_of(g: Generator, *parts: str, source: int = WIDTH) -> dict[str, Tensor]:
    """Random weights for parts by name, attentions, MLPs and norms; `source`: the width that
    keys and values read."""
    weights = {}
    for part in parts:
        shapes = {"q": (WIDTH, WIDTH),
                  "k": (WIDTH, source),
                  "v": (WIDTH, source),
                  "proj": (WIDTH, WIDTH)}
        if "mlp" in part:
            shapes = {"fc1": (20, WIDTH), "fc2": (WIDTH, 20)}
        elif "norm" in part:
            shapes = {"": (WIDTH,)}
        for name, shape in shapes.items():
            weight = torch.randn(shape, generator=g)
            bias = torch.randn(shape[0], generator=g)
            weights[f"{part}.{name}.weight".replace("..", ".")] = (
                1 + 0.5 * weight if "norm" in part else 0.5 * weight)
            weights[f"{part}.{name}.bias".replace("..", ".")] = 0.5 * bias
    return weights


def only(weights: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The weights of one part, by the names they have in it."""
    return {name.removeprefix(f"{part}."): x
            for name, x in weights.items() if name.startswith(f"{part}.")}


def words_and_picture(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    return (torch.randn(3, 5, WIDTH, generator=g),
            torch.arange(5) < torch.tensor([[3], [5], [1]]),
            torch.randn(3, 4, IMAGE, generator=g))


@points(6)
def test_attention(adapters: ModuleType, g: Generator) -> None:
    x = torch.randn(2, 4, WIDTH, generator=g)
    source = torch.randn(2, 5, IMAGE, generator=g)
    keep = torch.arange(5) < torch.tensor([[3], [5]])
    w = only(weights_of(g, "cross", source=IMAGE), "cross")
    y, weights = adapters.run_attention(w, x, source, keep, HEADS)
    assert y.shape == x.shape and weights.shape == (2, HEADS, 4, 5), (
        "a row for each query; weights by head, query and key")
    equal(weights.sum(-1), torch.ones(2, HEADS, 4),
          "a query's weights sum to one, over its keys")
    equal(weights.amax((1, 2)) > 0, keep,
          "padding has no weight, and all else has some")
    noise = torch.where(keep[..., None], 0, torch.randn(source.shape, generator=g))
    equal(adapters.run_attention(w, x, source + noise, keep, HEADS)[0], y,
          "what stands in the padding changes nothing")
    equal(adapters.run_attention(w, x[:, :1], source, keep, HEADS)[0], y[:, :1],
          "a query does not depend on the other queries")
    alone = only(weights_of(g, "attn"), "attn")
    equal(adapters.run_attention(alone, x, None, keep[:, 1:], HEADS)[0],
          adapters.run_attention(alone, x, x, keep[:, 1:], HEADS)[0],
          "without a source the queries attend to themselves")
    equal(adapters.run_attention(alone, x, None, None, HEADS)[0],
          adapters.run_attention(alone, x, None, torch.ones(2, 4) > 0, HEADS)[0],
          "without a mask all keys are seen")
    # a mask for each query
    per_query = torch.rand(2, 4, 5, generator=g) < 0.6
    per_query[:, :, 0] = True
    equal(adapters.run_attention(w, x, source, per_query, HEADS)[1].amax(1) > 0,
          per_query, "a mask may differ from query to query")
    dropped = adapters.run_attention(w, x, source, keep, HEADS, 1.0, True)[0]
    equal(dropped, w["proj.bias"].expand(2, 4, -1),
          "in training, with a dropout of one, all weights are dropped")
    equal(adapters.run_attention(w, x, source, keep, HEADS, 0.9)[0], y,
          "out of training nothing is dropped")
    silent = {name: 0 * v if name.startswith("v.") else v for name, v in w.items()}
    equal(adapters.run_attention(silent, x, source, keep, HEADS)[0],
          w["proj.bias"].expand(2, 4, -1),
          "where all values are zero the projection's bias is all that comes out")
    ### BEGIN HIDDEN TESTS
    careful(adapters.run_attention, w, x, source, keep, HEADS)
    same(lambda w, x, s: adapters.run_attention(w, x, s, keep, HEADS)[1],
         lambda w, x, s: torchs_attention(w, x, s, ~keep)[1], w, x, source,
         says="scores are divided by the root of a head's width; heads are "
              "neighbouring columns")
    same(lambda w, x, s: adapters.run_attention(w, x, s, keep, HEADS)[0],
         lambda w, x, s: torchs_attention(w, x, s, ~keep)[0], w, x, source,
         says="each head takes the mean of its own values by its weights, and the "
              "heads lie side by side")
    same(lambda w, x, s: adapters.run_attention(w, x, s, per_query, HEADS)[0],
         lambda w, x, s: torchs_attention(w, x, s, ~per_query)[0], w, x, source,
         says="with a mask for each query, each takes from what it may see")
    x = x[:1].repeat(3, 1, 1)
    source = source[1:].repeat(3, 1, 1)
    keep = torch.arange(5) < torch.tensor([[4], [2], [5]])
    same(lambda w, x, s: adapters.run_attention(w, x, s, keep, 2)[0],
         lambda w, x, s: torchs_attention(w, x, s, ~keep, 2)[0], w, x, source,
         says="any number of rows and of heads fits, and each row has its own mask")
    sharp = w | {name: 6 * w[name] for name in ("q.weight", "k.weight")}
    for part in (0, 1):
        same(lambda w, x, s: adapters.run_attention(w, x, s, keep, HEADS)[part],
             lambda w, x, s: torchs_attention(w, x, s, ~keep)[part], sharp, x, source,
             tol=1e-3,
             says="scores may be of any size: an exponential must not overflow, and "
                  "none may be cut")
    # all keys that may be seen are alike
    constant = torch.where(keep[..., None], 1e4, -1e4) * source[:1, :1]
    even = w | {"k.weight": 0 * w["k.weight"]}
    for part, says in ((0, "padding is not taken from"), (1, "padding has no weight")):
        equal(adapters.run_attention(w, x, constant, keep, HEADS)[part] / 1e4,
              adapters.run_attention(even, x, constant, keep, HEADS)[part] / 1e4,
              f"{says} at all, however high its score would be, and however low those "
              "of the others")
    ### END HIDDEN TESTS


@points(4)
def test_block(adapters: ModuleType, g: Generator) -> None:
    x = torch.randn(2, 5, WIDTH, generator=g)
    w = weights_of(g, "norm1", "attn", "norm2", "mlp")
    quiet = {name: v if "norm" in name else 0 * v for name, v in w.items()}
    equal(adapters.run_block(quiet, x, HEADS), x,
          "attention and MLP add to what they read, so silent ones change nothing")
    loud = {name: 0 * v if "attn" in name else v for name, v in w.items()}
    equal(adapters.run_block(loud, 2 * x, HEADS) - 2 * x,
          adapters.run_block(loud, x, HEADS) - x, "the MLP reads what is normed", 1e-3)
    ### BEGIN HIDDEN TESTS
    careful(adapters.run_block, w, x, HEADS)
    same(lambda w, x: adapters.run_block(w, x, HEADS),
         lambda w, x: torchs_layer(w, x, True, 1e-6), w, x,
         says="norm, attention, sum; then the other norm, the MLP, sum")
    equal(adapters.run_block(w, x / 1000, HEADS), torchs_layer(w, x / 1000, True, 1e-6),
          "faint input shows the norm's epsilon")
    x = torch.randn(3, 2, WIDTH, generator=g)
    equal(adapters.run_block(w, x, 2), torchs_layer(w, x, True, 1e-6, heads=2),
          "any number of rows, tokens and heads fits")
    ### END HIDDEN TESTS


@points(5)
def test_vit(adapters: ModuleType, g: Generator) -> None:
    config = Config(image_size=12, patch_size=4, image_width=WIDTH, image_depth=2,
                    image_heads=HEADS, image_mlp_ratio=20 / 12)
    blocks = [f"blocks.{i}.{part}" for i in range(2)
              for part in ("norm1", "attn", "norm2", "mlp")]
    more = {"cls_token": (1, 1, WIDTH),
            "pos_embed": (1, 10, WIDTH),
            "patch_embed.proj.weight": (WIDTH, 3, 4, 4),
            "patch_embed.proj.bias": (WIDTH,)}
    w = weights_of(g, *blocks, "norm") | {name: torch.randn(shape, generator=g)
                                          for name, shape in more.items()}
    image = torch.randn(2, 3, 12, 12, generator=g)
    quiet = {name: 0 * v if name.startswith("blocks") and "norm" not in name else v
             for name, v in w.items()}
    still = adapters.run_vit(quiet, config, image)
    changed = image.clone()
    # the second patch of the upper row
    changed[:, :, :4, 4:8] += 1
    assert still.shape == (2, 10, WIDTH), "a token for each patch, and one more"
    moved = (adapters.run_vit(quiet, config, changed) - still).abs().amax((0, 2)) > 1e-3
    assert moved.tolist() == [i == 2 for i in range(10)], (
        "[CLS] comes first, then the patches row by row, each for itself")
    first = F.layer_norm(w["cls_token"] + w["pos_embed"][:, :1], (WIDTH,),
                         w["norm.weight"], w["norm.bias"])
    equal(still[:, 0], first[0].expand(2, -1),
          "[CLS] has a place of its own, added once, and a norm comes last", 1e-3)
    ### BEGIN HIDDEN TESTS
    def formula(w: dict[str, Tensor], image: Tensor) -> Tensor:
        weight = w["patch_embed.proj.weight"]
        bias = w["patch_embed.proj.bias"]
        patches = (F.unfold(image, weight.shape[-1], stride=weight.shape[-1]).mT
                   @ weight.flatten(1).T + bias)
        x = torch.cat([w["cls_token"].expand(len(image), 1, -1), patches], 1) + w[
            "pos_embed"]
        for i in range(sum(name.endswith("norm1.bias") for name in w)):
            x = torchs_layer(only(w, f"blocks.{i}"), x, True, 1e-6)
        return F.layer_norm(x, (WIDTH,), w["norm.weight"], w["norm.bias"], 1e-6)

    careful(adapters.run_vit, w, config, image)
    same(lambda w, image: adapters.run_vit(w, config, image), formula, w, image,
         says="every patch has its place, every block its turn")
    config = Config(image_size=8, patch_size=2, image_width=WIDTH, image_depth=3,
                    image_heads=HEADS, image_mlp_ratio=20 / 12)
    more |= {"pos_embed": (1, 17, WIDTH), "patch_embed.proj.weight": (WIDTH, 3, 2, 2)}
    w = (weights_of(g, *blocks, *(part.replace("1", "2", 1) for part in blocks[4:]),
                    "norm")
         | {part: torch.randn(shape, generator=g) for part, shape in more.items()})
    same(lambda w, image: adapters.run_vit(w, config, image), formula, w,
         torch.randn(3, 3, 8, 8, generator=g),
         says="any number of pictures, patches and blocks fits")
    ### END HIDDEN TESTS


@points(4)
def test_text_layer(adapters: ModuleType, g: Generator) -> None:
    x, keep, _ = words_and_picture(g)
    w = weights_of(g, "attn", "norm1", "mlp", "norm2")
    y = adapters.run_text_layer(w, x, keep, HEADS)
    noise = torch.where(keep[..., None], 0, torch.randn(x.shape, generator=g))
    equal(adapters.run_text_layer(w, x + noise, keep, HEADS)[keep], y[keep],
          "a word does not see padding")
    last = (y - w["norm2.bias"]) / w["norm2.weight"]
    equal(last.mean(-1), torch.zeros(3, 5), "the second norm comes last", 1e-3)
    quiet = {name: v if "norm" in name else 0 * v for name, v in w.items()}
    equal(adapters.run_text_layer(quiet, x / 1000, keep, HEADS),
          adapters.run_text_layer(quiet, x, keep, HEADS),
          "what nothing is added to is normed, and a text norm's epsilon "
          "minds no faint input", 1e-3)
    equal(adapters.run_text_layer(w, x, keep, HEADS, 0.9), y,
          "out of training nothing is dropped")
    equal(adapters.run_text_layer(w, x, keep, HEADS, 1.0, True),
          adapters.run_text_layer(quiet, x, keep, HEADS),
          "in training, with a dropout of one, attention and MLP add nothing, and "
          "what they read is kept")
    ### BEGIN HIDDEN TESTS
    careful(adapters.run_text_layer, w, x, keep, HEADS)
    same(lambda w, x: adapters.run_text_layer(w, x, keep, HEADS)[keep],
         lambda w, x: torchs_layer(w, x, False, 1e-12, ~keep)[keep], w, x,
         says="attention, sum, norm; then the MLP, sum, the other norm")
    x = torch.randn(2, 4, WIDTH, generator=g)
    keep = torch.arange(4) < torch.tensor([[4], [2]])
    equal(adapters.run_text_layer(w, x, keep, 2)[keep],
          torchs_layer(w, x, False, 1e-12, ~keep, 2)[keep],
          "any number of texts, words and heads fits")
    ### END HIDDEN TESTS


@points(5)
def test_fusion_layer(adapters: ModuleType, g: Generator) -> None:
    x, keep, image = words_and_picture(g)
    w = weights_of(g, "attn", "norm1", "norm_cross", "mlp", "norm2") | weights_of(
        g, "cross", source=IMAGE)
    y = adapters.run_fusion_layer(w, x, keep, image, HEADS)
    noise = torch.where(keep[..., None], 0, torch.randn(x.shape, generator=g))
    equal(adapters.run_fusion_layer(w, x + noise, keep, image, HEADS)[keep], y[keep],
          "a word does not see padding")
    equal(adapters.run_fusion_layer(w, x, keep, image.flip(1), HEADS), y,
          "the order of the picture's tokens means nothing here")
    assert not torch.allclose(adapters.run_fusion_layer(w, x, keep, image.flip(0),
                                                        HEADS), y), (
        "the words look at the picture")
    quiet = {name: v if "norm" in name else 0 * v for name, v in w.items()}
    equal(adapters.run_fusion_layer(quiet, x / 1000, keep, image, HEADS),
          adapters.run_fusion_layer(quiet, x, keep, image, HEADS),
          "what nothing is added to is normed, and a text norm's epsilon "
          "minds no faint input", 1e-3)
    equal(adapters.run_fusion_layer(w, x, keep, image, HEADS, queries=2), y[:, :2],
          "where only the first words ask, they read all words as before, and there "
          "is no other row")
    visible = torch.arange(4) < torch.tensor([[4], [2], [3]])
    noise = torch.where(visible[..., None], 0, torch.randn(image.shape, generator=g))
    equal(adapters.run_fusion_layer(w, x, keep, image + noise, HEADS,
                                    image_keep=visible),
          adapters.run_fusion_layer(w, x, keep, image, HEADS, image_keep=visible),
          "what of the picture may not be seen changes nothing")
    equal(adapters.run_fusion_layer(w, x, keep, image, HEADS, dropout=0.9), y,
          "out of training nothing is dropped")
    equal(adapters.run_fusion_layer(w, x, keep, image, HEADS, dropout=1.0,
                                    training=True),
          adapters.run_fusion_layer(quiet, x, keep, image, HEADS),
          "in training, with a dropout of one, nothing is added, and what is "
          "read is kept")
    ### BEGIN HIDDEN TESTS
    careful(adapters.run_fusion_layer, w, x, keep, image, HEADS, 2, visible)
    same(lambda w, x, image: adapters.run_fusion_layer(w, x, keep, image, HEADS)[keep],
         lambda w, x, image: torchs_fusion(w, x, keep, image)[keep], w, x, image,
         says="words attend to words, then to all tokens of the picture, then the MLP: "
              "each adds, and each has its own norm after the sum")
    same(lambda w, x, image: adapters.run_fusion_layer(
             w, x, keep, image, HEADS, image_keep=visible)[keep],
         lambda w, x, image: torchs_fusion(w, x, keep, image, visible)[keep], w, x,
         image, says="each text has its own picture's mask")
    x = x[[2, 0, 1, 2, 1]]
    keep = keep[[2, 0, 1, 2, 1]]
    image = image[[2, 0, 1, 2, 1]]
    equal(adapters.run_fusion_layer(w, x, keep, image, 2)[keep],
          torchs_fusion(w, x, keep, image, heads=2)[keep],
          "any number of texts and of heads fits")
    ### END HIDDEN TESTS


@points(5)
def test_itc_loss(adapters: ModuleType, g: Generator) -> None:
    sim, teacher = 2 * torch.randn(2, 3, 5, generator=g)
    first = torch.arange(3)
    equal(adapters.run_itc_loss(torch.zeros(3, 5), teacher, 0.0),
          torch.tensor(5.0).log(),
          "a uniform guess costs the log of the number of keys")
    same(lambda sim: adapters.run_itc_loss(sim, teacher, 0.0),
         lambda sim: F.cross_entropy(sim, first), sim,
         says="without a teacher each query should pick its own key")
    equal(adapters.run_itc_loss(sim + 7, teacher + 7, 0.4),
          adapters.run_itc_loss(sim, teacher, 0.4), "only differences count")
    ### BEGIN HIDDEN TESTS
    positive = torch.eye(3, 5, dtype=torch.bool) | (
        torch.arange(5) == torch.tensor([[4], [4], [9]]))
    careful(adapters.run_itc_loss, sim, teacher.requires_grad_(), 0.3, positive)
    teacher = teacher.detach()
    for sim, teacher, positive in (
        (sim, teacher, positive), (100 * sim, 100 * teacher, positive),
        (*torch.randn(2, 6, 7, generator=g), torch.rand(6, 7, generator=g) < 0.9)):
        share = positive.double() / positive.sum(1, keepdim=True)
        for alpha in (0.0, 0.3, 1.0):
            target = alpha * teacher.double().softmax(1) + (1 - alpha) * share
            same(lambda sim: adapters.run_itc_loss(sim, teacher, alpha, positive),
                 lambda sim: F.cross_entropy(sim.double(), target), sim,
                 says="positives share the target evenly, alpha is the teacher's part "
                      "of it, and a confident mistake has its whole price: nothing is "
                      "cut, nothing added")
    ### END HIDDEN TESTS


@points(4)
def test_hard_negatives(adapters: ModuleType, g: Generator) -> None:
    def drawn(sim: list[float], positive: list[int],
              n: int = 20_000) -> tuple[Tensor, Tensor]:
        mask = torch.zeros(n, len(sim), dtype=torch.bool)
        mask[:, positive] = True
        uniform = torch.rand(mask.shape, generator=g).clamp(1e-6, 1 - 1e-6)
        return adapters.run_hard_negatives(torch.tensor(sim).expand(n, -1), mask,
                                           uniform)

    log = torch.tensor([1.0, 2.0, 3.0, 4.0]).log().tolist()
    index, valid = drawn(log, [3])
    assert valid.all(), "a query that has a wrong key has a draw"
    assert not (index == 3).any(), "a query's own key is never drawn"
    share = torch.bincount(index, minlength=4) / len(index)
    equal(share, torch.tensor([1, 2, 3, 0]) / 6,
          "wrong keys are drawn in proportion to exp(sim)", 0.02)
    index, valid = drawn([500.0, 1.0, 1.0], [0], 2_000)
    assert valid.all() and index.all(), (
        "a row that is sure of its own key has a draw as well")
    equal((index == 1).float().mean(), 0.5,
          "and is then drawn evenly, where the others are alike", 0.06)
    ### BEGIN HIDDEN TESTS
    careful(adapters.run_hard_negatives, torch.randn(50, 5, generator=g),
            torch.eye(50, 5) > 0, torch.rand(50, 5, generator=g).clamp(1e-6, 1 - 1e-6))
    assert not drawn(log, [0, 1, 2, 3], 3)[1].any(), (
        "where every key is the query's own nothing can be drawn")
    for high in (800.0, -800.0):
        index, _ = drawn([0.0, high + 1, high], [0])
        assert index.all(), (
            "an own key is never drawn, however far below it all others are")
        equal((index == 1).float().mean(), 1 / (1 + torch.tensor(-1.0).exp()),
              "only differences count: an exponential must not overflow, "
              "and nothing may be cut", 0.02)
    # each query has another key of its own
    turns = torch.arange(9_000) % 3
    three = torch.rand(9_000, 3, generator=g).clamp(1e-6, 1 - 1e-6)
    index, valid = adapters.run_hard_negatives(torch.zeros(9_000, 3),
                                               F.one_hot(turns, 3) > 0, three)
    assert valid.all() and not (index == turns).any(), (
        "each query has its own keys, and draws none of them")
    index, valid = drawn(log, [0, 2])
    equal((index == 3).float().mean(), 2 / 3, "several own keys are all left out", 0.02)
    two = torch.rand(20_000, 2, generator=g).clamp(1e-6, 1 - 1e-6)
    index, _ = adapters.run_hard_negatives(
        torch.tensor([[0.0, 9.0], [9.0, 0.0]]).repeat(10_000, 1), two > 2, two)
    equal((index == torch.tensor([1, 0]).repeat(10_000)).float().mean(), 1.0,
          "each query draws by its own similarities", 0.01)
    ### END HIDDEN TESTS


@points(2)
def test_itm_loss(adapters: ModuleType, g: Generator) -> None:
    logits = 2 * torch.randn(6, 2, generator=g)
    labels = torch.tensor([1, 0, 0, 1, 1, 0])
    valid = torch.tensor([True, True, False, True, False, True])
    ln2 = torch.tensor(2.0).log()
    equal(adapters.run_itm_loss(torch.zeros(4, 2), labels[:4], valid[:4], 3.0), ln2,
          "a uniform guess costs ln 2 a valid row")
    equal(adapters.run_itm_loss(logits, labels, valid, 2.0),
          2 * adapters.run_itm_loss(logits, labels, valid, 4.0),
          "the sum is divided by count")
    ### BEGIN HIDDEN TESTS
    careful(adapters.run_itm_loss, logits, torch.ones_like(labels), valid, 5.0)
    for size, says in ((1, "the label's cross-entropy, of valid rows alone"),
                       (100,
                        "a confident mistake has its whole price: nothing is cut, "
                        "nothing added")):
        same(lambda x: adapters.run_itm_loss(x, labels, valid, torch.tensor(5.0)),
             lambda x: F.cross_entropy(x[valid], labels[valid], reduction="sum") / 5,
             size * logits, says=says)
    ### END HIDDEN TESTS


@points(3)
def test_mlm_loss(adapters: ModuleType, g: Generator) -> None:
    logits, teacher = 2 * torch.randn(2, 5, 7, generator=g)
    labels = torch.randint(7, (5,), generator=g)
    equal(adapters.run_mlm_loss(torch.zeros(5, 7), labels, 5.0, None, 0.0),
          torch.tensor(7.0).log(),
          "a uniform guess costs the log of the vocabulary a word")
    for count in (0.0, torch.tensor(0.0)):
        equal(adapters.run_mlm_loss(logits[:0], labels[:0], count, None, 0.0), 0.0,
              "where nothing is hidden the loss is zero")
    equal(adapters.run_mlm_loss(logits, labels, 4.0, teacher, 0.0),
          adapters.run_mlm_loss(logits, labels, 4.0, None, 0.4),
          "without a teacher, or without trust in it, the labels count alone")
    ### BEGIN HIDDEN TESTS
    careful(adapters.run_mlm_loss, logits, labels, 4.0, teacher.requires_grad_(), 0.3)
    teacher = teacher.detach()
    for size, alpha, count in ((1, 0.0, 4.0), (1, 0.3, torch.tensor(4.0)),
                               (1, 1.0, 0.5), (100, 0.3, 4.0)):
        target = (alpha * (size * teacher.double()).softmax(1)
                  + (1 - alpha) * F.one_hot(labels, 7))
        same(lambda x: adapters.run_mlm_loss(x, labels, count, size * teacher, alpha),
             lambda x: F.cross_entropy(x.double(), target,
                                       reduction="sum") / float(count), size * logits,
             says="the sum over words, over any count above zero; alpha is the "
                  "teacher's part of the target, and a confident mistake "
                  "has its whole price")
    logits = torch.randn(2, 4, generator=g)
    labels = torch.tensor([3, 0])
    same(lambda x: adapters.run_mlm_loss(x, labels, 2.0, None, 0.0),
         lambda x: F.cross_entropy(x, labels), logits,
         says="any number of places and of words fits")
    ### END HIDDEN TESTS


@points(4)
def test_mask_words(adapters: ModuleType, g: Generator) -> None:
    size = (400, 60)
    tokens = torch.randint(5, 90, size, generator=g)
    words = torch.randint(100, 190, size, generator=g)
    # [CLS] and padding
    tokens[:, 0] = 1
    tokens[:, 50:] = 0

    def run(rate: float | Tensor) -> tuple[Tensor, Tensor]:
        return adapters.run_mask_words(tokens.clone(), (0, 1, 3), 4, rate,
                                       *torch.rand(2, *size, generator=g), words)

    masked, hide = run(0.3)
    assert hide.dtype == torch.bool and not hide[tokens < 5].any(), (
        "special tokens are never hidden")
    equal(masked[~hide], tokens[~hide], "what was not chosen stays")
    equal(hide[:, 1:50].float().mean(), 0.3,
          "the rate is the share of words that are chosen", 0.02)
    was = [now[hide].float().mean()
           for now in (masked == 4, masked == words, masked == tokens)]
    equal(torch.stack(was), torch.tensor([0.8, 0.1, 0.1]),
          "four of five go behind [MASK], and of the rest one half behind other words",
          0.02)
    ### BEGIN HIDDEN TESTS
    even = (torch.arange(60) % 2 == 0).expand(size)
    masked, hide = run(even.float())
    equal(hide, even & (tokens > 4), "a rate for each word is that word's own")
    equal((masked[hide] == 4).float().mean(), 0.8,
          "what a word goes behind does not depend on how it was chosen", 0.02)
    assert not run(0.0)[1].any(), "a rate of zero hides nothing"
    draws = torch.rand(2, *size, generator=g)
    special = (0, 1, 3, 70, 71)
    args = tokens, special, 250, 0.5, *draws, words
    masked, hide = careful(adapters.run_mask_words, *args)
    assert not hide[torch.isin(tokens, torch.tensor(special))].any(), (
        "which ids are special the caller says")
    equal((masked[hide] == 250).float().mean(), 0.8,
          "which id [MASK] has the caller says", 0.02)
    equal(adapters.run_mask_words(*args)[0], masked,
          "the same draws hide the same words")
    equal(adapters.run_mask_words(tokens[:3, 1:9], special, 250, 0.5,
                                  *draws[:, :3, 1:9], words[:3, 1:9])[0],
          masked[:3, 1:9], "every word by its own draws, in a batch of any shape")
    ### END HIDDEN TESTS


@points(4)
def test_teacher(adapters: ModuleType, g: Generator) -> None:
    student = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    teacher = adapters.run_make_teacher(student)
    before = [p.clone() for p in student.parameters()]
    for p, q in zip(teacher.parameters(), before, strict=True):
        equal(p, q, "a teacher begins as a copy")
        assert not p.requires_grad, "no gradient reaches the teacher"
    assert not any(part.training for part in teacher.modules()), (
        "the teacher does not drop out")
    assert student.training and all(p.requires_grad for p in student.parameters()), (
        "the student is left as it was")
    with torch.no_grad():
        for p in student.parameters():
            p += torch.randn(p.shape, generator=g)
    for p, q in zip(teacher.parameters(), before):
        equal(p, q,
              "the teacher's weights are its own, and do not move with the student's")
    ### BEGIN HIDDEN TESTS
    # with buffers, in evaluation, half frozen
    small = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    small[0].bias.requires_grad_(False)
    twin = careful(adapters.run_make_teacher, small)
    small[1].running_mean += 1
    equal(twin[1].running_mean, torch.zeros(4),
          "the teacher's buffers are its own, too")
    small.train()
    # frozen, and followed all the same
    student[0].bias.requires_grad_(False)
    student[2].weight.grad = torch.ones(2, 4)
    careful(adapters.run_update_teacher, teacher, student, 1.0)
    assert student[2].weight.grad is not None and student[2].weight.grad.all(), (
        "the student keeps its gradients")
    weights = list(teacher.parameters())
    now = [p.detach().clone() for p in student.parameters()]
    want = before
    for momentum in (0.9, 0.75, 1.0):
        adapters.run_update_teacher(teacher, student, momentum)
        want = [a + (1 - momentum) * (b - a) for a, b in zip(want, now)]
        for p, q, p_student, old, new in zip(teacher.parameters(), want,
                                             student.parameters(), weights, now):
            equal(p, q, "momentum is the part that stays, and the student's the rest")
            equal(p_student, new, "the student does not move")
            assert p is old and not p.requires_grad, (
                "the teacher moves in place, and still has no gradient")
    ### END HIDDEN TESTS


class Reused(list):
    """Batches whose memory is used again: each is overwritten when the next is asked for."""

    def __iter__(self):
        for batch in super().__iter__():
            batch = [1 * x for x in batch]
            yield tuple(batch)
            for x in batch:
                x.detach().fill_(-7)


@points(4)
def test_queue(adapters: ModuleType, g: Generator) -> None:
    image, text = torch.randn(2, 30, 4, generator=g)
    ids = 50 + torch.randperm(30, generator=g)

    def left(size: int, *batches: int) -> list[int]:
        """Which of the rows are left, after batches of these sizes."""
        grown = (2 * (image / 2).requires_grad_(), 2 * (text / 2).requires_grad_(), ids)
        got = adapters.run_queue(
            size, Reused(zip(*(x[:sum(batches)].split(batches) for x in grown))))
        rows = [ids.tolist().index(i) if i in ids else -1 for i in got[2].tolist()]
        assert -1 not in rows, "slots that nothing was pushed into do not count"
        equal(got[0], image[rows], "an id stays with its picture's feature")
        equal(got[1], text[rows], "an id stays with its text's feature")
        assert not got[0].requires_grad and not got[1].requires_grad, (
            "no gradient goes into the queue")
        return sorted(rows)

    assert left(8, 3) == [0, 1, 2], "a queue that is not full holds what was pushed"
    assert left(8, 4, 4, 4) == list(range(4, 12)), "the oldest are overwritten"
    ### BEGIN HIDDEN TESTS
    assert left(8, 3, 3, 3) == list(range(1, 9)), (
        "a batch that does not fit at the end goes on at the beginning")
    assert left(5, 3, 3, 3, 3, 3, 3) == list(range(13, 18)), "it does so lap after lap"
    assert left(4, 2, 7, 1) == list(range(6, 10)), (
        "of a batch larger than the queue the last rows stay")
    assert left(3, 3) == [0, 1, 2] and left(3, 1, 3, 1) == [2, 3, 4], (
        "a batch as long as the queue fits, too")
    pushed = [(image[:4].clone().requires_grad_(), text[:4], ids[:4])]
    careful(adapters.run_queue, 3, pushed)
    got = adapters.run_queue(3, [(image[:5, :3], text[:5, :3], ids[:5])])
    assert got[0].shape == got[1].shape == (3, 3), "features of any width fit"
    ### END HIDDEN TESTS


### BEGIN HIDDEN TESTS
def torchs_attention(w: dict[str, Tensor], x: Tensor, source: Tensor, hide: Tensor,
                     heads: int = HEADS) -> tuple[Tensor, Tensor]:
    """torch's own attention, with our weights; hide: (b, k) or (b, n, k), True = not visible."""
    wide = w["k.weight"].shape[1]
    layer = nn.MultiheadAttention(WIDTH, heads, kdim=wide, vdim=wide, batch_first=True)
    mask = {"key_padding_mask": hide} if hide.ndim == 2 else {
        "attn_mask": hide.repeat_interleave(heads, 0)}
    mask["average_attn_weights"] = False
    return torch.func.functional_call(layer, _attention(w), (x, source, source), mask)


def torchs_layer(w: dict[str, Tensor], x: Tensor, norm_first: bool, eps: float,
                 hide: Tensor | None = None, heads: int = HEADS) -> Tensor:
    """torch's encoder layer, with our weights."""
    layer = nn.TransformerEncoderLayer(WIDTH, heads, 20, 0.0, "gelu", eps,
                                       batch_first=True, norm_first=norm_first)
    named = _named(w, self_attn="attn", linear1="mlp.fc1", linear2="mlp.fc2",
                   norm1="norm1", norm2="norm2")
    return torch.func.functional_call(layer, named, (x,),
                                      {"src_key_padding_mask": hide})


def torchs_fusion(w: dict[str, Tensor], x: Tensor, keep: Tensor, image: Tensor,
                  image_keep: Tensor | None = None, heads: int = HEADS) -> Tensor:
    """torch's decoder layer, which is what a fusion layer is, with our weights."""
    layer = nn.TransformerDecoderLayer(WIDTH, heads, 20, 0.0, "gelu", 1e-12,
                                       batch_first=True)
    layer.multihead_attn = nn.MultiheadAttention(
        WIDTH, heads, kdim=IMAGE, vdim=IMAGE, batch_first=True)
    named = _named(w, self_attn="attn", multihead_attn="cross", linear1="mlp.fc1",
                   linear2="mlp.fc2", norm1="norm1", norm2="norm_cross", norm3="norm2")
    masks = {"tgt_key_padding_mask": ~keep,
             "memory_key_padding_mask": None if image_keep is None else ~image_keep}
    return torch.func.functional_call(layer, named, (x, image), masks)


def _named(w: dict[str, Tensor], **parts: str) -> dict[str, Tensor]:
    """Our weights by torch's names."""
    named = {name: _attention(only(w, part)) if name.endswith("attn") else only(w, part)
             for name, part in parts.items()}
    return {f"{name}.{last}": x for name, group in named.items()
            for last, x in group.items()}


def _attention(w: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = [w[f"{name}.weight"] for name in "qkv"]
    packed = (
        {"in_proj_weight": torch.cat(parts)} if w["k.weight"].shape[1] == WIDTH
        else dict(zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), parts)))
    return packed | {"in_proj_bias": torch.cat([w[f"{name}.bias"] for name in "qkv"]),
                  "out_proj.weight": w["proj.weight"], "out_proj.bias": w["proj.bias"]}
### END HIDDEN TESTS
