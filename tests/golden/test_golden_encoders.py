"""The encoders against the original's recorded figures: tokens, features, masks,
norms' epsilons, positions, names."""

from torch import nn

from golden_encoders import CONFIG, encoders
from golden_rule import wrong
from minalbef.albef import ALBEF


def test_encoders_compute_what_the_original_computes():
    assert wrong(encoders()) == {}


def test_norms_that_no_faint_input_reaches_have_berts_epsilon():
    model = ALBEF(CONFIG)
    norms = [part for home in (model.fusion, model.word_head)
             for part in home.modules() if isinstance(part, nn.LayerNorm)]
    assert len(norms) == 7 and {norm.eps for norm in norms} == {1e-12}
