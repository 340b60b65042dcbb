"""names: every key of the original's, small with real numbers and at full size,
is understood and written back."""

import pytest
import torch

from helpers import same_state
from minalbef.albef import ALBEF
from minalbef.presets import preset
from minalbef.weights import key_table
from original_files import small_state
from original_keys import PRETRAINING, SCRIPTS, full_state, shapes

SMALL = {
    "encoders": "cls_head", "retrieval": "cls_head", "ve": "cls_head", "vqa_small": "cls_head",
    "vqa_native": "cls_head", "nlvr_small": "cls_head", "nlvr_native": "cls_head",
    "nlvr_ta_small": "ta_head", "nlvr_ta_native": "ta_head",
}


def round_trip(state: dict, head: str = "cls_head") -> dict:
    parts = key_table.read(state)
    assert not parts.unknown and parts.ours.keys() == state.keys()
    return key_table.write(
        parts.student, parts.teacher, parts.queue, parts.fusion_from, parts.bert, head
    )


@pytest.mark.parametrize("file", SMALL)
def test_small_checkpoints_come_back_the_same(file):
    state = small_state(file)
    assert same_state(round_trip(state, SMALL[file]), state)


@pytest.mark.parametrize("task", SCRIPTS)
def test_full_checkpoints_come_back_the_same(task):
    state = full_state(task)
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes(task)
    assert same_state(
        round_trip(state, "ta_head" if task == "text_assignment" else "cls_head"), state
    )


@pytest.mark.parametrize(
    "name",
    ["image_encoder.patch_embed.down.0.0.weight",
     "fusion.layers.0.gate.weight", "extra.weight"],
)
def test_a_weight_that_the_original_lacks_is_not_written(name):
    with pytest.raises(ValueError, match=f"{name}: the original has no such weight"):
        key_table.write({name: torch.zeros(1)}, {}, {}, 6, True)


def test_a_tied_weight_that_differs_is_refused():
    key = "text_encoder.cls.predictions.decoder.weight"
    state = small_state("encoders")
    state[key] = state[key] + 1e-3
    refusal = f"{key} differs from text_encoder.bert.embeddings.word_embeddings"
    with pytest.raises(ValueError, match=refusal):
        key_table.read(state)


def test_our_model_has_the_weights_of_the_pretraining_file_and_no_others():
    with torch.device("meta"):
        weights = ALBEF(preset("paper-4m")).state_dict()
    checkpoint = key_table.read(
        {
            key: torch.empty(shape, device="meta")
            for key, shape in PRETRAINING.items()
            if "cls.predictions.decoder" not in key
        }
    )
    assert {name: value.shape for name, value in checkpoint.student.items()} == {
        name: value.shape for name, value in weights.items()
    }
