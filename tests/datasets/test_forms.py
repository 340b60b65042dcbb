"""Sets in the layouts in which people have them, from their folders to records."""

import json
import logging

import pytest

from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records
from miniature_sets import jpeg, write

CAPTIONS = [
    f'Two young guys with "shaggy" hair, {word}' for word in ("one", "two", "three", "four")
]
NAMES = [f"{1000092795 + i}.jpg" for i in range(4)]
TOKENS = "".join(f"{name}#{i}\t{text}\n" for name, text in zip(NAMES, CAPTIONS) for i in range(2))
KAGGLE = "image_name| comment_number| comment\n" + "".join(
    f"{name}| {i}| {text}\n" for name, text in zip(NAMES, CAPTIONS) for i in range(2)
)
EUROPEAN = "File;Caption\n" + "".join(f"{name};{text}\n" for name, text in zip(NAMES, CAPTIONS))


def titles(names, folder="", start=0) -> str:
    """A table of open_clip's."""
    lines = [f"{folder}{name}\t{CAPTIONS[start + i]}" for i, name in enumerate(names)]
    return "\n".join(["filepath\ttitle", *lines])


def json_lines(names, start=0) -> list[dict]:
    """Hugging Face's metadata.jsonl."""
    return [{"file_name": name, "text": CAPTIONS[start + i]} for i, name in enumerate(names)]


def pictures(folder, names=NAMES, first=0):
    for i, name in enumerate(names):
        jpeg(folder / name, size=(8 + first + i, 8))


def prepared(path, **options) -> dict[str, list[tuple[str, str]]]:
    """Prepare a folder of pairs: -> by split, images' last folder and name, and captions."""
    prepare("pairs", path, path.parent / "out", **options)
    about = json.loads((path.parent / "out" / "pairs" / "about.json").read_text())
    pairs = {}
    for split in about["splits"]:
        pairs[split] = []
        for record in Records(path.parent / "out" / "pairs", split):
            name = "/".join(record.image.path.parts[-2:])
            pairs[split].append((name, record.text))
    return pairs


def all_pairs(path, **options) -> list[tuple[str, str]]:
    """The same of all splits, with the image's name alone, sorted."""
    pairs = sum(prepared(path, **options).values(), [])
    return sorted((name.rpartition("/")[2], text) for name, text in pairs)


def texts(pairs: list[tuple[str, str]]) -> list[str]:
    return [text for _, text in pairs]


@pytest.mark.parametrize(
    "table, text, images, times",
    [
        ("flickr30k_images/results.csv", KAGGLE, "flickr30k_images/flickr30k_images", 2),
        ("Flickr8k_text/Flickr8k.token.txt", TOKENS, "Flicker8k_Dataset", 2),
        ("train.csv", titles(NAMES, "/data/someone/images/"), "images", 1),
        ("captions.csv", EUROPEAN, "photos", 1),
    ],
)
def test_the_tables_of_flickr_kaggle_open_clip_and_hugging_face_are_found_with_their_images(
    tmp_path, table, text, images, times
):
    pictures(tmp_path / "in" / images)
    write(tmp_path / "in" / table, text)
    write(tmp_path / "in" / "readme.txt", "what it is")
    write(tmp_path / "in" / "Flickr8k_text" / "Flickr_8k.trainImages.txt", NAMES[0])
    folder = images.rpartition("/")[2]
    expected = [
        (f"{folder}/{name}", caption)
        for name, caption in zip(NAMES, CAPTIONS)
        for _ in range(times)
    ]
    assert sorted(sum(prepared(tmp_path / "in").values(), [])) == sorted(expected)


@pytest.mark.parametrize("form", ["open_clip", "imagefolder"])
def test_tables_that_are_named_by_their_splits_are_read_together(tmp_path, form):
    source = tmp_path / "in"
    if form == "open_clip":
        pictures(source / "images")
        write(source / "train.csv", titles(NAMES[:3], "images/"))
        write(source / "val.csv", titles(NAMES[3:], "images/", 3))
    else:  # equal names, each beside its own table
        pictures(source / "train", ["0.jpg", "1.jpg", "2.jpg"])
        pictures(source / "val", ["0.jpg"], 3)
        write(source / "train" / "metadata.jsonl", json_lines(["0.jpg", "1.jpg", "2.jpg"]))
        write(source / "val" / "metadata.jsonl", json_lines(["0.jpg"], 3))
    pairs = prepared(source)
    assert texts(pairs["train"]) == CAPTIONS[:3]
    assert texts(pairs["validation"]) == CAPTIONS[3:]
    assert "test" not in pairs
    assert form == "open_clip" or pairs["validation"][0][0] == "val/0.jpg"


def test_folders_of_images_are_captions_by_their_names(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for i, folder in enumerate(("train/golden_retriever", "train/Bus", "val/tabby-cat", "val/Bus")):
        pictures(tmp_path / "in" / folder, ["0.jpg"], i)
    pictures(tmp_path / "in", ["alone.jpg"], 9)
    write(tmp_path / "in" / "README.txt", "what it is")
    pairs = prepared(tmp_path / "in")
    assert sorted(texts(pairs["train"])) == ["Bus", "golden retriever"]
    assert sorted(texts(pairs["validation"])) == ["Bus", "tabby cat"]
    assert "names of the images' 3 folders, 'Bus', 'golden retriever', 'tabby cat'" in caplog.text
    assert (
        "alone.jpg is in no folder whose name is a caption"
        in (tmp_path / "out" / "pairs" / "train.faults.txt").read_text()
    )


def test_folders_of_a_public_set_or_of_images_alone_are_no_captions(tmp_path):
    pictures(tmp_path / "in" / "train2017")
    for way_out in ("captions.csv", "1.txt beside", "--captions-from names", "from folders"):
        with pytest.raises(ValueError, match=f"has 4 images, and no captions .*{way_out}"):
            prepare("pairs", tmp_path / "in", tmp_path / "out")
    pictures(tmp_path / "in" / "val2017", first=4)
    write(tmp_path / "in" / "annotations" / "captions_train2017.json", {})
    refusal = "captions_train2017.json may be of the public set coco: minalbef prepare"
    with pytest.raises(ValueError, match=refusal):
        prepare("pairs", tmp_path / "in", tmp_path / "out")


# foreign JSON: each in miniature, as its makers write it

PAIRS = sorted(zip(NAMES, CAPTIONS))


def coco_json() -> dict:
    images = [{"id": 7 * i, "file_name": name, "height": 8} for i, name in enumerate(NAMES)]
    annotations = [{"id": i, "image_id": 7 * i, "caption": CAPTIONS[i]} for i in range(4)]
    return {"info": {"year": 2026}, "licenses": [], "images": images, "annotations": annotations}


def llava(name: str, text: str) -> dict:
    turns = [
        {"from": "human", "value": "Describe it.\n<image>"}, {"from": "gpt", "value": text},
        {"from": "human", "value": "Is it new?"}, {"from": "gpt", "value": "No."},
    ]
    return {"id": name.partition(".")[0], "image": name, "conversations": turns}


def karpathy() -> dict:
    images = []
    for i, (name, text) in enumerate(PAIRS):
        sentences = [{"tokens": text.split(), "raw": text, "imgid": i, "sentid": i}]
        split = ("train", "train", "val", "test")[i]
        images.append(
            {"sentids": [i], "imgid": i, "sentences": sentences, "split": split, "filename": name}
        )
    return {"images": images, "dataset": "flickr8k"}


@pytest.mark.parametrize(
    "name, value",
    [
        ("mine.json", coco_json()),
        ("train.json", [{"image": f"x/{name}", "caption": text} for name, text in PAIRS]),
        (
            "train.json",
            [{"image": name, "caption": text, "image_id": f"coco_{name}"} for name, text in PAIRS],
        ),
        ("blip_laion_cc_sbu_558k.json", [llava(name, text) for name, text in PAIRS]),
        ("texts.json", dict(PAIRS)),
        ("texts.json", {name: [text] for name, text in PAIRS}),
        ("a.jsonl", [{"image": name.partition(".")[0], "text": text} for name, text in PAIRS]),
        ("a.json", [{"image_id": int(name[:-4]), "caption": text} for name, text in PAIRS]),
    ],
    ids=["COCO", "LAVIS", "ALBEF", "LLaVA", "object", "lists", "no ending", "numbers"],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_json_of_any_common_form_is_read_by_its_content(tmp_path, name, value, indent):
    pictures(tmp_path / "in" / "images")
    write(tmp_path / "in" / "train2017" / "info.json", {"version": 1})
    text = json.dumps(value, indent=indent)
    if name.endswith(".jsonl"):
        text = "\n".join(map(json.dumps, value))
    write(tmp_path / "in" / name, text)
    assert all_pairs(tmp_path / "in") == PAIRS


def test_karpathys_flickr8k_keeps_its_splits(tmp_path):
    pictures(tmp_path / "in" / "Flicker8k_Dataset")
    write(tmp_path / "in" / "dataset_flickr8k.json", karpathy())
    splits = prepared(tmp_path / "in")
    assert {split: texts(pairs) for split, pairs in splits.items()} == {
        "train": CAPTIONS[:2], "validation": CAPTIONS[2:3], "test": CAPTIONS[3:],
    }


def test_an_answer_of_two_captions_and_an_image_without_one_are_told_apart(tmp_path):
    pictures(tmp_path / "in")
    contents = coco_json()
    contents["annotations"][0]["image_id"] = 7
    write(tmp_path / "in" / "captions.json", contents)
    account = prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert "1 times no words" in account
    assert all_pairs(tmp_path / "in")[:2] == [(NAMES[1], CAPTIONS[0]), (NAMES[1], CAPTIONS[1])]


# beside images, and in their names


@pytest.mark.parametrize("ending", [".txt", ".caption", ".json", "files of img2dataset"])
def test_captions_beside_images_are_read_whatever_their_ending(tmp_path, ending):
    pictures(tmp_path / "in" / "00000")
    for name, text in PAIRS:
        path = tmp_path / "in" / "00000" / name
        value = {"caption": text, "url": "https://x.org/1.jpg", "status": "success"}
        if ending in (".txt", ".caption"):
            write(path.with_suffix(ending), text)
        else:
            write(path.with_suffix(".json"), value)
        if ending == "files of img2dataset":
            write(tmp_path / "in" / "links.csv", "url,caption\nhttps://x.org/1.jpg,a cat\n")
            write(path.with_suffix(".txt"), text)
            write(tmp_path / "in" / "00000.parquet", "of addresses and captions")
    write(tmp_path / "in" / "00000_stats.json", {"count": 4, "successes": 4})
    assert all_pairs(tmp_path / "in") == PAIRS


def test_names_of_files_are_captions_where_you_say_so(tmp_path):
    names = ["a_red_car_1.jpg", "a_red_car_2.jpg", "train/two-dogs.jpg", "a cat (3).jpg"]
    pictures(tmp_path / "in", names)
    pairs = all_pairs(tmp_path / "in", captions_from="names")
    assert [text for _, text in pairs] == ["a cat", "a red car", "a red car", "two dogs"]
    with pytest.raises(ValueError, match="--captions-from is for your own pairs"):
        prepare("coco", tmp_path / "in", tmp_path / "out", captions_from="names")


def test_names_of_folders_are_labels_where_you_say_so_whatever_else_is_there(tmp_path):
    pictures(tmp_path / "in" / "bus")
    write(tmp_path / "in" / "captions.csv", EUROPEAN)
    assert set(texts(sum(prepared(tmp_path / "in", captions_from="folders").values(), []))) == {
        "bus"
    }


# tables


@pytest.mark.parametrize("name", ["caption{}", "caption_{}", "Caption {}"])
def test_captions_in_numbered_columns_are_all_read(tmp_path, name):
    pictures(tmp_path / "in")
    lines = [",".join(["image", *(name.format(i) for i in (1, 2, 3))])]
    lines += [f"{file},one of {file},two of {file}," for file in NAMES[:2]]
    lines += [f"{file},one of {file},two of {file},three of {file}" for file in NAMES[2:]]
    write(tmp_path / "in" / "captions.csv", "\n".join(lines))
    assert len(all_pairs(tmp_path / "in")) == 10


def test_a_table_with_pandas_index_is_split_by_a_hash(tmp_path):
    pictures(tmp_path / "in")
    lines = [",image,caption", *(f"{i},{name},a cat {i}" for i, name in enumerate(NAMES))]
    write(tmp_path / "in" / "captions.csv", "\n".join(lines))
    assert all_pairs(tmp_path / "in") == [(name, f"a cat {i}") for i, name in enumerate(NAMES)]


def test_foreign_json_with_odd_entries_is_counted_and_the_rest_is_read(tmp_path):
    pictures(tmp_path / "in")
    broken = karpathy()
    broken["images"][1]["sentences"] = ["no object"]
    broken["images"].append("no object")
    write(tmp_path / "in" / "a.json", broken)
    account = prepare("pairs", tmp_path / "in", tmp_path / "out", most_bad=0.9)
    assert "1 times no words" in account and "1 times malformed" in account
    odd = llava(*PAIRS[0])
    odd["conversations"].insert(0, "no object")
    write(tmp_path / "in" / "a.json", [odd])
    assert all_pairs(tmp_path / "in") == PAIRS[:1]


def test_a_table_in_latin_1_is_read_and_said(tmp_path):
    pictures(tmp_path / "in")
    lines = ["image,caption", *(f"{name},“un café” à l'œil {i}" for i, name in enumerate(NAMES))]
    (tmp_path / "in" / "captions.csv").write_bytes("\n".join(lines).encode("cp1252"))
    assert "captions.csv isn't in UTF-8" in prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert all_pairs(tmp_path / "in")[0] == (NAMES[0], "“un café” à l'œil 0")


@pytest.mark.parametrize(
    "name, text, says",
    [
        ("Train_GCC-training.tsv", "a cat\thttps://x.org/1.jpg\n", "first, 'caption\\turl'"),
        ("links.csv", "https://x.org/1.jpg\nhttps://x.org/2.jpg\n", "first, 'url'"),
        ("links.csv", "url,caption\nhttps://x.org/1.jpg,a cat\n", "--url_col url --caption_col"),
        ("laion.csv", "URL,TEXT\nhttps://x.org/1.jpg,a cat\n", "URL --caption_col TEXT"),
    ],
)
def test_for_a_list_of_links_the_line_that_downloads_them_is_named(tmp_path, name, text, says):
    write(tmp_path / "in" / name, text)
    with pytest.raises(ValueError, match="img2dataset --url_list .*shards") as refusal:
        prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert says in str(refusal.value)
