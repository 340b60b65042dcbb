"""Hugging Face's BERT at the size of ours, and which of its parts is which of ours."""

from transformers import BertConfig


def bert_config(config, layers: int, **more) -> BertConfig:
    return BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.text_width,
        num_hidden_layers=layers,
        num_attention_heads=config.text_heads,
        intermediate_size=int(config.text_width * config.text_mlp_ratio),
        max_position_embeddings=config.positions,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        attn_implementation="eager",
        **more,
    )


def layer_pairs(layer, bert):
    """(ours, theirs) of a self-attention and an MLP."""
    attention = bert.attention
    return [
        (layer.attn.q, attention.self.query),
        (layer.attn.k, attention.self.key),
        (layer.attn.v, attention.self.value),
        (layer.attn.proj, attention.output.dense),
        (layer.norm1, attention.output.LayerNorm),
        (layer.mlp.fc1, bert.intermediate.dense),
        (layer.mlp.fc2, bert.output.dense),
        (layer.norm2, bert.output.LayerNorm),
    ]
