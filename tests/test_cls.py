"""image_cls, text_cls: the same [CLS] as an encoder's that computes all tokens."""
import pytest
import torch
from torch.testing import assert_close

from helpers import small
from minalbef.albef import ALBEF
from minalbef.fast.cls import attend_cls, image_cls, text_cls


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_an_images_cls_is_the_first_of_all_tokens(stem):
    config = small(stem=stem, image_depth=2)
    encoder = ALBEF(config).eval().image_encoder
    image = torch.randn(3, 3, config.image_size, config.image_size)
    tokens = encoder(image)
    assert image_cls(encoder, image).shape == (3, 1, config.image_width)
    assert_close(image_cls(encoder, image), tokens[:, :1], atol=1e-5, rtol=1e-5)
    assert_close(attend_cls(encoder, encoder.patch_embed(image)), tokens[:, :1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_texts_cls_is_the_first_of_all_tokens_and_sees_no_padding(depth):
    config = small(text_depth=depth)
    encoder = ALBEF(config).eval().text_encoder
    tokens = torch.randint(5, config.vocab_size, (3, 6))
    keep = torch.ones(3, 6, dtype=torch.bool)
    keep[1, 3:] = False
    assert_close(text_cls(encoder, tokens, keep)[:, :1], encoder(tokens, keep)[:, :1], atol=1e-5, rtol=1e-5)
    if depth:
        assert text_cls(encoder, tokens, keep).shape == (3, 1, config.text_width)
        seen = text_cls(encoder, tokens, torch.ones_like(keep))
        assert (seen - text_cls(encoder, tokens, keep)).abs()[1].max() > 1e-4, "the check is blind"
