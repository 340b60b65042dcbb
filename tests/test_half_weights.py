"""Mixed precision: bf16 copies of the weights compute,
and the parameters stay what they are."""
import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from helpers import small
from minalbef.fast.gelu import GeluLinear
from minalbef.fast.half import half_weights
from minalbef.vision import ViT


def test_a_module_computes_what_its_copy_in_bf16_does_and_its_gradients_are_that_copys_in_fp32():
    torch.manual_seed(0)
    encoder = ViT(small())
    half = copy.deepcopy(encoder).bfloat16()
    image = torch.randn(2, 3, 24, 24).bfloat16()
    expected = half(image)
    expected.float().square().sum().backward()
    with half_weights(encoder):
        tokens = encoder(image)
        assert tokens.equal(expected)
        tokens.float().square().sum().backward()
    for (name, p), q in zip(encoder.named_parameters(), half.parameters()):
        assert p.dtype == p.grad.dtype == torch.float32, name
        assert p.grad.equal(q.grad.float()), name


def test_the_temperature_and_norms_with_statistics_stay_in_fp32():
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1), "norm": nn.BatchNorm2d(4)})
    model.temperature = nn.Parameter(torch.tensor(0.07))
    with half_weights(model):
        assert model.conv.weight.dtype == torch.bfloat16
        assert model.norm.weight.dtype == model.temperature.dtype == torch.float32
        assert model.norm(model.conv(torch.randn(2, 3, 5,
                                                 5).bfloat16())).dtype == torch.bfloat16


def test_the_gelu_that_is_computed_again_gives_autograds_gradients():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    linear = nn.Linear(6, 3).double()
    inputs = (x, linear.weight, linear.bias)
    weights = torch.randn(2, 5, 3, dtype=torch.float64)
    gradients = torch.autograd.grad((GeluLinear.apply(*inputs) * weights).sum(), inputs)
    expected = torch.autograd.grad((linear(F.gelu(x)) * weights).sum(), inputs)
    assert_close(gradients, expected)
