"""BLIP's captioning objective (Li et al. 2022, 2201.12086), in place of MLM.

Changes: a third pass of the text, through layers whose words see those before them alone and the
image, predicts each next word, with labels smoothed by 0.1. These layers share all their weights
with text encoder and fusion, but for self-attention and its norm, as in the paper. ITC with teacher
and queue, and ITM with hard negatives, stay ALBEF's. CapFilt is in capfilt.py.
Leaves out: ITC's soft targets (alpha is 0 in tiny's recipe). In BLIP all layers read the image;
here the upper two do, as ALBEF's.
"""
import copy
from typing import Any, TypeVar

from torch import Tensor, nn

from captioning import add_end, caption_loss, causal
from minalbef import ALBEF, Config
from minalbef.pretrain import Draws, Phase, PretrainBatch
from minalbef.scenes.pretrain import FastScenePretrain

SMOOTHING = 0.1
M = TypeVar("M", bound=nn.Module)


def with_own_attention(encoder: M) -> M:
    """A copy of an encoder that shares all weights but those of self-attention and its norm."""
    shared = {}
    for name, p in encoder.named_parameters():
        if ".attn." not in name and ".norm1." not in name:
            shared[id(p)] = p
    return copy.deepcopy(encoder, shared)        # deepcopy keeps what it finds in its memo


class BLIP(ALBEF):
    """ALBEF, and its layers once more as a decoder."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.causal_text = with_own_attention(self.text_encoder)
        self.causal_fusion = with_own_attention(self.fusion)

    def next_word_logits(self, tokens: Tensor, keep: Tensor, image_tokens: Tensor) -> Tensor:
        """See captioning.py."""
        visible = causal(keep)
        text = self.causal_text(tokens, visible)
        return self.word_logits(self.causal_fusion(text, visible, image_tokens))


class BLIPPretrain(FastScenePretrain):
    """Pretraining by ITC, ITM and captioning."""

    def __init__(self, config: Config, **options: Any):
        super().__init__(config, student=BLIP(config), without=("mlm",), **options)
        self.end = self.special[3]                       # [SEP]

    def own_losses(self, batch: PretrainBatch, image: Tensor, text: Tensor, draws: Draws,
                   phase: Phase) -> dict[str, Tensor]:
        """Captioning of each image, up to the token that ends it, from where MLM begins in ALBEF."""
        if not phase.match:
            return {}
        tokens, keep = add_end(batch.tokens, batch.keep, self.end)
        logits = self.student.next_word_logits(tokens, keep, image)
        return {"caption": caption_loss(logits, tokens, keep, SMOOTHING)}
