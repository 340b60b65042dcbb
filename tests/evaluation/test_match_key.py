"""The match key: what belongs together is the same in training, in retrieval,
in validation and for the doctor."""
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import small
from minalbef.albef import ALBEF
from minalbef.data import Record
from minalbef.datasets.loader import ValidationBatches
from minalbef.evaluation.loop import How
from minalbef.recipes import doctor, sets
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.retrieval import evaluate_retrieval, validation_figures
from minalbef.tasks.run import Run

LABELS = "bus cat dog egg fox gnu hat ice jar kite".split()
STEP = 20                             # grey levels between the images of two labels
TOKENIZER = Tokenizer.train(LABELS * 9, 64)
CONFIG = small(vocab_size=len(TOKENIZER))


def label_records(images: int, matched: bool = True) -> list[Record]:
    """Ten labels, each the caption of so many images;
    an image of label k has grey level STEP k."""
    return [Record(np.full((24, 24, 3), STEP * k, np.uint8),
                   label, 100 * k + i, match=k if matched else None)
            for i in range(images) for k, label in enumerate(LABELS)]


class Perfect(ALBEF):
    """Knows each image's label from its grey level; with guesses=True all scores are equal."""

    def __init__(self, guesses: bool = False):
        super().__init__(CONFIG)
        self.guesses = guesses
        self.fusion = nn.Module()
        self.fusion.keys_values = lambda image: image

    def features(self, labels: Tensor) -> Tensor:
        return F.one_hot(0 * labels if self.guesses else labels, 16).float()

    def encode_image(self, image: Tensor) -> Tensor:
        grey = 255 * (0.26862954 * image[:, 0, 0, 0] + 0.48145466)
        return self.features((grey / STEP).round().long())[:, None]

    def encode_text(self, tokens: Tensor, keep: Tensor) -> Tensor:
        labels = [LABELS.index(TOKENIZER.decode(row[1:2])) for row in tokens]
        return self.features(torch.tensor(labels))[:, None]

    def image_feature(self, image: Tensor) -> Tensor:
        return image[:, 0]

    def text_feature(self, text: Tensor, keep: Tensor) -> Tensor:
        return text[:, 0]

    def fuse(self, text: Tensor, keep: Tensor, image: None,
             queries: int, pairs, keys_values: Tensor) -> Tensor:
        return (text[pairs[0]] * keys_values[pairs[1]]).sum((1, 2))

    def match_logits(self, fused: Tensor) -> Tensor:
        return torch.stack([-fused, fused], 1)


class Dataset(list):
    upright = False


def in_validation(records: list[Record], guesses: bool = False) -> dict[str, float]:
    """Pretraining's row of validation.csv."""
    model = Perfect(guesses)
    def losses(batch, draws):
        image = model.image_feature(model.encode_image(batch.image))
        text = model.text_feature(model.encode_text(batch.tokens, batch.keep), batch.keep)
        return {"itc": torch.zeros(())}, (image, text, batch.ids)
    batches = ValidationBatches(Dataset(records), sets.collate, CONFIG, TOKENIZER, len(records))
    task = SimpleNamespace(config=CONFIG, validate=losses)
    return sets.pretraining_figures(task, batches, torch.device("cpu"))


def by_doctor(records: list[Record], guesses: bool = False) -> doctor.Search:
    return doctor.search(Run(Perfect(guesses), TOKENIZER, CONFIG, Path()), records)


def test_a_model_that_knows_every_label_finds_every_label_wherever_it_is_measured():
    records = label_records(50)
    samples, more = evaluate_retrieval(Perfect(), TOKENIZER, records, How(quiet=True))
    assert (more["pictures"], more["captions"]) == (500, 10), "ten labels are ten captions"
    for name, value in samples.items():
        assert value.mean().item() == 1.0
        if "t2i" in name:
            assert len(value) == 10
    figures = in_validation(records)
    assert len(figures) == 9
    for name in figures:
        if "itc_" in name and "loss" not in name:
            assert figures[name] == 1
    search = by_doctor(records)
    assert not search.at_chance
    assert "find 10 different images first, of 500; R@10 1.00 (chance 0.65)" in search.text
    assert validation_figures(samples, more)["itc_r_mean"] == figures["itc_r_mean"]


def test_equal_scores_are_at_chance_wherever_they_are_measured():
    records = label_records(8)
    samples, more = evaluate_retrieval(Perfect(guesses=True), TOKENIZER,
                                       records, How(quiet=True))
    assert more["chance"]["itc_i2t_r5"] == pytest.approx(0.5), "five of ten labels"
    assert more["chance"]["itc_t2i_r1"] == pytest.approx(0.1)
    for name, value in samples.items():
        if name.startswith("itc"):
            assert value.mean().item() == pytest.approx(more["chance"][name])
    figures = in_validation(records, guesses=True)
    for name in figures.keys() & more["chance"].keys():
        assert figures[name] == pytest.approx(more["chance"][name], abs=1e-5)
    search = by_doctor(records, guesses=True)
    assert search.at_chance and search.collapsed
