"""Mixed precision: bf16 copies of the weights compute, and the parameters stay what they are."""
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from helpers import Batches, pretrain, same_state, small
from minalbef import train
from minalbef.fast import half
from minalbef.fast.gelu import GeluLinear
from minalbef.fast.half import half_weights
from minalbef.layers import Layer
from minalbef.vision import ViT

CPU = torch.device("cpu")


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


def test_two_passes_add_their_gradients_in_fp32():
    torch.manual_seed(0)
    linear, x = nn.Linear(3, 2), torch.randn(5, 3).bfloat16()
    grads = []
    for rows in (x[:1], x[1:]):
        with half_weights(linear):
            linear(rows).sum().backward()
        grads.append(linear.weight.grad.clone())
    single = grads[1] - grads[0]
    assert_close(single, x[1:].float().sum(0).expand(2, 3), atol=0, rtol=0.02)
    assert not grads[1].bfloat16().float().equal(grads[1]), "the sum was rounded to bf16"


def test_afterwards_the_module_is_as_before_even_after_an_error():
    encoder = ViT(small())
    before = copy.deepcopy(encoder.state_dict())
    with pytest.raises(RuntimeError), half_weights(encoder):
        assert encoder.cls_token.dtype == encoder.blocks[0].norm1.weight.dtype == torch.bfloat16
        assert same_state(encoder.state_dict(), before), "a state that is saved meanwhile is in fp32"
        raise RuntimeError("in a step")
    assert encoder.cls_token is dict(encoder.named_parameters())["cls_token"]
    assert same_state(encoder.state_dict(), before)


def test_the_temperature_and_norms_with_statistics_stay_in_fp32():
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1), "norm": nn.BatchNorm2d(4)})
    model.temperature = nn.Parameter(torch.tensor(0.07))
    with half_weights(model):
        assert model.conv.weight.dtype == torch.bfloat16
        assert model.norm.weight.dtype == model.temperature.dtype == torch.float32
        assert model.norm(model.conv(torch.randn(2, 3, 5, 5).bfloat16())).dtype == torch.bfloat16


def test_copies_are_made_layer_by_layer_and_of_each_module_once():
    """So DDP can send a layer's gradients while those of the next are computed."""
    task = pretrain(small())
    groups = half.parts_by_layer(task)
    assert sorted(map(id, sum(groups, []))) == sorted(map(id, task.modules()))
    layers = [layer for layer in task.modules() if isinstance(layer, Layer)]
    assert [group[0] for group in groups[1:]] == layers
    assert not any(isinstance(part, Layer) for part in groups[0])


def test_a_weight_that_no_loss_reaches_gets_no_gradient():
    pair = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    with half_weights(pair):
        pair[0](torch.randn(1, 3).bfloat16()).sum().backward()
    assert pair[0].weight.grad is not None and pair[1].weight.grad is None


def test_a_training_step_in_bf16_moves_the_weights_as_one_in_fp32_does():
    moves = []
    for precision in ("fp32", "bf16"):
        config = small(precision=precision, lr=1e-2, warmup_steps=0)
        torch.manual_seed(0)
        task = pretrain(config)
        before = torch.cat([p.detach().flatten() for p in task.student.parameters()])
        optimiser = torch.optim.SGD(train.parameter_groups(task, config), lr=1e-2)
        train.train_step(task, task, optimiser, Batches(config)(0), 0, config, CPU)
        after = torch.cat([p.detach().flatten() for p in task.student.parameters()])
        assert after.dtype == torch.float32
        moves.append(after - before)
    assert torch.cosine_similarity(*moves, 0) > 0.98


def test_the_gelu_that_is_computed_again_gives_autograds_gradients():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    linear = nn.Linear(6, 3).double()
    inputs = (x, linear.weight, linear.bias)
    weights = torch.randn(2, 5, 3, dtype=torch.float64)
    ours = torch.autograd.grad((GeluLinear.apply(*inputs) * weights).sum(), inputs)
    theirs = torch.autograd.grad((linear(F.gelu(x)) * weights).sum(), inputs)
    assert_close(ours, theirs)
