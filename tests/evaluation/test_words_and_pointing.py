"""Masked words and pointing: what counts as right, and which patches lie in a box, by hand."""
import pytest
import torch

from minalbef.evaluation import words
from minalbef.evaluation.pointing import patches_in_box
from minalbef.evaluation.words import Hidden, words_right


@pytest.mark.parametrize("box, inside", [
    # wide and low
    ((0.5, 0.25, 1.0, 0.5), [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]),
    # narrow and high
    ((0.25, 0.5, 0.5, 1.0), [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]),
    ((0.8, 0.4, 0.3, 0.6), [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]])])
def test_the_patches_in_a_box_are_those_whose_centre_is(box, inside):
    assert patches_in_box(box, 4).view(4, 4).int().tolist() == inside


def test_a_word_is_right_if_all_its_pieces_are_and_one_that_was_cut_never_is(monkeypatch):
    tokens = torch.tensor([[2, 5, 6, 7]]).repeat(4, 1)
    # the last was cut
    hidden = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]).bool()
    guessed = tokens.clone()
    guessed[2, 3] = 9                                            # one piece of two is wrong
    monkeypatch.setattr(words, "guess", lambda *args: guessed)
    rows = Hidden(torch.arange(4), tokens, torch.ones(4, 4).bool(), hidden)
    right = words_right(None, rows, torch.zeros(4, 1, 1), ["object", "", "object", "size"])
    assert {kind: value.tolist() for kind, value in right.items()} == {
        "object": [1, 0], "size": [0], "all": [1, 1, 0, 0]}
