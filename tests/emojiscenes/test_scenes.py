"""scenes, placing and painting: examples by number, siblings, families, pairs of one change, pictures."""

import hashlib
import itertools
from collections import Counter

import numpy as np
import pytest

from emojiscenes.grammar import KINDS, directions, emoji, kinds_of_word, make_foil, render, words
from emojiscenes.language import PLACES, RELATIONS, SIZES, Noun, Object, Scene, There, holds, within
from emojiscenes.layout import OVERLAP
from emojiscenes.painting import pair_class
from emojiscenes.scenes import (
    FAMILIES,
    SIBLINGS,
    Drawn,
    Scenes,
    lesson_direction,
    other_objects,
    paint,
    split_of,
    truth,
)
from emojiscenes.stream import Stream


@pytest.fixture(scope="module")
def train():
    scenes = Scenes("train")
    return [scenes.draw(i) for i in range(2000)]


@pytest.fixture(scope="module")
def siblings():
    scenes = Scenes("train", siblings=1.0)
    return [scenes.draw(i) for i in range(2000)]


@pytest.fixture(scope="module")
def families():
    scenes = Scenes("test", counts=(0, 0.5, 0.5))
    return [scenes.family(i) for i in range(40)]


def names(samples: Drawn) -> set[str]:
    return {thing.name for thing in samples.scene.objects}


def repeats(samples: Drawn) -> tuple[int, ...]:
    return tuple(
        sorted(Counter(thing.name for thing in samples.scene.objects).values(), reverse=True)
    )


# the same for ever
def test_examples_are_the_same_for_ever():
    """A change of the stream moves every figure ever reported: if it must be, say so in the change log."""
    scenes = Scenes("train", siblings=0.5)
    test = Scenes("test")
    examples = [
        scenes.draw(0), scenes.draw(2), scenes.draw(3), *test.family(0),
        test.one_change(0, "count"),
    ]
    assert hashlib.sha256(repr(examples).encode()).hexdigest()[:16] == "0c65effd6606a7b3"


def test_an_example_depends_on_its_number_alone():
    example = Scenes("train", siblings=0.5)
    again = Scenes("train", siblings=0.5)
    forwards = [example.draw(i) for i in range(40)]
    assert [again.draw(i) for i in reversed(range(40))] == forwards[::-1]
    assert Scenes("train", seed=1).draw(0) != Scenes("train").draw(0) != Scenes("test").draw(0)


# captions
def test_captions_are_true_and_can_be_said_again(train, siblings, families):
    for example in [*train, *siblings, *itertools.chain(*families)]:
        assert holds(example.form, example.scene) is True
        assert render(example.form, Stream(example.voice)) == example.text


def test_splits_share_no_caption(train):
    texts = {"train": {Scenes("train", objects=8).draw(i).text for i in range(600)}}
    for split in ("validation", "test"):
        scenes = Scenes(split, specific=False, objects=8)
        texts[split] = {scenes.draw(i).text for i in range(600)}
    for a, b in itertools.combinations(texts, 2):
        assert not texts[a] & texts[b]
    again = {Scenes("train", objects=8, seed=1).draw(i).text for i in range(600)}
    assert len(again & texts["train"]) > 25, "too few captions ever recur: the check is blind"


def test_articles_and_plurals_come_from_the_table():
    assert words("strawberry") == ("a", "strawberries")
    assert words("cactus") == ("a", "cacti")
    table = {thing["name"]: thing for thing in emoji()["objects"]}
    for name, thing in table.items():
        assert words(name) == (thing["article"], thing["plural"])
    known = set()
    for thing in table.values():
        known |= {*thing["name"].split(), *thing["plural"].split()}
    scenes = Scenes("train", objects=other_objects(64))
    for i in range(300):
        text = scenes.draw(i).text
        for word, kind in zip(text.split(), kinds_of_word(text)):
            assert kind != "object" or word.strip(",") in known


# scenes


def test_objects_keep_apart_and_inside_and_clear_of_the_margins(train, siblings, families):
    crowded = {
        id(example) for example in siblings if example.kind == "relation"
    }  # their captions say no place
    for example in [*train, *siblings, *itertools.chain(*families)]:
        things = example.scene.objects
        for thing in things:
            half = thing.size / 2
            assert half - 1e-9 <= min(thing.x, thing.y)
            assert max(thing.x, thing.y) <= 1 - half + 1e-9
            for band in SIZES.values():
                assert within(thing.size, band) is not None
            assert id(example) in crowded or all(
                within(v, band) is not None
                for bands in PLACES.values()
                for v, band in zip((thing.x, thing.y), bands)
            )
        for a, b in itertools.combinations(things, 2):
            wide, high = ((a.size + b.size) / 2 - abs(p - q) for p, q in ((a.x, b.x), (a.y, b.y)))
            assert min(wide, high) <= 0 or wide * high <= OVERLAP * min(a.size, b.size) ** 2 + 1e-9


def test_only_vendors_that_have_an_object_draw_it():
    missing = emoji()["vendors"]["fxemoji"]["missing"]
    scenes = Scenes("train", objects=tuple(missing), vendors=("fxemoji", "noto"))
    assert {thing.vendor for i in range(50) for thing in scenes.place(i).objects} == {"noto"}
    unseen = Scenes("test", vendors=("openmoji",))
    vendors = {thing.vendor for i in range(20) for thing in unseen.draw(i).scene.objects}
    assert vendors == {"openmoji"}


def test_training_never_draws_the_unseen_style(train):
    vendors = {thing.vendor for example in train for thing in example.scene.objects}
    assert vendors == {name for name, vendor in emoji()["vendors"].items() if vendor["training"]}
    assert "openmoji" not in vendors


def test_a_stated_share_of_drawings_is_restyled_siblings_included():
    for scenes in (Scenes("train", restyle=0.25), Scenes("train", restyle=0.25, siblings=1.0)):
        samples = [thing.vendor for i in range(1500) for thing in scenes.draw(i).scene.objects]
        finishes = Counter(vendor.partition("+")[2] for vendor in samples)
        assert finishes[""] / len(samples) == pytest.approx(0.75, abs=0.03)
        assert finishes["outlined"] / finishes["flat"] == pytest.approx(2, abs=0.4)
        assert len(finishes) == 3
        assert {vendor.partition("+")[0] for vendor in samples} == {
            name for name, v in emoji()["vendors"].items() if v["training"]
        }


def classes(samples: Drawn) -> set[int]:
    return {pair_class(a, b) for a, b in itertools.combinations(sorted(names(samples)), 2)}


def test_unseen_pairs_never_meet_in_training(train, siblings, families):
    for example in [*train, *siblings, *itertools.chain(*families)]:
        assert 0 not in classes(example)
    for pairs, number in (("unseen", 0), ("control", 1)):
        scenes = Scenes("test", pairs=pairs)
        samples = [scenes.draw(i) for i in range(150)]
        assert all(
            number in classes(example) and 1 - number not in classes(example) for example in samples
        )
        for example in samples:
            pairs_of_names = itertools.combinations(sorted(names(example)), 2)
            assert sum(pair_class(*pair) == number for pair in pairs_of_names) == 1
    assert (
        len(Scenes("test", pairs="unseen").stage.pairs)
        == len(Scenes("test", pairs="control").stage.pairs)
        > 150
    )


# siblings, families
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_siblings_have_exactly_their_share(share):
    scenes = Scenes("train", siblings=share)
    pairs = [scenes.draw(2 * g).kind != "" for g in range(40)]
    assert pairs == [int((g + 1) * share + 1e-9) > int(g * share + 1e-9) for g in range(40)]
    assert sum(pairs) == round(40 * share)


def test_siblings_are_minimal_pairs(siblings):
    kinds = Counter(example.kind for example in siblings[::2])
    for example, sibling in zip(siblings[::2], siblings[1::2]):
        assert names(example) == names(sibling)
        assert example.scene != sibling.scene
        assert example.kind == sibling.kind
        assert holds(example.form, example.scene) is holds(sibling.form, sibling.scene) is True
        assert holds(example.form, sibling.scene) is holds(sibling.form, example.scene) is False
        # no test has these captions
        assert split_of(example.text) == split_of(sibling.text) == "train"
        same_background = example.scene.background == sibling.scene.background
        same_shade = example.scene.shade == sibling.scene.shade
        assert (same_background and same_shade) == (example.kind != "background")
        if example.kind == "size":
            assert [(thing.name, thing.vendor) for thing in example.scene.objects] == [
                (thing.name, thing.vendor) for thing in sibling.scene.objects
            ]
        assert (example.kind == "count") == (
            len(example.scene.objects) != len(sibling.scene.objects)
        )
    for kind, share in Counter(SIBLINGS).items():
        assert abs(kinds[kind] / len(siblings) * 2 - share / len(SIBLINGS)) < 0.05, kinds


def test_words_alone_do_not_tell_siblings_apart(siblings):
    for kind in set(SIBLINGS):
        examples = [example.text for example in siblings if example.kind == kind]
        assert leans(list(zip(examples[::2], examples[1::2]))) < 4, kind


def test_a_lesson_is_of_relations_and_two_thirds_of_it_say_one_direction():
    scenes = Scenes("train", siblings=1.0, lesson=True)
    pairs = [(scenes.draw(2 * g), scenes.draw(2 * g + 1)) for g in range(90)]
    texts_of_pairs = [[directions(example.text) for example in pair] for pair in pairs]
    for each in texts_of_pairs[::3]:
        assert each == [{"left"}] * 2
    assert all(each == [{"above"}] * 2 for each in texts_of_pairs[1::3])
    assert set().union(*itertools.chain(*texts_of_pairs[2::3])) == set(RELATIONS)
    for example, sibling in pairs:
        assert example.kind == "relation"
        assert example.text != sibling.text
        assert names(example) == names(sibling)
        assert holds(example.form, sibling.scene) is holds(sibling.form, example.scene) is False


@pytest.mark.parametrize("skew, free", [(0.0, 60), (0.5, 30), (0.8, 12), (1.0, 0)])
def test_a_lessons_skew_is_the_share_of_pairs_that_say_one_direction(skew, free):
    texts_of_pairs = [lesson_direction(group, skew) for group in range(60)]
    assert texts_of_pairs.count("") == free
    assert abs(texts_of_pairs.count("left") - texts_of_pairs.count("above")) <= 1
    tenths = [texts_of_pairs[i : i + 10].count("") for i in range(0, 60, 10)]
    assert max(tenths) - min(tenths) == 0, "they are spread evenly"
    scenes = Scenes("train", siblings=1.0, lesson=True, lesson_skew=skew)
    for group, direction in enumerate(texts_of_pairs[:10]):
        texts = [scenes.draw(2 * group + i).text for i in range(2)]
        assert not direction or all(directions(text) == {direction} for text in texts)
    with pytest.raises(ValueError, match="lesson_skew=1.2 is a share"):
        Scenes("train", lesson_skew=1.2)


def test_siblings_come_again_where_only_so_many_are_allowed():
    scenes = Scenes("train", siblings=1.0, sibling_pairs=3)
    assert [scenes.draw(i) for i in range(6)] == [scenes.draw(i) for i in range(6, 12)]
    assert len({scenes.draw(i).text for i in range(6)}) == 6


def test_each_caption_of_a_family_is_true_of_its_own_scene_only(families):
    for family in families:
        assert len(family) == 4 and (truth(family) == np.eye(4)).all()
        for example, sibling in itertools.permutations(family, 2):
            assert holds(example.form, sibling.scene) is False
        assert len({frozenset(names(example)) for example in family}) == 1
        assert len({(example.scene.background, example.scene.shade) for example in family}) == 1
    assert Counter(family[0].kind for family in families) == dict.fromkeys(FAMILIES, 8)
    assert {len(example.scene.objects) for family in families for example in family} == {2, 3}


def test_a_family_differs_in_its_kind_alone(families):
    for family in families:
        things = [example.scene.objects for example in family]
        looks = [
            [(thing.name, thing.vendor, thing.angle) for thing in examples] for examples in things
        ]
        kind = family[0].kind
        assert kind == "count" or all(look == looks[0] for look in looks)
        sizes = len({tuple(thing.size for thing in examples) for examples in things})
        spots = len({tuple((thing.x, thing.y) for thing in examples) for examples in things})
        assert kind == "count" or (sizes, spots) == {"size": (4, 1), "mixed": (2, 2)}.get(
            kind, (1, 4)
        ), kind
        if kind == "count":
            assert {repeats(example) for example in family} == {(1, 1), (2, 1)}


# one change
@pytest.fixture(scope="module")
def changed():
    scenes = Scenes("train", counts=(0.2, 0.4, 0.4))
    return {kind: [scenes.one_change(i, kind) for i in range(350)] for kind in KINDS}


def leans(pairs) -> float:
    """How far words lean to the truth or to the foil: the largest difference of two counts, in standard errors."""
    true = Counter()
    false = Counter()
    for truth_text, foil_text in pairs:
        for text, count in ((truth_text, true), (foil_text, false)):
            count.update(set(text.replace(",", "").split()))
    return max(
        abs(true[word] - false[word]) / (true[word] + false[word]) ** 0.5 for word in true | false
    )


def test_foils_are_false_and_truths_true(changed):
    for kind, examples in changed.items():
        for example, foil, text in examples:
            assert holds(example.form, example.scene) is True
            assert holds(foil, example.scene) is False
            assert example.kind == kind
            assert text == render(foil, Stream(example.voice))
            assert len(text.split()) == len(example.text.split())
            assert 0 not in classes(example)


def test_words_alone_do_not_tell_a_foil_from_the_truth(changed):
    for kind, examples in changed.items():
        assert leans([(example.text, text) for example, _, text in examples]) < 4, kind
    scenes = Scenes("train", counts=(0.2, 0.4, 0.4))
    pairs = []
    for example in map(scenes.draw, range(600)):
        if foil := make_foil(example.form, example.scene, "count", Stream(example.id)):
            pairs.append((example.text, render(foil, Stream(example.voice))))
    # foils of drawn captions do lean: 'three' is rarer than 'one'. The check is blind
    assert leans(pairs) > 4


# truth
def test_truth_is_that_of_every_single_question(siblings):
    examples = siblings[:64]
    for row, example in zip(truth(examples), examples):
        expected = [holds(example.form, other.scene) is True for other in examples]
        assert row.tolist() == expected
    assert truth(examples).sum() > 64


def test_a_caption_counts_as_true_of_no_scene_but_its_own_where_the_picture_cannot_tell():
    """A cat between small and big: "a big cat" is neither true nor false of it."""
    form = There(Noun("cat", "big"))
    samples = [
        Drawn(Scene((Object("cat", 0.5, 0.5, size, "noto"),), "red"), form, "a big cat", i)
        for i, size in enumerate((0.45, 0.31, 0.2))
    ]
    assert [holds(form, example.scene) for example in samples] == [True, None, False]
    assert truth(samples).tolist() == [
        [True, False, False], [True, True, False], [True, False, True],
    ]


# noise
def test_noise_has_its_rates_and_its_kinds():
    scenes = Scenes("train", noise=(0.1, 0.2, 0.3))
    clean = Scenes("train")
    samples = [scenes.draw(i) for i in range(1500)]
    rates = Counter(example.noise for example in samples)
    for noise, rate in (("wrong", 0.1), ("missing", 0.2), ("foreign", 0.3)):
        assert abs(rates[noise] / len(samples) - rate) < 0.04, rates
    for i, example in enumerate(samples):
        before = clean.draw(i)
        assert example.scene == before.scene
        assert (example.text == before.text) == (example.noise == "")
        if example.noise == "missing":
            rest = iter(before.text.split())
            for word in example.text.split():
                assert word in rest, "words come in their order"
        elif example.noise:
            assert holds(example.form, example.scene) is False


# pictures
def one_thing(vendor="noto", angle=0.0, curtain=None, name="apple"):
    return Scene((Object(name, 0.3, 0.6, 0.4, vendor, angle),), "blue", curtain)


def test_an_object_lies_in_its_square():
    for size in (48, 64):
        picture = paint(one_thing(angle=14.0), size)
        assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
        rows, columns = np.nonzero((picture != picture[0, 0]).any(-1))
        assert (0.4 * size - 1 <= rows).all() and (rows <= 0.8 * size).all()
        assert (0.1 * size - 1 <= columns).all() and (columns <= 0.5 * size).all()
        assert len(rows) > 0.5 * (0.4 * size) ** 2


def test_the_right_drawing_is_painted():
    """Every sheet's apple is reddest among apple, banana and frog, its frog greenest."""
    for vendor in emoji()["vendors"]:
        red, yellow, green = (
            paint(one_thing(vendor, name=name), 48)[22:36, 8:22].reshape(-1, 3).mean(0)
            for name in ("apple", "banana", "frog")
        )
        assert red[0] - red[1] > max(c[0] - c[1] for c in (yellow, green))
        assert green[1] - green[0] > max(c[1] - c[0] for c in (red, yellow))


def test_what_is_painted_later_stands_in_front():
    a, b = (Object(name, x, 0.5, 0.4, "noto") for name, x in (("apple", 0.4), ("frog", 0.6)))
    over, under = (paint(Scene(things, "blue"), 48) for things in ((a, b), (b, a)))
    assert (over != under).any()
    assert (over[:, 30:] == under[:, 30:]).all()
    assert (over[:, :18] == under[:, :18]).all()


def test_a_curtain_hides_what_is_behind():
    with_curtain = [
        paint(one_thing(curtain=(0.0, 0.3, 0.6, 1.0), name=name), 48) for name in ("apple", "frog")
    ]
    assert (with_curtain[0] == with_curtain[1]).all()
    assert (with_curtain[0][:14] == paint(one_thing(), 48)[:14]).all(), "nothing else changes"


# errors
@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(split="dev"), "no split 'dev'; there are train, validation, test"),
        (dict(split="test", noise=(0.1, 0, 0)), "only training captions may be spoilt"),
        (dict(split="train", pairs="odd"), "pairs='odd' is none of"),
        (dict(split="train", objects=("apple", "aple")), "no object 'aple'"),
        (dict(split="train", restyle=1.5), "restyle=1.5 is a share"),
        (dict(split="train", vendors=("nokia",)), "no vendor 'nokia'"),
        (dict(split="train", counts=(0, 0)), "give a share"),
        (dict(split="train", counts=(0.2,) * 5), "more than 4 objects"),
        (dict(split="test", counts=(1,), pairs="unseen"), "give a share"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Scenes(**arguments)


def test_too_few_kinds_are_refused():
    with pytest.raises(ValueError, match="1 kinds of objects are too few for 2"):
        [Scenes("train", objects=1, counts=(0, 1)).draw(i) for i in range(20)]
    with pytest.raises(ValueError, match="no kind of change 'colour'"):
        Scenes("test").one_change(0, "colour")
