"""text: the encoder against Hugging Face's BertModel, the word head against its own."""
import pytest
import torch
from torch.testing import assert_close
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertLMPredictionHead

from helpers import copy_weights, disturb, gradients, same_dropout, small, texts
from hugging_face import bert_config, layer_pairs
from minalbef.text import TextEncoder, WordHead


def both(config) -> tuple[TextEncoder, BertModel]:
    torch.manual_seed(0)
    theirs = disturb(BertModel(bert_config(config, config.text_depth),
                               add_pooling_layer=False)).train()
    ours = TextEncoder(config)
    table = theirs.embeddings
    copy_weights([(ours.embeddings.word_embed, table.word_embeddings),
                  (ours.embeddings.pos_embed, table.position_embeddings),
                  (ours.embeddings.type_embed, table.token_type_embeddings),
                  (ours.embeddings.norm, table.LayerNorm)])
    for layer, other in zip(ours.layers, theirs.encoder.layer, strict=True):
        copy_weights(layer_pairs(layer, other))
    return ours, theirs


# faint: the first norm's eps shows
@pytest.mark.parametrize("faint, dropout", [(1.0, 0.0), (1e-6, 0.0), (1.0, 0.3)])
def test_encoder_equals_bert_in_outputs_and_gradients(faint, dropout):
    ours, theirs = both(small(text_depth=2, text_mlp_ratio=3.0, dropout=dropout))
    with torch.no_grad():
        for model in (ours.embeddings, theirs.embeddings):
            for name, p in model.named_parameters():
                p *= faint if "norm" not in name.lower() else 1
    tokens, keep = texts(3, 9)
    with same_dropout():
        y = ours(tokens, keep)
    with same_dropout():
        y2 = theirs(tokens, attention_mask=keep.long()).last_hidden_state
    assert_close(y[keep], y2[keep], atol=1e-5, rtol=1e-5)
    g, g2 = (gradients(out * keep[..., None], *(model.get_parameter(name) for name in names))
             for out, model, names in (
        (y, ours, ("layers.0.attn.v.weight", "layers.1.norm2.weight")),
        (y2, theirs, ("encoder.layer.0.attention.self.value.weight",
                      "encoder.layer.1.output.LayerNorm.weight"))))
    assert_close(g, g2, atol=1e-4, rtol=1e-4)
    ours.embeddings.norm.eps = 1e-5
    assert not torch.allclose(ours(tokens, keep)[keep], y2[keep],
                              atol=1e-5, rtol=1e-5) or faint == 1, (
        "blind to eps")


def test_a_text_longer_than_the_positions_is_refused():
    tokens, keep = texts(2, 13)
    with pytest.raises(ValueError, match="13 tokens are more than the model's 12 positions"):
        TextEncoder(small())(tokens, keep)


def test_word_head_equals_berts_in_outputs_and_gradients():
    torch.manual_seed(0)
    config = small()
    theirs = disturb(BertLMPredictionHead(bert_config(config, 1)))
    ours = WordHead(config)
    copy_weights([(ours.dense, theirs.transform.dense),
                  (ours.norm, theirs.transform.LayerNorm)])
    with torch.no_grad():
        ours.bias.copy_(theirs.decoder.bias)
    x = torch.randn(3, 9, 48, requires_grad=True)
    y = ours(x, theirs.decoder.weight)
    y2 = theirs(x)
    assert y.shape == (3, 9, 64)
    assert_close(y, y2, atol=1e-5, rtol=1e-5)
    assert_close(gradients(y, x, theirs.decoder.weight, ours.dense.weight),
                 gradients(y2, x, theirs.decoder.weight, theirs.transform.dense.weight),
                 atol=1e-4, rtol=1e-4)
