"""Hugging Face datasets by name, from folders on this machine: nothing is downloaded."""

import importlib
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minalbef.cli.main import main
from minalbef.datasets.hugging_face import open_dataset
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records, read_about
from miniature_sets import jpeg, texts_of, write


@pytest.fixture
def datasets():
    pytest.importorskip("datasets.arrow_dataset", reason="pip install -e '.[datasets]' brings it")
    return importlib.import_module("datasets")  # asked for alone, it would be this folder of tests


def make(datasets, count=20, first=0, **columns):
    """A dataset of different images, with columns as (feature, value by number)."""
    images = [
        Image.fromarray(np.full((6, 8 + first + i, 3), 8 * i, np.uint8)) for i in range(count)
    ]
    features = {"picture": datasets.Image()}
    values = {"picture": images}
    for name, (kind, value) in columns.items():
        features[name] = kind
        values[name] = list(map(value, range(count)))
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def texts(out, split="train") -> list[str]:
    return texts_of(Records(out / "pairs", split))


def test_a_saved_dataset_is_prepared_with_files_for_its_images_and_samples_first(
    datasets, tmp_path, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    make(datasets, text=(datasets.Value("string"), lambda i: f"a thing {i}")).save_to_disk(
        tmp_path / "saved"
    )
    address = f"hf-dataset://{tmp_path}/saved"
    monkeypatch.setattr(
        sys, "argv", ["minalbef", "prepare", "pairs", "--from", address, "--out", str(tmp_path)]
    )
    main()
    assert (
        f"captions from {address}, 20 rows of train: images from 'picture', captions from 'text'"
        in caplog.text
    )
    assert ".png': 'a thing 0'\n" in caplog.text
    assert (tmp_path / "pairs" / "sheet.png").is_file()
    records = []
    for split in read_about(tmp_path / "pairs")["splits"]:
        records += Records(tmp_path / "pairs", split)
    assert sorted(texts_of(records)) == sorted(map("a thing {}".format, range(20)))
    for record in records:
        number = int(record.text.split()[-1])
        with Image.open(record.image) as image:
            assert image.size == (8 + number, 6)
            assert image.getpixel((0, 0)) == (8 * number,) * 3
    assert len(list((tmp_path / "pairs" / "images").rglob("*.png"))) == 20
    with pytest.raises(ValueError, match="minalbef prepare pairs --from"):
        prepare("coco", address, tmp_path)
    with pytest.raises(ValueError, match="without --images"):
        prepare("pairs", address, tmp_path, images=[tmp_path])


def test_an_imagefolder_is_read_and_the_name_of_a_class_is_a_caption(
    datasets, tmp_path, monkeypatch
):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for i in range(3):
        jpeg(tmp_path / "photos" / "train" / f"{i}.jpg", size=(8 + i, 8))
    write(
        tmp_path / "photos" / "train" / "metadata.jsonl",
        [{"file_name": f"{i}.jpg", "text": f"a cat {i}"} for i in range(3)],
    )
    jpeg(tmp_path / "photos" / "test" / "0.jpg", size=(20, 8))
    write(
        tmp_path / "photos" / "test" / "metadata.jsonl", [{"file_name": "0.jpg", "text": "a dog"}]
    )
    prepare("pairs", f"hf-dataset://{tmp_path}/photos", tmp_path / "out")
    assert texts(tmp_path / "out") == ["a cat 0", "a cat 1", "a cat 2"]
    assert texts(tmp_path / "out", "test") == ["a dog"]
    classes = datasets.ClassLabel(names=["golden_retriever", "bus"])
    make(datasets, 30, fine=(classes, lambda i: i % 2)).save_to_disk(tmp_path / "classes")
    prepare("pairs", f"hf-dataset://{tmp_path}/classes", tmp_path / "out")
    assert set(texts(tmp_path / "out")) == {"golden retriever", "bus"}
    records = Records(tmp_path / "out" / "pairs", "train")
    keys = {(record.text, record.match_key) for record in records}
    assert len(keys) == 2, "all images of a class match its name"


def test_without_the_library_the_command_that_brings_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    refusal = r"`datasets` is not installed .*; pip install 'minalbef\[datasets\]' brings"
    with pytest.raises(ValueError, match=refusal):
        open_dataset("hf-dataset://OWNER/NAME", Path())


@pytest.mark.parametrize("form", ["saved", "hub"])
def test_a_folder_of_datasets_is_recognised_by_its_content(datasets, tmp_path, monkeypatch, form):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    data = make(datasets, text=(datasets.Value("string"), lambda i: f"a thing {i}"))
    if form == "saved":
        datasets.DatasetDict(train=data).save_to_disk(tmp_path / "in")
    else:
        (tmp_path / "in" / "data").mkdir(parents=True)
        data.to_parquet(tmp_path / "in" / "data" / "train-00000-of-00001.parquet")
        (tmp_path / "in" / "README.md").write_text("---\nlicense: mit\n---\n")
    prepare("pairs", tmp_path / "in", tmp_path / "out")
    records = []
    for split in read_about(tmp_path / "out" / "pairs")["splits"]:
        records += Records(tmp_path / "out" / "pairs", split)
    assert sorted(texts_of(records)) == sorted(map("a thing {}".format, range(20)))


def test_columns_of_several_captions_and_bytes_without_a_feature_are_read(datasets, tmp_path):
    images = []
    for i in range(12):
        images.append({"bytes": jpeg(size=(8 + i, 8)), "path": None})
    values = {"image": images}
    for column in ("caption_0", "caption_1"):
        values[column] = [f"{column} of {i}" for i in range(12)]
    datasets.Dataset.from_dict(values).save_to_disk(tmp_path / "in")
    prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert {"caption_0 of 0", "caption_1 of 0"} <= set(texts(tmp_path / "out"))
