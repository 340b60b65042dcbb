"""scenes and placing: captions are true, splits, siblings, families, one change, noise."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest

from emojiscenes.contrasts import CONTRASTS
from emojiscenes.grammar import KINDS, render
from emojiscenes.language import holds
from emojiscenes.painting import pair_class
from emojiscenes.scenes import FAMILIES, SIBLINGS, Drawn, Scenes, split_of, truth
from emojiscenes.stream import Stream


def draw(count: int, split: str, **settings) -> list[Drawn]:
    scenes = Scenes(split, **settings)
    return [scenes.draw(i) for i in range(count)]


@pytest.fixture(scope="module")
def train():
    return draw(1000, "train")


@pytest.fixture(scope="module")
def siblings():
    examples = draw(2000, "train", siblings=1.0)
    return list(zip(examples[::2], examples[1::2]))


@pytest.fixture(scope="module")
def families():
    scenes = Scenes("test", counts=(0, 0.5, 0.5))
    return [scenes.family(i) for i in range(40)]


def names(example: Drawn) -> set[str]:
    return {thing.name for thing in example.scene.objects}


def classes(example: Drawn) -> list[int]:
    """Of each pair of its objects; 0 is kept from training."""
    pairs = itertools.combinations(sorted(names(example)), 2)
    return list(itertools.starmap(pair_class, pairs))


def leans(pairs) -> float:
    """How far words lean to the first or the second texts of pairs.

    The largest difference of two counts, in standard errors.
    """
    first = Counter()
    second = Counter()
    for first_text, second_text in pairs:
        first.update(set(first_text.replace(",", "").split()))
        second.update(set(second_text.replace(",", "").split()))
    most = 0.0
    for word, count in (first + second).items():
        most = max(most, abs(first[word] - second[word]) / count**0.5)
    return most


def test_captions_are_true_and_unseen_pairs_never_meet(train, siblings, families):
    for example in itertools.chain(train, *siblings, *families):
        assert holds(example.form, example.scene) is True
        assert render(example.form, Stream(example.voice)) == example.text
        assert 0 not in classes(example)
    for pairs, number in (("unseen", 0), ("control", 1)):
        for example in draw(150, "test", pairs=pairs):
            assert classes(example).count(number) == 1
            assert 1 - number not in classes(example)


def captions(split: str, **settings) -> set[str]:
    return {example.text for example in draw(600, split, objects=8, **settings)}


def test_splits_share_no_caption():
    train = captions("train")
    validation = captions("validation", specific=False)
    test = captions("test", specific=False)
    assert not train & validation and not train & test and not validation & test
    again = captions("train", seed=1)
    assert len(again & train) > 25, "too few captions ever recur: the check is blind"


def test_siblings_are_minimal_pairs_and_words_alone_do_not_tell_them_apart(siblings):
    texts = defaultdict(list)
    for example, sibling in siblings:
        assert names(example) == names(sibling)
        assert example.kind == sibling.kind
        assert holds(sibling.form, example.scene) is holds(example.form, sibling.scene) is False
        # no test has these captions
        assert split_of(example.text) == split_of(sibling.text) == "train"
        same_background = example.scene.background == sibling.scene.background
        assert same_background != (example.kind == "background")
        numbers_differ = len(example.scene.objects) != len(sibling.scene.objects)
        assert numbers_differ == (example.kind == "count")
        texts[example.kind].append((example.text, sibling.text))
    for kind, share in Counter(SIBLINGS).items():
        assert abs(len(texts[kind]) / len(siblings) - share / len(SIBLINGS)) < 0.05
        assert leans(texts[kind]) < 4, kind


@pytest.mark.parametrize("kind", CONTRASTS)
def test_contrasts_are_true_of_one_scene_and_false_of_the_other(kind):
    examples = draw(120, "train", seed=3, siblings=1.0, objects=50, kinds=(kind,))
    for first, second in zip(examples[::2], examples[1::2]):
        assert holds(first.form, first.scene) and holds(second.form, second.scene)
        assert holds(first.form, second.scene) is False
        assert holds(second.form, first.scene) is False
        assert first.kind == kind and first.text != second.text
        assert first.scene.background == second.scene.background


def test_each_caption_of_a_family_is_true_of_its_own_scene_only(families):
    kinds = Counter()
    for family in families:
        assert len(family) == 4 and (truth(family) == np.eye(4)).all()
        for example, sibling in itertools.permutations(family, 2):
            assert holds(example.form, sibling.scene) is False
            assert names(example) == names(sibling)
            assert example.scene.background == sibling.scene.background
        kinds[family[0].kind] += 1
    assert kinds == dict.fromkeys(FAMILIES, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_foils_are_false_and_words_alone_do_not_tell_them(kind):
    scenes = Scenes("train", counts=(0.2, 0.4, 0.4))
    pairs = []
    for i in range(350):
        example, foil, text = scenes.one_change(i, kind)
        assert holds(example.form, example.scene) is True
        assert holds(foil, example.scene) is False
        assert text == render(foil, Stream(example.voice))
        assert len(text.split()) == len(example.text.split())
        pairs.append((example.text, text))
    assert leans(pairs) < 4


def test_noise_has_its_rates_and_its_kinds():
    clean = Scenes("train")
    rates = Counter()
    for i, example in enumerate(draw(1500, "train", noise=(0.1, 0.2, 0.3))):
        before = clean.draw(i)
        rates[example.noise] += 1 / 1500
        assert example.scene == before.scene
        assert (example.text == before.text) == (example.noise == "")
        if example.noise in ("wrong", "foreign"):
            assert holds(example.form, example.scene) is False
    for noise, rate in (("wrong", 0.1), ("missing", 0.2), ("foreign", 0.3)):
        assert abs(rates[noise] - rate) < 0.04, rates


@pytest.mark.parametrize("arguments, message", [
    (dict(split="dev"), "no split 'dev'; there are train, validation, test"),
    (dict(split="test", noise=(0.1, 0, 0)), "only training captions may be spoilt"),
    (dict(split="train", pairs="odd"), "pairs='odd' is none of"),
    (dict(split="train", objects=("apple", "aple")), "no object 'aple'"),
    (dict(split="train", restyle=1.5), "restyle=1.5 is a share"),
    (dict(split="train", counts=(0, 0)), "give a share"),
])
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Scenes(**arguments)
