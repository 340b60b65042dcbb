"""answers: VQA's normal form and accuracy, in worked examples."""
import pytest

from minalbef.evaluation.answers import (
    accuracy,
    by_normal_form,
    normalise,
    scoring_answers,
    strip_punctuation,
)


@pytest.mark.parametrize("text, stripped", [
    ("yes!", "yes "),                            # parts words ...
    ("yes! no", "yes no"),                       # ... but beside a space falls away
    ("black/white", "black white"), ("black /white", "black white"), ("t-shirt", "t shirt"),
    ("1,000", "1000"), ("1,000-2", "10002"),     # a number with a comma takes every mark along
    ("2, red/blue", "2 red blue"),               # a comma behind a number is none within it
    ("3.5", "3.5"), ("st. paul", "st paul"), ("5.", "5"),
    ("tommy's", "tommy's"), ("1:30", "1:30")])
def test_punctuation_goes_as_in_the_official_evaluation(text, stripped):
    assert strip_punctuation(text) == stripped


@pytest.mark.parametrize("answer, normal", [
    ("The Cat", "cat"), ("a cat and an owl", "cat and owl"),
    ("Two", "2"), ("ten", "10"), ("none", "0"),
    ("eleven", "eleven"), ("dont know", "don't know"),
    ("DONT", "don't"), ("shouldnt've", "shouldn't've"),
    ("yall'd've", "y'all'd've"), ("twas", "'twas"), ("lets go", "lets go"), ("well", "well"),
    ("somebody'd", "somebodyd"), (" on\ttop\n", "on top"),
    ("", "")])
def test_answers_take_their_normal_form(answer, normal):
    assert normalise(answer) == normal


@pytest.mark.parametrize("answer, annotators, score", [
    # all ten wrote the same: letter by letter, but for spaces around and tabs inside
    ("two", ["two"] * 10, 1.0), ("2", ["two"] * 10, 0.0),
    ("no", ["no."] * 10, 0.0), ("no.", [" no.\n"] * 10, 1.0),
    ("The cat", ["cat"] * 10, 0.0), ("top\tleft", ["top left"] * 10, 1.0),
    # one differs: both sides in normal form; nine "two" are ten with a "2"
    ("2", ["two"] * 9 + ["2"], 1.0), ("two", ["2"] * 9 + ["3"], 1.0),
    ("no", ["no."] * 9 + ["yes"], 1.0),
    ("cat", ["the cat"] * 9 + ["dog"], 1.0), ("The cat!", ["cat"] * 9 + ["dog"], 1.0),
    # "two" and "2" agree, so two of ten: (8 * 2/3 + 2 * 1/3) / 10; an article more is no difference
    ("2", ["two", "2", *["three"] * 8], 0.6), ("dont", ["don't", *["a dog"] * 9], 0.3)])
def test_only_where_annotators_differ_both_sides_take_their_normal_form(
        answer, annotators, score):
    assert accuracy(answer, annotators) == pytest.approx(score)


def test_answers_alike_are_those_that_may_score():
    forms = by_normal_form(["2", "two", "cat", "a dog", "dog"])
    assert scoring_answers(forms, ["two", "The dog"]) == ["2", "two", "a dog", "dog"]
    assert scoring_answers(forms, ["10"]) == []
