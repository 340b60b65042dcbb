"""augment: operations by hand, flips that mind left and right, all decided by the seed."""

import itertools

import numpy as np
import pytest
from PIL import Image

from minalbef.data import Record
from minalbef.datasets import augment as photos
from minalbef.datasets.augment import (
    GREY,
    TEN,
    augment,
    crop_box,
    resize,
    view,
)
from minalbef.tasks.entailment import EntailmentRecord
from minalbef.tasks.nlvr2 import NLVR2Record
from minalbef.tasks.vqa import VQARecord


def grey(rows) -> Image.Image:
    return Image.fromarray(np.repeat(np.array(rows, np.uint8)[..., None], 3, 2))


def plain(image: Image.Image) -> np.ndarray:
    """(h, w) of a picture whose channels are alike."""
    result = np.array(image)
    assert (result == result[..., :1]).all()
    return result[..., 0].astype(int)


RAMP = grey(np.arange(32)[None].repeat(32, 0) * 4 + np.arange(32)[:, None])  # 4 x + y


# the ten


def test_the_ten_are_the_papers_and_no_colour_is_among_them():
    assert (
        list(TEN)
        == (
            "Identity AutoContrast Equalize Brightness Sharpness ShearX ShearY TranslateX TranslateY "
            "Rotate"
        ).split()
    )
    image = grey(np.random.default_rng(0).integers(20, 200, (16, 20)))
    for name, operation in TEN.items():
        for sign in (1, -1):
            result = operation(image, sign)
            assert result.size == image.size and plain(result).any(), "grey stays grey"
            assert (result != image) == (name != "Identity"), name


def test_equalising_spreads_values_by_how_many_are_below():
    # 255 pixels count, all but those of the last value: a value becomes how many lie below it
    values = np.zeros((16, 16), int)
    values.flat[100:200] = 10
    values.flat[200:255] = 20
    values.flat[255:] = 30
    result = plain(TEN["Equalize"](grey(values), 1))
    assert result.flat[[0, 100, 200, 255]].tolist() == [0, 100, 200, 255]


@pytest.mark.parametrize("sign", [1, -1])
def test_shears_move_a_row_by_0_21_of_its_number(sign):
    across = plain(TEN["ShearX"](RAMP, sign))
    down = plain(TEN["ShearY"](RAMP, sign))
    for y, x in ((4, 15), (20, 12), (26, 18)):
        # a pixel's middle is half a pixel on; the picture is 4 x + y, and its values are whole numbers
        assert abs(across[y, x] - (4 * (x - sign * 0.21 * (y + 0.5)) + y)) <= 1
        assert abs(down[y, x] - (4 * x + y - sign * 0.21 * (x + 0.5))) <= 1


@pytest.mark.parametrize("sign", [1, -1])
def test_it_turns_by_21_degrees_about_the_middle(sign):
    result = plain(TEN["Rotate"](RAMP, sign))
    angle = np.deg2rad(21)
    assert result[0, 0] == result[-1, -1] == GREY[0], "grey behind"
    for y, x in ((15, 20), (8, 14), (22, 10)):
        right, down = x - 15.5, y - 15.5  # turned back to where it was
        x0 = 15.5 + right * np.cos(angle) - sign * down * np.sin(angle)
        y0 = 15.5 + sign * right * np.sin(angle) + down * np.cos(angle)
        assert abs(result[y, x] - (4 * x0 + y0)) <= 1.5


def test_a_crop_shows_at_least_the_share_asked_for_and_stays_inside():
    chance = np.random.default_rng(1)
    shares = []
    for _ in range(500):
        x0, y0, x1, y1 = crop_box(640, 480, 0.5, chance)
        assert 0 <= x0 < x1 <= 640 and 0 <= y0 < y1 <= 480
        assert 3 / 4 - 0.01 <= (x1 - x0) / (y1 - y0) <= 4 / 3 + 0.01
        shares.append((x1 - x0) * (y1 - y0) / 640 / 480)
    assert 0.495 < min(shares) < 0.53 and 0.9 < max(shares) <= 1


# cutting and flipping


@pytest.mark.parametrize(
    "width, height, size", [(90, 60, 32), (60, 90, 32), (20, 30, 48), (50, 40, 40)]
)
def test_resizing_is_pils_but_for_rounding(width, height, size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    across = image.resize(
        (size, height), Image.Resampling.BICUBIC
    )  # PIL 13 resizes tall ones down first
    expected = np.array(across.resize((size, size), Image.Resampling.BICUBIC)).astype(int)
    difference = abs(np.array(resize(image, size)) - expected)
    assert difference.max() <= 2 and (difference > 0).mean() < 0.01
    nearest = np.array(image.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    assert abs(nearest - expected).max() > 2, "the check is blind"


def halves(
    record, monkeypatch, images=lambda result: [result.image], times=40
) -> set[tuple[bool, ...]]:
    """Which pictures of it are mirrored, those of one view together; the left half is white."""
    monkeypatch.setattr(photos, "rand_augment", lambda image, chance: image)
    views = set()
    for number in range(times):
        sides = []
        for image in images(view(record, 16, 1.0, 0, 0, number)):
            assert image.shape == (16, 16, 3) and image.dtype == np.uint8
            sides.append(bool(image[8, 1, 0] < 128))
        views.add(tuple(sides))
    return views


def half() -> np.ndarray:
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, :15] = 255
    return image


@pytest.mark.parametrize(
    "text, flips",
    [
        ("a cat on a mat", True),
        ("a cat to the LEFT of a dog", False),
        ("the right-hand door", False),
        ("leftmost cup", False),
        ("a bright light", True),
        ("it is upright", True),
    ],
)
def test_flips_mind_left_and_right(text, flips, monkeypatch):
    both = {(False,), (True,)} if flips else {(False,)}
    assert halves(Record(half(), text, 0), monkeypatch) == both
    assert halves(EntailmentRecord(half(), text, 0, "neutral"), monkeypatch) == both
    assert halves(VQARecord(half(), text, ("yes",), 0), monkeypatch) == both


def test_two_pictures_are_flipped_apart_or_not_at_all(monkeypatch):
    def pair(text):
        return halves(
            NLVR2Record((half(), half()), text, True, 0), monkeypatch, lambda result: result.images
        )

    assert pair("two dogs") == set(itertools.product((False, True), repeat=2))
    assert pair("the left image shows a dog") == {(False, False)}


def test_a_view_depends_on_seed_epoch_and_number_alone():
    record = Record(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8), "a cat", 3)
    first = view(record, 24, 0.5, 7, 2, 5)
    np.random.seed(1)
    assert (view(record, 24, 0.5, 7, 2, 5).image == first.image).all()
    assert first.text == "a cat"
    assert first.id == 3
    for numbers in ((8, 2, 5), (7, 3, 5), (7, 2, 6)):
        assert (view(record, 24, 0.5, *numbers).image != first.image).any()


def test_grounding_sees_the_whole_picture(monkeypatch):
    monkeypatch.setattr(photos, "rand_augment", lambda image, chance: image)
    image = Image.fromarray(half())
    result = augment(image, 16, 1.0, False, np.random.default_rng(3))
    assert (result == np.array(resize(image, 16))).all()
    # the check is blind
    assert (augment(image, 16, 0.2, False, np.random.default_rng(3)) != result).any()
