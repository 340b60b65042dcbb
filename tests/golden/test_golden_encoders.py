"""The encoders against the original's recorded figures: tokens, features, masks,
norms' epsilons, positions, names."""

from torch import nn

from golden_encoders import CONFIG, encoders
from golden_rule import checksum, figures, image, off, original_state, wrong
from minalbef.albef import ALBEF


def test_encoders_compute_what_the_original_computes():
    assert wrong(encoders()) == {}


def test_norms_that_no_faint_input_reaches_have_berts_epsilon():
    model = ALBEF(CONFIG)
    norms = [part for home in (model.fusion, model.word_head)
             for part in home.modules() if isinstance(part, nn.LayerNorm)]
    assert len(norms) == 7 and {norm.eps for norm in norms} == {1e-12}


def test_nothing_recorded_of_the_encoders_is_left_out():
    inputs = {"image", "input_ids", "attention_mask", "image_mask_partial", "pos_embed_src"}
    assert set(figures("encoders")["arrays"]) - inputs == set(encoders()) - {"pairs"}


def test_weights_and_picture_are_made_as_the_original_had_them():
    recorded = figures("encoders")
    state = original_state(recorded["state_keys"])
    for name, expected in recorded["weight_checksums"].items():
        total, norm, shape = checksum(state[name])
        assert shape == expected[2]
        assert off([total, norm], expected[:2], 1e-6) <= 1, name
    assert image("input.image", 4, 3, 32, 32).equal(recorded["arrays"]["image"])
