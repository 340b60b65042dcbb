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
    image_relevance,
    match_score,
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


def by_difference(attention, row, query, key, score, step=1e-4):
    """The same from first principles: add a little to one attention weight of one head
    and see what the score does."""
    values = []
    for head in range(attention.heads):
        results = []
        for sign in (1, -1):
            def forward(x, source=None, keep=None, keys_values=None):
                q, k, v = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
                           for part in (attention.q(x),
                                        *(keys_values or (attention.k(x), attention.v(x)))))
                weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
                nudged = weights.clone()
                nudged[row, head, query, key] += sign * step
                forward.weight = weights[row, head, query, key].item()
                return attention.proj((nudged @ v).transpose(1, 2).flatten(2))
            attention.forward = forward
            with torch.no_grad():
                results.append(score()[row].item())
            del attention.forward
        values.append(max(0.0, (results[0] - results[1]) / (2 * step)) * forward.weight)
    return sum(values) / attention.heads


@pytest.fixture(scope="module")
def double(case):
    """The same in float64, which small differences need."""
    model = ALBEF(case[0].config).double().eval()
    model.load_state_dict(case[0].state_dict())
    return model


@pytest.mark.parametrize("explained", ["itm", "mlm"])
def test_a_map_is_weight_times_positive_slope_by_small_differences(case, double, explained):
    _, image, tokens, keep, _ = case
    hidden = torch.zeros_like(keep)
    hidden[:, 1] = True
    image = image.double()
    text = double.encode_text(tokens.masked_fill(hidden, 4), keep)
    score = match_score(double) if explained == "itm" else word_score(double, tokens, hidden)
    for row, word, layer in ((0, 0, 0), (1, 1, 1), (0, 1, 2), (2, 2, 0)):
        maps = relevance(double, image, text, keep, score, layer)
        for patch in (0, 4, 8):
            expected = by_difference(double.fusion.layers[layer].cross, row, word, patch + 1,
                                     lambda: score(double.fuse(text, keep, image)))
            assert maps[row, word, patch].item() == pytest.approx(expected, rel=1e-4, abs=1e-10)
    assert maps.max() > 0


def test_a_pictures_map_is_weight_times_positive_slope_by_small_differences(case, double):
    _, _, tokens, keep, _ = case
    pixels = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(5)).double()
    text = double.text_feature(double.encode_text(tokens, keep))
    for row, block in ((0, 0), (2, 0), (1, -1)):
        maps = image_relevance(double, pixels, tokens, keep, block)
        assert maps.shape == (3, 9) and maps.max() > 0
        for patch in (0, 4, 8):
            expected = by_difference(
                double.image_encoder.blocks[block].attn, row, 0, patch + 1,
                lambda: (double.image_feature(double.encode_image(pixels)) * text).sum(1)
                / double.temperature)
            assert maps[row, patch].item() == pytest.approx(expected, rel=1e-4, abs=1e-10)


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
