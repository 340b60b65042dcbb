"""masking: how many words are hidden, behind what, and which never are."""
import torch
from torch import tensor

from helpers import texts
from minalbef.masking import mask_rates, mask_words

SPECIAL = (0, 1, 2, 3, 4)
MASK = 4


def many(rate=0.5):
    """20,000 captions of unequal lengths, masked."""
    chance = torch.Generator().manual_seed(0)
    tokens, keep = texts(20_000, 9)
    choose, kind = torch.rand(2, *tokens.shape, generator=chance)
    words = torch.randint(5, 64, tokens.shape, generator=chance)
    return (tokens, words, keep, *mask_words(tokens, SPECIAL, MASK, rate, choose, kind, words))


def test_masking_by_hand():
    tokens = tensor([[2, 9, 9, 9, 9, 0]])
    # the fifth is not chosen, nor are [CLS] and [PAD]
    choose = tensor([[0.0, 0.1, 0.1, 0.1, 0.7, 0.0]])
    kind = tensor([[0.5, 0.79, 0.85, 0.95, 0.1, 0.1]])
    masked, picks = mask_words(tokens, SPECIAL, MASK, 0.5, choose, kind, torch.full((1, 6), 7))
    assert picks.tolist() == [[False, True, True, True, False, False]]
    assert masked.tolist() == [[2, MASK, 7, 9, 9, 0]]


def test_rates_are_those_asked_for():
    tokens, words, keep, masked, picks = many(0.15)
    possible = (tokens >= 5).sum()
    hidden = picks & (masked == MASK)
    swapped = picks & (masked == words) & (masked != tokens)
    same = picks & (masked == tokens)
    def check(part, total, share):
        spread = (share * (1 - share) / total) ** 0.5
        assert abs(part / total - share) < 4 * spread, (part / total, share)
    check(picks.sum(), possible, 0.15)
    check(hidden.sum(), picks.sum(), 0.8)
    # one in 59 words is swapped for itself
    check(swapped.sum(), picks.sum(), 0.1 * 58 / 59)
    check(same.sum(), picks.sum(), 0.1 + 0.1 / 59)


def test_special_tokens_are_never_masked_and_the_rest_never_changed():
    tokens, _, keep, masked, picks = many(1.0)
    assert picks.equal(tokens >= 5)
    assert masked[~picks].equal(tokens[~picks])
    assert not (picks & ~keep).any() and not picks[:, 0].any()


def test_rates_of_frequent_words_by_hand():
    # 8 words: four of 7, two of 5, one of 8 and of 9
    tokens = tensor([[2, 7, 7, 7], [2, 8, 9, 0], [2, 7, 5, 5]])
    rates = mask_rates(tokens, tokens > 0, 12, 0.5, 1.0, usual=0.25)
    assert rates.tolist() == [0.5] * 5 + [0.5, 0.5, 0.25] + [0.5] * 4
    assert mask_rates(tokens, tokens > 0, 12, 0.5, 0.0, usual=0.25).tolist() == [0.5] * 12
