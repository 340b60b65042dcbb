import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minalbef.evaluation.checks import check_same


class Block(nn.Module):
    def __init__(self, width=32, eps=1e-5, bias=True):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps)
        self.proj = nn.Linear(width, width, bias=bias)
        self.drop = nn.Dropout(0.5)

    def forward(self, x, keep=None):
        y = self.drop(self.proj(self.norm(x)))
        return x + y, {"y": y, "n": torch.tensor(3)}


class Eps(Block):
    def __init__(self, width):
        super().__init__(width, eps=1e-6)


class IgnoresBias(Block):
    """Unseen while the bias is 0, as many are at the start."""

    def forward(self, x, keep=None):
        y = self.norm(x) @ self.proj.weight.mT
        return x + y, {"y": y, "n": torch.tensor(3)}


def words():
    return torch.randn(3, 5, 32)


def test_the_same_passes_and_says_so_in_one_line(capsys):
    state = torch.get_rng_state()
    check_same(Block, Block, 32, make_input=lambda: (words(), None))
    assert torch.equal(state, torch.get_rng_state())
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    assert "Block: same output (within 1e-05) and the same gradients for 4 parameters" in output


@pytest.mark.parametrize("function, message", [
    (Eps, "eps"),
    (IgnoresBias, r"output\[0\]"),
])
def test_a_difference_is_named(function, message):
    with pytest.raises(AssertionError, match=message):
        check_same(Block, function, 32, make_input=words)


def test_functions_are_compared_too(capsys):
    def by_hand(x):
        return x.exp() / x.exp().sum(-1, keepdim=True)

    check_same(by_hand, lambda x: x.softmax(-1), make_input=words)
    assert "the same gradients for its inputs" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="output"):
        check_same(by_hand, lambda x: x.softmax(-2), make_input=words)
    with pytest.raises(AssertionError, match="eps"):
        check_same(lambda x: F.layer_norm(x, (32,), eps=1e-12),
                   lambda x: F.layer_norm(x, (32,), eps=1e-6),
                   make_input=words)
    with pytest.raises(AssertionError, match="NaN"):
        check_same(torch.log, torch.log, make_input=words)


def test_a_blank_may_be_empty_but_not_wrong(capsys):
    def unwritten(x):
        raise NotImplementedError
    check_same(unwritten, torch.exp, make_input=words, blank=True)
    assert "yours to write" in capsys.readouterr().out
    with pytest.raises(NotImplementedError):
        check_same(unwritten, torch.exp, make_input=words)
    with pytest.raises(AssertionError, match="output"):
        check_same(torch.sin, torch.exp, make_input=words, blank=True)
