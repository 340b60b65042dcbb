"""prepare: from miniature public sets to records that training reads back."""

import json
import os
import pkgutil
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from minalbef.datasets import public
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records, open_records
from minalbef.system.images import content_hash
from miniature_sets import TRAIN, VAL, coco, jpeg, refcoco, texts_of, write

GROUNDING_TEST = "refcoco+_test.json"


@pytest.fixture
def here(tmp_path):
    """A folder with pictures, one of them grey, and one for what is prepared."""
    (tmp_path / "in").mkdir()
    for i, image in enumerate((TRAIN, VAL, "flickr30k-images/71.jpg", "VG_100K/5.jpg")):
        jpeg(tmp_path / "in" / image, mode="L" if i == 1 else "RGB", size=(12 + i, 8))
    return tmp_path / "in", tmp_path / "out"


@pytest.mark.parametrize("table", ["captions.csv", "captions.tsv", "captions.jsonl", ""])
def test_own_pictures_are_read_with_a_table_or_text_files_and_split_by_their_content(
    tmp_path, table
):
    names = [f"{i:02d}.jpg" for i in range(40)]
    for i, name in enumerate(names):
        jpeg(tmp_path / "in" / "more" / name, size=(8 + i % 20, 8 + i // 20))
    shutil.copy(tmp_path / "in" / "more" / "00.jpg", tmp_path / "in" / "more" / "39.jpg")
    rows = [(f"more/{name}", f"a cat {word}") for name in names for word in ("one", "two")]
    text = {
        ".csv": "file,caption\n" + "\n".join(map(",".join, rows)),
        ".tsv": "caption\tfile\n" + "\n".join(f"{caption}\t{file}" for file, caption in rows),
        ".jsonl": "\n".join(
            json.dumps({"image": file, "caption": caption}) for file, caption in rows
        ),
    }
    if table:
        (tmp_path / "in" / table).write_text(text[Path(table).suffix])
    else:
        for name in names:
            (tmp_path / "in" / "more" / name).with_suffix(".txt").write_text(
                "a cat one\n\na cat two\n"
            )
    account = prepare("pairs", tmp_path / "in", tmp_path / "out")
    records = {}
    ids = {}
    for split in ("train", "validation", "test"):
        records[split] = list(Records(tmp_path / "out" / "pairs", split))
        ids[split] = {record.id for record in records[split]}
    assert sum(map(len, records.values())) == 80
    assert len(records["train"]) > 44
    assert records["test"]
    assert "train: " in account
    # a copy has its picture's id
    assert not ids["train"] & ids["test"] and sum(map(len, ids.values())) == 39
    assert open_records("retrieval", [tmp_path / "out" / "pairs"])[0].text.startswith("a cat")


def test_what_is_written_is_read_back_by_number(here):
    source, out = here
    coco(source)
    account = prepare("coco", source, out)
    records = Records(out / "coco", "train")
    assert len(records) == 2 and records[-1] == records[1]
    assert texts_of(records) == ["a cat", "un café"]
    assert records[0].image.path == source / TRAIN
    assert records[0].id == content_hash((source / TRAIN).read_bytes())
    assert texts_of(Records(out / "coco", "test")) == ["two dogs", "a cat"]
    with pytest.raises(IndexError):
        records[2]
    assert "train: 1 images of 113,000 (0.0%), 2 records of 567,000 (0.0%)" in account
    assert json.loads((out / "coco" / "about.json").read_text())["splits"]["test"]["pictures"] == 1


def test_too_many_bad_entries_stop_it_and_nothing_looks_whole(here):
    source, out = here
    coco(
        source,
        coco_train=[{"image": TRAIN, "caption": "a cat"}]
        + [{"image": "gone.jpg", "caption": "x"}] * 2,
    )
    refusal = r"coco/train: 1 good records and 2 bad entries; at most 50% may be bad.*'gone.jpg'"
    with pytest.raises(ValueError, match=refusal):
        prepare("coco", source, out)
    with pytest.raises(ValueError, match="holds no prepared records"):
        Records(out / "coco", "test")
    assert "2 times missing image" in prepare("coco", source, out, most_bad=0.7)
    faults = (out / "coco" / "train.faults.txt").read_text().splitlines()
    assert len(faults) == 2 and "entry 1: image 'gone.jpg'" in faults[0]


MOMENTS = {  # of a second prepare: what is called then, and the how manieth time
    "a picture is looked at": ("open_image", 2),
    "the last file is written": ("np.save", 4),
    "the fourth file gets its name": ("os.replace", 4),
    "all files have their names": ("write_atomically", 1),
}


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_prepare_that_fails_or_is_killed_leaves_the_old_set_as_it_was(
    here, monkeypatch, moment, killed
):
    source, out = here
    coco(source)
    prepare("coco", source, out)
    coco(
        source,
        coco_train=[
            {"image": TRAIN, "caption": "a dog"}, {"image": TRAIN, "caption": "un thé"},
        ],
        coco_test=[{"image": VAL, "caption": ["two cats", "a dog"]}],
    )
    name, turn = MOMENTS[moment]
    target, _, name = f"minalbef.datasets.prepare.{name}".rpartition(".")
    real = getattr(pkgutil.resolve_name(target), name)
    calls = []

    def stop(*args, **named):
        calls.append(name)
        if len(calls) == turn:
            if killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        return real(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(f"{target}.{name}", stop)
        if killed and not (child := os.fork()):
            with suppress(BaseException):
                prepare("coco", source, out, look=True)
            os._exit(0)
        if killed:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        else:
            with pytest.raises(KeyboardInterrupt):
                prepare("coco", source, out, look=True)

    def texts():
        return texts_of(Records(out / "coco", "train")) + texts_of(Records(out / "coco", "test"))

    assert texts() == ["a cat", "un café", "two dogs", "a cat"]
    prepare("coco", source, out)
    assert texts() == ["a dog", "un thé", "two cats", "a dog"]
    assert not [*(out / "coco").glob(".*")], "what a killed one left is swept up"


def test_wrong_folders_sets_and_files_are_named(here, tmp_path):
    source, out = here
    with pytest.raises(ValueError, match="no set 'cocoo'; there are clipart, emoji, coco, vg"):
        prepare("cocoo", source, out)
    refusal = "no file of coco is there; it needs, for train: coco_train.json or dataset_coco"
    with pytest.raises(ValueError, match=refusal):
        prepare("coco", source, out)
    with pytest.raises(ValueError, match="is no folder; nothing is downloaded"):
        prepare("coco", tmp_path / "nowhere", out)
    coco(source)
    coco(source / "copy")
    with pytest.raises(ValueError, match="coco_train.json is there more than once"):
        prepare("coco", source, out)
    with pytest.raises(ValueError, match="is no prepared split"):
        prepare("coco", source / "copy", out, without=[out / "coco" / "tset"])


# pictures that two sets share


def test_pretraining_pictures_that_a_test_shows_are_told_and_can_be_left_out(here):
    source, out = here
    coco(
        source, coco_train=[{"image": TRAIN, "caption": "a cat"}, {"image": VAL, "caption": "seen"}]
    )
    prepare("coco", source, out)
    write(
        source / "vg.json",
        [{"image": "image/5.jpg", "caption": ["a cat"] * 3}, {"image": TRAIN, "caption": "a cat"}],
    )
    write(source / "image_data.json", [{"image_id": 5, "coco_id": 184613, "flickr_id": None}])
    account = prepare("vg", source, out)
    assert (
        "1 images of vg/train are in coco/test, 100.0% of it; leave them out by: "
        f"prepare vg --without {out}/coco/test" in account
    )
    account = prepare("vg", source, out, without=[out / "coco" / "test"])
    assert "3 left out, whose images are in a split of --without" in account
    assert "vg/train are in" not in account
    assert len(Records(out / "vg", "train")) == 1


# the tasks


def test_grounding_reads_back_with_boxes_and_trains_on_the_originals_list(here):
    source, out = here
    refcoco(source / "refcoco+")
    write(source / "refcoco+_train.json", [{"image": TRAIN, "text": "a cat", "ref_id": 2}])
    write(source / GROUNDING_TEST, [{"image": TRAIN, "text": "not a cat", "ref_id": 1}])
    prepare("grounding", source, out)
    record = Records(out / "grounding", "validation")[1]
    assert record.text == "red dog"
    assert record.size == (40, 60)
    assert record.box == (5.0, 4.0, 20.5, 10.0)
    assert record.proposals[1] == (-5.0, 30.0, 20.0, 20.0)
    assert Records(out / "grounding", "test")[0].text == "not a cat"
    train = Records(out / "grounding", "train")[0]
    assert train.text == "a cat"
    assert not isinstance(train, public.GroundingRecord)
    assert train.id == record.id
