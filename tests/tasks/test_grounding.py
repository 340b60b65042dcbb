"""Grounding: the original's box scores, overlaps and accuracies, and what must be true of any choice among boxes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from golden_rule import figures
from golden_tasks import golden_case
from helpers import MASK, disturb, small, texts
from minalbef.albef import ALBEF
from minalbef.evaluation.gradcam import image_relevance, relevance, text_map
from minalbef.evaluation.loop import How
from minalbef.layers import record_weights
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import grounding
from minalbef.tasks.grounding import (
    GroundingRecord,
    choose_box,
    heat_map,
    iou,
    judge_maps,
    pointing,
    score_boxes,
    sweep,
)

SIZE = (120, 160)  # height, width
WHOLE = [0.0, 0.0, 160.0, 120.0]


@pytest.fixture(scope="module")
def recorded_maps():
    return figures("grounding")["arrays"]["native/itm_block8/gradcam"]


def differences(maps) -> dict[str, float]:
    """The recorded evaluation from maps (2, g, g), done again: each figure's worst difference over its tolerance."""
    recorded = figures("grounding")
    case = recorded["grounding_eval"]
    resized = recorded["arrays"]["grounding_eval/last_resized_map_120x160_every4"]
    chosen = []
    truth = []
    splits = []
    for row, (number, ref) in zip((0, 1, 1), case["refs"].items(), strict=True):
        picture = case["images"][str(ref["image_id"])]
        size = (picture["height"], picture["width"])
        boxes = torch.tensor(case["dets"][str(ref["image_id"])])
        scores = grounding.score_boxes(maps[row], boxes, size, case["alpha"])
        chosen.append(grounding.choose_box(scores, boxes))
        truth.append(torch.tensor(case["gt"][number]["bbox"]))
        splits.append(ref["split"])
    chosen = torch.stack(chosen)
    truth = torch.stack(truth)
    pixels = torch.tensor(
        [[x, y, 1.0, 1.0] for y in range(0, size[0], 4) for x in range(0, size[1], 4)]
    )
    resized_ours = grounding.score_boxes(maps[1], pixels, size, 0).reshape(resized.shape)
    calls = case["iou_calls"]
    right = (grounding.iou(chosen, truth) >= grounding.RIGHT).float()
    figure = {
        "chosen": (chosen, [call["chosen"] for call in calls], 1e-6),
        "truth": (truth, [call["gt"] for call in calls], 1e-6),
        "iou": (grounding.iou(chosen, truth, least=1.0), [call["iou"] for call in calls], 1e-6),
        "last_score": (scores[-1], case["last_score"], 2e-5 * case["last_score"]),
        "resized": (resized_ours, resized, 2e-5 * resized.abs().max()),
        "iou_cases": (
            torch.stack(
                [
                    grounding.iou(*torch.tensor(boxes), least=1.0)
                    for *boxes, _ in recorded["iou_cases"]
                ]
            ),
            [value for *_, value in recorded["iou_cases"]],
            1e-6,
        ),
        "accuracy": (
            torch.tensor(
                [
                    right[[one == split.removesuffix("_d") for one in splits]].mean()
                    for split in case["accuracy"]
                ]
            ),
            list(case["accuracy"].values()),
            1e-6,
        ),
    }
    return {
        name: ((ours - torch.as_tensor(theirs)).abs().max() / allowed).item()
        for name, (ours, theirs, allowed) in figure.items()
    }


def test_boxes_are_scored_and_chosen_as_by_the_original(recorded_maps):
    worst = differences(recorded_maps)
    assert max(worst.values()) < 1, worst


def test_the_papers_map_is_that_of_fusions_third_layer(recorded_maps):
    model, image, tokens, keep = golden_case("native")
    found = heat_map(model, image, tokens, keep, layer=2)
    found = found * keep.float().mean(1)[:, None, None]  # the original's mean counts padding
    assert found.shape == (2, 24, 24)
    assert_close(found, recorded_maps, atol=2e-5 * recorded_maps.max().item(), rtol=0)
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


def test_a_map_lies_on_the_grid_as_the_picture_does(case):
    model, image, tokens, keep = case
    seen = model.encode_image(image), model.encode_text(tokens, keep), keep
    for layer in (0, 1):
        assert_close(
            heat_map(*case, layer=layer).flatten(1),
            text_map(relevance(model, *seen, layers=layer), keep),
        )
        assert_close(
            heat_map(*case, mode="itc", layer=layer).flatten(1), image_relevance(*case, layer)
        )
    assert heat_map(*case, layer=-2).equal(heat_map(*case, layer=0))


@pytest.fixture(scope="module")
def words(case):
    """Two pieces of the first text, one of the second and all of the third."""
    chosen = torch.zeros_like(case[3])
    chosen[0, 3] = chosen[0, 6] = chosen[1, 4] = chosen[2, 1] = chosen[2, 2] = True
    return chosen


def test_the_match_is_explained_over_the_words_that_are_asked_for(case, words):
    model, image, tokens, keep = case
    maps = relevance(
        model, model.encode_image(image), model.encode_text(tokens, keep), keep, layers=0
    )
    expected = torch.stack(
        [(maps[0, 3] + maps[0, 6]) / 2, maps[1, 4], (maps[2, 1] + maps[2, 2]) / 2]
    )
    assert_close(heat_map(*case, layer=0, words=words).flatten(1), expected)
    everything = keep.clone()
    everything[:, 0] = False
    assert_close(heat_map(*case, layer=0, words=everything).flatten(1), text_map(maps, everything))


def masked_by_hand(model, image, tokens, hidden, layer):
    """One text: some pieces masked, their true logits pulled back to one layer's attention, mean over the pieces."""
    keep = torch.ones_like(tokens, dtype=torch.bool)[None]
    masked = torch.tensor(
        [[MASK if i in hidden else token for i, token in enumerate(tokens.tolist())]]
    )
    with record_weights(model.fusion, "cross") as weights:
        fused = model.fuse(model.encode_text(masked, keep), keep, model.encode_image(image[None]))
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
            told = tokens[row, :length]
            assert_close(
                together[row],
                masked_by_hand(model, image[row], told, words[row].nonzero()[:, 0].tolist(), layer),
            )
            assert_close(
                each[row],
                sum(masked_by_hand(model, image[row], told, [i], layer) for i in range(1, length))
                / (length - 1),
            )
    # masked words reach their own logits from the last layer, too
    assert together.amax((1, 2)).min() > 0
    assert not torch.allclose(together, each, rtol=0.01), "the check is blind"


def test_padding_of_masked_words_cannot_be_seen(case, words):
    model, image, tokens, keep = case
    wide = [F.pad(x, (0, 2)) for x in (tokens, keep, words)]
    noisy = wide[0].masked_fill(~wide[1], 7)
    for chosen, padded in ((None, None), (words, wide[2])):
        assert_close(
            heat_map(model, image, noisy, wide[1], 0, "mlm", words=padded, mask=MASK),
            heat_map(*case, 0, "mlm", words=chosen, mask=MASK),
        )
    assert not torch.allclose(
        heat_map(model, image, noisy, wide[1] | True, 0, "mlm", mask=MASK),
        heat_map(*case, 0, "mlm", mask=MASK),
        rtol=0.01,
    ), "the check is blind"


def test_a_mask_hides_the_word_it_explains(case, words):
    model, image, tokens, keep = case
    other = tokens.masked_scatter(words, torch.tensor([5, 6, 7, 8, 9]))

    def fed(tokens):
        seen = []
        encode = model.encode_text
        model.encode_text = lambda tokens, keep: seen.append(tokens) or encode(tokens, keep)
        heat_map(model, image, tokens, keep, 0, "mlm", words=words, mask=MASK)
        del model.encode_text
        return seen

    (one,), (two,) = fed(tokens), fed(other)
    assert one.equal(two) and (one == MASK).equal(words)


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
    found = score_boxes(blob, boxes, SIZE)
    resized = F.interpolate(blob[None, None], SIZE, mode="bicubic")[0, 0]
    assert_close(
        found,
        torch.stack(
            [
                resized.sum() / 19200**0.5,
                resized[30:60, 80:120].sum() / 1200**0.5,
                resized[:40, :40].sum() / 40,
                resized[:, 80:120].sum() / 4800**0.5,
            ]
        ),
    )
    assert found.argmax() == 1 and score_boxes(blob, boxes, SIZE, power=0).argmax() != 1
    assert choose_box(found, boxes).equal(boxes[1])


def test_only_a_positive_score_can_win():
    boxes = torch.tensor([WHOLE, [10.0, 10, 20, 20]])
    for scores in ([0.0, 0.0], [-1.0, -0.1]):
        none = choose_box(torch.tensor(scores), boxes)
        assert none.tolist() == [0, 0, 0, 0] and iou(none, boxes).tolist() == [0, 0]
    assert choose_box(torch.tensor([2.0, 2.0]), boxes).equal(boxes[0]), "the first of equals"


def test_a_box_over_the_edge_counts_inside_and_pays_for_all_of_itself():
    even = torch.ones(4, 4)
    over = torch.tensor([[-20.0, -10, 40, 30], [150.0, 100, 20, 40], [10.0, 10, 0.5, 0.5]])
    assert_close(
        score_boxes(even, over, SIZE), torch.tensor([20 * 20 / 1200**0.5, 10 * 20 / 800**0.5, 0.0])
    )


@pytest.mark.parametrize(
    "box, message",
    [
        ([5.0, 5, 0, 9], "box 1 of 2, .*has no area"),
        ([50.0, 50, -9, 9], "has no area.*width, height"),
        ([160.0, 5, 9, 9], "outside the image of 160 x 120"),
        ([5.0, 130, 9, 9], "outside"),
        ([-9.0, 5, 9, 9], "outside"),
        ([5.0, 5, float("nan"), 9], "not four finite"),
        ([5.0, 5, float("inf"), 9], "box 1 of 2.*not four finite"),
    ],
)
def test_boxes_that_are_none_of_the_pictures_are_refused(box, message):
    with pytest.raises(ValueError, match=message):
        grounding.check_boxes(torch.tensor([WHOLE, box]), SIZE)


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 5)])
def test_boxes_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="at least one box"):
        grounding.check_boxes(torch.ones(shape), SIZE)


def test_overlap_by_hand():
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 2, 2]])
    b = torch.tensor([5.0, 0, 10, 10])
    assert_close(iou(a, b), torch.tensor([50 / 150, 50 / 150, 4 / 100]))
    assert_close(iou(a[:, None], a[None])[:, 2], torch.tensor([0.04, 0.04, 1.0]))
    edge = torch.tensor([9.0, 0, 10, 10])
    assert_close(iou(a[0], edge), torch.tensor(10 / 190))
    assert iou(a[0], edge, least=1.0) == 0
    assert iou(a[0], torch.tensor([10.0, 0, 10, 10])) == 0


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


def judged_records(*records: tuple) -> torch.Tensor:
    """Of images of 40 by 60 pixels with these (box, proposals): what `judge_maps` says."""
    tokenizer = Tokenizer.train(["a red cat"], 64)
    image = np.zeros((40, 60, 3), np.uint8)
    given = [
        GroundingRecord(image, "a cat", i, box, proposals, (40, 60), "val", i)
        for i, (box, proposals) in enumerate(records)
    ]
    return judge_maps(ALBEF(small()).eval(), tokenizer, given, How(layer=1, quiet=True))


def test_chance_of_pointing_is_the_share_of_the_image_that_the_true_box_covers():
    boxes = ((-10.0, -10.0, 40.0, 30.0), (30.0, 10.0, 60.0, 60.0), (0.0, 0.0, 60.0, 40.0))
    shares = judged_records(*((box, ()) for box in boxes))[:, 4]
    assert_close(shares, torch.tensor([30 * 20 / 2400, 30 * 30 / 2400, 1.0]))


def test_chance_of_proposals_is_the_share_of_them_that_overlap_the_true_box_by_half():
    true = (0.0, 0.0, 20.0, 20.0)
    near = (0.0, 0.0, 20.0, 30.0)
    largest = (30.0, 10.0, 30.0, 30.0)
    some, none = judged_records((true, (true, near, largest)), (true, ()))
    assert some[2] == 0 and some[3] == pytest.approx(2 / 3) and none[1:4].isnan().all()


def test_a_sweep_finds_the_best_place_and_tells_all_figures():
    tried = {("itm", 0): 0.2, ("itm", 1): 0.6, ("itc", 1): 0.6, ("itc", 2): 0.5}
    assert sweep(tried.__getitem__, tried) == (("itm", 1), tried)
