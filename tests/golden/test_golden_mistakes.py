"""A test of the tests: plausible mistakes, one at a time, each seen by a comparison with the original's figures."""
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import golden_pretrain
import golden_schedule
from golden_encoders import encoders
from golden_pretrain import groups, training, without_teacher
from golden_rule import off, wrong
from golden_schedule import schedules
from helpers import Batches, pretrain, small
from minalbef import distributed, fusion, layers, text, vision
from minalbef.albef import ALBEF
from minalbef.ema import Distilled, update_teacher
from minalbef.fast.pretrain import FastPretrain
from minalbef.feature_queue import FeatureQueue
from minalbef.fusion import Fusion, FusionLayer
from minalbef.layers import Attention
from minalbef.pretrain import Pretrain
from minalbef.text import Embeddings, TextLayer, WordHead
from minalbef.train import lr_at, parameter_groups
from minalbef.vision import Block, ViT

first_step = partial(training, 1)


def unequal() -> dict[str, float]:
    """A step of a model of unequal sizes (image 32, text 48, shared 24, queue 20), plain and fast."""
    config = small()
    batch = Batches(config)(0)
    losses = []
    for kind in (Pretrain, FastPretrain):
        task = pretrain(config, kind=kind)
        losses.append(task(batch, 0.4, task.draws(3))[0])
    plain, fast = losses
    return {name: off(fast[name], value, 1e-5, 1e-5) for name, value in plain.items()}


# Ways to change a function: each gives one that stands in its place

def after(function, change):
    """The same, and its result changed."""
    return lambda *given, **options: change(function(*given, **options))


def functional(**changes) -> SimpleNamespace:
    """torch.nn.functional with some functions called with other options."""
    def called(function, changed):
        return lambda *given, **options: function(*given, **options | changed)
    return SimpleNamespace(**vars(F) | {name: called(getattr(F, name), changed) for name, changed in changes.items()})


def other(function, **changes):
    """The same, with some arguments, by name, computed from those that were given."""
    def changed(*given):
        values = dict(zip(function.__code__.co_varnames, given))
        return function(**values | {name: change(SimpleNamespace(**values)) for name, change in changes.items()})
    return changed


def plain_fusion(parts: str, norm_first: bool = False):
    """Fusion.forward without its shortcuts, the parts of a layer in the order given."""
    def forward(self, x, keep, image_tokens, image_keep=None, pairs=None, queries=None, keys_values=None):
        if pairs is not None:
            x, keep = x[pairs[0]], keep[pairs[0]]
        for layer, seen in zip(self.layers, keys_values or self.keys_values(image_tokens)):
            seen = seen if pairs is None else [part[pairs[1]] for part in seen]
            image = image_keep if pairs is None or image_keep is None else image_keep[pairs[1]]
            steps = {"self": (layer.norm1, partial(layer.attn, keep=keep)), "mlp": (layer.norm2, layer.mlp),
                     "cross": (layer.norm_cross, partial(layer.cross, keep=image, keys_values=seen))}
            for norm, part in map(steps.get, parts.split()):
                x = x + part(norm(x)) if norm_first else norm(x + part(x))
        return x[:, :queries]
    return forward


def post_norm(self, x):
    x = self.norm1(x + self.attn(x))
    return self.norm2(x + self.mlp(x))


def pre_norm(self, x, keep):
    x = x + self.attn(self.norm1(x), keep=keep)
    return x + self.mlp(self.norm2(x))


def no_last_norm(self, patches):
    x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1) + self.pos_embed
    return nn.Sequential(*self.blocks)(x)


def follows_afterwards(self, *given):
    result = forward(self, *given)
    update_teacher(self.teacher, self.student, self.config.teacher_momentum)
    return result


def taught_by_itself(self, *given):
    teacher, self.teacher = self.teacher, self.student
    try:
        return forward(self, *given)
    finally:
        self.teacher = teacher


@torch.no_grad()
def no_update(self, carry):
    self.student.temperature.clamp_(self.config.temperature_min, self.config.temperature_max)
    self.queue.push(*carry)


@torch.no_grad()
def no_clamp(self, carry):
    update_teacher(self.teacher, self.student, self.config.teacher_momentum)
    self.queue.push(*carry)


def from_the_first_slot(self, *given):
    self.pointer = 0
    push(self, *given)


forward, push, draw = FastPretrain.forward, FeatureQueue.push, Pretrain.draw_negatives
layer, fusion_layer = TextLayer.forward, FusionLayer.forward


def without_image_mask(self, x, keep, keys_values, image_keep=None, *rest):
    return fusion_layer(self, x, keep, keys_values, None, *rest)


attention_init, cross_init, queue_init, albef_init = (kind.__init__
                                                      for kind in (Attention, FusionLayer, FeatureQueue, ALBEF))
mask_words, mlm_loss, hard_negatives, itc_loss = (
    getattr(Pretrain, name) for name in ("mask_words", "mlm_loss", "hard_negatives", "itc_loss"))

# what is done wrong: the comparison that sees it, and [(where, name, what stands there instead)]
MISTAKES = {
    "tanh GELU": (encoders, [(layers, "F", functional(gelu=dict(approximate="tanh")))]),
    "tanh GELU in the word head": (encoders, [(text, "F", functional(gelu=dict(approximate="tanh")))]),
    "BERT's epsilon in the ViT": (encoders, [(vision, "NORM_EPS", 1e-12)]),
    "torch's epsilon in the ViT": (encoders, [(vision, "NORM_EPS", 1e-5)]),
    "the ViT's epsilon in BERT": (encoders, [(text, "NORM_EPS", 1e-6), (fusion, "NORM_EPS", 1e-6)]),
    "cross-attention before self-attention": (encoders, [(Fusion, "forward", plain_fusion("cross self mlp"))]),
    "MLP before cross-attention": (encoders, [(Fusion, "forward", plain_fusion("self mlp cross"))]),
    "no cross-attention": (encoders, [(Fusion, "forward", plain_fusion("self mlp"))]),
    "pre-norm in fusion": (encoders, [(Fusion, "forward", plain_fusion("self cross mlp", norm_first=True))]),
    "pre-norm in the text encoder": (encoders, [(TextLayer, "forward", pre_norm)]),
    "post-norm in the ViT": (encoders, [(Block, "forward", post_norm)]),
    "no last norm in the ViT": (encoders, [(ViT, "attend", no_last_norm)]),
    "no type embedding": (encoders, [(Embeddings, "forward", lambda self, tokens: self.norm(
        self.word_embed(tokens) + self.pos_embed.weight[:tokens.shape[1]]))]),
    "positions counted from 1": (encoders, [(Embeddings, "forward", lambda self, tokens: self.norm(
        self.word_embed(tokens) + self.pos_embed.weight[1:tokens.shape[1] + 1] + self.type_embed.weight[0]))]),
    "padding is seen": (encoders, [(TextLayer, "forward", lambda self, x, keep: layer(self, x, None))]),
    "the image's mask is not": (encoders,
                                [(FusionLayer, "forward", without_image_mask)]),
    "scores are not scaled": (encoders, [(layers, "F", functional(scaled_dot_product_attention=dict(scale=1.0)))]),
    "half the heads": (encoders, [(Attention, "__init__", lambda self, width, heads, *given, **options: attention_init(
        self, width, heads // 2, *given, **options))]),
    "features not of unit length": (encoders, [(ALBEF, "image_feature", lambda self, x: self.image_proj(x[:, 0]))]),
    "features of the mean "
    "token": (encoders, [(ALBEF, "text_feature", lambda self, x: F.normalize(self.text_proj(x.mean(1)), dim=-1))]),
    "projections swapped": (encoders, [(ALBEF, "image_feature", ALBEF.text_feature),
                                       (ALBEF, "text_feature", ALBEF.image_feature)]),
    "no bias in the word "
    "head": (encoders, [(WordHead, "forward", lambda self, x, table: self.norm(F.gelu(self.dense(x))) @ table.T)]),
    "positions resized corner to corner": (encoders, [(vision, "F", functional(interpolate=dict(align_corners=True)))]),
    "positions resized with antialias": (encoders, [(vision, "F", functional(interpolate=dict(antialias=True)))]),

    "negatives not masked": (first_step,
                             [(Pretrain, "hard_negatives", other(hard_negatives, own=lambda v: v.own & False))]),
    "negatives the wrong way": (first_step, [(Pretrain, "draw_negatives", lambda self, sims, *rest: draw(
        self, sims[::-1], *rest))]),
    "negatives without gradient": (first_step, [(distributed, "fetch", lambda x, rows, near: (x.detach(), rows))]),
    "matching labels swapped": (first_step, [(ALBEF, "match_logits", after(ALBEF.match_logits, lambda y: y.flip(-1)))]),
    "no temperature for the teacher": (first_step, [(Pretrain, "itc_loss", other(
        itc_loss, teacher_sim=lambda v: v.teacher_sim * 0.07))]),
    "alpha the wrong way": (first_step, [(Pretrain, "itc_loss", other(itc_loss, alpha=lambda v: 1 - v.alpha))]),
    "alpha ignored in MLM": (first_step, [(Pretrain, "mlm_loss", other(mlm_loss, alpha=lambda v: 0.0))]),
    "ITC's two ways summed": (first_step, [(Pretrain, "itc_loss", after(itc_loss, lambda y: 2 * y))]),
    "MLM's mean over all words": (first_step, [(Pretrain, "mlm_loss", other(mlm_loss, count=lambda v: 48.0))]),
    "[CLS] masked": (training, [(Pretrain, "mask_words", other(mask_words, special=lambda v: (0,)))]),
    "padding masked": (first_step, [(Pretrain, "mask_words", other(mask_words, special=lambda v: (2,)))]),
    "no word left as it is": (first_step,
                              [(Pretrain, "mask_words", other(mask_words, kind=lambda v: v.kind.clamp(max=0.85)))]),
    "queue transposed": (first_step, [(FeatureQueue, "features", lambda self: (self.image.T, self.text.T, self.ids))]),
    "queue's sides swapped": (first_step, [(FeatureQueue, "features", lambda self: (self.text, self.image, self.ids))]),
    "queue filled from its first slot": (first_step, [(FeatureQueue, "push", from_the_first_slot)]),
    "the student as its own teacher": (first_step, [(FastPretrain, "forward", taught_by_itself)]),
    "another momentum": (first_step, [(Distilled, "update_teacher", lambda teacher, student, _: update_teacher(
        teacher, student, 0.99))]),
    "the teacher stands still": (first_step, [(Pretrain, "after_step", no_update)]),
    "the teacher follows after its "
    "features": (first_step, [(FastPretrain, "forward", follows_afterwards), (Pretrain, "after_step", no_update)]),
    "temperature not held": (without_teacher, [(Pretrain, "after_step", no_clamp)]),
    "class token and positions not "
    "decayed": (groups, [(golden_pretrain, "parameter_groups", lambda task, config: parameter_groups(
        task, replace(config, decay_all=False)))]),

    "smooth rate": (schedules, [(golden_schedule, "lr_at",
                                 lambda step, config: lr_at(step, replace(config, schedule="smooth")))]),
    "rate one step early": (schedules, [(golden_schedule, "lr_at", lambda step, config: lr_at(step + 1, config))]),
    "cosine over one epoch less": (schedules, [(golden_schedule, "lr_at", lambda step, config: lr_at(
        step, replace(config, epochs=max(1, config.epochs - 1))))]),
}


@pytest.fixture
def make(monkeypatch):
    """Puts a mistake's changes in their places, for one test."""
    def change(where, name, mistake):
        if isinstance(vars(where).get(name), staticmethod):
            mistake = staticmethod(mistake)
        monkeypatch.setattr(where, name, mistake)
    return lambda changes: [change(*each) for each in changes]


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_seen(name, make):
    comparison, changes = MISTAKES[name]
    make(changes)
    assert wrong(comparison()), f"{name}: nobody would notice"


def test_the_plain_fusion_that_mistakes_are_made_in_is_right(make):
    make([(Fusion, "forward", plain_fusion("self cross mlp"))])
    assert wrong(encoders() | training(1)) == {}


def wide_projection(self, config):
    albef_init(self, config)
    self.image_proj = nn.Linear(config.text_width, config.embed_dim)


@pytest.mark.parametrize("change", [
    (FusionLayer, "__init__", lambda self, width, heads, mlp_width, image_width, dropout: cross_init(
        self, width, heads, mlp_width, width, dropout)),
    (ALBEF, "__init__", wide_projection),
    (FeatureQueue, "__init__", lambda self, size, embed_dim: queue_init(self, embed_dim, size))],
    ids=["cross-attention to the text's width", "image projected from the text's width", "queue's sizes swapped"])
def test_what_the_originals_equal_sizes_hide_is_seen_at_unequal_ones(change, make):
    assert wrong(unequal()) == {}
    make([change])
    assert wrong(encoders() | training(1)) == {}, "the original's sizes show it, too: a mistake for the list above"
    with pytest.raises(RuntimeError, match="shape|size"):
        unequal()
