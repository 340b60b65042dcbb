"""shards: tars in img2dataset's layout, whole and broken; each picture once an epoch."""

import random
import tarfile
from collections import Counter

import pytest
import torch

from helpers import same_state
from minalbef.datasets.loader import RecordBatches
from minalbef.datasets.prepare import prepare
from minalbef.datasets.readers import photo_id
from minalbef.datasets.shards import shards
from minalbef.datasets.store import Records
from minalbef.system import distributed
from minalbef.system.images import ChangedImage
from minalbef.tasks import retrieval
from miniature_sets import (
    CONFIG,
    SIZES,
    TOKENIZER,
    WORDS,
    img2dataset,
    photo,
    read_all,
    tar,
    texts_of,
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
    assert texts_of(records) == [f"a three {word}" for word in WORDS[:7]]
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
    members = {}
    for i in range(3):
        sample = {"jpg": photo(i), "txt": b"a cat"}
        if i == 1:
            sample |= change
        for ending, content in sample.items():
            if content:
                members[f"../../{i}.{ending}"] = content
    records, counts, faults = read_all(shards, tar(tmp_path / "0.tar", members))
    first, last = records
    assert (first.image.read(), last.image.read()) == (photo(0), photo(2))
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
    steps = range(7)  # 42 rows: three epochs of 13 and a bit
    expected = list(map(batches(prepared), steps))
    monkeypatch.setattr(distributed, "world", lambda: world)
    parts = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        straight = batches(prepared, workers=workers)
        parts.append(list(map(straight, steps)))
        for step in steps:
            again = batches(prepared, workers=workers)(step)
            assert same_state(vars(again), vars(parts[-1][step])), f"resumed at {step}"
    ids = []
    for step in steps:
        images = []
        for part in parts:
            assert len(part[step].ids) == 6 // world
            images.append(part[step].image)
            ids += part[step].ids.tolist()
        assert torch.equal(torch.cat(images), expected[step].image)
    epochs = [ids[i : i + 13] for i in (0, 13, 26)]
    for epoch in epochs:
        assert len(set(epoch)) == 13
    assert epochs[0] != epochs[1] != epochs[2]
    texts = {record.id: record.text for record in Records(prepared / "out" / "shards", "train")}
    assert set(texts) == set(ids), "all shards are shown"
    words = [texts[i].split()[1] for i in epochs[0]]
    assert Counter(words) == {"one": 5, "two": 1, "three": 7}
    assert words != sorted(words), "shards are mixed"


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
