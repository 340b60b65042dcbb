"""loader: images travel as bytes, and those that cannot be read are replaced and counted."""


import numpy as np
import pytest
import torch

from helpers import same_state
from minalbef.data import Record
from minalbef.datasets import loader
from minalbef.datasets.loader import RecordBatches, ValidationBatches
from minalbef.tasks import retrieval
from miniature_sets import CONFIG, TOKENIZER, WORDS, jpeg


class Pictures(list):
    """Records in memory, as Records gives them from disk; those in `broken` cannot be opened."""

    def __init__(self, count: int, broken=(), folder=None):
        chance = np.random.default_rng(0)
        super().__init__(
            Record(
                folder / f"{i}.jpg"
                if i in broken
                else chance.integers(0, 256, (20, 24, 3), np.uint8),
                f"a cat {WORDS[i % 9]}",
                i,
            )
            for i in range(count)
        )


def batches(records, config=CONFIG, **options) -> RecordBatches:
    return RecordBatches(records, retrieval.collate, config, TOKENIZER, **options)


def same(a, b) -> bool:
    return same_state(vars(a), vars(b))


def test_images_travel_as_bytes_and_are_floats_on_the_device():
    training = batches(Pictures(11), workers=1)(0)
    validation = next(
        iter(ValidationBatches(Pictures(11), retrieval.collate, CONFIG, TOKENIZER, 8))
    )
    for batch in (training, validation):
        assert batch.image.dtype == torch.uint8
        assert batch.to("cpu").image.dtype == torch.float32


def test_an_unreadable_picture_gives_way_to_the_epochs_next_and_is_named(tmp_path):
    (tmp_path / "3.jpg").write_bytes(jpeg()[:-200])
    reader = batches(Pictures(11, {3, 7}, tmp_path), folder=tmp_path / "run")
    ids = torch.cat([reader(step).ids for step in range(9)]).tolist()
    turn = loader.order(11, CONFIG.seed, 0).tolist()
    stands = [turn[(i + 1) % 11] if number in (3, 7) else number for i, number in enumerate(turn)]
    # each gives way to the one behind it
    assert ids[:11] == stands and abs(turn.index(3) - turn.index(7)) > 1
    lines = (tmp_path / "run" / "unreadable.txt").read_text().splitlines()
    assert reader.bad.keys() == {3, 7} and len(lines) == 2, "each is named once, not once an epoch"
    assert {line.split(":")[0] for line in lines} == {"record 3", "record 7"}
    assert "3.jpg cannot be read" in "".join(lines)
    assert same(
        batches(Pictures(11, {3, 7}, tmp_path), workers=1)(1),
        batches(Pictures(11, {3, 7}, tmp_path))(1),
    )


def test_too_many_unreadable_pictures_stop_training(tmp_path):
    reader = batches(
        Pictures(60, range(20, 31), tmp_path)
    )  # 11, where 10 are 1% of the least number that tells
    with pytest.raises(
        ValueError,
        match=r"11 images of the first \d+ records could not be read, more than 1.0%, such as "
        r"record 20: .*20.jpg.*--look",
    ):
        for step in range(30):
            reader(step)
