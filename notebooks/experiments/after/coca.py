"""CoCa (Yu et al. 2022, 2205.01917): contrast and captions from one pass of the text.

Changes: words see the words before them alone. The lower layers never see the image, and their last
word stands for the text in ITC; the upper layers read the image and predict each next word. One
pass of the text serves both losses; captions weigh 2, ITC 1. No ITM, no MLM, no teacher, no queue.
Leaves out: attentional pooling of the image, of which fusion reads all patches and ITC [CLS], as in
ALBEF; a learnt token behind the text, for which its last word stands in; labels as captions; a
token that ends a caption, as captions are scored here and not written.
"""
from typing import Any

import torch
from torch import Tensor

from captioning import caption_loss, causal
from in_batch import InBatch
from minalbef import ALBEF, Config
from minalbef.fusion import Images
from minalbef.pretrain import Draws, Phase, PretrainBatch
from minalbef.text import TextEncoder


class CausalText(TextEncoder):
    """The text encoder whose words see those before them alone."""

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """(b, l) -> (b, l, d)"""
        return super().forward(tokens, causal(keep))

    def pool(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """The last word, which alone has seen all of them: (b, l, d) -> (b, d)."""
        assert keep is not None
        return x[torch.arange(len(x), device=x.device), keep.sum(1) - 1]


class CoCa(ALBEF):
    """ALBEF with causal masks."""

    def __init__(self, config: Config):
        super().__init__(config, text_encoder=CausalText(config))

    def fuse(self, text_tokens: Tensor, keep: Tensor, image_tokens: Images | None,
             image_keep: Tensor | None = None, **options: Any) -> Tensor:
        """See ALBEF.fuse; each word reads the image and the words before it."""
        return super().fuse(text_tokens, causal(keep), image_tokens, image_keep, **options)

    def next_word_logits(self, tokens: Tensor, keep: Tensor, image_tokens: Tensor) -> Tensor:
        """See captioning.py."""
        text = self.encode_text(tokens, keep)
        return self.word_logits(self.fuse(text, keep, image_tokens))


class CoCaPretrain(InBatch):
    """Pretraining by ITC and captioning."""

    def __init__(self, config: Config, **options: Any):
        super().__init__(config, student=CoCa(config), without=("itm", "mlm"), **options)

    def weights(self, step: int) -> dict[str, float]:
        """The paper's weight of captioning."""
        return {"caption": 2.0}

    def own_losses(self, batch: PretrainBatch, image: Tensor, text: Tensor, draws: Draws,
                   phase: Phase) -> dict[str, Tensor]:
        """Captioning of ITC's text, from where ITM and MLM begin in ALBEF's recipe."""
        if not phase.match:
            return {}
        fused = self.student.fuse(text, batch.keep, image)
        logits = self.student.word_logits(fused)
        return {"caption": caption_loss(logits, batch.tokens, batch.keep)}
