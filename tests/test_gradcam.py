"""Grad-CAM: the original's maps, small differences of one attention weight,
and what must be true of any map."""

import pytest
import torch

from golden_rule import figures
from golden_tasks import GOLDEN, golden_case
from helpers import disturb, small, texts
from minalbef.albef import ALBEF
from minalbef.evaluation import gradcam
from minalbef.evaluation.gradcam import (
    relevance,
    text_map,
    word_score,
)
from minalbef.layers import record_weights


def differences(name: str, model: ALBEF, pixels, tokens, keep) -> dict[str, float]:
    """Every recorded array of a case: the worst difference from ours, over what is allowed.

    Maps are as small as 1e-4, so what is allowed is a share of each array's maximum.
    """
    recorded = {key.removeprefix(name + "/"): value
                for key, value in figures("grounding")["arrays"].items()
                if key.startswith(name + "/")
                and not key.endswith(("input_ids", "attention_mask"))}
    assert len(recorded) == {"small": 9, "native": 3}[name]
    with torch.no_grad():
        image_tokens = model.encode_image(pixels)
        text = model.encode_text(tokens, keep)
    arrays = {"itm_logits": model.match_logits(model.fuse(text, keep, image_tokens))}
    for place in {key.split("/")[0] for key in recorded} - set(arrays):
        mode, block = place.split("_block")
        if mode == "itc":
            arrays[f"{place}/gradcam"] = gradcam.image_relevance(model, pixels, tokens,
                                                                 keep, int(block))
            continue
        # it counts BERT's layers, we count fusion's
        layer = int(block) - model.config.text_depth
        maps = gradcam.relevance(model, image_tokens, text, keep, layers=layer)
        with record_weights(model.fusion, "cross") as weights:
            fused = model.fuse(text, keep, image_tokens)
        gradient, = torch.autograd.grad(gradcam.match_score(model)(fused).sum(), weights[layer])
        mask = keep[:, None, :, None]
        arrays |= {f"{place}/gradcam_per_token": maps,
                   f"{place}/gradcam": gradcam.text_map(maps, torch.ones_like(keep)),
                   f"{place}/cams": weights[layer][..., 1:] * mask,
                   f"{place}/grads_clamped": gradient[..., 1:].clamp(min=0) * mask}
    return {key: ((arrays[key].reshape(value.shape) - value).abs().max()
                  / (2e-5 * value.abs().max())).item()
            for key, value in recorded.items()}


@pytest.mark.parametrize("name", GOLDEN)
def test_maps_are_the_originals(name):
    worst = differences(name, *golden_case(name))
    assert max(worst.values()) < 1, worst


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    model = disturb(ALBEF(small(fusion_depth=3))).eval()
    tokens, keep = texts(3, 8, lengths=[8, 5, 3])
    image = model.encode_image(torch.randn(3, 3, 24, 24)).detach()
    return model, image, tokens, keep, model.encode_text(tokens, keep).detach()


def test_no_word_but_cls_reaches_the_match_from_the_last_layer(case):
    model, image, tokens, keep, text = case
    last = relevance(model, image, text, keep, layers=-1)
    assert last[:, 1:].abs().max() == 0 and last[:, 0].max() > 0
    assert relevance(model, image, text, keep, layers=-2)[:, 1:].max() > 0
    hidden = torch.zeros_like(keep)
    hidden[:, 2] = True
    words = relevance(model, image, text, keep, word_score(model, tokens, hidden), layers=-1)
    assert (words.amax(2) > 0).equal(hidden), (
        "a masked word reaches its own logit, and no other word does")


def test_a_texts_map_is_the_mean_over_what_is_asked_for():
    keep = torch.tensor([[True, True, True, True], [True, True, False, False]])
    # (b, l, 1)
    maps = torch.tensor([[[8.0], [1.0], [2.0], [3.0]], [[8.0], [6.0], [0.0], [0.0]]])
    assert text_map(maps, keep).tolist() == [[3.5], [7.0]]
    words = keep & (torch.arange(4) > 0)
    everything = torch.ones_like(keep)
    assert text_map(maps, words).tolist() == [[2.0], [6.0]]
    assert text_map(maps, everything).tolist() == [[3.5], [3.5]]
    assert text_map(maps[1:, :2], everything[1:, :2]).tolist() == [[7.0]], (
        "it hangs on the padding")
    assert text_map(maps, keep & False).tolist() == [[0.0], [0.0]]
