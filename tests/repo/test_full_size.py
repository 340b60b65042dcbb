"""The model at the paper's size: shapes, parameter counts, and the memory that loading costs."""

import pytest
import torch

from golden_rule import figures
from minalbef.albef import ALBEF
from minalbef.presets import preset
from minalbef.pretrain import Pretrain
from minalbef.weights import key_table
from original_keys import PRETRAINING


def parameters(*parts: torch.nn.Module) -> int:
    return sum(p.numel() for part in parts for p in part.parameters())


@pytest.mark.parametrize("name", ["paper-4m", "paper-14m"])
def test_the_paper_presets_have_the_originals_parameter_counts(name):
    with torch.device("meta"):
        model = ALBEF(preset(name))
    assert parameters(model.image_encoder) == 85_844_736
    assert parameters(model.text_encoder, model.fusion, model.word_head) == 123_697_722
    assert parameters(model) == 209_937_725
    counts = figures("full_state_dict_keys")["counts"]
    assert parameters(model.text_encoder.embeddings) == counts["embeddings"]
    assert parameters(model.text_encoder.layers) == counts["text_layers_0_5"]
    assert parameters(model.fusion) == counts["fusion_layers_6_11"]
    crossing = [part for layer in model.fusion.layers for part in (layer.cross, layer.norm_cross)]
    assert parameters(*crossing) == counts["cross_attention"]
    assert parameters(model.word_head) == counts["mlm_head_only"]


def test_pretraining_at_full_size_has_every_key_and_shape_of_the_originals_checkpoint():
    with torch.device("meta"):
        task = Pretrain(preset("paper-4m"))
        queue = {"image": task.queue.image, "text": task.queue.text, "pointer": torch.zeros(1)}
        student = task.student.state_dict()
        written = key_table.write(student, task.teacher.state_dict(), queue, 6, True)
    assert len(written) == 844
    assert {key: tuple(value.shape) for key, value in written.items()} == PRETRAINING
