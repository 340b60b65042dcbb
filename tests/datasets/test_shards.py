"""shards: tars in img2dataset's layout, whole and broken, and training on them: each picture once an epoch."""

import io
import itertools
import json
import random
import tarfile
import zlib
from collections import Counter

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from helpers import same_state
from minalbef.cli import main
from minalbef.cli.train import PretrainSets
from minalbef.datasets import loader
from minalbef.datasets.loader import RecordBatches, count_unreadable
from minalbef.datasets.prepare import prepare
from minalbef.datasets.readers import photo_id
from minalbef.datasets.shards import shards
from minalbef.datasets.store import Records
from minalbef.recipes.pretrain import begin, pretrain, settings
from minalbef.system import distributed
from minalbef.system.images import ChangedImage, open_image
from minalbef.tasks import retrieval
from miniature_sets import (
    CONFIG,
    SIZES,
    SMALL,
    TOKENIZER,
    WORDS,
    img2dataset,
    jpeg,
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


def test_captions_come_from_txt_or_json_and_what_has_none_is_named(tmp_path):
    about = {
        "url": "http://static.flickr.com/2723/4385058960_b0f2.jpg",
        "caption": "from json",
        "status": "success",
    }
    path = tar(
        tmp_path / "00000.tar",
        {
            "000000000.jpg": jpeg(size=(30, 20), mode="L"),
            "000000000.json": json.dumps(about).encode(),
            "000000000.txt": "un café".encode(),
            "000000001.json": json.dumps(about | {"url": "http://x.org/a.jpg"}).encode(),
            "000000001.jpg": jpeg(),
            "000000002.txt": b"no picture",
            "000000003.jpg": jpeg(),
            "000000004.jpg": jpeg(),
            "000000004.txt": b"\xff\xfe",
            "sub/5.webp": photo(5, "webp"),
            "sub/5.txt": b"webp",
            "6.PNG": photo(6, "png"),
            "6.txt": b"png",
        },
    )
    records, counts, faults = read_all(shards, path)
    assert [record.text for record in records] == ["un café", "from json", "webp", "png"]
    image = open_image(records[0].image)
    assert image.size == (30, 20) and image.mode == "RGB", "grey must become RGB"
    assert open_image(records[2].image).size == open_image(records[3].image).size == (24, 20)
    assert records[0].id == photo_id("4385058960.jpg", "flickr") != records[1].id
    assert counts == {"missing image": 1, "no words": 1, "malformed": 1}
    assert "000000002 has no jpg, png or webp" in faults["missing image"]


HOSTILE = {  # what a sample has instead, and the kind of fault that it is
    "JSON nested 100,000 deep": ({"json": b"[" * 100_000}, "malformed"),
    "JSON of another kind": ({"json": b"[1]"}, "malformed"),
    "a number of 9,999 digits": ({"json": b"9" * 9999}, "malformed"),
    "JSON of 17 MB": ({"json": b" " * (17 << 20)}, "malformed"),
    "a text of 17 MB": ({"txt": b"a " * (17 << 19)}, "malformed"),
    "no UTF-8": ({"txt": b"\xed\xa0\x80"}, "malformed"),
    "half a character": ({"txt": None, "json": b'{"caption": "a \\ud83d"}'}, "broken text"),
    "NUL": ({"txt": b"\0"}, "no words"),
    "zero width": ({"txt": "\u200b".encode()}, "no words"),
    "a caption of numbers": ({"txt": None, "json": b'{"caption": 5}'}, "no words"),
    "a url of numbers": ({"json": b'{"url": 5}'}, "malformed"),
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


@pytest.mark.parametrize(
    "at, field", [(124, b"\x80" + b"\x7f" * 11), (124, b"\xff" * 12), (156, b"L"), (156, b"x")]
)
def test_a_hostile_header_loses_what_follows_and_ends_nothing(tmp_path, at, field):
    (path,) = img2dataset(tmp_path, 3)
    with tarfile.open(path) as file:
        start = file.getmember("000000001.jpg").offset
    data = bytearray(path.read_bytes())
    data[start + at : start + at + len(field)] = field
    block = data[start : start + 512]
    data[start + 148 : start + 156] = b"%06o\0 " % (
        sum(block[:148]) + sum(block[156:]) + 8 * ord(" ")
    )
    path.write_bytes(data)
    records, counts, _ = read_all(shards, path)
    assert records[0].image.read() == photo(0) and sum(counts.values()) >= 1


def test_pictures_without_a_url_are_told_apart_by_tar_and_key(tmp_path):
    """Keys may begin anew in each tar; equal ids would make two photographs positives."""
    members = {"0.jpg": photo(0), "0.txt": b"a cat", "1.jpg": photo(1), "1.txt": b"two dogs"}
    tars = [tar(tmp_path / name, members) for name in ("00000.tar", "00001.tar")]
    assert len({record.id for path in tars for record in shards(path)}) == 4


def test_wherever_a_tar_is_cut_the_pictures_before_are_kept_and_the_others_counted(tmp_path):
    (path,) = img2dataset(tmp_path, 4)
    undamaged = path.read_bytes()
    ends = [sum(place(path, f"00000000{i}.txt")) for i in range(4)]
    last = -(-ends[-1] // 512) * 512  # then come blocks of zeros
    for cut in sorted(
        {*range(0, last + 512, 256), *(end + i for end in ends for i in (-1, 0, 1)), 1, 700}
    ):
        path.write_bytes(undamaged[:cut])
        records, counts, _ = read_all(shards, path)
        kept = len(records)
        assert counts == {"lost with a broken shard": max(1, 4 - kept)}, (
            f"cut at byte {cut}, nobody was told"
        )
        assert [record.text for record in records] == [f"a one {word}" for word in WORDS[:kept]]
        for i, record in enumerate(records):
            assert record.image.read() == photo(i)
        # the last before the cut may not look whole, no other
        assert sum(end <= cut for end in ends) - kept in (0, 1)
    path.write_bytes(undamaged[: last + 512])  # one block of zeros is end enough
    assert len(read_all(shards, path)[0]) == 4 and not read_all(shards, path)[1]


def test_damaged_headers_and_what_is_no_tar_are_one_fault_each(tmp_path):
    (path,) = img2dataset(tmp_path, 4)
    undamaged = bytearray(path.read_bytes())
    broken = bytearray(undamaged)
    broken[place(path, "000000002.jpg")[0] - 512] ^= 0xFF  # the name's first letter
    path.write_bytes(broken)
    records, counts, faults = read_all(shards, path)
    assert 1 <= len(records) <= 2
    assert counts == {"lost with a broken shard": 4 - len(records)}
    assert "00000.tar cannot be read to its end" in faults["lost with a broken shard"]
    for junk in (b"", b"not a tar" * 100, b"<html>" * 500, photo(0)):
        path.write_bytes(junk)
        assert read_all(shards, path)[:2] == ([], {"lost with a broken shard": 4})
    (tmp_path / "00000_stats.json").write_text("[]")
    assert (
        read_all(shards, path)[1]
        == read_all(shards, tmp_path / "none.tar")[1]
        == {"lost with a broken shard": 1}
    ), "unknown: one"
    path.unlink()
    path.mkdir()
    assert read_all(shards, path)[1] == {"lost with a broken shard": 1}


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


def test_images_that_were_broken_or_are_gone_are_replaced_counted_and_named(tmp_path):
    tars = img2dataset(tmp_path / "in", *SIZES)
    overwrite(tars[0], "000000003.jpg", lambda old: old[: len(old) // 2])  # truncated
    overwrite(tars[0], "000000001.jpg", lambda old: b"<html>404</html>")
    overwrite(tars[2], "000020000.jpg", lambda old: bomb(20_000, 20_000))  # 400 million pixels
    account = prepare("shards", tmp_path / "in", tmp_path / "out")
    assert "2 times no image" in account, "prepare sees what has no header of an image"
    tars[1].unlink()
    reader = batches(tmp_path, batch=11, folder=tmp_path / "run", workers=1)
    ids = [reader(step).ids.tolist() for step in range(3)]
    names = {
        record.id: record.image.name for record in Records(tmp_path / "out" / "shards", "train")
    }
    for epoch in ids:
        assert len(epoch) == 11 and len(set(epoch)) == 9
    assert set(ids[0]) == set(ids[1])
    lines = (tmp_path / "run" / "unreadable.txt").read_text().splitlines()
    # once each, not once an epoch
    assert len(reader.bad) == len(lines) == count_unreadable(tmp_path / "run") == 2
    for i in names:
        if i not in ids[0]:
            assert any(names[i] in line for line in lines)
    again = batches(tmp_path, batch=11, folder=tmp_path / "run")
    assert again(2).ids.tolist() == ids[2]
    assert count_unreadable(tmp_path / "run") == 2, "a resumed run counts none twice"


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


def bomb(width: int, height: int) -> bytes:
    """A PNG's head that claims many pixels."""
    Image.new("1", (1, 1)).save(file := io.BytesIO(), "PNG")
    content = bytearray(file.getvalue())
    content[16:24] = width.to_bytes(4) + height.to_bytes(4)
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
    return bytes(content)


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


def test_later_epochs_do_not_dilute_the_share(prepared, monkeypatch):
    monkeypatch.setattr(loader, "LEAST", 1)
    reader = batches(prepared, batch=13, most_bad=0.3)
    for step in range(20):
        reader(step)
    (prepared / "in" / "00000.tar").unlink()  # 5 of 13, in the twenty-first epoch
    refusal = "of the first 13 records could not be read, more than 30.0%"
    with pytest.raises(ValueError, match=refusal):
        for step in range(20, 23):
            reader(step)


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


def test_pretraining_begins_from_given_weights_with_berts_word_pieces(prepared):
    pieces = [
        "[PAD]", *(f"[unused{i}]" for i in range(5)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a",
        *WORDS,
    ]
    (prepared / "vocab.txt").write_text("\n".join(pieces))
    data = [prepared / "out" / "shards"]
    other = begin(settings("tiny", [*SMALL, "seed=1"], data), data)[
        0
    ].student.image_encoder.state_dict()
    save_file(other, prepared / "vit.safetensors")
    plain = settings("tiny", SMALL, data)
    vit = str(prepared / "vit.safetensors")
    task, tokenizer, config = begin(plain, data, prepared / "vocab.txt", vit)
    assert task.mask == 9
    assert task.special == (0, 6, 7, 8, 9)
    assert config.vocab_size == len(tokenizer) == 20
    assert config.objects == 0, "a run of photographs is none of scenes, though tiny's preset is"
    assert config.epoch == 13
    assert begin(settings("tiny", [*SMALL, "epoch=5"], data), data)[2].epoch == 5
    for model in (task.student, task.teacher):
        assert same_state(model.image_encoder.state_dict(), other)
    # the check is blind
    assert not same_state(begin(plain, data)[0].student.image_encoder.state_dict(), other)


def test_the_command_line_passes_the_share_on_and_tells_what_was_lost(
    prepared, monkeypatch, caplog
):
    monkeypatch.setattr(loader, "LEAST", 1)
    (prepared / "in" / "00001.tar").unlink()

    def train(**options):
        main.pretrain(
            SMALL, run=prepared / "run", data=(prepared / "out" / "shards",),
            sets=PretrainSets(**options),
        )

    with pytest.raises(ValueError, match="more than 1.0%.*00001.tar"):
        train()
    train(most_bad=0.5)
    assert (
        f"{SIZES[1]} images could not be read and were replaced by others; they are listed in "
        f"{prepared / 'run'}/unreadable*.txt" in caplog.text
    )
    refusal = "--vit: of use on prepared sets alone; name one with --data"
    with pytest.raises(ValueError, match=refusal):
        main.COMMANDS["pretrain"](sets=PretrainSets(vit="deit"))
