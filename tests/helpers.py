"""Small models and batches that the tests share."""
import torch
from torch import nn

from minalbef.config import Config, preset

CLS, MASK, FIRST_WORD = 2, 4, 5


def small(**changes) -> Config:
    """`tiny` in a size for tests: 3 x 3 patches, image width 32, text width 48, 4 heads, 20 steps of 8."""
    settings = dict(
        image_size=24, image_width=32, image_heads=4, text_width=48, text_heads=4, fusion_depth=2, embed_dim=24,
        vocab_size=64, text_length=9, positions=12, queue_size=20, batch=8, epoch=160, lr=1e-3, warmup_steps=4,
        save_every=1000, match_from=0, queue_from=0, hard_from=0, objects=0, siblings=0, warm_steps=0)
    return preset("tiny", **(settings | changes))


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
