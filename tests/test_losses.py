"""losses: the three objectives against numbers made by hand."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch import tensor
from torch.testing import assert_close

from minalbef.losses import (
    hard_negatives,
    itc_loss,
    itc_targets,
    itm_loss,
    mlm_loss,
    soft_cross_entropy,
)

# two queries, three keys: the third is the queue's
SIM = tensor([[1.0, 2.0, 0.5], [0.0, 3.0, 1.0]])


def log_p(row, i):
    """log softmax by hand."""
    return row[i] - math.log(sum(math.exp(x) for x in row))


def test_itc_by_hand():
    expected = -(log_p([1, 2, 0.5], 0) + log_p([0, 3, 1], 1)) / 2
    assert_close(itc_loss(SIM, torch.zeros(2, 3), 0.0), tensor(expected))
    assert_close(itc_loss(SIM, torch.zeros(2, 3), 0.0), F.cross_entropy(SIM, tensor([0, 1])))


def test_several_positives_share_the_target_evenly():
    positive = tensor([[True, False, True], [False, True, False]])
    expected = -((log_p([1, 2, 0.5], 0) + log_p([1, 2, 0.5], 2)) / 2 + log_p([0, 3, 1], 1)) / 2
    assert_close(itc_loss(SIM, torch.zeros(2, 3), 0.0, positive), tensor(expected))
    assert_close(itc_targets(positive, SIM, 0.0), tensor([[0.5, 0, 0.5], [0, 1, 0]]))


def test_alpha_mixes_the_teachers_opinion_in():
    # softmax: 1/4 1/4 1/2; 1/5 3/5 1/5
    teacher = tensor([[0.0, 0.0, math.log(2)], [0.0, math.log(3), 0.0]])
    targets = itc_targets(torch.eye(2, 3, dtype=torch.bool), teacher, 0.4)
    assert_close(targets, tensor([[0.7, 0.1, 0.2], [0.08, 0.84, 0.08]]))
    by_hand = -sum(t * log_p(row, i) for row, target in zip(SIM.tolist(), targets.tolist())
                   for i, t in enumerate(target)) / 2
    assert_close(itc_loss(SIM, teacher, 0.4), tensor(by_hand))
    assert_close(itc_loss(SIM, teacher, 1.0),
                 soft_cross_entropy(SIM, teacher.softmax(-1)).mean())


def uniform(*shape, seed=0):
    return torch.rand(*shape,
                      generator=torch.Generator().manual_seed(seed)).clamp(1e-7, 1 - 1e-7)


def test_hard_negatives_are_drawn_as_softmax_says():
    logits = tensor([0.0, 1.5, -1.0, 0.7, 4.0])
    positive = tensor([False, False, False, False, True])
    draws = 20_000
    index, valid = hard_negatives(logits.expand(draws, -1),
                                  positive.expand(draws, -1), uniform(draws, 5))
    counts = torch.bincount(index, minlength=5)
    expected = draws * logits[:4].softmax(-1)
    assert valid.all()
    assert counts[4] == 0, "its own key, though the most similar, is never drawn"
    chi_square = ((counts[:4] - expected) ** 2 / expected).sum()
    # 3 degrees of freedom: 1 in 1,000
    assert chi_square < 16.3
    assert ((counts[:4] - draws / 4) ** 2 / (draws / 4)).sum() > 1000, (
        "the check could not fail")


def test_a_confident_row_can_still_draw():
    # softmax leaves exactly 0 for every other key
    sim = tensor([[1e4, 0.0, 0.0], [0.0, 1e4, 9e3]])
    positive = torch.eye(2, 3, dtype=torch.bool)
    assert sim.softmax(-1)[0, 1] == 0
    index, valid = hard_negatives(sim, positive, uniform(2, 3))
    assert valid.all() and index[0] in (1, 2) and index[1] == 2
    assert hard_negatives(sim.bfloat16(), positive, uniform(2, 3))[0].equal(index)


def test_a_row_without_candidates_is_invalid_and_in_range():
    positive = tensor([[True, True, True], [True, False, True]])
    index, valid = hard_negatives(torch.zeros(2, 3), positive, uniform(2, 3))
    assert valid.tolist() == [False, True] and index[1] == 1 and 0 <= index[0] < 3


def test_itm_by_hand_leaves_invalid_rows_out():
    logits = tensor([[0.0, 1.0], [2.0, 0.0], [50.0, -50.0]], requires_grad=True)
    labels = tensor([1, 0, 1])
    valid = tensor([True, True, False])
    expected = -(log_p([0, 1], 1) + log_p([2, 0], 0)) / 2
    loss = itm_loss(logits, labels, valid, valid.sum())
    assert_close(loss, tensor(expected))
    loss.backward()
    assert logits.grad[2].eq(0).all() and logits.grad[:2].ne(0).all()
    # count is the caller's
    assert_close(itm_loss(logits, labels, valid, 4.0), tensor(expected / 2))


@pytest.mark.parametrize("count", [2, 2.0, tensor(2.0)])
def test_mlm_by_hand(count):
    logits = tensor([[0.0, 1.0, 2.0], [1.0, -1.0, 0.0]])
    labels = tensor([2, 0])
    expected = -(log_p([0, 1, 2], 2) + log_p([1, -1, 0], 0)) / 2
    assert_close(mlm_loss(logits, labels, count), tensor(expected))


def test_mlm_learns_from_the_teacher_too():
    logits = tensor([[0.0, 1.0, 2.0], [1.0, -1.0, 0.0]])
    labels = tensor([2, 0])
    teacher = tensor([[0.0, 0.0, math.log(2)], [0.0, math.log(3), 0.0]])
    plain = -log_p([0, 1, 2], 2) - log_p([1, -1, 0], 0)
    taught = -sum(p * log_p(row, i) for row, ps in ((([0, 1, 2]), (0.25, 0.25, 0.5)),
                                                    (([1, -1, 0]), (0.2, 0.6, 0.2)))
                  for i, p in enumerate(ps))
    assert_close(mlm_loss(logits, labels, 2, teacher, 0.4),
                 tensor((0.6 * plain + 0.4 * taught) / 2))
    assert_close(mlm_loss(logits, labels, 2, teacher, 0.0), tensor(plain / 2))


@pytest.mark.parametrize("count", [0, tensor(0.0)])
def test_nothing_masked_costs_nothing_and_teaches_nothing(count):
    logits = torch.randn(0, 7, requires_grad=True)
    labels = torch.zeros(0, dtype=torch.long)
    table = torch.randn(7, 7, requires_grad=True)
    loss = mlm_loss(logits @ table, labels, count, torch.randn(0, 7), 0.4)
    loss.backward()
    assert loss.item() == 0 and table.grad.eq(0).all()
    assert F.cross_entropy(logits @ table, labels).isnan(), "a plain mean would give NaN"
