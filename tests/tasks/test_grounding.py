"""Grounding: the original's box scores, overlaps and accuracies,
and what must be true of any choice among boxes."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from golden_rule import figures
from golden_tasks import golden_case
from helpers import MASK, disturb, small, texts
from minalbef.albef import ALBEF
from minalbef.layers import record_weights
from minalbef.tasks import grounding
from minalbef.tasks.grounding import (
    choose_box,
    heat_map,
    iou,
    pointing,
    score_boxes,
)

SIZE = (120, 160)  # height, width
WHOLE = [0.0, 0.0, 160.0, 120.0]


@pytest.fixture(scope="module")
def recorded_maps():
    return figures("grounding")["arrays"]["native/itm_block8/gradcam"]


def differences(maps) -> dict[str, float]:
    """The recorded evaluation from maps (2, g, g), done again:
    each figure's worst difference over its tolerance."""
    recorded = figures("grounding")
    case = recorded["grounding_eval"]
    resized = recorded["arrays"]["grounding_eval/last_resized_map_120x160_every4"]
    picks = []
    truth = []
    splits = []
    for row, (number, ref) in zip((0, 1, 1), case["refs"].items(), strict=True):
        picture = case["images"][str(ref["image_id"])]
        size = (picture["height"], picture["width"])
        boxes = torch.tensor(case["dets"][str(ref["image_id"])])
        scores = grounding.score_boxes(maps[row], boxes, size, case["alpha"])
        picks.append(grounding.choose_box(scores, boxes))
        truth.append(torch.tensor(case["gt"][number]["bbox"]))
        splits.append(ref["split"])
    picks = torch.stack(picks)
    truth = torch.stack(truth)
    pixels = torch.tensor(
        [[x, y, 1.0, 1.0] for y in range(0, size[0], 4) for x in range(0, size[1], 4)]
    )
    resized_ours = grounding.score_boxes(maps[1], pixels, size, 0).reshape(resized.shape)
    calls = case["iou_calls"]
    right = (grounding.iou(picks, truth) >= grounding.RIGHT).float()
    first, second, values = zip(*recorded["iou_cases"])
    figure = {
        "chosen": (picks, [call["chosen"] for call in calls], 1e-6),
        "truth": (truth, [call["gt"] for call in calls], 1e-6),
        "iou": (grounding.iou(picks, truth, least=1.0), [call["iou"] for call in calls], 1e-6),
        "last_score": (scores[-1], case["last_score"], 2e-5 * case["last_score"]),
        "resized": (resized_ours, resized, 2e-5 * resized.abs().max()),
        "iou_cases": (
            grounding.iou(torch.tensor(first), torch.tensor(second), least=1.0),
            values,
            1e-6,
        ),
        "accuracy": (
            torch.tensor(
                [
                    right[[kind == split.removesuffix("_d") for kind in splits]].mean()
                    for split in case["accuracy"]
                ]
            ),
            list(case["accuracy"].values()),
            1e-6,
        ),
    }
    return {
        name: ((actual - torch.as_tensor(expected)).abs().max() / allowed).item()
        for name, (actual, expected, allowed) in figure.items()
    }


def test_boxes_are_scored_and_chosen_as_by_the_original(recorded_maps):
    worst = differences(recorded_maps)
    assert max(worst.values()) < 1, worst


def test_the_papers_map_is_that_of_fusions_third_layer(recorded_maps):
    model, image, tokens, keep = golden_case("native")
    maps = heat_map(model, image, tokens, keep, layer=2)
    maps = maps * keep.float().mean(1)[:, None, None]  # the original's mean counts padding
    assert maps.shape == (2, 24, 24)
    assert_close(maps, recorded_maps, atol=2e-5 * recorded_maps.max().item(), rtol=0)
    case = golden_case("small")
    recorded = figures("grounding")["arrays"]["small/itc_block3/gradcam"]
    assert_close(heat_map(*case, mode="itc", layer=3), recorded, atol=2e-5, rtol=0)


@pytest.fixture(scope="module")
def case():
    """Widths differ, and words do not see the picture's [CLS]."""
    torch.manual_seed(0)
    return (
        disturb(ALBEF(small(fuse_cls=False))).eval(),
        torch.randn(3, 3, 24, 24),
        *texts(3, 8, lengths=[8, 5, 3]),
    )


@pytest.fixture(scope="module")
def words(case):
    """Two pieces of the first text, one of the second and all of the third."""
    picks = torch.zeros_like(case[3])
    picks[0, 3] = picks[0, 6] = picks[1, 4] = picks[2, 1] = picks[2, 2] = True
    return picks


def masked_by_hand(model, image, tokens, hidden, layer):
    """One text: some pieces masked, their true logits pulled back to one layer's
    attention, mean over the pieces."""
    keep = torch.ones_like(tokens, dtype=torch.bool)[None]
    masked = torch.tensor(
        [[MASK if i in hidden else token for i, token in enumerate(tokens.tolist())]]
    )
    with record_weights(model.fusion, "cross") as weights:
        fused = model.fuse(model.encode_text(masked, keep),
                           keep, model.encode_image(image[None]))
    logits = model.word_logits(fused)
    (slope,) = torch.autograd.grad(sum(logits[0, i, tokens[i]] for i in hidden), weights[layer])
    heads = weights[layer].shape[1]
    by_piece = [
        sum(weights[layer][0, h, i] * slope[0, h, i].clamp(min=0) for h in range(heads)) / heads
        for i in hidden
    ]
    return (sum(by_piece) / len(hidden)).detach()[-9:].reshape(3, 3)


def test_masked_words_are_explained_as_by_hand_and_a_batch_as_its_texts_alone(case, words):
    model, image, tokens, keep = case
    for layer in (0, 1):
        together = heat_map(*case, layer=layer, mode="mlm", words=words, mask=MASK)
        each = heat_map(*case, layer=layer, mode="mlm", mask=MASK)
        assert together.shape == each.shape == (3, 3, 3)
        for row, length in enumerate((8, 5, 3)):
            caption = tokens[row, :length]
            assert_close(
                together[row],
                masked_by_hand(model, image[row], caption,
                               words[row].nonzero()[:, 0].tolist(), layer),
            )
            assert_close(
                each[row],
                sum(masked_by_hand(model, image[row], caption, [i], layer)
                    for i in range(1, length))
                / (length - 1),
            )
    # masked words reach their own logits from the last layer, too
    assert together.amax((1, 2)).min() > 0
    assert not torch.allclose(together, each, rtol=0.01), "the check is blind"


def test_an_order_for_a_map_that_cannot_be_made_is_refused(case):
    for wrong, message in (
        (dict(mode="map", layer=0), "mode='map'.*itm, itc, mlm"),
        (dict(layer=2), "layer=2.*has 2, from 0 to 1"),
        (dict(mode="itc", layer=-3), "layer=-3.*'itc'"),
        (dict(mode="mlm", layer=2, mask=MASK), "layer=2.*'mlm'.*has 2"),
    ):
        with pytest.raises(ValueError, match=message):
            heat_map(*case, **wrong)


def test_a_box_scores_what_of_the_map_lies_in_it():
    blob = torch.zeros(4, 4)
    blob[1, 2] = 1.0  # around x 100, y 45
    boxes = torch.tensor([WHOLE, [80.0, 30, 40, 30], [0, 0, 40, 40], [80, 0, 40, 120]])
    scores = score_boxes(blob, boxes, SIZE)
    resized = F.interpolate(blob[None, None], SIZE, mode="bicubic")[0, 0]
    assert_close(
        scores,
        torch.stack(
            [
                resized.sum() / 19200**0.5,
                resized[30:60, 80:120].sum() / 1200**0.5,
                resized[:40, :40].sum() / 40,
                resized[:, 80:120].sum() / 4800**0.5,
            ]
        ),
    )
    assert scores.argmax() == 1
    assert score_boxes(blob, boxes, SIZE, power=0).argmax() != 1
    assert choose_box(scores, boxes).equal(boxes[1])


def test_only_a_positive_score_can_win():
    boxes = torch.tensor([WHOLE, [10.0, 10, 20, 20]])
    for scores in ([0.0, 0.0], [-1.0, -0.1]):
        none = choose_box(torch.tensor(scores), boxes)
        assert none.tolist() == [0, 0, 0, 0] and iou(none, boxes).tolist() == [0, 0]
    assert choose_box(torch.tensor([2.0, 2.0]), boxes).equal(boxes[0]), "the first of equals"


@pytest.mark.parametrize(
    "box, message",
    [
        ([5.0, 5, 0, 9], "box 1 of 2, .*has no area"),
        ([160.0, 5, 9, 9], "outside the image of 160 x 120"),
        ([5.0, 5, float("nan"), 9], "not four finite"),
    ],
)
def test_boxes_that_are_none_of_the_pictures_are_refused(box, message):
    with pytest.raises(ValueError, match=message):
        grounding.check_boxes(torch.tensor([WHOLE, box]), SIZE)


def test_pointing_asks_where_the_highest_patch_is():
    blob = torch.zeros(4, 4)
    blob[1, 2] = 1.0  # its centre: x 100, y 45
    inside = torch.tensor([90.0, 40, 20, 10])
    outside = torch.tensor([40.0, 90, 20, 20])
    assert pointing(blob, inside, SIZE) == 1 and pointing(blob, outside, SIZE) == 0
    # a flat map points everywhere
    assert pointing(torch.zeros(4, 4), torch.tensor([0.0, 0, 80, 120]), SIZE) == 0.5
    # another size, another place
    assert pointing(blob, torch.tensor([1.2, 0.7, 0.2, 0.2]), (2, 2)) == 1
