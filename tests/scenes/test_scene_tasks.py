"""Tasks on scenes: what hides an input hides it, and nothing else."""

import numpy as np
import pytest

from emojiscenes.problems import Problems
from minalbef.scenes.tasks import entailment, grounding
from minalbef.scenes.tasks.base import HIDDEN_TEXT, SHIFT, make_records

SIZE = 16


@pytest.fixture(scope="module")
def expressions() -> list:
    source = Problems("grounding", "test", 0, SIZE, 50)
    return list(map(source.draw, range(2 * SHIFT)))


def texts_of(records) -> list[str]:
    return [record.text for record in records]


def same_image(first, second) -> bool:
    return np.array_equal(first.image, second.image)


def test_shuffled_texts_are_those_of_other_records_and_the_rest_stays(expressions):
    records = make_records(grounding.record, expressions, SIZE)
    shuffled = make_records(grounding.record, expressions, SIZE, hide="shuffled")
    texts = texts_of(records)
    assert texts_of(shuffled) == texts[SHIFT:] + texts[:SHIFT] != texts
    for first, second in zip(records, shuffled):
        assert same_image(first, second)
        assert (first.box, first.id) == (second.box, second.id)


def test_a_hidden_input_is_the_same_for_all_and_the_other_stays():
    source = Problems("entailment", "test", 0, SIZE, 50)
    statements = list(map(source.draw, range(6)))
    plain = make_records(entailment.record, statements, SIZE)
    blind = make_records(entailment.record, statements, SIZE, hide="image")
    mute = make_records(entailment.record, statements, SIZE, hide="text")
    for record in blind:
        assert (record.image == 128).all()
    assert texts_of(blind) == texts_of(plain)
    assert set(texts_of(mute)) == {HIDDEN_TEXT}
    assert all(map(same_image, mute, plain))
    assert not any(map(same_image, blind, plain))
