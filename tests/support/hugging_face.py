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


def layer_pairs(ours, theirs):
    """(ours, theirs) of a self-attention and an MLP."""
    attention = theirs.attention
    return [
        (ours.attn.q, attention.self.query),
        (ours.attn.k, attention.self.key),
        (ours.attn.v, attention.self.value),
        (ours.attn.proj, attention.output.dense),
        (ours.norm1, attention.output.LayerNorm),
        (ours.mlp.fc1, theirs.intermediate.dense),
        (ours.mlp.fc2, theirs.output.dense),
        (ours.norm2, theirs.output.LayerNorm),
    ]
