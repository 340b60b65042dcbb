"""Winoground, SugarCrepe, ARO, What'sUp: miniature files in exactly their formats, to records and back."""

from dataclasses import replace

import pytest
from PIL import Image

from minalbef.datasets import choices
from minalbef.datasets.prepare import prepare
from minalbef.datasets.readers import photo_id
from minalbef.datasets.store import Records, open_records
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
    attribution = one(write(here / "visual_genome_attribution.json", [ATTRIBUTION]), here)
    assert attribution.texts[0] == ATTRIBUTION["true_caption"]
    assert attribution.box == (0, 0, 4, 4)
    assert attribution.kind == "visual_genome_attribution"
    assert attribution.id == relation.id


def test_the_order_of_cocos_captions_has_four_foils(here):
    record = one(write(here / "coco_order.json", [ORDER]), here)
    assert record.texts == tuple(ORDER["caption_options"])
    assert record.id == photo_id(ORDER["image"])


@pytest.mark.parametrize(
    "name, entry, image, photo",
    [
        (
            "controlled_images_dataset", CONTROLLED, "controlled_images/mug_on_table.jpeg",
            CONTROLLED["image_path"],
        ),
        (
            "coco_qa_two_obj",
            [139, "A mug left of a cat", "A mug right of a cat"],
            "val2017/000000000139.jpg",
            "COCO_train2014_000000000139.jpg",
        ),
        (
            "coco_qa_one_obj",
            ["139", "A mug on the left", "A mug on the right"],
            "val2017/000000000139.jpg",
            "COCO_train2014_000000000139.jpg",
        ),
        ("vg_qa_one_obj", [5, "A mug on the left", "A mug on the right"], "vg_images/5.jpg", "vg"),
    ],
)
def test_whatsups_lists_have_the_true_caption_first(here, name, entry, image, photo):
    record = one(write(here / f"{name}.json", [entry]), here)
    texts = entry[1:] if isinstance(entry, list) else entry["caption_options"]
    assert record == ChoiceRecord(
        (here / image,), tuple(texts),
        photo_id("VG_100K/5.jpg", "vg") if photo == "vg" else photo_id(photo), name,
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
            "swap_att", SUGARCREPE | {"negative_caption": " "}, "no words",
            "the text ' ' has no words",
        ),
        ("swap_att", "A girl", "malformed", "in 'A girl'"),
        (
            "visual_genome_relation", RELATION | {"bbox_w": 0}, "bad box",
            "box (2, 1, 0, 5) has no area",
        ),
        (
            "visual_genome_relation",
            {key: value for key, value in RELATION.items() if key != "bbox_x"},
            "bad box",
            "is not four finite numbers",
        ),
        (
            "visual_genome_relation", RELATION | {"true_caption": None}, "no words",
            "the text None has no words",
        ),
        (
            "coco_order", ORDER | {"caption_options": ["a man"]}, "no choice",
            "its captions are ['a man']",
        ),
        (
            "coco_order", ORDER | {"caption_options": "a man"}, "no choice",
            "its captions are 'a man'",
        ),
        ("coco_qa_one_obj", [], "malformed", "not enough values to unpack"),
        ("coco_qa_one_obj", [139, "A mug"], "no choice", "its captions are ['A mug']"),
    ],
)
def test_a_bad_entry_is_left_out_and_counted(here, name, entry, kind, message):
    path = write(here / f"{name}.json", [entry, ORDER])
    good, counts, first = read_all(choices.single_image, path, root=here)
    assert len(good) == 1
    assert counts == {kind: 1}
    assert f"{path}: entry 0: " in first[kind]
    assert message in first[kind]


@pytest.mark.parametrize(
    "change, kind",
    [
        ({"image_1": "ex_0_img_2"}, "missing image"),
        ({"caption_1": ""}, "no words"),
        ({"image_0": None}, "malformed"),
    ],
)
def test_a_bad_pair_of_winogrounds_is_left_out_and_counted(here, change, kind):
    path = write(here / "examples.jsonl", [WINOGROUND | change, WINOGROUND])
    good, counts, _ = read_all(choices.winoground, path, root=here)
    assert len(good) == 1 and counts == {kind: 1}


def test_another_file_of_the_name_is_an_error(here):
    refusal = "swap_att.json has no entries; it must be a JSON list or object"
    with pytest.raises(ValueError, match=refusal):
        list(choices.single_image(write(here / "swap_att.json", "7"), here))


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
    assert [
        replace(record, images=tuple(image.path for image in record.images)) for record in records
    ] == [replace(record, id=records[i].id) for i, record in enumerate(reader(here / file, here))]
    for record in records:
        pair = len(record.images) == 2
        assert record.id == (
            photo_id("ex_0_img_0.png") if pair else content_hash(record.images[0].read())
        )
    assert f"test: {2 if name == 'winoground' else 1} images" in account.partition("\n")[0]


def test_a_picture_that_pretraining_saw_is_named_and_left_out(here):
    image = "train2014/COCO_train2014_000000544519.jpg"
    write(here / "coco" / "coco_train.json", [{"image": image, "caption": "a cat"}])
    jpeg(here / "coco" / image)
    jpeg(here / "val2017" / "000000000139.jpg", size=(9, 9))  # another image than the other
    write(here / "swap_att.json", {"0": SUGARCREPE})
    write(here / "add_att.json", {"0": SUGARCREPE | {"filename": "000000000139.jpg"}})
    prepare("coco", here / "coco", here / "out")
    account = prepare("sugarcrepe", here, here / "out")
    assert "1 images of coco/train are in sugarcrepe/test, 50.0% of it" in account
    account = prepare("sugarcrepe", here, here / "out", without=[here / "out/coco/train"])
    assert "1 left out" in account
    assert [one.kind for one in Records(here / "out/sugarcrepe", "test")] == ["add_att"]


def test_nothing_is_trained_on_choices(here):
    write(here / "add_att.json", {"0": SUGARCREPE})
    prepare("sugarcrepe", here, here / "out")
    refusal = "holds records of ChoiceRecord, and retrieval learns from Record"
    with pytest.raises(ValueError, match=refusal):
        open_records("retrieval", [here / "out/sugarcrepe/test"])
