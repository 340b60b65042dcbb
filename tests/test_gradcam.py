"""Grad-CAM: the original's maps, small differences of one attention weight, and what must be true of any map."""
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from golden_rule import figures
from golden_tasks import GOLDEN, golden_case
from helpers import disturb, small, texts
from minalbef import gradcam, layers
from minalbef.albef import ALBEF
from minalbef.gradcam import image_relevance, match_score, relevance, text_map, word_score
from minalbef.layers import record_weights


def differences(name: str, model: ALBEF, pixels, tokens, keep) -> dict[str, float]:
    """Every recorded array of a case: the worst difference from ours, over what is allowed.

    Maps are as small as 1e-4, so what is allowed is a share of each array's maximum.
    """
    recorded = {key.removeprefix(name + "/"): value for key, value in figures("grounding")["arrays"].items()
                if key.startswith(name + "/") and not key.endswith(("input_ids", "attention_mask"))}
    assert len(recorded) == {"small": 9, "native": 3}[name]
    with torch.no_grad():
        image_tokens, text = model.encode_image(pixels), model.encode_text(tokens, keep)
    ours = {"itm_logits": model.match_logits(model.fuse(text, keep, image_tokens))}
    for place in {key.split("/")[0] for key in recorded} - set(ours):
        mode, block = place.split("_block")
        if mode == "itc":
            ours[f"{place}/gradcam"] = gradcam.image_relevance(model, pixels, tokens, keep, int(block))
            continue
        layer = int(block) - model.config.text_depth             # it counts BERT's layers, we count fusion's
        maps = gradcam.relevance(model, image_tokens, text, keep, layers=layer)
        with record_weights(model.fusion, "cross") as weights:
            fused = model.fuse(text, keep, image_tokens)
        gradient, = torch.autograd.grad(gradcam.match_score(model)(fused).sum(), weights[layer])
        shown = keep[:, None, :, None]
        ours |= {f"{place}/gradcam_per_token": maps, f"{place}/gradcam": gradcam.text_map(maps, torch.ones_like(keep)),
                 f"{place}/cams": weights[layer][..., 1:] * shown,
                 f"{place}/grads_clamped": gradient[..., 1:].clamp(min=0) * shown}
    return {key: ((ours[key].reshape(value.shape) - value).abs().max() / (2e-5 * value.abs().max())).item()
            for key, value in recorded.items()}


@pytest.mark.parametrize("name", GOLDEN)
def test_maps_are_the_originals(name):
    worst = differences(name, *golden_case(name))
    assert max(worst.values()) < 1, worst


def tanh_gelu(patch, model):
    patch.setattr(layers, "F", SimpleNamespace(**vars(F) | {"gelu": lambda x: F.gelu(x, approximate="tanh")}))


def other(name: str, function):
    """A mistake that puts another function in a place of gradcam's; it is given the right one first."""
    right = getattr(gradcam, name)
    return lambda patch, model: patch.setattr(gradcam, name, lambda *args, **options: function(right, *args, **options))


MISTAKES = {
    "negative gradients count": other("cam", lambda right, w, g: (w * g).mean(1)),
    "gradients count by size": other("cam", lambda right, w, g: (w * g.abs()).mean(1)),
    "gradients do not count": other("cam", lambda right, w, g: w.mean(1)),
    "heads are summed": other("cam", lambda right, w, g: right(w, g) * w.shape[1]),
    "heads are averaged before the product": other("cam", lambda right, w, g: w.mean(1) * g.clamp(min=0).mean(1)),
    "[CLS] is the last column": other("cam", lambda right, w, g: right(w, g).roll(1, -1)),
    "no match is explained": other("match_score", lambda right, model: lambda fused: model.match_logits(fused)[:, 0]),
    "a probability is explained": other("match_score", lambda right, model: (
        lambda fused: model.match_logits(fused).softmax(1)[:, 1])),
    "another layer": other("relevance", lambda right, *args, layers: right(*args, layers=layers - 1)),
    "padding is seen": other("relevance",
                             lambda right, m, i, t, keep, layers: right(m, i, t, keep | True, layers=layers)),
    "padding is not counted": other("text_map", lambda right, maps, counted: right(maps, maps.any(-1))),
    "[CLS] is not counted": other("text_map", lambda right, maps, counted: right(
        maps, counted & (torch.arange(counted.shape[1]) > 0))),
    "another block": other("image_relevance", lambda right, *args: right(*args[:-1], args[-1] - 1)),
    "texts are exchanged": other("image_relevance",
                                 lambda right, m, i, t, keep, b: right(m, i, t.flip(0), keep.flip(0), b)),
    "no temperature": lambda patch, model: model.temperature.data.fill_(1.0),
    "features not of length 1": lambda patch, model: patch.setattr(
        model, "image_feature", lambda x: model.image_proj(x[:, 0])),
    "tanh GELU": tanh_gelu}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_would_be_seen(mistake, monkeypatch):
    case = golden_case("small")
    MISTAKES[mistake](monkeypatch, case[0])
    assert max(differences("small", *case).values()) > 2


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    model = disturb(ALBEF(small(fusion_depth=3))).eval()
    tokens, keep = texts(3, 8, lengths=[8, 5, 3])
    image = model.encode_image(torch.randn(3, 3, 24, 24)).detach()
    return model, image, tokens, keep, model.encode_text(tokens, keep).detach()


def by_difference(attention, row, query, key, score, step=1e-4):
    """The same from first principles: add a little to one attention weight of one head and see what the score does."""
    values = []
    for head in range(attention.heads):
        results = []
        for sign in (1, -1):
            def forward(x, source=None, keep=None, keys_values=None):
                q, k, v = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
                           for part in (attention.q(x), *(keys_values or (attention.k(x), attention.v(x)))))
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
    image, text = image.double(), double.encode_text(tokens.masked_fill(hidden, 4), keep)
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
                lambda: (double.image_feature(double.encode_image(pixels)) * text).sum(1) / double.temperature)
            assert maps[row, patch].item() == pytest.approx(expected, rel=1e-4, abs=1e-10)


def test_maps_of_layers_add_up(case):
    model, image, _, keep, text = case
    single = [relevance(model, image, text, keep, layers=i) for i in range(3)]
    assert single[0].shape == (3, 8, 9)
    assert_close(relevance(model, image, text, keep), sum(single))
    assert_close(relevance(model, image, text, keep, layers=slice(None, -1)), single[0] + single[1])


def test_no_word_but_cls_reaches_the_match_from_the_last_layer(case):
    model, image, tokens, keep, text = case
    last = relevance(model, image, text, keep, layers=-1)
    assert last[:, 1:].abs().max() == 0 and last[:, 0].max() > 0
    assert relevance(model, image, text, keep, layers=-2)[:, 1:].max() > 0
    hidden = torch.zeros_like(keep)
    hidden[:, 2] = True
    words = relevance(model, image, text, keep, word_score(model, tokens, hidden), layers=-1)
    assert (words.amax(2) > 0).equal(hidden), "a masked word reaches its own logit, and no other word does"


def test_padding_has_no_map_and_changes_none(case):
    model, image, _, keep, text = case
    maps = relevance(model, image, text, keep)
    assert maps[~keep].abs().max() == 0
    assert_close(relevance(model, image[2:], text[2:, :3], keep[2:, :3]), maps[2:, :3])


def test_every_row_is_explained_by_itself(case):
    model, image, tokens, keep, text = case
    hidden = torch.zeros_like(keep)
    hidden[0, 3] = hidden[0, 4] = hidden[1, 1] = True            # a word of two pieces, and a row without any
    for score, one in ((match_score(model), match_score(model)),
                       (word_score(model, tokens, hidden), word_score(model, tokens[:1], hidden[:1]))):
        assert_close(relevance(model, image, text, keep, score)[:1],
                     relevance(model, image[:1], text[:1], keep[:1], one))
    assert relevance(model, image, text, keep, word_score(model, tokens, hidden))[2].max() == 0


def test_a_word_scores_the_sum_of_its_pieces_logits(case):
    model, image, tokens, keep, text = case
    hidden = torch.zeros_like(keep)
    hidden[0, 3] = hidden[0, 4] = hidden[1, 1] = True
    fused = model.fuse(text, keep, image)
    logits = model.word_logits(fused)
    assert_close(word_score(model, tokens, hidden)(fused), torch.stack([
        logits[0, 3, tokens[0, 3]] + logits[0, 4, tokens[0, 4]], logits[1, 1, tokens[1, 1]], torch.tensor(0.0)]))


def test_a_pictures_map_is_its_own_and_padding_changes_none(case):
    model, _, tokens, keep, _ = case
    pixels = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(5))
    maps = image_relevance(model, pixels, tokens, keep, 0)
    assert_close(image_relevance(model, pixels[2:], tokens[2:, :3], keep[2:, :3], 0), maps[2:])
    assert not torch.allclose(image_relevance(model, pixels[2:], tokens[1:2], keep[1:2], 0), maps[2:], atol=1e-4), \
        "another text, another map"


def test_a_texts_map_is_the_mean_over_what_is_asked_for():
    keep = torch.tensor([[True, True, True, True], [True, True, False, False]])
    maps = torch.tensor([[[8.0], [1.0], [2.0], [3.0]], [[8.0], [6.0], [0.0], [0.0]]])             # (b, l, 1)
    assert text_map(maps, keep).tolist() == [[3.5], [7.0]]
    words, everything = keep & (torch.arange(4) > 0), torch.ones_like(keep)
    assert text_map(maps, words).tolist() == [[2.0], [6.0]]
    assert text_map(maps, everything).tolist() == [[3.5], [3.5]]
    assert text_map(maps[1:, :2], everything[1:, :2]).tolist() == [[7.0]], "it hangs on the padding"
    assert text_map(maps, keep & False).tolist() == [[0.0], [0.0]]


def test_explaining_leaves_the_model_alone_and_works_on_a_frozen_one(case):
    model, image, tokens, keep, text = case
    pixels = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(5))
    def explain():
        maps = relevance(model, image, text, keep), image_relevance(model, pixels, tokens, keep, 0)
        return torch.cat([one.flatten() for one in maps])
    before = explain()
    assert all(p.grad is None for p in model.parameters()) and pixels.grad is None and not pixels.requires_grad
    model.requires_grad_(False)
    with torch.no_grad():
        assert_close(explain(), before)
    model.requires_grad_(True)
