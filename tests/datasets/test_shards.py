"""shards: tars in img2dataset's layout, whole and broken, and training on them: each picture once an epoch."""

import itertools
import random
import tarfile
from collections import Counter

import pytest
import torch

from helpers import same_state
from minalbef import distributed
from minalbef.data import ChangedImage
from minalbef.datasets import loader
from minalbef.datasets.loader import RecordBatches
from minalbef.datasets.prepare import prepare
from minalbef.datasets.readers import photo_id
from minalbef.datasets.shards import shards
from minalbef.datasets.store import Records
from minalbef.recipes.pretrain import pretrain, settings
from minalbef.tasks import retrieval
from miniature_sets import (
    CONFIG,
    SIZES,
    SMALL,
    TOKENIZER,
    WORDS,
    img2dataset,
    photo,
    read_all,
    tar,
)


def place(path, key: str) -> tuple[int, int]:
    """Where a member's bytes begin, and how many there are."""
    with tarfile.open(path) as file:
        member = file.getmember(key)
        return member.offset_data, member.size


# reading


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_img2datasets_shards_give_pictures_that_open_from_within_the_tar(tmp_path, format):
    tars = img2dataset(tmp_path, *SIZES, format=format)
    records, counts, _ = read_all(shards, tars[2])
    assert [record.text for record in records] == [f"a three {word}" for word in WORDS[:7]]
    assert counts == {}
    assert records[4].image.read() == photo(204)
    assert records[4].id == photo_id("https://x.org/2/4.jpg")


HOSTILE = {  # what a sample has instead, and the kind of fault that it is
    "JSON nested 100,000 deep": ({"json": b"[" * 100_000}, "malformed"),
    "JSON of 17 MB": ({"json": b" " * (17 << 20)}, "malformed"),
    "half a character": ({"txt": None, "json": b'{"caption": "a \\ud83d"}'}, "broken text"),
    "a caption of numbers": ({"txt": None, "json": b'{"caption": 5}'}, "no words"),
    "no picture": ({"jpg": None}, "missing image"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_sample_is_counted_and_the_others_are_read(tmp_path, name):
    change, kind = HOSTILE[name]
    samples = [{"jpg": photo(i), "txt": b"a cat"} | (change if i == 1 else {}) for i in range(3)]
    files = {
        f"../../{i}.{ending}": sample[ending]
        for i, sample in enumerate(samples)
        for ending in sample
    }
    members = {name: content for name, content in files.items() if content}
    records, counts, faults = read_all(shards, tar(tmp_path / "0.tar", members))
    assert [record.image.read() for record in records] == [photo(0), photo(2)]
    assert counts == {kind: 1}
    assert len(faults[kind]) < 700


def test_pictures_without_a_url_are_told_apart_by_tar_and_key(tmp_path):
    """Keys may begin anew in each tar; equal ids would make two photographs positives."""
    members = {"0.jpg": photo(0), "0.txt": b"a cat", "1.jpg": photo(1), "1.txt": b"two dogs"}
    tars = [tar(tmp_path / name, members) for name in ("00000.tar", "00001.tar")]
    assert len({record.id for path in tars for record in shards(path)}) == 4


def test_noise_in_a_tar_never_stops_the_reader(tmp_path):
    (path,) = img2dataset(tmp_path, 4, format=tarfile.PAX_FORMAT)
    undamaged = path.read_bytes()
    chance = random.Random(0)
    for _ in range(150):
        broken = bytearray(undamaged)
        for _ in range(chance.choice((1, 8, 64))):
            broken[chance.randrange(len(undamaged))] = chance.randrange(256)
        path.write_bytes(broken)
        records, counts, _ = read_all(shards, path)
        assert len(records) + sum(counts.values()) >= 4, "a picture is gone and nobody was told"


def test_prepare_stops_above_a_share_of_lost_pictures_and_tells_it_below(tmp_path):
    tars = img2dataset(tmp_path / "in", 10, 10)
    tars[1].write_bytes(tars[1].read_bytes()[: place(tars[1], "000010004.jpg")[0]])
    refusal = "14 good records and 6 bad entries; at most 25% may be bad"
    with pytest.raises(ValueError, match=refusal):
        prepare("shards", tmp_path / "in", tmp_path / "out", most_bad=0.25)
    account = prepare("shards", tmp_path / "in", tmp_path / "out", most_bad=0.35)
    assert "6 times lost with a broken shard, the first: " in account
    assert "00001.tar" in account
    assert len(Records(tmp_path / "out" / "shards", "train")) == 14


# training


@pytest.fixture
def prepared(tmp_path):
    """Three shards of unequal size, and their records."""
    img2dataset(tmp_path / "in", *SIZES)
    prepare("shards", tmp_path / "in", tmp_path / "out")
    return tmp_path


def batches(here, batch: int = 6, **options) -> RecordBatches:
    config = type(CONFIG)(**CONFIG.to_dict() | {"batch": batch, "epoch": 13})
    return RecordBatches(
        Records(here / "out" / "shards", "train"), retrieval.collate, config, TOKENIZER, **options
    )


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_any_ranks_and_workers_show_each_picture_once_an_epoch_and_resume_at_any_step(
    prepared, monkeypatch, world, workers
):
    undamaged, steps, seen, texts = (
        batches(prepared), 7, [], Counter(),
    )  # 42 rows: three epochs of 13 and a bit
    expected = [undamaged(step) for step in range(steps)]
    monkeypatch.setattr(distributed, "world", lambda: world)
    parts = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        straight = batches(prepared, workers=workers)
        parts.append([straight(step) for step in range(steps)])
        for step in range(steps):
            assert same_state(
                vars(batches(prepared, workers=workers)(step)), vars(parts[-1][step])
            ), f"resumed at {step}"
    for step in range(steps):
        share = [part[step] for part in parts]
        assert {len(batch.ids) for batch in share} == {6 // world}
        assert torch.equal(torch.cat([batch.image for batch in share]), expected[step].image)
        seen += torch.cat([batch.ids for batch in share]).tolist()
    epochs = [seen[i : i + 13] for i in (0, 13, 26)]
    for epoch in epochs:
        assert len(set(epoch)) == 13
    assert epochs[0] != epochs[1] != epochs[2]
    known = {record.id: record.text for record in Records(prepared / "out" / "shards", "train")}
    assert set(known) == set(seen), "all shards are shown"
    texts.update(known[i].split()[1] for i in epochs[0])
    assert texts == {"one": 5, "two": 1, "three": 7}
    assert [known[i].split()[1] for i in epochs[0]] != sorted(
        known[i].split()[1] for i in epochs[0]
    ), "shards are mixed"


def overwrite(path, key: str, make) -> None:
    """Put other bytes, of the same number, in a member's place."""
    at, size = place(path, key)
    content = bytearray(path.read_bytes())
    content[at : at + size] = make(bytes(content[at : at + size]))[:size].ljust(size, b"\0")
    path.write_bytes(content)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("change", ["another image", "cut", "another order"])
def test_training_stops_at_an_image_that_changed_after_prepare(prepared, change, workers):
    tars = sorted((prepared / "in").glob("*.tar"))
    if change == "another image":
        overwrite(tars[0], "000000001.jpg", lambda old: photo(99))
    elif change == "cut":
        tars[2].write_bytes(tars[2].read_bytes()[: place(tars[2], "000020005.jpg")[0] + 100])
    else:
        tars[0].write_bytes(tars[2].read_bytes())
    reader = batches(prepared, batch=13, workers=workers)
    refusal = "has changed since the set was prepared.*minalbef prepare shards"
    with pytest.raises(ChangedImage, match=refusal):
        reader(0)


def test_a_shard_that_is_gone_does_not_stop_training_below_the_share(prepared, monkeypatch):
    monkeypatch.setattr(loader, "IN_A_ROW", 6)  # fewer than the shard has
    monkeypatch.setattr(loader, "LEAST", 13)
    (prepared / "in" / "00002.tar").unlink()
    lenient = batches(prepared, most_bad=0.6)
    # the other two shards are shown
    assert len(set(lenient(0).ids.tolist() + lenient(1).ids.tolist())) == 6
    strict = batches(prepared, most_bad=0.5)
    refusal = "7 images of the first 1[23] records could not be read, more than 50.0%.*--most-bad"
    with pytest.raises(ValueError, match=refusal):
        for step in range(4):
            strict(step)


# pretraining


def train_on(data, folder, changes, **options):
    pretrain(settings("tiny", changes, data), folder, data, **options)


def weights(folder):
    return torch.load(folder / "state.pt", weights_only=True)["task"]


def test_pretraining_on_shards_goes_on_after_a_stop_to_the_same_weights(prepared, monkeypatch):
    data = [prepared / "out" / "shards"]
    train_on(data, prepared / "straight", SMALL, quiet=True)
    real = RecordBatches.__call__
    calls = itertools.count()

    def stops(self, step):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return real(self, step)

    monkeypatch.setattr(RecordBatches, "__call__", stops)
    with pytest.raises(KeyboardInterrupt):
        train_on(data, prepared / "stopped", SMALL, quiet=True)
    assert torch.load(prepared / "stopped" / "state.pt", weights_only=True)["step"] == 5
    train_on(data, prepared / "stopped", SMALL, workers=1, quiet=True)
    assert same_state(weights(prepared / "stopped"), weights(prepared / "straight"))
    train_on(data, prepared / "other", [*SMALL, "seed=1"], quiet=True)
    # the check is blind
    assert not same_state(weights(prepared / "other"), weights(prepared / "straight"))
