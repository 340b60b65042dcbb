"""FILIP's late interaction (Yao et al. 2021, 2111.07783): ITC compares patches with words.

Changes: an image has a feature for each patch and a text for each word. An image's similarity to a
text is the mean, over its patches, of the best word's; a text's to an image is the mean, over its
words, of the best patch's. The two differ. No teacher, no queue, as in the paper.
Leaves out: its choice of the tokens that count, by which it saves memory, and prompts. FILIP has no
fusion; we keep ITM and MLM. [CLS] is no patch and no word here. Evaluation ranks by the mean of
both similarities.
"""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from in_batch import InBatch
from minalbef import ALBEF, Config
from minalbef.evaluation.ranking import Encoded
from minalbef.layers import full
from minalbef.tasks.pretrain import Carry, PretrainBatch, Similarities

CHUNK = 50                            # images compared at a time; 500 of them would take gigabytes


def late_interaction(image: Tensor, text: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Each image with each text, by the image's patches and by the text's words.

    image (i, n, e), text (t, l, e), of length 1; keep (t, l) bool  ->  (i, t) and (i, t)
    """
    each = torch.einsum("ine,tle->itnl", image, text)
    by_patches = each.masked_fill(~keep[:, None], -2).amax(3).mean(2)        # a cosine is above -2
    by_words = (each.amax(2) * keep).sum(2) / keep.sum(1)
    return by_patches, by_words


class FILIP(ALBEF):
    """ALBEF with features of patches and of words."""

    def image_feature(self, image_tokens: Tensor) -> Tensor:
        """Each patch in the shared space: (b, 1 + n, d) -> (b, n, e), of length 1."""
        return F.normalize(full(self.image_proj(image_tokens[:, 1:])), dim=-1)

    def text_feature(self, text_tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Each word in the shared space: (b, l, d) -> (b, l - 1, e), of length 1."""
        return F.normalize(full(self.text_proj(text_tokens[:, 1:])), dim=-1)


class FILIPPretrain(InBatch):
    """Pretraining with ITC by late interaction."""

    def __init__(self, config: Config, **options: Any):
        super().__init__(config, student=FILIP(config), **options)

    def compare(self, features: tuple[Tensor, Tensor], teacher_features: tuple[Tensor, Tensor],
                carry: Carry, batch: PretrainBatch, queued: bool) -> Similarities:
        """See Pretrain.compare: images with texts by patches, texts with images by words."""
        by_patches, by_words = late_interaction(*features, batch.keep[:, 1:])
        student = (by_patches / self.student.temperature, by_words.T / self.student.temperature)
        teacher = (student[0].detach(), student[1].detach())
        positives, excluded = self.positives(batch, carry[2], len(carry[2]))
        return Similarities(student, teacher, positives, excluded)


@torch.no_grad()
def late_similarity(model: FILIP, encoded: Encoded) -> Tensor:
    """In place of ranking.similarity, the mean of both ways: -> (i, t)."""
    words = model.text_feature(encoded.text)
    similarities = []
    for image in encoded.image.split(CHUNK):
        by_patches, by_words = late_interaction(model.image_feature(image), words,
                                                encoded.keep[:, 1:])
        similarities.append((by_patches + by_words) / 2)
    return torch.cat(similarities)
