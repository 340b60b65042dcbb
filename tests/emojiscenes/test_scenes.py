"""scenes, placing and painting: examples by number, siblings, families, one change, pictures."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest

from emojiscenes.grammar import KINDS, emoji, make_foil, render
from emojiscenes.language import Object, Scene, holds
from emojiscenes.painting import pair_class
from emojiscenes.scenes import (
    FAMILIES,
    SIBLINGS,
    Drawn,
    Scenes,
    paint,
    split_of,
    truth,
)
from emojiscenes.stream import Stream


def draw(count: int, split: str, **settings) -> list[Drawn]:
    scenes = Scenes(split, **settings)
    return [scenes.draw(i) for i in range(count)]


@pytest.fixture(scope="module")
def train():
    return draw(2000, "train")


@pytest.fixture(scope="module")
def siblings():
    return draw(2000, "train", siblings=1.0)


@pytest.fixture(scope="module")
def families():
    scenes = Scenes("test", counts=(0, 0.5, 0.5))
    return [scenes.family(i) for i in range(40)]


def names(samples: Drawn) -> set[str]:
    return {thing.name for thing in samples.scene.objects}


# captions
def test_captions_are_true_and_can_be_said_again(train, siblings, families):
    for example in [*train, *siblings, *itertools.chain(*families)]:
        assert holds(example.form, example.scene) is True
        assert render(example.form, Stream(example.voice)) == example.text


def captions(split: str, **settings) -> set[str]:
    return {example.text for example in draw(600, split, objects=8, **settings)}


def test_splits_share_no_caption():
    train = captions("train")
    validation = captions("validation", specific=False)
    test = captions("test", specific=False)
    assert not train & validation and not train & test and not validation & test
    again = captions("train", seed=1)
    assert len(again & train) > 25, "too few captions ever recur: the check is blind"


# scenes


def test_training_never_draws_the_unseen_style(train):
    vendors = set()
    for example in train:
        for thing in example.scene.objects:
            vendors.add(thing.vendor)
    assert vendors <= emoji()["vendors"].keys() - {"openmoji"}
    for name, vendor in emoji()["vendors"].items():
        assert (name in vendors) == bool(vendor["training"])


def classes(example: Drawn) -> list[int]:
    """Of each pair of its objects."""
    pairs = itertools.combinations(sorted(names(example)), 2)
    return list(itertools.starmap(pair_class, pairs))


def test_unseen_pairs_never_meet_in_training(train, siblings, families):
    for example in [*train, *siblings, *itertools.chain(*families)]:
        assert 0 not in classes(example)
    for pairs, number in (("unseen", 0), ("control", 1)):
        for example in draw(150, "test", pairs=pairs):
            assert classes(example).count(number) == 1
            assert 1 - number not in classes(example)
    unseen = Scenes("test", pairs="unseen").stage.pairs
    control = Scenes("test", pairs="control").stage.pairs
    assert len(unseen) == len(control) > 150


# siblings, families


def test_siblings_are_minimal_pairs(siblings):
    kinds = Counter()
    for example, sibling in zip(siblings[::2], siblings[1::2]):
        kinds[example.kind] += 1
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
            for thing, twin in zip(example.scene.objects, sibling.scene.objects, strict=True):
                assert (thing.name, thing.vendor) == (twin.name, twin.vendor)
        numbers_differ = len(example.scene.objects) != len(sibling.scene.objects)
        assert numbers_differ == (example.kind == "count")
    for kind, share in Counter(SIBLINGS).items():
        assert abs(kinds[kind] / len(siblings) * 2 - share / len(SIBLINGS)) < 0.05, kinds


def test_words_alone_do_not_tell_siblings_apart(siblings):
    pairs = defaultdict(list)
    for example, sibling in zip(siblings[::2], siblings[1::2]):
        pairs[example.kind].append((example.text, sibling.text))
    for kind in set(SIBLINGS):
        assert leans(pairs[kind]) < 4, kind


def test_each_caption_of_a_family_is_true_of_its_own_scene_only(families):
    kinds = Counter()
    sizes = set()
    for family in families:
        assert len(family) == 4 and (truth(family) == np.eye(4)).all()
        for example, sibling in itertools.permutations(family, 2):
            assert holds(example.form, sibling.scene) is False
            assert names(example) == names(sibling)
            assert example.scene.background == sibling.scene.background
            assert example.scene.shade == sibling.scene.shade
            sizes.add(len(example.scene.objects))
        kinds[family[0].kind] += 1
    assert kinds == dict.fromkeys(FAMILIES, 8)
    assert sizes == {2, 3}


# one change
@pytest.fixture(scope="module")
def changed():
    scenes = Scenes("train", counts=(0.2, 0.4, 0.4))
    changes = {}
    for kind in KINDS:
        changes[kind] = [scenes.one_change(i, kind) for i in range(350)]
    return changes


def leans(pairs) -> float:
    """How far words lean to the truth or to the foil.

    The largest difference of two counts, in standard errors.
    """
    true = Counter()
    false = Counter()
    for truth_text, foil_text in pairs:
        for text, count in ((truth_text, true), (foil_text, false)):
            count.update(set(text.replace(",", "").split()))
    most = 0.0
    for word, count in (true + false).items():
        most = max(most, abs(true[word] - false[word]) / count**0.5)
    return most


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
        pairs = []
        for example, _, text in examples:
            pairs.append((example.text, text))
        assert leans(pairs) < 4, kind
    pairs = []
    for example in draw(600, "train", counts=(0.2, 0.4, 0.4)):
        if foil := make_foil(example.form, example.scene, "count", Stream(example.id)):
            pairs.append((example.text, render(foil, Stream(example.voice))))
    # foils of drawn captions do lean: 'three' is rarer than 'one'. The check is blind
    assert leans(pairs) > 4


# noise
def test_noise_has_its_rates_and_its_kinds():
    clean = Scenes("train")
    rates = Counter()
    for i, example in enumerate(draw(1500, "train", noise=(0.1, 0.2, 0.3))):
        before = clean.draw(i)
        rates[example.noise] += 1 / 1500
        assert example.scene == before.scene
        assert (example.text == before.text) == (example.noise == "")
        if example.noise == "missing":
            rest = iter(before.text.split())
            for word in example.text.split():
                assert word in rest, "words come in their order"
        elif example.noise:
            assert holds(example.form, example.scene) is False
    for noise, rate in (("wrong", 0.1), ("missing", 0.2), ("foreign", 0.3)):
        assert abs(rates[noise] - rate) < 0.04, rates


# pictures
def one_thing(vendor="noto", angle=0.0, curtain=None, name="apple"):
    return Scene((Object(name, 0.3, 0.6, 0.4, vendor, angle),), "blue", curtain)


def test_a_curtain_hides_what_is_behind():
    curtain = (0.0, 0.3, 0.6, 1.0)
    apple = paint(one_thing(curtain=curtain, name="apple"), 48)
    frog = paint(one_thing(curtain=curtain, name="frog"), 48)
    assert (apple == frog).all()
    assert (apple[:14] == paint(one_thing(), 48)[:14]).all(), "nothing else changes"


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
