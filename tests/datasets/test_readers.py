"""readers and public: miniature files in exactly the foreign formats, with their oddities."""

import collections
import json
import os
import pickle
from dataclasses import replace

import pytest

from minalbef.datasets import forms, public, readers
from minalbef.datasets.readers import captions, photo_id
from minalbef.evaluation.answers import accuracy
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.vqa import collate
from miniature_sets import TRAIN, VAL, jpeg, read_all, refcoco, texts_of, write

# files of JSON


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}, {"a": "é\\u00e9 [x], {y}"}]',
        '\ufeff[{"a": 1},\n {"a": "éé [x], {y}"}]\n',
        '{"a": 1}\n\n{"a": "éé [x], {y}"}\n',
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_lists_and_lines_read_alike_however_they_are_cut(tmp_path, monkeypatch, text, chunk):
    monkeypatch.setattr(forms, "CHUNK", chunk)
    assert list(forms.entries(write(tmp_path / "a.json", text))) == [
        {"a": 1},
        {"a": "éé [x], {y}"},
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}, {"a": 2', '{"a": 1}\n{"a', "<html>", "[" * 100_000,
    ],
)
def test_truncated_and_foreign_files_are_named(tmp_path, text):
    path = write(tmp_path / "cut.json", text)
    with pytest.raises(ValueError, match=r"cut\.json cannot be read .*get it again"):
        list(forms.entries(path))
    with pytest.raises(ValueError, match=r"cut\.json cannot be read"):
        forms.load(path)


# captions


def test_pictures_are_found_below_the_folder_whatever_the_lists_maker_had_before(tmp_path):
    jpeg(tmp_path / "b" / "VG_100K_2" / "7.jpg")
    jpeg(tmp_path / "a" / TRAIN)
    path = write(
        tmp_path / "vg.json",
        [
            {"image": "/export/share/vision/image/7.jpg", "caption": "one"},
            {"image": f"/export/coco/images/{TRAIN}", "caption": "two"},
        ],
    )
    jpeg(tmp_path / "a" / "flickr30k-images" / "7.jpg")  # another album's, of the same name
    first, second = captions(path, [tmp_path / "a", tmp_path / "b"], album="vg")
    assert first.image == tmp_path / "b" / "VG_100K_2" / "7.jpg"
    assert second.image == tmp_path / "a" / TRAIN
    # root=None looks for nothing
    assert str(list(captions(path))[1].image) == f"/export/coco/images/{TRAIN}"


def test_a_photograph_has_one_number_in_all_sets(tmp_path):
    path = write(
        tmp_path / "image_data.json",
        [
            {
                "image_id": 2412112, "url": "https://a.org/VG_100K/5.jpg", "coco_id": 57870,
                "flickr_id": 9,
            },
            {"image_id": 6, "flickr_id": 71},
            {"image_id": 7, "coco_id": None, "flickr_id": None},
        ],
    )
    same = readers.read_aliases(path)
    assert photo_id("VG_100K/5.jpg", "vg", same) == photo_id(TRAIN)
    assert (
        photo_id("image/6.jpg", "vg", same)
        == photo_id("flickr30k-images/71.jpg", "flickr")
        == photo_id("http://static.flickr.com/2723/71_b0f2.jpg")
    )
    numbers = {
        photo_id("7.jpg", "vg", same), photo_id("7.jpg", "flickr"), photo_id("7.jpg"),
        photo_id(TRAIN), photo_id(VAL),
    }
    assert len(numbers) == 5, "different photographs are one"


def test_a_smaller_share_of_the_photographs_is_part_of_a_larger_one():
    photos = [photo_id(f"COCO_train2014_{i:012d}.jpg") for i in range(4000)]
    shares = (0.01, 0.1, 0.3, 0.7, 1.0)
    parts = []
    for share in shares:
        parts.append({photo for photo in photos if readers.in_share(photo, share)})
    for share, fewer, more in zip(shares, parts, parts[1:]):
        assert fewer < more and abs(len(fewer) / 4000 - share) < 0.025
    assert parts[-1] == set(photos)


def test_karpathy_splits_and_restval(tmp_path):
    def entry(image, split, number, *texts, folder="val2014"):
        jpeg(tmp_path / folder / image)
        return {
            "filepath": folder,
            "filename": image,
            "split": split,
            "imgid": number,
            "cocoid": 1,
            "sentences": [{"raw": text, "tokens": [], "imgid": number} for text in texts],
        }

    images = [
        entry("COCO_val2014_000000000001.jpg", "test", 0, "one", "two"),
        entry("COCO_val2014_000000000002.jpg", "restval", 1, "three"),
        entry("COCO_train2014_000000000003.jpg", "train", 2, "four", folder="train2014"),
        entry("COCO_val2014_000000000004.jpg", "val", 1, "again"),
    ]
    path = write(tmp_path / "dataset_coco.json", {"images": images, "dataset": "coco"})
    splits = {"train": ["three", "four"], "validation": ["again"], "test": ["one", "two"]}
    for split, texts in splits.items():
        records, _, _ = read_all(captions, path, root=tmp_path, split=split)
        assert texts_of(records) == texts


def test_cocos_own_captions_come_with_their_pictures_number(tmp_path):
    names = {
        57870: "train2014/COCO_train2014_000000057870.jpg",
        139: "train2014/COCO_train2014_000000000139.jpg",
    }
    for name in names.values():
        jpeg(tmp_path / "images" / name)
    images = [{"id": number, "file_name": name.partition("/")[2]} for number, name in names.items()]
    texts = [(57870, "a cat"), (139, "a dog"), (57870, "the cat"), (139, "?")]
    annotations = [
        {"image_id": number, "id": i, "caption": text} for i, (number, text) in enumerate(texts)
    ]
    more = [{"id": 7, "file_name": "COCO_train2014_000000000007.jpg"}, {"id": 139, "file_name": ""}]
    path = write(
        tmp_path / "captions_train2014.json", {"images": images + more, "annotations": annotations}
    )
    records, counts, _ = read_all(captions, path, root=tmp_path, folder="train2014")
    assert texts_of(records) == ["a cat", "the cat", "a dog"], "by picture"
    assert records[0].id == records[1].id == photo_id(TRAIN) != records[2].id
    assert records[0].image == tmp_path / "images" / TRAIN
    assert counts == {"no words": 2, "missing image": 2}


def test_flickrs_table_has_its_splits(tmp_path):
    lines = ["raw,sentids,split,filename,img_id"]
    rows = [("train", ["Two men, talking", 'a "dog"']), ("test", ["A cat"])]
    for number, (split, texts) in enumerate(rows):
        jpeg(tmp_path / "flickr30k-images" / f"{number}.jpg")
        cell = json.dumps(texts).replace('"', '""')
        lines.append(f'"{cell}","[0, 1]",{split},{number}.jpg,{number}')
    lines.append("not JSON,[],train,0.jpg,0")
    path = write(tmp_path / "flickr_annotations_30k.csv", "\n".join(lines))
    records, counts, _ = read_all(captions, path, root=tmp_path, split="train", album="flickr")
    assert texts_of(records) == ["Two men, talking", 'a "dog"']
    assert counts == {"malformed": 1} and records[0].id == photo_id("0.jpg", "flickr")
    (test,) = captions(path, tmp_path, split="test", album="flickr")
    assert test.text == "A cat"


# entailment


def test_entailment_in_both_forms(tmp_path):
    jpeg(tmp_path / "flickr30k-images" / "3393.jpg", mode="L")
    original = write(
        tmp_path / "ve_train.json",
        [
            {"image": "3393", "sentence": "A dog", "label": "neutral"},
            {"image": 3393, "sentence": "B", "label": "entailment"},
        ],
    )
    official = write(
        tmp_path / "snli_ve_train.jsonl",
        [
            {
                "Flikr30kID": "3393.jpg", "sentence1": "a caption", "sentence2": "A dog",
                "gold_label": "neutral", "pairID": "3393.jpg#1r1n",
            },
            {"Flickr30K_ID": "3393", "sentence2": "B", "gold_label": "entailment"},
        ],
    )
    records = list(public.entailment(original, tmp_path))
    assert records == list(public.entailment(official, tmp_path))
    assert [record.label for record in records] == ["neutral", "entailment"]


# questions

QUESTIONS = [
    {"image_id": 57870, "question": "What is it?", "question_id": 578700},
    {"image_id": 57870, "question": "How many?", "question_id": 578701},
]


def answers(*words):
    return [
        {"answer": word, "answer_confidence": "yes", "answer_id": i + 1}
        for i, word in enumerate(words)
    ]


def test_the_originals_questions_carry_answers_and_trust(tmp_path):
    jpeg(tmp_path / VAL)
    jpeg(tmp_path / "VG_100K" / "12.jpg")
    entries = [
        {
            "question_id": 3, "question": "What?", "answer": ["net", "net", "nets"], "image": VAL,
            "dataset": "vqa",
        },
        {
            "question_id": 4, "question": "Where?", "answer": "on the wall",
            "image": "image/12.jpg", "dataset": "vg",
        },
    ]
    records = list(public.vqa(write(tmp_path / "vqa_train.json", entries), tmp_path))
    first, second = records
    assert first.answers == ("net", "net", "nets")
    assert (first.trust, first.dataset) == (1.0, "vqa")
    assert second.answers == ("on the wall",)
    assert (second.trust, second.dataset) == (0.5, "vg")
    batch = collate(records, Tokenizer.train(["what where net nets on the wall"], 64), 16)
    assert batch.weights.tolist() == pytest.approx([0.6667, 0.3333, 0.5], abs=5e-5)
    assert batch.image.shape == (2, 3, 16, 16)


@pytest.mark.parametrize(
    "change, kind",
    [
        ({"answer": []}, "no answer"),
        ({"answer": [3]}, "no answer"),
        ({"dataset": "gqa"}, "malformed"),
        ({"question": "??"}, "no words"),
        ({"question_id": 2.5}, "malformed"),
        ({"question_id": 2, "question": "Other?"}, "duplicate id"),
    ],
)
def test_a_question_that_cannot_be_used_is_counted_by_its_kind(tmp_path, change, kind):
    good = {
        "question_id": 2, "question": "What?", "answer": ["a"], "image": "1.jpg", "dataset": "vqa",
    }
    path = write(tmp_path / "q.json", [good, good | {"question_id": 3} | change])
    records, counts, _ = read_all(public.vqa, path)
    assert len(records) == 1 and counts == {kind: 1}


def test_official_questions_of_one_id_are_a_fault(tmp_path):
    questions = [QUESTIONS[0], QUESTIONS[0], QUESTIONS[0] | {"question": "Another?"}]
    path = write(tmp_path / "q.json", {"data_subtype": "val2014", "questions": questions})
    records, counts, _ = read_all(public.vqa_official, path)
    assert len(records) == 2 and counts == {"duplicate id": 1}


def test_official_questions_and_annotations_are_joined_for_scoring(tmp_path):
    questions = write(tmp_path / "q.json", {"data_subtype": "val2014", "questions": QUESTIONS})
    annotations = write(
        tmp_path / "a.json",
        {
            "data_subtype": "val2014",
            "annotations": [
                {
                    "question_id": 578701, "image_id": 57870, "question_type": "how many",
                    "answers": answers(*["2"] * 9, "3"),
                },
                {"question_id": 578700, "image_id": 57870, "answers": answers(*["cat"] * 10)},
            ],
        },
    )
    first, second = public.vqa_official(questions, annotations)
    assert first.id == 578700 and set(first.answers) == {"cat"}
    assert second.id == 578701 and set(second.answers) == {"2", "3"}
    assert str(first.image) == "val2014/COCO_val2014_000000057870.jpg"
    assert accuracy("two", second.answers) == 1
    assert 0 < accuracy("3", second.answers) < 0.5


# pairs


def pair(stem: str) -> list[str]:
    return [f"{stem}-img0.png", f"{stem}-img1.png"]


def test_pairs_in_both_forms(tmp_path):
    for i in (0, 1):
        jpeg(tmp_path / "images" / "train" / "77" / f"train-10171-0-img{i}.png")
        jpeg(tmp_path / "dev" / f"dev-850-0-img{i}.png")
    original = write(
        tmp_path / "nlvr_train.json",
        [
            {
                "images": pair("train/77/train-10171-0"),
                "sentence": "Two dogs.",
                "label": "True",
            },
            {
                "images": pair("dev/dev-850-0"),
                "sentence": "Two dogs.",
                "label": "False",
            },
        ],
    )
    official = write(
        tmp_path / "train.json",
        "\n".join(
            map(
                json.dumps,
                [
                    {
                        "identifier": "train-10171-0-0", "sentence": "Two dogs.", "label": "True",
                        "directory": 77, "left_url": "http://a",
                    },
                    {"identifier": "dev-850-0-1", "sentence": "Two dogs.", "label": "False"},
                ],
            )
        ),
    )
    first, second = public.nlvr2(original, tmp_path)
    for record, copy in zip((first, second), public.nlvr2(official, tmp_path), strict=True):
        assert replace(copy, id=record.id) == record
    assert (first.true, second.true) == (True, False)
    assert first.images[0] != first.images[1]


def test_a_statement_is_its_set_and_sentence_as_in_the_official_consistency(tmp_path):
    """The official script drops the identifier's third field, the pair:
    dev-850-0-1 and dev-850-3-1 are the same.
    """
    statements = {
        "dev-850-0-0": "Two dogs.", "dev-850-1-0": "Two dogs.", "dev-850-1-1": "A cat.",
        "dev-7-0-0": "Two dogs.",
    }
    official = []
    original = []
    for name, text in statements.items():
        rest = {"sentence": text, "label": "True"}
        official.append({"identifier": name} | rest)
        original.append({"images": pair(f"dev/{name[:-2]}")} | rest)
    for entries in (official, original):
        ids = [record.id for record in public.nlvr2(write(tmp_path / "dev.json", entries))]
        assert list(map(ids.index, ids)) == [0, 0, 2, 3]


# boxes


@pytest.mark.parametrize(
    "box, says",
    [
        ([5, 5, 0, 3], "has no area"),
        ([60, 5, 3, 3], "lies outside the image of 60 x 40 pixels"),
        ([5, 5, 3], "is not four finite numbers"),
        ([float("nan"), 5, 3, 3], "is not four finite numbers"),
    ],
)
def test_boxes_outside_the_picture_or_of_no_area_are_left_out(tmp_path, box, says):
    refs, instances, _ = refcoco(tmp_path, boxes=[box] * 3)
    records, counts, faults = read_all(public.refcoco, refs, instances)
    assert records == [] and counts == {"bad box": 1} and says in faults["bad box"]


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize(
    "payload", [[{"ref_id": Evil()}], collections.OrderedDict(a=1)]
)
@pytest.mark.parametrize("protocol", [0, 2])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(
    tmp_path, monkeypatch, payload, protocol
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps(payload, protocol))
    with pytest.raises(ValueError, match=r"it asks for .*and could run code"):
        public.load_refs(path)
    assert not (tmp_path / "pwned").exists()


def test_python_2s_pickle_is_read_and_broken_ones_are_named(tmp_path):
    path = tmp_path / "refs(unc).p"
    path.write_bytes(
        b"(lp0\n(dp1\nS'ref_id'\np2\nI7\nsS'ann_id'\nI8\nsS'image_id'\nL9L\nsS'split'\n"
        b"S'caf\\xc3\\xa9'\nsa."
    )
    assert public.load_refs(path) == [{"ref_id": 7, "ann_id": 8, "image_id": 9, "split": "café"}]
    for broken in (
        b"", b"\x80\x02]q\x00(}q", b"junk", *map(pickle.dumps, ({"a": 1}, [{"ref_id": 1}], [3])),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="get it again"):
            public.load_refs(path)
