"""Winoground, SugarCrepe, ARO: miniature files in their formats, to records and back."""

from dataclasses import replace

import pytest
from PIL import Image

from minalbef.datasets import choices
from minalbef.datasets.prepare import prepare
from minalbef.datasets.readers import photo_id
from minalbef.datasets.store import Records
from minalbef.evaluation.choices import ChoiceRecord
from minalbef.system.images import content_hash
from miniature_sets import jpeg, read_all, write

WINOGROUND = {
    "id": 0,
    "image_0": "ex_0_img_0",
    "image_1": "ex_0_img_1",
    "tag": "Noun",
    "secondary_tag": "",
    "num_main_preds": 1,
    "collapsed_tag": "Object",
    "caption_0": "some plants surrounding a lightbulb",
    "caption_1": "a lightbulb surrounding some plants",
}
SUGARCREPE = {
    "filename": "000000544519.jpg",
    "caption": "A girl with a green shirt. ",
    "negative_caption": "A blue girl with a shirt.",
}
RELATION = {
    "image_id": "2353833", "image_path": "2353833.jpg", "bbox_x": 2, "bbox_y": 1, "bbox_w": 6,
    "bbox_h": 5, "relation_name": "behind", "true_caption": "the door is behind the boat",
    "false_caption": "the boat is behind the door",
}
ATTRIBUTION = {
    "image_id": "2353833",
    "image_path": "2353833.jpg",
    "bbox_x": 0,
    "bbox_y": 0,
    "bbox_w": 4,
    "bbox_h": 4,
    "attributes": ["crouched", "open"],
    "true_caption": "the crouched cat and the open door",
    "false_caption": "the open cat and the crouched door",
}
CONTROLLED = {
    "image_path": "data/controlled_images/mug_on_table.jpeg",
    "caption_options": [
        "A mug on a table", "A mug under a table", "A mug left of a table",
        "A mug right of a table",
    ],
}
ORDER = {
    "image": "val2014/COCO_val2014_000000391895.jpg",
    "caption_options": [
        "a man on a bike", "a bike on a man", "on man a a bike", "a on man bike a",
        "bike a man on a",
    ],
}


@pytest.fixture
def here(tmp_path):
    """A folder with the sets' pictures, as they lie once unpacked."""
    for i, name in enumerate(("images/ex_0_img_0.png", "images/ex_0_img_1.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (6 + i, 4)).save(tmp_path / name)
    for name in (
        "val2017/000000544519.jpg",
        "val2017/000000000139.jpg",
        "images/2353833.jpg",
        "vg_images/5.jpg",
        "controlled_images/mug_on_table.jpeg",
        "val2014/COCO_val2014_000000391895.jpg",
    ):
        jpeg(tmp_path / name)
    return tmp_path


def one(path, here, reader=choices.single_image):
    (record,) = reader(path, here)
    return record


# readers


def test_winogrounds_pairs_keep_the_order_of_pictures_and_captions(here):
    record = one(write(here / "examples.jsonl", [WINOGROUND]), here, choices.winoground)
    assert record == ChoiceRecord(
        (here / "images/ex_0_img_0.png", here / "images/ex_0_img_1.png"),
        (WINOGROUND["caption_0"], WINOGROUND["caption_1"]),
        photo_id("ex_0_img_0.png"),
        "Object",
    )


def test_sugarcrepes_entries_are_numbered_and_its_pictures_are_cocos(here):
    record = one(write(here / "swap_att.json", {"0": SUGARCREPE}), here)
    assert record == ChoiceRecord(
        (here / "val2017/000000544519.jpg",),
        (SUGARCREPE["caption"], SUGARCREPE["negative_caption"]),
        photo_id("train2014/COCO_train2014_000000544519.jpg"),
        "swap_att",
    )


def test_aros_true_caption_comes_first_and_the_box_along(here):
    relation = one(write(here / "visual_genome_relation.json", [RELATION]), here)
    assert relation == ChoiceRecord(
        (here / "images/2353833.jpg",),
        ("the door is behind the boat", "the boat is behind the door"),
        photo_id("2353833.jpg", "vg"),
        "behind",
        (2, 1, 8, 6),
    )


# bad input


@pytest.mark.parametrize(
    "name, entry, kind, message",
    [
        (
            "swap_att",
            SUGARCREPE | {"filename": "000000000001.jpg"},
            "missing image",
            "'val2017/000000000001.jpg' is not",
        ),
        (
            "visual_genome_relation", RELATION | {"bbox_w": 0}, "bad box",
            "box (2, 1, 0, 5) has no area",
        ),
        (
            "coco_order", ORDER | {"caption_options": ["a man"]}, "no choice",
            "its captions are ['a man']",
        ),
        ("coco_qa_one_obj", [], "malformed", "not enough values to unpack"),
    ],
)
def test_a_bad_entry_is_left_out_and_counted(here, name, entry, kind, message):
    path = write(here / f"{name}.json", [entry, ORDER])
    good, counts, first = read_all(choices.single_image, path, root=here)
    assert len(good) == 1
    assert counts == {kind: 1}
    assert f"{path}: entry 0: " in first[kind]
    assert message in first[kind]


# prepared


SETS = {
    "winoground": ("examples.jsonl", [WINOGROUND]),
    "sugarcrepe": ("add_att.json", {"0": SUGARCREPE}),
    "aro-relation": ("visual_genome_relation.json", [RELATION]),
    "aro-attribution": ("visual_genome_attribution.json", [ATTRIBUTION]),
    "aro-order": ("coco_order.json", [ORDER]),
    "whatsup": ("controlled_images_dataset.json", [CONTROLLED]),
}


@pytest.mark.parametrize("name", SETS)
def test_what_is_prepared_reads_back_as_it_was(name, here):
    file, entries = SETS[name]
    write(here / file, entries)
    account = prepare(name, here, here / "out", look=True)
    reader = choices.winoground if name == "winoground" else choices.single_image
    records = [*Records(here / "out" / name, "test")]
    for record, source in zip(records, reader(here / file, here), strict=True):
        images = tuple(image.path for image in record.images)
        assert replace(record, images=images) == replace(source, id=record.id)
        pair = len(record.images) == 2
        assert record.id == (
            photo_id("ex_0_img_0.png") if pair else content_hash(record.images[0].read())
        )
    assert f"test: {2 if name == 'winoground' else 1} images" in account.partition("\n")[0]


def test_winoground_is_read_from_its_repositorys_root(tmp_path):
    images = tmp_path / "winoground" / "data" / "images"
    images.mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", (6 + i, 4)).save(images / f"ex_0_img_{i}.png")
    write(tmp_path / "winoground" / "data" / "examples.jsonl", [WINOGROUND])
    write(tmp_path / "winoground" / "statistics" / "model_scores" / "clip.jsonl", [{"id": 0}])
    prepare("winoground", tmp_path / "winoground", tmp_path / "out")
    (record,) = Records(tmp_path / "out" / "winoground", "test")
    assert record.images[1].path == images / "ex_0_img_1.png"
