"""Winoground, SugarCrepe, ARO: miniature files in their formats, to records and back."""


import pytest
from PIL import Image

from minalbef.datasets import choices
from minalbef.datasets.prepare import prepare
from minalbef.datasets.readers import photo_id
from minalbef.datasets.store import Records
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


# readers


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


SETS = {  # by set: its file, the entry, captions in the order of the record, kind and box
    "winoground": (
        "examples.jsonl", WINOGROUND, ("caption_0", "caption_1"), "Object", None,
    ),
    "sugarcrepe": (
        "add_att.json", SUGARCREPE, ("caption", "negative_caption"), "add_att", None,
    ),
    "aro-relation": (
        "visual_genome_relation.json", RELATION, ("true_caption", "false_caption"), "behind",
        (2, 1, 8, 6),
    ),
    "aro-attribution": (
        "visual_genome_attribution.json", ATTRIBUTION, ("true_caption", "false_caption"),
        "visual_genome_attribution", (0, 0, 4, 4),
    ),
    "aro-order": ("coco_order.json", ORDER, (), "coco_order", None),
    "whatsup": (
        "controlled_images_dataset.json", CONTROLLED, (), "controlled_images_dataset", None,
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_a_sets_entry_is_prepared_as_a_choice_among_its_captions(name, here):
    file, entry, keys, kind, box = SETS[name]
    write(here / file, {"0": entry} if name == "sugarcrepe" else [entry])
    account = prepare(name, here, here / "out", look=True)
    (record,) = Records(here / "out" / name, "test")
    texts = tuple(entry[key] for key in keys) or tuple(entry["caption_options"])
    assert (record.texts, record.kind, record.box) == (texts, kind, box)
    images = [image.path for image in record.images]
    if name == "winoground":
        assert images == [here / "images/ex_0_img_0.png", here / "images/ex_0_img_1.png"]
        assert record.id == photo_id("ex_0_img_0.png")
    else:
        (image,) = images
        assert image.name == (entry.get("filename") or entry.get("image_path", image.name)
                              ).rpartition("/")[2]
        assert record.id == content_hash(image.read_bytes())
    assert f"test: {len(images)} images" in account.partition("\n")[0]
