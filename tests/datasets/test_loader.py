"""loader: every record once an epoch, on any number of processes and after a stop; bad pictures are counted."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset

from helpers import same_state, small
from minalbef.data import Record
from minalbef.datasets import loader
from minalbef.datasets.loader import Ahead, RecordBatches, ValidationBatches
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records
from minalbef.presets import preset
from minalbef.system import distributed
from minalbef.tasks import nlvr2, retrieval, vqa
from miniature_sets import CONFIG, TOKENIZER, WORDS, jpeg, write


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


def test_every_record_comes_once_an_epoch_in_an_order_of_its_own():
    reader = batches(Pictures(11))
    ids = torch.cat(
        [reader(step).ids for step in range(9)]
    ).tolist()  # 36 places: three epochs and a bit
    epochs = [ids[i : i + 11] for i in (0, 11, 22)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(11))
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != list(range(11))
    other = torch.cat(
        [batches(Pictures(11), small(**vars_of(CONFIG, seed=1)))(step).ids for step in range(3)]
    ).tolist()
    assert other[:11] != epochs[0], "the seed decides"


def vars_of(config, **changes) -> dict:
    return {key: value for key, value in config.to_dict().items() if key != "name"} | changes


def test_a_set_smaller_than_a_batch_is_gone_through_again():
    assert sorted(batches(Pictures(2))(0).ids.tolist()) == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="there is no record to train on"):
        batches(Pictures(0))


def test_a_step_is_the_same_whatever_came_before_and_however_many_read_ahead():
    straight = batches(Pictures(11))
    expected = [straight(step) for step in range(6)]
    assert same(batches(Pictures(11))(4), expected[4])
    assert same(straight(2), expected[2])
    assert same(straight(3), expected[3])
    ahead = batches(Pictures(11), workers=2)
    for step in (0, 1, 2, 5, 4):
        assert same(ahead(step), expected[step])
    plain = retrieval.collate(
        [Pictures(11)[i] for i in expected[0].ids], TOKENIZER, CONFIG.image_size
    )
    assert not torch.equal(expected[0].image, plain.image), "nothing was augmented"


def test_images_travel_as_bytes_and_are_floats_on_the_device():
    training = batches(Pictures(11), workers=1)(0)
    validation = next(
        iter(ValidationBatches(Pictures(11), retrieval.collate, CONFIG, TOKENIZER, 8))
    )
    for batch in (training, validation):
        assert batch.image.dtype == torch.uint8
        assert batch.to("cpu").image.dtype == torch.float32


def test_workers_whose_batches_do_not_fit_into_shared_memory_are_refused_before_they_start(
    tmp_path, monkeypatch
):
    config = preset("paper-4m")
    monkeypatch.setattr(loader, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda path: SimpleNamespace(total=64 * 2**20))
    monkeypatch.setattr(distributed, "world", lambda: 80)
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    config = replace(config, batch=5120)
    with pytest.raises(
        ValueError,
        match=r"has 0.067 GB, and 12 workers of each of 8 processes keep up to 2.5 GB of "
        r"batches there: take fewer --workers, .* docker run --shm-size=6g",
    ):
        RecordBatches(
            Pictures(11), retrieval.collate, config, TOKENIZER, workers=12
        )  # 8 x 25 x 64 x 3 x 256 x 256
    with pytest.raises(ValueError, match="up to 10 GB"):
        Ahead(print, config, 12)  # floats, as of scenes
    Ahead(print, config, 0)
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda path: SimpleNamespace(total=3e9))
    RecordBatches(Pictures(11), retrieval.collate, config, TOKENIZER, workers=12)
    pair = nlvr2.NLVR2Record((Pictures(1)[0].image,) * 2, "a cat", True, 0)
    with pytest.raises(ValueError, match="up to 5 GB"):
        RecordBatches([pair], nlvr2.collate, config, TOKENIZER, workers=12)
    monkeypatch.setattr(loader, "SHARED_MEMORY", tmp_path / "none")  # macOS, Windows
    RecordBatches([pair], nlvr2.collate, config, TOKENIZER, workers=12)


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


def test_the_last_of_an_epoch_gives_way_to_its_first(tmp_path):
    turn = loader.order(5, CONFIG.seed, 0).tolist()
    reader = batches(Pictures(5, {turn[-1]}, tmp_path))
    assert torch.cat([reader(step).ids for step in range(2)]).tolist()[:5] == [*turn[:-1], turn[0]]


def test_too_many_unreadable_pictures_stop_training(tmp_path, monkeypatch):
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
    lenient = batches(Pictures(60, range(20, 31), tmp_path), most_bad=0.05)
    assert len(torch.cat([lenient(step).ids for step in range(15)])) == 60
    monkeypatch.setattr(loader, "LEAST", 1)
    with pytest.raises(ValueError, match="more than 10.0%"):
        strict = batches(Pictures(60, range(20, 31), tmp_path), most_bad=0.1)
        for step in range(15):
            strict(step)


def test_a_folder_without_any_picture_is_told_at_once(tmp_path):
    refusal = "of 11 records in a row no image can be read: .*jpg cannot be read"
    with pytest.raises(ValueError, match=refusal):
        batches(Pictures(11, range(11), tmp_path))(0)


def test_prepared_sets_feed_it_several_at_once(tmp_path):
    for i in (0, 1):
        jpeg(tmp_path / "in" / f"{i}.png")
    question = {"question": "what is on the wall", "dataset": "vqa", "image": "0.png"}
    write(
        tmp_path / "in" / "vqa_train.json",
        [question | {"question_id": 1, "answer": ["cat", "dogs"]}],
    )
    write(tmp_path / "in" / "vqa_val.json", [question | {"question_id": 2, "answer": ["cat"]}])
    write(
        tmp_path / "in" / "nlvr_train.json",
        [{"images": ["0.png", "1.png"], "sentence": "a cat", "label": "True"}] * 3,
    )
    for name in ("vqa", "nlvr2"):
        prepare(name, tmp_path / "in", tmp_path / "out")
    both = ConcatDataset(
        [Records(tmp_path / "out" / "vqa", split) for split in ("train", "validation")]
    )
    reader = RecordBatches(both, vqa.collate, CONFIG, TOKENIZER, workers=1)(0)
    assert reader.image.dtype == torch.uint8
    assert sorted(reader.ids.tolist()) == [1, 1, 2, 2] and reader.counts.sum() == 6
    reader = RecordBatches(
        Records(tmp_path / "out" / "nlvr2", "train"), nlvr2.collate, CONFIG, TOKENIZER
    )(0)
    assert reader.image.dtype == torch.uint8
    assert reader.pairs.shape == (4, 2)
    assert reader.image[reader.pairs].shape == (4, 2, 3, 16, 16)
