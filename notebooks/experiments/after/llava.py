"""LLaVA's way (Liu et al. 2023, 2304.08485): a frozen image encoder before a causal language model.

Changes: a linear layer makes words of an image's patches; they stand before the text in a causal
language model as deep as ALBEF's text encoder and fusion together. It learns to answer one request,
to describe the image, by the likelihood of each next word. No ITC, ITM, MLM, teacher or queue; the
image encoder never changes.
Leaves out: LLaVA's language model knows English before, this one learns it from the captions; the
first stage, in which the linear layer alone is trained; conversations; a token that ends a caption,
as captions are scored here and not written. LLaVA's image encoder is CLIP's. `llava` takes the
start that all recipes here begin from, which knows drawings but not these objects; `llava-trained`
that of tiny-paper, trained by ITC on 121,600 pairs, which others paid for.
"""
from typing import Any

import torch
from torch import Tensor, nn

from captioning import caption_loss, causal
from minalbef import Config
from minalbef.ema import Trainable
from minalbef.layers import init_weights
from minalbef.pretrain import PretrainBatch
from minalbef.text import Embeddings, TextLayer, WordHead
from minalbef.vision import ViT


class LLaVA(nn.Module):
    """A frozen image encoder, a linear layer and a causal language model."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.image_encoder = ViT(config).requires_grad_(False)
        self.connector = nn.Linear(config.image_width, config.text_width)
        self.embeddings = Embeddings(config)
        mlp_width = int(config.text_width * config.text_mlp_ratio)
        layers = [TextLayer(config.text_width, config.text_heads, mlp_width, config.dropout)
                  for _ in range(config.text_depth + config.fusion_depth)]
        self.layers = nn.ModuleList(layers)
        self.word_head = WordHead(config)
        for part in (self.connector, self.embeddings, self.layers, self.word_head):
            init_weights(part, config.init_std)

    def encode_image(self, image: Tensor) -> Tensor:
        """(b, 3, s, s) -> (b, 1 + n, d), of weights without a gradient."""
        return self.image_encoder(image)

    def next_word_logits(self, tokens: Tensor, keep: Tensor, image_tokens: Tensor) -> Tensor:
        """See captioning.py. Patches stand before the words, and [CLS] is left out."""
        prefix = self.connector(image_tokens[:, 1:])
        x = torch.cat([prefix, self.embeddings(tokens)], 1)
        visible = causal(torch.cat([keep.new_ones(prefix.shape[:2]), keep], 1))
        for layer in self.layers:
            x = layer(x, visible)
        return self.word_head(x[:, prefix.shape[1]:], self.embeddings.word_embed.weight)


class LLaVAPretrain(Trainable):
    """Learning to describe; a task as train.train_step takes it, without a teacher."""

    def __init__(self, config: Config, **options: Any):
        """options: what minalbef.pretrain hands to every task; nothing here is masked"""
        super().__init__()
        self.config = config
        self.student = LLaVA(config)

    def forward(self, batch: PretrainBatch, alpha: float, draws: None
                ) -> tuple[dict[str, Tensor], None]:
        """-> the loss by name, and nothing for `after_step`."""
        image = self.student.encode_image(batch.image)
        logits = self.student.next_word_logits(batch.tokens, batch.keep, image)
        return {"caption": caption_loss(logits, batch.tokens, batch.keep)}, None
