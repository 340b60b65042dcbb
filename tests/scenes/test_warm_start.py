"""warm_start: labels of the scenes, two heads,
and an encoder that is handed over as it computes in evaluation."""

import math

import pytest
import torch
from torch.testing import assert_close

from emojiscenes.scenes import other_objects
from helpers import disturb, small
from minalbef.scenes.warm_start import LabelBatch, LabelBatches, WarmStart
from minalbef.system import distributed
from minalbef.vision import ViT

CONFIG = small(objects=12, batch=6)


def test_labels_are_the_objects_of_the_scene():
    batches = LabelBatches(CONFIG)
    batch = batches(3)
    assert batch.image.shape == (6, 3, 24, 24)
    assert batch.labels.shape == (6, len(batches.classes))
    for i, row in enumerate(batch.labels):
        names = {thing.name for thing in batches.scenes.place(3 * 6 + i).objects}
        for name, j in batches.classes.items():
            assert bool(row[j]) == (name in names)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_split_the_batch_among_them(world, monkeypatch):
    batch = LabelBatches(CONFIG)(3)
    monkeypatch.setattr(distributed, "world", lambda: world)
    parts = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        parts.append(LabelBatches(CONFIG)(3))
    assert_close(torch.cat([part.image for part in parts]), batch.image)
    assert_close(torch.cat([part.labels for part in parts]), batch.labels)


@pytest.mark.parametrize("kind, share", [("other", False), ("same", True)])
def test_the_start_learns_objects_that_captions_name_or_never_name(kind, share):
    named = set(LabelBatches(small(objects=12, warm_objects="same")).classes)
    learnt = set(LabelBatches(small(objects=12, warm_objects=kind)).classes)
    assert len(named) == 12
    assert (learnt == named) is share
    assert share or not learnt & named
    assert share or learnt <= set(other_objects(12))


def test_losses_by_hand():
    warm = WarmStart(CONFIG, 3)
    warm.logits = lambda image: (
        torch.tensor([[0.0, 1.0, 2.0]]),
        torch.tensor([[[0.0, 1.0, 0.0], [0.0, 1.0, 3.0]]]),
    )
    losses, carry = warm(
        LabelBatch(torch.zeros(1, 3, 24, 24), torch.tensor([[1.0, 0.0, 1.0]])), 0.0, None
    )

    def cost(scores):  # half of the target on the first, half on the third
        total = math.log(sum(map(math.exp, scores)))
        return total - (scores[0] + scores[2]) / 2

    assert carry is None
    assert_close(losses["cls"], torch.tensor(cost([0, 1, 2])))
    assert_close(
        losses["patch"],
        torch.tensor(cost([math.log(2), 1 + math.log(2), math.log(1 + math.exp(3))])),
    )


def test_the_encoder_is_handed_over_as_it_computes_in_evaluation():
    torch.manual_seed(0)
    warm = disturb(WarmStart(CONFIG, 7))
    encoder = ViT(CONFIG)
    image = torch.randn(3, 3, 24, 24)
    for _ in range(4):
        warm(
            LabelBatch(2 * torch.randn(6, 3, 24, 24), torch.ones(6, 7)), 0.0, None
        )  # moves the running means
    expected = warm.eval().image_encoder(image)
    assert not torch.allclose(encoder(image), expected, atol=0.1)
    warm.start(encoder)
    assert_close(encoder.train()(image), expected, atol=1e-5, rtol=1e-5)
