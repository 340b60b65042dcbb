"""layers: attention against torch's own, and what padding and dropout may do."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from helpers import disturb, gradients
from minalbef.layers import Attention, init_weights, record_weights


def torchs(layer: Attention) -> nn.MultiheadAttention:
    """torch's attention with our weights."""
    width = layer.q.out_features
    source = layer.k.in_features
    reference = nn.MultiheadAttention(width, layer.heads, kdim=source,
                                      vdim=source, batch_first=True)
    with torch.no_grad():
        parts = [layer.q, layer.k, layer.v]
        if reference.in_proj_weight is None:
            for name, part in zip(("q", "k", "v"), parts):
                getattr(reference, f"{name}_proj_weight").copy_(part.weight)
        else:
            reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        reference.out_proj.load_state_dict(layer.proj.state_dict())
    return reference


@pytest.mark.parametrize("source_width", [None, 32])
def test_attention_equals_torchs_in_outputs_weights_and_gradients(source_width):
    torch.manual_seed(0)
    layer = disturb(Attention(48, 4, source_width))
    reference = torchs(layer)
    x = torch.randn(3, 5, 48, requires_grad=True)
    source = x if source_width is None else torch.randn(3, 7, 32, requires_grad=True)
    keep = torch.arange(source.shape[1]) < torch.tensor([source.shape[1], 3, 1])[:, None]
    with record_weights(layer) as recorded:
        y = layer(x, None if source_width is None else source, keep)
    weights, = recorded
    y2, weights2 = reference(x, source, source, key_padding_mask=~keep,
                             average_attn_weights=False)
    assert_close(y, y2, atol=1e-5, rtol=1e-5)
    assert_close(weights, weights2)
    leaves = (x,) if source_width is None else (x, source)
    assert_close(gradients(y, *leaves), gradients(y2, *leaves), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(layer(x, None if source_width is None else source), y), (
        "the mask does nothing")


def test_init_touches_matrices_and_embeddings_alone():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3)
    before = conv.weight.clone()
    module = nn.ModuleList([nn.Linear(200, 200), nn.Embedding(200, 100, padding_idx=0),
                            nn.LayerNorm(9), conv])
    init_weights(module, 0.05)
    linear, table, norm, _ = module
    assert abs(linear.weight.std() - 0.05) < 0.002
    assert abs(table.weight[1:].std() - 0.05) < 0.002
    assert linear.bias.eq(0).all() and table.weight[0].eq(0).all()
    assert norm.weight.eq(1).all()
    assert norm.bias.eq(0).all()
    assert conv.weight.equal(before)
