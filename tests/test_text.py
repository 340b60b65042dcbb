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
    bert = disturb(BertModel(bert_config(config, config.text_depth),
                             add_pooling_layer=False)).train()
    encoder = TextEncoder(config)
    table = bert.embeddings
    copy_weights([(encoder.embeddings.word_embed, table.word_embeddings),
                  (encoder.embeddings.pos_embed, table.position_embeddings),
                  (encoder.embeddings.type_embed, table.token_type_embeddings),
                  (encoder.embeddings.norm, table.LayerNorm)])
    for layer, bert_layer in zip(encoder.layers, bert.encoder.layer, strict=True):
        copy_weights(layer_pairs(layer, bert_layer))
    return encoder, bert


# faint: the first norm's eps shows
@pytest.mark.parametrize("faint, dropout", [(1.0, 0.0), (1e-6, 0.0), (1.0, 0.3)])
def test_encoder_equals_bert_in_outputs_and_gradients(faint, dropout):
    encoder, bert = both(small(text_depth=2, text_mlp_ratio=3.0, dropout=dropout))
    with torch.no_grad():
        for model in (encoder.embeddings, bert.embeddings):
            for name, p in model.named_parameters():
                p *= faint if "norm" not in name.lower() else 1
    tokens, keep = texts(3, 9)
    with same_dropout():
        y = encoder(tokens, keep)
    with same_dropout():
        y2 = bert(tokens, attention_mask=keep.long()).last_hidden_state
    assert_close(y[keep], y2[keep], atol=1e-5, rtol=1e-5)
    g, g2 = (gradients(out * keep[..., None], *(model.get_parameter(name) for name in names))
             for out, model, names in (
        (y, encoder, ("layers.0.attn.v.weight", "layers.1.norm2.weight")),
        (y2, bert, ("encoder.layer.0.attention.self.value.weight",
                    "encoder.layer.1.output.LayerNorm.weight"))))
    assert_close(g, g2, atol=1e-4, rtol=1e-4)
    encoder.embeddings.norm.eps = 1e-5
    assert not torch.allclose(encoder(tokens, keep)[keep], y2[keep],
                              atol=1e-5, rtol=1e-5) or faint == 1, (
        "blind to eps")


def test_a_text_longer_than_the_positions_is_refused():
    tokens, keep = texts(2, 13)
    with pytest.raises(ValueError, match="13 tokens are more than the model's 12 positions"):
        TextEncoder(small())(tokens, keep)


def test_word_head_equals_berts_in_outputs_and_gradients():
    torch.manual_seed(0)
    config = small()
    bert = disturb(BertLMPredictionHead(bert_config(config, 1)))
    encoder = WordHead(config)
    copy_weights([(encoder.dense, bert.transform.dense),
                  (encoder.norm, bert.transform.LayerNorm)])
    with torch.no_grad():
        encoder.bias.copy_(bert.decoder.bias)
    x = torch.randn(3, 9, 48, requires_grad=True)
    y = encoder(x, bert.decoder.weight)
    y2 = bert(x)
    assert y.shape == (3, 9, 64)
    assert_close(y, y2, atol=1e-5, rtol=1e-5)
    assert_close(gradients(y, x, bert.decoder.weight, encoder.dense.weight),
                 gradients(y2, x, bert.decoder.weight, bert.transform.dense.weight),
                 atol=1e-4, rtol=1e-4)
