"""prepare, sets, records: from miniature public sets to records that training reads back, checked and compared."""

import json
import os
import pickle
import pkgutil
import shutil
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from minalbef.datasets import public
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records, open_records
from minalbef.system.images import content_hash
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import retrieval, vqa
from miniature_sets import TRAIN, VAL, coco, jpeg, photo, refcoco, tar, write

GROUNDING_TEST = "refcoco+_test.json"
TOKENIZER = Tokenizer.train(["a cat two dogs what is on the wall not true un café"], 96)


@pytest.fixture
def here(tmp_path):
    """A folder with pictures, one of them grey, and one for what is prepared."""
    (tmp_path / "in").mkdir()
    for i, image in enumerate((TRAIN, VAL, "flickr30k-images/71.jpg", "VG_100K/5.jpg")):
        jpeg(tmp_path / "in" / image, mode="L" if i == 1 else "RGB", size=(12 + i, 8))
    return tmp_path / "in", tmp_path / "out"


def test_a_share_leaves_the_evaluation_splits_whole_and_keeps_the_captions_of_a_picture_together(
    here,
):
    source, out = here
    names = [f"train2014/COCO_train2014_{i:012d}.jpg" for i in range(60)]
    for i, name in enumerate(names):
        jpeg(source / name, size=(8 + i, 8))
    coco(
        source,
        coco_train=[
            {"image": name, "caption": [f"a cat {i}", f"a dog {i}"]} for i, name in enumerate(names)
        ],
    )
    kept = {}
    for share in (0.1, 0.5, 1.0):
        account = prepare("coco", source, out, share=share)
        assert (f"a share of {share:g}" in account) == (share < 1)
        assert len(Records(out / "coco", "test")) == 2
        kept[share] = Counter(record.id for record in Records(out / "coco", "train"))
    assert kept[0.1].keys() < kept[0.5].keys() < kept[1.0].keys()
    assert 20 <= len(kept[0.5]) <= 40
    assert set(kept[0.5].values()) == {2}, "both captions, or none"
    assert kept[0.5] == Counter(
        record.id for record in open_records("retrieval", [out / "coco"], 0.5)
    ), "one share"
    with pytest.raises(ValueError, match="share=0 must lie between"):
        prepare("coco", source, out, share=0)


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
        ".csv": "file,caption\n" + "\n".join(f"{file},{caption}" for file, caption in rows),
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
    read = {
        split: list(Records(tmp_path / "out" / "pairs", split))
        for split in ("train", "validation", "test")
    }
    assert sum(map(len, read.values())) == 80
    assert len(read["train"]) > 44
    assert read["test"]
    assert "train: " in account
    ids = {split: {record.id for record in some} for split, some in read.items()}
    # a copy has its picture's id
    assert not ids["train"] & ids["test"] and sum(map(len, ids.values())) == 39
    assert open_records("retrieval", [tmp_path / "out" / "pairs"])[0].text.startswith("a cat")


def test_what_is_written_is_read_back_by_number(here):
    source, out = here
    coco(source)
    account = prepare("coco", source, out)
    records = Records(out / "coco", "train")
    assert len(records) == 2 and records[-1] == records[1]
    assert [record.text for record in records] == ["a cat", "un café"]
    assert records[0].image.path == source / TRAIN
    assert records[0].id == content_hash((source / TRAIN).read_bytes())
    assert [record.text for record in Records(out / "coco", "test")] == ["two dogs", "a cat"]
    with pytest.raises(IndexError):
        records[2]
    assert "train: 1 images of 113,000 (0.0%), 2 records of 567,000 (0.0%)" in account
    assert (
        account.count(
            "112,999 images of the published set are missing: its lists here are incomplete"
        )
        == 1
    )
    assert "Ignore this if the set is your own" in account
    assert f"validation: none of its files is below {source}" in account
    assert json.loads((out / "coco" / "about.json").read_text())["splits"]["test"]["pictures"] == 1


def test_pictures_may_lie_in_several_other_folders(here, tmp_path):
    source, out = here
    lists = tmp_path / "lists"
    coco(lists, coco_val=[{"image": "b/1.jpg", "caption": "a cat"}])
    jpeg(tmp_path / "more" / "b" / "1.jpg")
    prepare("coco", lists, out, images=[source, tmp_path / "more"])
    assert Records(out / "coco", "validation")[0].image.path == tmp_path / "more" / "b" / "1.jpg"
    assert Records(out / "coco", "train")[0].image.path.exists()


def test_bad_entries_are_counted_named_and_written_down(here):
    source, out = here
    coco(
        source,
        coco_train=[
            {"image": TRAIN, "caption": ["a cat", "?!", "b"]},
            {"image": "gone.jpg", "caption": "x"},
        ],
    )
    account = prepare("coco", source, out)
    assert "1 times missing image, the first: " in account and "'gone.jpg'" in account
    assert "1 times no words" in account
    faults = (out / "coco" / "train.faults.txt").read_text().splitlines()
    assert len(faults) == 2 and "entry 1: image 'gone.jpg'" in faults[1]
    about = json.loads((out / "coco" / "about.json").read_text())
    assert about["splits"]["train"]["faults"] == {"no words": 1, "missing image": 1}


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
    coco(source, coco_train=[])
    with pytest.raises(ValueError, match="0 good records and 0 bad entries.*it is empty"):
        prepare("coco", source, out)


MOMENTS = {  # of a second prepare: what is called then, and the how manieth time
    "a picture is looked at": ("open_image", 2),
    "an index is written": ("np.save", 1),
    "the last file is written": ("np.save", 4),
    "the first file gets its name": ("os.replace", 1),
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
        coco_train=[{"image": TRAIN, "caption": text} for text in ("a dog", "un thé")],
        coco_test=[{"image": VAL, "caption": ["two cats", "a dog"]}],
    )
    name, wanted = MOMENTS[moment]
    target, _, name = f"minalbef.datasets.prepare.{name}".rpartition(".")
    real = getattr(pkgutil.resolve_name(target), name)
    calls = []

    def stop(*given, **named):
        calls.append(name)
        if len(calls) == wanted:
            if killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        return real(*given, **named)

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
        return [
            record.text for split in ("train", "test") for record in Records(out / "coco", split)
        ]

    assert texts() == ["a cat", "un café", "two dogs", "a cat"]
    prepare("coco", source, out)
    assert texts() == ["a dog", "un thé", "two cats", "a dog"]
    assert not [*(out / "coco").glob(".*")], "what a killed one left is swept up"


def test_who_reads_a_set_reads_on_while_it_is_prepared_again(here):
    source, out = here
    coco(source)
    prepare("coco", source, out)
    reader = Records(out / "coco", "test")
    for texts in (["the two cats", "x"], ["a"], ["one more", "and more", "and yet more"]):
        coco(source, coco_test=[{"image": VAL, "caption": texts}])
        prepare("coco", source, out)
        assert [record.text for record in reader] == ["two dogs", "a cat"]
        # a new one reads the new set
        assert [record.text for record in pickle.loads(pickle.dumps(reader))] == texts
        assert len([*(out / "coco").glob("*.jsonl")]) == 2, "the old files are gone"


def test_looking_finds_broken_pictures(here):
    source, out = here
    (source / VAL).write_bytes(photo(1)[:-200])
    coco(
        source,
        coco_test=[
            {"image": VAL, "caption": ["two dogs", "a cat"]},
            {"image": TRAIN, "caption": ["a cat"] * 3},
        ],
    )
    assert "unreadable" not in prepare("coco", source, out)
    account = prepare("coco", source, out, look=True)
    assert "2 times unreadable image" in account
    assert len(Records(out / "coco", "test")) == 3


def test_wrong_folders_sets_and_files_are_named(here, tmp_path):
    source, out = here
    with pytest.raises(ValueError, match="no set 'cocoo'; there are clipart, coco, vg"):
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


def test_a_damaged_index_and_an_unknown_split_are_named(here):
    source, out = here
    coco(source)
    prepare("coco", source, out)
    with pytest.raises(ValueError, match="has no split 'val'; there are train, test"):
        Records(out / "coco", "val")
    with open(out / "coco" / "train.jsonl", "ab") as file:
        file.write(b"{}\n")
    refusal = "another file's.*; prepare the set again"
    with pytest.raises(ValueError, match=refusal):
        Records(out / "coco", "train")
    index = out / "coco" / "train.npy"
    for damage in (
        b"", index.read_bytes()[:-3], b"PK\x03\x04", np.array(7), np.array([]), np.array(["a"]),
        np.array([{}]),
    ):
        if isinstance(damage, bytes):
            index.write_bytes(damage)
        else:
            np.save(index, damage)
        refusal = "train.jsonl and its index cannot be read .*; prepare the set again"
        with pytest.raises(ValueError, match=refusal):
            Records(out / "coco", "train")


# pictures that two sets share


def test_pretraining_pictures_that_a_test_shows_are_told_and_can_be_left_out(here):
    source, out = here
    coco(
        source, coco_train=[{"image": TRAIN, "caption": "a cat"}, {"image": VAL, "caption": "seen"}]
    )
    account = prepare("coco", source, out)
    assert "1 images of coco/train are in coco/test, 100.0% of it" in account
    account = prepare("coco", source, out, without=[out / "coco" / "test"])
    # the test keeps its pictures
    assert "coco/train are in" not in account and len(Records(out / "coco", "test")) == 2
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
    (source / "image_data.json").unlink()
    # without the relations they look different
    assert "vg/train are in" not in prepare("vg", source, out)


def test_a_pretraining_set_that_comes_later_is_compared_too(here):
    source, out = here
    write(
        source / "flickr30k_test.json",
        [{"image": "flickr30k-images/71.jpg", "caption": ["a cat"] * 5}],
    )
    prepare("flickr30k", source, out)
    tar(
        source / "0.tar",
        {
            "0.jpg": jpeg(),
            "0.txt": b"two dogs",
            "0.json": b'{"url": "http://static.flickr.com/2/71_a.jpg"}',
        },
    )
    tar(source / "1.tar", {"1.jpg": jpeg(), "1.txt": b"a cat"})
    account = prepare("shards", source, out)
    assert "1 images of shards/train are in flickr30k/test, 100.0% of it" in account
    records = Records(out / "shards", "train")
    batch = retrieval.collate([records[0], records[1]], TOKENIZER, 16)
    assert batch.image.shape == (2, 3, 16, 16)
    assert [record.text for record in records] == ["two dogs", "a cat"]


# the tasks


def test_vqa_reads_back_and_counts_what_its_list_of_answers_lacks(here):
    source, out = here
    question = {"question": "what is on the wall", "dataset": "vqa", "image": VAL}
    write(
        source / "vqa_train.json",
        [
            question | {"question_id": 1, "answer": ["cat", "dogs"]},
            question | {"question_id": 2, "answer": ["café"]},
        ],
    )
    write(
        source / "vg_qa.json",
        [question | {"question_id": 3, "answer": "true", "dataset": "vg", "image": "image/5.jpg"}],
    )
    write(source / "vqa_test.json", [question | {"question_id": 4}])
    write(source / "answer_list.json", ["cat", "true"])
    account = prepare("vqa", source, out)
    assert json.loads((out / "vqa" / "answers.json").read_text()) == ["cat", "true"]
    batch = vqa.collate(list(Records(out / "vqa", "train")), TOKENIZER, 16)
    assert batch.weights.tolist() == [0.5, 0.5, 1.0, 0.5]
    assert batch.ids.tolist() == [1, 2, 3]
    assert Records(out / "vqa", "test")[0].answers == ()


def test_official_vqa_is_taken_where_the_originals_files_are_not(here):
    source, out = here
    for part, image in (("train2014", 57870), ("val2014", 184613)):
        write(
            source / f"v2_OpenEnded_mscoco_{part}_questions.json",
            {
                "data_subtype": part,
                "questions": [
                    {"question_id": 10, "image_id": image, "question": "what is on the wall"}
                ],
            },
        )
        write(
            source / f"v2_mscoco_{part}_annotations.json",
            {
                "annotations": [
                    {
                        "question_id": 10,
                        "answers": [{"answer": "cat", "answer_id": i + 1} for i in range(10)],
                    }
                ]
            },
        )
    account = prepare("vqa", source, out)
    assert Records(out / "vqa", "train")[0].image.path == source / TRAIN
    assert Records(out / "vqa", "validation")[0].answers == ("cat",) * 10
    assert "answers.json: the 1 most frequent of 1 answers to training questions" in account
    assert json.loads((out / "vqa" / "answers.json").read_text()) == ["cat"]


def test_without_a_list_of_answers_the_most_frequent_in_training_are_written(here, monkeypatch):
    source, out = here
    question = {"question": "what is on the wall", "dataset": "vqa", "image": VAL}
    said = [["cat", "cat", "dog"], ["cow"], ["dog"], ["cat"], ["cow", "cat"], ["hen"]]
    entries = [question | {"question_id": i, "answer": answer} for i, answer in enumerate(said)]
    write(source / "vqa_train.json", [*entries, question | {"question_id": 9}])
    write(source / "vqa_val.json", [question | {"question_id": 10, "answer": ["hen"] * 10}])
    monkeypatch.setattr(public, "ANSWERS", 2)
    account = prepare("vqa", source, out)
    assert "answers.json: the 2 most frequent of 4 answers to training questions" in account
    assert json.loads((out / "vqa" / "answers.json").read_text()) == ["cat", "cow"]
    assert account.count("1 times no answer") == 1, "the file is read twice, its faults count once"
    (source / "vqa_train.json").unlink()
    prepare("vqa", source, out)
    assert not (out / "vqa" / "answers.json").exists(), "it was the old set's"


def test_official_captions_are_prepared_with_counts_of_their_own(here):
    source, out = here
    for part, image in (("train", TRAIN), ("val", VAL)):
        number = int(image[-16:-4])
        write(
            source / "annotations" / f"captions_{part}2014.json",
            {
                "images": [{"id": number, "file_name": image.partition("/")[2]}],
                "annotations": [{"image_id": number, "id": 1, "caption": "a cat"}],
            },
        )
    account = prepare("coco", source, out)
    assert "train: 1 images of 82,783 (0.0%), 1 records of 414,113" in account
    assert "validation: 1 images of 40,504 (0.0%)" in account
    assert "test: none of its" in account
    lines = [f'"[""A dog""]",[0],{split},71.jpg,0' for split in ("train", "val", "test")]
    write(
        source / "flickr_annotations_30k.csv",
        "\n".join(["raw,sentids,split,filename,img_id", *lines]),
    )
    assert "test: 1 images of 1,000" in prepare("flickr30k", source, out)
    assert Records(out / "flickr30k", "test")[0].text == "A dog"


def test_a_list_of_another_form_is_named_where_none_of_the_sets_is_there(here):
    source, out = here
    (source / "results.csv").write_text("image_name| comment_number| comment\n")
    with pytest.raises(ValueError, match="There are: results.csv. A table without splits, such as"):
        prepare("flickr30k", source, out)


def test_grounding_reads_back_with_boxes_and_trains_on_the_originals_list(here):
    source, out = here
    refcoco(source / "refcoco+")
    write(source / "refcoco+_train.json", [{"image": TRAIN, "text": "a cat", "ref_id": 2}])
    write(source / GROUNDING_TEST, [{"image": TRAIN, "text": "not a cat", "ref_id": 1}])
    prepare("grounding", source, out)
    record = Records(out / "grounding", "validation")[1]
    assert isinstance(record, public.GroundingRecord)
    assert record.text == "red dog"
    assert record.size == (40, 60)
    assert record.box == (5.0, 4.0, 20.5, 10.0)
    assert record.proposals[1] == (-5.0, 30.0, 20.0, 20.0)
    assert Records(out / "grounding", "test")[0].text == "not a cat"
    train = Records(out / "grounding", "train")[0]
    assert train.text == "a cat"
    assert not isinstance(train, public.GroundingRecord)
    assert train.id == record.id
    (source / "refcoco+_train.json").unlink()
    prepare("grounding", source, out)
    train = Records(out / "grounding", "train")[0]
    # proposals are of pictures to be evaluated on alone
    assert train.text == "a hat" and train.proposals == ()
