"""layers: attention against torch's own, and what padding and dropout may do."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from helpers import disturb, gradients
from minalbef.layers import MLP, Attention, init_weights, record_weights


def torchs(ours: Attention) -> nn.MultiheadAttention:
    """torch's attention with our weights."""
    width, source = ours.q.out_features, ours.k.in_features
    theirs = nn.MultiheadAttention(width, ours.heads, kdim=source, vdim=source, batch_first=True)
    with torch.no_grad():
        parts = [ours.q, ours.k, ours.v]
        if theirs.in_proj_weight is None:
            for name, part in zip(("q", "k", "v"), parts):
                getattr(theirs, f"{name}_proj_weight").copy_(part.weight)
        else:
            theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.load_state_dict(ours.proj.state_dict())
    return theirs


@pytest.mark.parametrize("source_width", [None, 32])
def test_attention_equals_torchs_in_outputs_weights_and_gradients(source_width):
    torch.manual_seed(0)
    ours = disturb(Attention(48, 4, source_width))
    theirs = torchs(ours)
    x = torch.randn(3, 5, 48, requires_grad=True)
    source = x if source_width is None else torch.randn(3, 7, 32, requires_grad=True)
    keep = torch.arange(source.shape[1]) < torch.tensor([source.shape[1], 3, 1])[:, None]
    with record_weights(ours) as recorded:
        y = ours(x, None if source_width is None else source, keep)
    weights, = recorded
    y2, weights2 = theirs(x, source, source, key_padding_mask=~keep, average_attn_weights=False)
    assert_close(y, y2, atol=1e-5, rtol=1e-5)
    assert_close(weights, weights2)
    wanted = (x,) if source_width is None else (x, source)
    assert_close(gradients(y, *wanted), gradients(y2, *wanted), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours(x, None if source_width is None else source), y), "the mask does nothing"


def test_recording_weights_changes_nothing_else():
    attn = disturb(Attention(32, 4))
    x, keep = torch.randn(3, 6, 32, requires_grad=True), torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    plain = attn(x, keep=keep)
    with record_weights(attn) as recorded:
        slow = attn(x, keep=keep)
    weights, = recorded
    assert_close(slow, plain)
    assert_close(gradients(slow, x, *attn.parameters()), gradients(plain, x, *attn.parameters()))
    assert_close(weights.sum(-1), torch.ones(3, 4, 6))
    assert weights[1, :, :, 4:].eq(0).all() and weights[1, :, :, :4].gt(0).all()


def test_padding_cannot_be_seen():
    attn = disturb(Attention(32, 4))
    x, keep = torch.randn(3, 6, 32), torch.arange(6) < torch.tensor([6, 3, 2])[:, None]
    other = torch.where(keep[..., None], x, 99.0)
    assert_close(attn(other, keep=keep)[keep], attn(x, keep=keep)[keep])
    assert not torch.allclose(attn(other)[keep], attn(x)[keep]), "the check is blind"


def test_ready_keys_and_values_stand_for_the_source():
    attn = disturb(Attention(48, 4, 32))
    x, source = torch.randn(3, 5, 48), torch.randn(3, 7, 32)
    assert_close(attn(x, keys_values=(attn.k(source), attn.v(source))), attn(x, source))


def test_attention_drops_out_in_training_alone():
    torch.manual_seed(0)
    attn, x = Attention(32, 4, dropout=0.5), torch.randn(3, 6, 32)
    assert not torch.allclose(attn(x), attn(x))
    with record_weights(attn):
        assert not torch.allclose(attn(x), attn(x))
        undropped = attn.eval()(x)
    assert_close(attn(x), attn(x))
    assert_close(undropped, attn(x))


@pytest.mark.parametrize("training, share", [(True, 0.3), (False, 0.0)])
def test_attention_on_a_gpu_drops_out_in_training_alone(training, share, monkeypatch):
    """There a fused kernel drops out, as it is told. Tensors on "meta" stand for a GPU's."""
    seen, fused = [], F.scaled_dot_product_attention
    def remember(*given, dropout_p, **named):
        seen.append(dropout_p)
        return fused(*given, dropout_p=dropout_p, **named)
    monkeypatch.setattr(F, "scaled_dot_product_attention", remember)
    attn = Attention(32, 4, dropout=0.3).to("meta").train(training)
    attn(torch.empty(3, 6, 32, device="meta"))
    assert seen == [share]


def test_mlp_by_hand():
    mlp = MLP(1, 1)
    for layer, weight, bias in ((mlp.fc1, 2.0, -1.0), (mlp.fc2, 3.0, 0.5)):
        nn.init.constant_(layer.weight, weight)
        nn.init.constant_(layer.bias, bias)
    inner = 2 * 0.75 - 1
    exact = inner * (1 + math.erf(inner / 2 ** 0.5)) / 2         # the tanh form differs at the fourth digit
    assert_close(mlp(torch.tensor([[0.75]])), torch.tensor([[3 * exact + 0.5]]), atol=1e-6, rtol=0)


def test_init_touches_matrices_and_embeddings_alone():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3)
    before = conv.weight.clone()
    module = nn.ModuleList([nn.Linear(200, 200), nn.Embedding(200, 100, padding_idx=0), nn.LayerNorm(9), conv])
    init_weights(module, 0.05)
    linear, table, norm, _ = module
    assert abs(linear.weight.std() - 0.05) < 0.002 and abs(table.weight[1:].std() - 0.05) < 0.002
    assert linear.bias.eq(0).all() and table.weight[0].eq(0).all()
    assert norm.weight.eq(1).all() and norm.bias.eq(0).all() and conv.weight.equal(before)
