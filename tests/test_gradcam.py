"""Grad-CAM: against small differences of one attention weight, and what must be true of any map."""
import pytest
import torch
from torch.testing import assert_close

from helpers import disturb, small, texts
from minalbef.albef import ALBEF
from minalbef.gradcam import match_score, relevance, word_score


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    model = disturb(ALBEF(small(fusion_depth=3))).eval()
    tokens, keep = texts(3, 8, lengths=[8, 5, 3])
    image = model.encode_image(torch.randn(3, 3, 24, 24)).detach()
    return model, image, tokens, keep, model.encode_text(tokens, keep).detach()


def by_difference(model, image, text, keep, row, word, patch, layer, score, step=1e-4):
    """The same from first principles: add a little to one attention weight of one head and see what the score does."""
    heads = model.config.text_heads
    values, cross = [], model.fusion.layers[layer].cross
    for head in range(heads):
        results = []
        for sign in (1, -1):
            def forward(x, source=None, keep=None, keys_values=None, return_weights=False):
                q = cross.q(x).unflatten(-1, (heads, -1)).transpose(1, 2)
                k, v = keys_values
                weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
                nudged = weights.clone()
                nudged[row, head, word, patch + 1] += sign * step
                forward.weight = weights[row, head, word, patch + 1].item()
                return cross.proj((nudged @ v).transpose(1, 2).flatten(2))
            cross.forward = forward
            with torch.no_grad():
                results.append(score(model.fuse(text, keep, image))[row].item())
            del cross.forward
        values.append(max(0.0, (results[0] - results[1]) / (2 * step)) * forward.weight)
    return sum(values) / heads


@pytest.mark.parametrize("explained", ["itm", "mlm"])
def test_a_map_is_weight_times_positive_slope_by_small_differences(case, explained):
    model, image, tokens, keep, _ = case
    hidden = torch.zeros_like(keep)
    hidden[:, 1] = True
    double = ALBEF(model.config).double().eval()
    double.load_state_dict(model.state_dict())
    image, text = image.double(), double.encode_text(tokens.masked_fill(hidden, 4), keep)
    score = match_score(double) if explained == "itm" else word_score(double, tokens, hidden)
    for row, word, layer in ((0, 0, 0), (1, 1, 1), (0, 1, 2), (2, 2, 0)):
        maps = relevance(double, image, text, keep, score, layer)
        for patch in (0, 4, 8):
            expected = by_difference(double, image, text, keep, row, word, patch, layer, score)
            assert maps[row, word, patch].item() == pytest.approx(expected, rel=1e-4, abs=1e-10)
    assert maps.max() > 0


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


def test_explaining_leaves_the_model_alone_and_works_on_a_frozen_one(case):
    model, image, _, keep, text = case
    before = relevance(model, image, text, keep)
    assert all(p.grad is None for p in model.parameters())
    model.requires_grad_(False)
    with torch.no_grad():
        assert_close(relevance(model, image, text, keep), before)
    model.requires_grad_(True)
