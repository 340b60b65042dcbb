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

CLS = 2
MASK = 4
FIRST_WORD = 5
SMALL_PAPER = dict(  # what makes a preset of the paper small
    image_size=32, patch_size=16, image_width=32, image_depth=1, image_heads=4, vocab_size=256,
    text_width=48, text_heads=4, text_depth=1, fusion_depth=2, embed_dim=16, queue_size=8,
)


def small(**changes) -> Config:
    """`tiny` in a size for tests: 3 x 3 patches, 20 steps of 8; AdamW alone."""
    settings = dict(
        image_size=24, image_width=32, image_heads=4, text_width=48, text_heads=4, fusion_depth=2,
        embed_dim=24, vocab_size=64, text_length=9, positions=12, queue_size=20, batch=8,
        epoch=160, lr=1e-3, warmup_steps=4, temperature_lr=0.03, stem_lr=0.2, weight_decay=0.02,
        clip=1.0, pos_scale=0.4, teacher_momentum=0.99, alpha=0.0, mask_rate=0.5, mask_power=0.0,
        temperature=0.07, temperature_min=0.02, temperature_max=0.5, save_every=1000,
        match_from=0, queue_from=0, hard_from=0, siblings_from=0, lesson_from=1, objects=0,
        siblings=0, bucket=1, warm_steps=0, device="cpu", muon_lr=0.0, mlm_every=1,
        share_stem=False, sibling_negatives=True,
    )
    return preset("tiny", **({"fuse_cls": True} | settings | changes))


@torch.no_grad()
def disturb(module: nn.Module, scale: float = 0.1, seed: int = 7) -> nn.Module:
    """Noise on every parameter, in place: biases at 0 and gains at 1 would hide a missing one."""
    chance = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p += scale * torch.randn(p.shape, generator=chance)
    return module


def texts(
    rows: int, length: int, vocab: int = 64, seed: int = 0, lengths=None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions of unequal lengths: tokens (b, l), keep (b, l). The first token is [CLS]."""
    chance = torch.Generator().manual_seed(seed)
    tokens = torch.randint(FIRST_WORD, vocab, (rows, length), generator=chance)
    tokens[:, 0] = CLS
    if lengths is None:
        lengths = [length - (2 * i) % (length - 2) for i in range(rows)]
    keep = torch.arange(length) < torch.tensor(lengths)[:, None]
    return tokens * keep, keep


def copy_weights(pairs):
    """A linear, norm or embedding takes another's weights; pairs: (ours, theirs)."""
    with torch.no_grad():
        for module, source in pairs:
            module.load_state_dict(dict(source.state_dict()))


def gradients(y: torch.Tensor, *inputs: torch.Tensor, seed: int = 3) -> tuple[torch.Tensor, ...]:
    """Gradients of a fixed random mixture of y; a sum alone would hide errors that cancel."""
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    return torch.autograd.grad((y * weights).sum(), inputs, retain_graph=True, allow_unused=True)


@contextmanager
def same_dropout():
    """Dropout whose n-th mask in the block depends on n alone: two models compare in training."""
    calls = itertools.count()

    def dropout(x, p=0.5, training=True, inplace=False):
        if not (training and p):
            return x
        chance = torch.Generator().manual_seed(next(calls))
        return x * (torch.rand(x.shape, generator=chance) >= p) / (1 - p)

    with mock.patch.object(F, "dropout", dropout):
        yield


class Batches:
    """step -> the PretrainBatch of this process; a pure function of the step, cut out of the global batch.

    Rows 0 and 1 are captions of one picture, caption 2 is true of picture 5, too. The first half
    has long captions, the second short ones, so that two processes mask unequal numbers of words.
    """

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, step: int) -> SceneBatch:
        batch = self.whole(step)
        share = self.config.batch // distributed.world()
        rows = slice(share * distributed.rank(), share * (distributed.rank() + 1))
        used = batch.keep[rows].any(0)  # padded to its own longest, not to another process's
        tokens = batch.tokens[rows][:, used]
        keep = batch.keep[rows][:, used]
        siblings = None if batch.siblings is None else batch.siblings[rows]
        return SceneBatch(
            batch.image[rows], tokens, keep, batch.ids[rows], batch.match, siblings=siblings
        )

    def whole(self, step: int) -> SceneBatch:
        rows = self.config.batch
        size = self.config.image_size
        length = self.config.text_length
        chance = torch.Generator().manual_seed(1000 + step)
        image = torch.randn(rows, 3, size, size, generator=chance)
        lengths = [length - i % 2 if i < rows // 2 else 3 + i % 2 for i in range(rows)]
        tokens, keep = texts(rows, length, self.config.vocab_size, step, lengths)
        ids = 100 * step + torch.arange(rows)
        match = torch.eye(rows, dtype=torch.bool)
        if rows > 5:
            ids[1] = ids[0]
            image[1] = image[0]
            match[0, 1] = match[1, 0] = match[2, 5] = True
        siblings = None
        if self.config.siblings:
            siblings = torch.arange(rows) > 1  # unequal numbers in two processes
        return SceneBatch(image, tokens, keep, ids, match, siblings=siblings)


def pretrain(
    config: Config, seed: int = 0, kind: type[Pretrain] = fast_form(ScenePretrain)
) -> Pretrain:
    """Student and teacher that differ, words of unequal mask rates, two older batches in the queue.

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
        image = task.teacher.encode_image(batch.image)
        text = task.teacher.encode_text(batch.tokens, batch.keep)
        features = task.teacher.image_feature(image), task.teacher.text_feature(text)
        task.queue.push(*features, batch.ids)
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
