import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
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


class NoBias(Block):
    def __init__(self, width):
        super().__init__(width, bias=False)


class Wide(Block):
    def __init__(self, width):
        super().__init__(2 * width)


class Detached(Block):
    def forward(self, x, keep=None):
        y = self.proj(self.norm(x.detach()))
        return x + y, {"y": y, "n": torch.tensor(3)}


class IgnoresBias(Block):
    """Unseen while the bias is 0, as many are at the start."""

    def forward(self, x, keep=None):
        y = self.norm(x) @ self.proj.weight.mT
        return x + y, {"y": y, "n": torch.tensor(3)}


class FewerOutputs(Block):
    def forward(self, x, keep=None):
        return super().forward(x)[0]


class Untied(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x):
        return self.b(self.a(x))


class Tied(Untied):
    def __init__(self, width):
        super().__init__(width)
        self.b.weight = self.a.weight


def words():
    return torch.randn(3, 5, 32)


def test_the_same_passes_and_says_so_in_one_line(capsys):
    state = torch.get_rng_state()
    check_same(Block, Block, 32, make_input=lambda: (words(), None))
    assert torch.equal(state, torch.get_rng_state())
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "Block: same output (within 1e-05) and the same gradients for 4 parameters" in said


@pytest.mark.parametrize("other, message", [
    (Eps, "eps"),
    (NoBias, "Block has proj.bias, .*NoBias has not"),
    (Wide, r"norm.weight is \(32,\) in .*Block and \(64,\)"),
    (Detached, "gradient, input 0"),
    (IgnoresBias, r"output\[0\]"),
    (FewerOutputs, "alone has"),
])
def test_a_difference_is_named(other, message):
    with pytest.raises(AssertionError, match=message):
        check_same(Block, other, 32, make_input=words)


def test_untied_weights_show_in_the_gradients():
    check_same(Tied, Tied, 32, make_input=words)
    with pytest.raises(AssertionError, match="gradient, parameter a.weight"):
        check_same(Tied, Untied, 32, make_input=words)


def test_a_module_that_is_ready_made_is_left_as_it_was():
    block = Block()
    before = block.norm.weight.clone()
    check_same(block, Block(), make_input=words)
    assert torch.equal(block.norm.weight, before) and block.training


def test_functions_are_compared_too(capsys):
    def by_hand(x):
        return x.exp() / x.exp().sum(-1, keepdim=True)

    check_same(by_hand, lambda x: x.softmax(-1), make_input=words)
    assert "the same gradients for its inputs" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="output"):
        check_same(by_hand, lambda x: x.softmax(-2), make_input=words)
    with pytest.raises(AssertionError, match="eps"):
        check_same(lambda x: F.layer_norm(x, (32,), eps=1e-12), lambda x: F.layer_norm(x, (32,), eps=1e-6),
                   make_input=words)
    with pytest.raises(AssertionError, match="NaN"):
        check_same(torch.log, torch.log, make_input=words)


def test_whole_numbers_need_no_gradient_and_none_is_claimed(capsys):
    check_same(lambda x: x + 1, lambda x: 1 + x, make_input=lambda: torch.arange(4))
    assert "gradient" not in capsys.readouterr().out
    with pytest.raises(AssertionError, match="by 1.0e"):
        check_same(lambda x: x + 1, lambda x: x + 2, make_input=lambda: torch.arange(4))


@pytest.mark.parametrize("kind", [np.asarray, lambda x: [int(n) for n in x], lambda x: {"picture": to_picture(x)}])
def test_arrays_numbers_and_pictures_are_compared_as_tensors_are(kind):
    check_same(lambda x: kind(x), lambda x: kind(x + 0), make_input=lambda: torch.arange(4))
    with pytest.raises(AssertionError, match="by 1.0e|: 0 in .*, 1 in "):
        check_same(lambda x: kind(x), lambda x: kind(x + 1), make_input=lambda: torch.arange(4))


def to_picture(x):
    return Image.fromarray(x[None].to(torch.uint8).numpy())


def test_a_blank_may_be_empty_but_not_wrong(capsys):
    def unwritten(x):
        raise NotImplementedError
    check_same(unwritten, torch.exp, make_input=words, blank=True)
    assert "yours to write" in capsys.readouterr().out
    with pytest.raises(NotImplementedError):
        check_same(unwritten, torch.exp, make_input=words)
    with pytest.raises(AssertionError, match="output"):
        check_same(torch.sin, torch.exp, make_input=words, blank=True)


@pytest.mark.parametrize("answer, message", [(True, "differ: output: 0 in .*, True in "),
                                             (2, "differ: output: 0 in .*, 2 in ")])
def test_a_number_or_a_yes_that_differs_is_shown(answer, message):
    with pytest.raises(AssertionError, match=message):
        check_same(lambda x: 0, lambda x: answer, make_input=words)
    with pytest.raises(AssertionError, match=r"output\[1\]: True in .*, False in "):
        check_same(lambda x: [True, True], lambda x: [True, False], make_input=words)
