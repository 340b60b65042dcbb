"""feature_queue: the last K features, whatever the batch; empty slots are no keys."""
import pytest
import torch

from minalbef.feature_queue import FeatureQueue


def rows(*numbers):
    """Features that carry their id: image i, text -i."""
    ids = torch.tensor(numbers)
    return ids[:, None] * torch.ones(3), -ids[:, None] * torch.ones(3), ids


def contents(queue) -> set[int]:
    """Ids in the queue; image, text and id must belong together."""
    image, text, ids = queue.features()
    assert image.equal(ids[:, None] * torch.ones(3)) and text.equal(-image)
    assert len(set(ids.tolist())) == len(ids)
    return set(ids.tolist())


@pytest.mark.parametrize("size, batch", [(7, 3), (8, 4), (5, 1), (4, 4), (3, 7), (1, 2)])
def test_it_holds_the_last_ones_whatever_the_batch(size, batch):
    queue = FeatureQueue(size, 3)
    history = []
    for i in range(6):
        new = list(range(i * batch, (i + 1) * batch))
        queue.push(*rows(*new))
        history += new
        assert contents(queue) == set(history[-size:])
