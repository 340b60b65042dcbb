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
    "key, name",
    [
        (
            "text_encoder.bert.encoder.layer.5.attention.self.key.weight",
            "text_encoder.layers.5.attn.k.weight",
        ),
        (
            "text_encoder.encoder.layer.7.crossattention.self.value.bias",
            "fusion.layers.1.cross.v.bias",
        ),
        (
            "text_encoder.bert.encoder.layer.0.intermediate.dense.bias",
            "text_encoder.layers.0.mlp.fc1.bias",
        ),
        ("text_encoder.cls.predictions.transform.LayerNorm.bias", "word_head.norm.bias"),
        ("text_encoder.cls.predictions.bias", "word_head.bias"),
        (
            "text_decoder.bert.encoder.layer.3.crossattention.output.dense.bias",
            "decoder.layers.3.cross.proj.bias",
        ),
        ("cls_head.2.weight", "head.2.weight"),
        ("ta_head.weight", "head.weight"),
    ],
)
def test_names_mean_what_they_should(key, name):
    bert = ".bert." in key
    head = "ta_head" if key.startswith("ta_head") else "cls_head"
    assert key_table.names(6, bert, head)[key] == name


@pytest.mark.parametrize(
    "name",
    ["image_encoder.patch_embed.down.0.0.weight",
     "fusion.layers.0.gate.weight", "extra.weight"],
)
def test_a_weight_that_the_original_lacks_is_not_written(name):
    with pytest.raises(ValueError, match=f"{name}: the original has no such weight"):
        key_table.write({name: torch.zeros(1)}, {}, {}, 6, True)


def test_the_queue_turns_its_columns_into_rows():
    queue = torch.arange(6.0).reshape(2, 3)  # two numbers a feature, three features
    assert key_table.read({"image_queue": queue}).queue["image"][1].tolist() == [1, 4]


def test_queries_keys_and_values_lie_in_this_order():
    thirds = key_table.read({"visual_encoder.blocks.0.attn.qkv.bias": torch.arange(6)}).student
    assert {name[-6]: value.tolist() for name, value in thirds.items()} == {
        "q": [0, 1], "k": [2, 3], "v": [4, 5],
    }


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
