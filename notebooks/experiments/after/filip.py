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
from minalbef.albef import full
from minalbef.evaluation.ranking import Encoded

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
        """Each word in the shared space, of length 1, and whether it is no padding, as 1 or 0.

        (b, l, d) -> (b, l - 1, e + 1)
        """
        assert keep is not None
        words = F.normalize(full(self.text_proj(text_tokens[:, 1:])), dim=-1)
        return torch.cat([words, keep[:, 1:, None].to(words.dtype)], 2)


    def image_to_text(self, image: Tensor, texts: Tensor) -> Tensor:
        """ITC of images with texts, by their patches; the texts' last column is `keep`."""
        return late_interaction(image, *split_keep(texts))[0] / self.temperature

    def text_to_image(self, text: Tensor, images: Tensor) -> Tensor:
        """ITC of texts with images, by their words."""
        return late_interaction(images, *split_keep(text))[1].T / self.temperature


def split_keep(text: Tensor) -> tuple[Tensor, Tensor]:
    """FILIP.text_feature -> the words' features (t, l, e), and which are no padding, (t, l)."""
    return text[..., :-1], text[..., -1] > 0


class FILIPPretrain(InBatch):
    """Pretraining with ITC by late interaction."""

    def __init__(self, config: Config, **options: Any):
        super().__init__(config, student=FILIP(config), **options)


@torch.no_grad()
def late_similarity(model: FILIP, encoded: Encoded) -> Tensor:
    """In place of ranking.similarity, the mean of both ways: -> (i, t)."""
    words, is_word = split_keep(model.text_feature(encoded.text, encoded.keep))
    similarities = []
    for image in encoded.image.split(CHUNK):
        by_patches, by_words = late_interaction(model.image_feature(image), words, is_word)
        similarities.append((by_patches + by_words) / 2)
    return torch.cat(similarities)
