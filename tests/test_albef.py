"""albef: the whole model has the parts, names and sizes that others rely on."""
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from helpers import Batches, disturb, gradients, small, texts
from minalbef.albef import ALBEF
from minalbef.presets import preset
from minalbef.pretrain import Pretrain
from minalbef.scenes.evaluation import evaluate_scenes
from untrained import untrained


def count(*modules) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def model() -> ALBEF:
    torch.manual_seed(0)
    return disturb(ALBEF(small()))


def test_the_papers_model_has_the_parameters_of_the_released_checkpoint():
    with torch.device("meta"):
        m = ALBEF(preset("paper-4m"))
    assert count(m.image_encoder) == 85_844_736
    assert count(m.text_encoder, m.fusion, m.word_head) == 123_697_722
    assert count(m) == 209_937_725


def test_public_names_and_their_shapes():
    m = model()
    image = torch.randn(3, 3, 24, 24)
    tokens, keep = texts(3, 9)
    image_tokens = m.encode_image(image)
    text_tokens = m.encode_text(tokens, keep)
    fused = m.fuse(text_tokens, keep, image_tokens, torch.ones(3, 10, dtype=torch.bool))
    shapes = (image_tokens, text_tokens, fused,
              m.image_feature(image_tokens), m.text_feature(text_tokens),
              m.match_logits(fused), m.word_logits(fused))
    assert [tuple(x.shape) for x in shapes] == [(3, 10, 32), (3, 9, 48),
                                                (3, 9, 48), (3, 24), (3, 24), (3, 2),
                                                (3, 9, 64)]
    assert_close(fused, m.fuse(text_tokens, keep, image_tokens))
    assert m.temperature.shape == ()
    assert abs(m.temperature - 0.07) < 1       # disturbed, but a parameter
    assert m.word_logits(fused[keep]).shape == (int(keep.sum()), 64)


def test_the_word_head_shares_the_word_table():
    m = model()
    table = m.text_encoder.embeddings.word_embed.weight
    x = torch.randn(3, 48)
    (gradient,) = gradients(m.word_logits(x), table)
    assert gradient.ne(0).all(), "every word's row is reached, the padding's too"
    with torch.no_grad():
        before = m.word_logits(x)
        table[7] += 1
    changed = (m.word_logits(x) - before).abs().amax(0) > 1e-4
    assert changed[7] and changed.sum() == 1
    for key in m.state_dict():
        assert "decoder" not in key, "tied weights are stored once"


class TwoTemperatures(ALBEF):
    """A temperature for each direction of ITC."""

    def __init__(self, config):
        super().__init__(config)
        self.temperature = nn.Parameter(torch.tensor([0.05, 0.1]))

    def image_to_text(self, image, texts):
        return image @ texts.T / self.temperature[0]

    def text_to_image(self, text, images):
        return text @ images.T / self.temperature[1]


def test_a_temperature_per_direction_trains_and_is_evaluated_by_its_mean():
    run = untrained()
    run = replace(run, model=TwoTemperatures(run.config).eval())
    config = small()
    task = Pretrain(config, student=TwoTemperatures(config))
    losses, keys = task(Batches(config)(0), 0.4, task.draws(0))
    sum(losses.values()).backward()
    assert task.student.temperature.grad.shape == (2,)
    task.after_step(keys)
    assert task.student.temperature.tolist() == pytest.approx([0.05, 0.1])
    assert "temperature 0.075" in str(run)
    figures = evaluate_scenes(run, size=0.02)
    assert 0 <= figures["plain"]["rerank_i2t_r1"] <= 1
