"""Small models and batches that the tests share."""
import itertools
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

from minalbef.config import Config
from minalbef.fast.pretrain import fast_form
from minalbef.presets import preset
from minalbef.pretrain import Pretrain
from minalbef.scenes.pretrain import SceneBatch, ScenePretrain
from minalbef.system import distributed

CLS, MASK, FIRST_WORD = 2, 4, 5
SMALL_PAPER = dict(              # what makes a preset of the paper small
    image_size=32, patch_size=16, image_width=32, image_depth=1, image_heads=4, vocab_size=256,
    text_width=48, text_heads=4, text_depth=1, fusion_depth=2, embed_dim=16, queue_size=8)


def small(**changes) -> Config:
    """`tiny` in a size for tests: 3 x 3 patches, image width 32, text width 48, 4 heads, 20 steps of 8; AdamW alone."""
    settings = dict(
        image_size=24, image_width=32, image_heads=4, text_width=48, text_heads=4, fusion_depth=2, embed_dim=24,
        vocab_size=64, text_length=9, positions=12, queue_size=20, batch=8, epoch=160, lr=1e-3, warmup_steps=4,
        temperature_lr=0.03, stem_lr=0.2, weight_decay=0.02, clip=1.0, pos_scale=0.4, teacher_momentum=0.99, alpha=0.0,
        mask_rate=0.5, mask_power=0.0, temperature=0.07, temperature_min=0.02, temperature_max=0.5, save_every=1000,
        match_from=0, queue_from=0, hard_from=0, siblings_from=0, lesson_from=1, objects=0, siblings=0, bucket=1,
        warm_steps=0, device="cpu", muon_lr=0.0, mlm_every=1, share_stem=False, sibling_negatives=True)
    return preset("tiny", **({"fuse_cls": True} | settings | changes))


@torch.no_grad()
def disturb(module: nn.Module, scale: float = 0.1, seed: int = 7) -> nn.Module:
    """Noise on every parameter, in place: biases at 0 and gains at 1 would hide that one is missing."""
    chance = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p += scale * torch.randn(p.shape, generator=chance)
    return module


def texts(rows: int, length: int, vocab: int = 64, seed: int = 0, lengths=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions of unequal lengths: tokens (b, l), keep (b, l). The first token is [CLS]."""
    chance = torch.Generator().manual_seed(seed)
    tokens = torch.randint(FIRST_WORD, vocab, (rows, length), generator=chance)
    tokens[:, 0] = CLS
    lengths = [length - (2 * i) % (length - 2) for i in range(rows)] if lengths is None else lengths
    keep = torch.arange(length) < torch.tensor(lengths)[:, None]
    return tokens * keep, keep


def copy_weights(pairs):
    """Linear, norm or embedding `ours` takes the weights of `theirs`; pairs: (ours, theirs)."""
    with torch.no_grad():
        for ours, theirs in pairs:
            ours.load_state_dict({name: value for name, value in theirs.state_dict().items()})


def gradients(y: torch.Tensor, *wanted: torch.Tensor, seed: int = 3) -> tuple[torch.Tensor, ...]:
    """Gradients of a fixed random mixture of y; a sum alone would hide errors that cancel."""
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    return torch.autograd.grad((y * weights).sum(), wanted, retain_graph=True, allow_unused=True)


@contextmanager
def same_dropout():
    """Dropout whose n-th mask in the block depends on n alone: two models compare in training."""
    calls = itertools.count()

    def dropout(x, p=0.5, training=True, inplace=False):
        if not (training and p):
            return x
        return x * (torch.rand(x.shape, generator=torch.Generator().manual_seed(next(calls))) >= p) / (1 - p)
    with mock.patch.object(F, "dropout", dropout):
        yield


class Batches:
    """step -> the PretrainBatch of this process; a pure function of the step, cut out of the global batch.

    Rows 0 and 1 are captions of one picture, caption 2 is true of picture 5, too. The first half has long captions, the
    second short ones, so that two processes mask unequal numbers of words.
    """

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, step: int) -> SceneBatch:
        batch, share = self.whole(step), self.config.batch // distributed.world()
        mine = slice(share * distributed.rank(), share * (distributed.rank() + 1))
        used = batch.keep[mine].any(0)                           # padded to its own longest, not to another process's
        return SceneBatch(batch.image[mine], batch.tokens[mine][:, used], batch.keep[mine][:, used], batch.ids[mine],
                             batch.match, siblings=None if batch.siblings is None else batch.siblings[mine])

    def whole(self, step: int) -> SceneBatch:
        whole, size, length = self.config.batch, self.config.image_size, self.config.text_length
        chance = torch.Generator().manual_seed(1000 + step)
        image = torch.randn(whole, 3, size, size, generator=chance)
        tokens, keep = texts(whole, length, self.config.vocab_size, step,
                             [length - i % 2 if i < whole // 2 else 3 + i % 2 for i in range(whole)])
        ids, match = 100 * step + torch.arange(whole), torch.eye(whole, dtype=torch.bool)
        if whole > 5:
            ids[1], image[1], match[2, 5] = ids[0], image[0], True
            match[0, 1] = match[1, 0] = True
        siblings = torch.arange(whole) > 1 if self.config.siblings else None     # unequal numbers in two processes
        return SceneBatch(image, tokens, keep, ids, match, siblings=siblings)


def pretrain(config: Config, seed: int = 0, kind: type[Pretrain] = fast_form(ScenePretrain)) -> Pretrain:
    """Student and teacher that differ, words of unequal mask rates, and a queue with features of two older batches.

    kind: FastScenePretrain is Pretrain where the batch has no siblings, as tests of their own say
    """
    torch.manual_seed(seed)
    task = kind(config, rates=config.mask_rate * torch.linspace(0.6, 1.4, config.vocab_size))
    disturb(task.student, 0.15)
    disturb(task.teacher, 0.15, seed=8)
    with torch.no_grad():
        task.student.temperature.fill_(0.03)
    for step in (-2, -1):
        batch = Batches(config).whole(step)
        task.queue.push(task.teacher.image_feature(task.teacher.encode_image(batch.image)),
                        task.teacher.text_feature(task.teacher.encode_text(batch.tokens, batch.keep)), batch.ids)
    return task


def same_state(a: dict, b: dict) -> bool:
    """Two state dicts, nested or not, are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_state, a, b))
    return a == b
