"""Scenes as the records that a pretrained model is evaluated on, whatever they were drawn for."""
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from emojiscenes.grammar import KINDS, kinds_of_word
from emojiscenes.language import Object, Scene
from emojiscenes.scenes import Drawn, Scenes, paint
from minalbef.evaluation.choices import ChoiceRecord
from minalbef.evaluation.loop import grey_image
from minalbef.evaluation.pointing import PointingRecord, patches_in_box
from minalbef.evaluation.words import WordsRecord
from minalbef.system.tokenizer import clean

Foils = dict[str, list[tuple[Scene, str, str]]]


def image_of(scene: Scene | None, size: int) -> np.ndarray:
    """A scene's pixels, (size, size, 3); None is a grey image."""
    if scene is None:
        return grey_image(size)
    return paint(scene, size)


def choice_records(foils: Foils, size: int) -> list[ChoiceRecord]:
    """Scenes with a true caption and a foil, by kind: see `questions.foils`."""
    records: list[ChoiceRecord] = []
    for kind, part in foils.items():
        for scene, text, foil in part:
            images = (image_of(scene, size),)
            records.append(ChoiceRecord(images, (text, foil), len(records), kind))
    return records


def minimal_pairs(source: Scenes, count: int) -> list[ChoiceRecord]:
    """So many minimal pairs of each kind: two scenes, each with a caption false of the other."""
    records: list[ChoiceRecord] = []
    for kind in KINDS:
        for i in range(count):
            first, second = source.minimal_pair(i, kind)
            images = (source.picture(first), source.picture(second))
            records.append(ChoiceRecord(images, (first.text, second.text), len(records), kind))
    return records


def word_records(examples: Sequence[Drawn], size: int) -> list[WordsRecord]:
    """Scenes with their captions, every word of which has a kind of KINDS, or none."""
    records = []
    for i, example in enumerate(examples):
        kinds = [kind if kind in KINDS else "" for kind in kinds_of_word(example.text)]
        image = image_of(example.scene, size)
        records.append(WordsRecord(image, example.text, i, tuple(kinds)))
    return records


def pointing_records(examples: Sequence[Drawn], size: int) -> list[PointingRecord]:
    """A record for each object that a caption names without doubt."""
    records = []
    for i, example in enumerate(examples):
        image = image_of(example.scene, size)
        for thing, words in unique_nouns(example):
            records.append(PointingRecord(image, example.text, i, tuple(words), box_of(thing)))
    return records


def box_of(thing: Object) -> tuple[float, float, float, float]:
    """An object's box: centre x, y, width, height, in shares of the image's sides."""
    return (thing.x, thing.y, thing.size, thing.size)


def patches_inside(thing: Object, grid: int) -> Tensor:
    """Patches whose centre is in the object's box: (n,) bool, row-major."""
    return patches_in_box(box_of(thing), grid)


def unique_nouns(example: Drawn) -> list[tuple[Object, list[int]]]:
    """Objects whose name is unique in the scene and occurs once in the caption.

    Each comes with the indices of its name's words in the caption.
    """
    words = clean(example.text).split()
    names = [thing.name for thing in example.scene.objects]
    nouns = []
    for thing in example.scene.objects:
        name = thing.name.split()
        length = len(name)
        positions = range(len(words) - length + 1)
        starts = [i for i in positions if words[i:i + length] == name]
        if len(starts) == 1 and names.count(thing.name) == 1:
            nouns.append((thing, list(range(starts[0], starts[0] + length))))
    return nouns
