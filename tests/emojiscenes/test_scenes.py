"""scenes, placing and painting: examples by number, siblings, families, pairs of one change, pictures."""

import itertools
from collections import Counter

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


# scenes


def test_training_never_draws_the_unseen_style(train):
    vendors = {thing.vendor for example in train for thing in example.scene.objects}
    assert vendors == {name for name, vendor in emoji()["vendors"].items() if vendor["training"]}
    assert "openmoji" not in vendors


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


def test_each_caption_of_a_family_is_true_of_its_own_scene_only(families):
    for family in families:
        assert len(family) == 4 and (truth(family) == np.eye(4)).all()
        for example, sibling in itertools.permutations(family, 2):
            assert holds(example.form, sibling.scene) is False
        assert len({frozenset(names(example)) for example in family}) == 1
        assert len({(example.scene.background, example.scene.shade) for example in family}) == 1
    assert Counter(family[0].kind for family in families) == dict.fromkeys(FAMILIES, 8)
    assert {len(example.scene.objects) for family in families for example in family} == {2, 3}


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
