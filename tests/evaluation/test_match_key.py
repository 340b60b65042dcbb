"""The match key: what belongs together is the same in training, in retrieval, in validation and for the doctor."""
from dataclasses import replace
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
from minalbef.datasets.store import from_line, to_line
from minalbef.evaluation.loop import How
from minalbef.pretrain import Pretrain, collate
from minalbef.recipes import doctor, sets
from minalbef.system.images import ImageFile
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.retrieval import Retrieval, evaluate_retrieval, validation_figures
from minalbef.tasks.run import Run
from minalbef.tasks.text_assignment import TextAssignment

LABELS = "bus cat dog egg fox gnu hat ice jar kite".split()
STEP = 20                             # grey levels between the images of two labels
TOKENIZER = Tokenizer.train(LABELS * 9, 64)
CONFIG = small(vocab_size=len(TOKENIZER))


def label_records(images: int, matched: bool = True) -> list[Record]:
    """Ten labels, each the caption of so many images; an image of label k has grey level STEP k."""
    return [Record(np.full((24, 24, 3), STEP * k, np.uint8), label, 100 * k + i, match=k if matched else None)
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
        return self.features(torch.tensor([LABELS.index(TOKENIZER.decode(row[1:2])) for row in tokens]))[:, None]

    def image_feature(self, image: Tensor) -> Tensor:
        return image[:, 0]

    def text_feature(self, text: Tensor, keep: Tensor) -> Tensor:
        return text[:, 0]

    def fuse(self, text: Tensor, keep: Tensor, image: None, queries: int, pairs, keys_values: Tensor) -> Tensor:
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
    assert {name: value.mean().item() for name, value in samples.items()} == dict.fromkeys(samples, 1.0)
    assert {len(value) for name, value in samples.items() if "t2i" in name} == {10}
    figures = in_validation(records)
    assert len(figures) == 9 and all(figures[name] == 1 for name in figures if "itc_" in name and "loss" not in name)
    found = by_doctor(records)
    assert not found.at_chance and "find 10 different images first, of 500; R@10 1.00 (chance 0.65)" in found.text
    assert validation_figures(samples, more)["itc_r_mean"] == figures["itc_r_mean"]


def test_without_keys_the_same_model_seems_to_know_little():
    """The check above can fail: this is what label folders were told before they had keys."""
    samples, _ = evaluate_retrieval(Perfect(), TOKENIZER, label_records(50, matched=False), How(quiet=True))
    assert [round(samples[f"itc_i2t_r{k}"].mean().item(), 2) for k in (1, 5, 10)] == [.02, .1, .2]


def test_equal_scores_are_at_chance_wherever_they_are_measured():
    records = label_records(8)
    samples, more = evaluate_retrieval(Perfect(guesses=True), TOKENIZER, records, How(quiet=True))
    assert more["chance"]["itc_i2t_r5"] == pytest.approx(0.5), "five of ten labels"
    assert more["chance"]["itc_t2i_r1"] == pytest.approx(0.1)
    for name, value in samples.items():
        if name.startswith("itc"):
            assert value.mean().item() == pytest.approx(more["chance"][name])
    figures = in_validation(records, guesses=True)
    for name in figures.keys() & more["chance"].keys():
        assert figures[name] == pytest.approx(more["chance"][name], abs=1e-5)
    found = by_doctor(records, guesses=True)
    assert found.at_chance and found.collapsed


def test_equal_captions_without_a_key_stay_apart_as_in_the_original():
    records = [replace(record, match=None) for record in label_records(2)]
    records += [replace(record, text=LABELS[0]) for record in records[:3]]       # a second caption of three images
    _, more = evaluate_retrieval(Perfect(), TOKENIZER, records, How(quiet=True))
    assert (more["pictures"], more["captions"]) == (20, 23)


def test_a_label_in_two_groups_is_ranked_in_both():
    records = [replace(record, group=i % 2) for i, record in enumerate(label_records(3))]
    records += [replace(record, group=1 - record.group, id=record.id + 50) for record in records]
    samples, more = evaluate_retrieval(Perfect(), TOKENIZER, records, How(quiet=True))
    assert more["captions"] == 20
    assert {name: value.mean().item() for name, value in samples.items()} == dict.fromkeys(samples, 1.0)


@pytest.mark.parametrize("kind", [Pretrain, Retrieval])
def test_in_training_images_of_one_label_are_positives_and_never_negatives_in_batch_and_queue(kind, monkeypatch):
    """With equal_texts_match=False, so that it is the key alone which tells."""
    config = replace(CONFIG, equal_texts_match=False, equal_ids_match=True)
    task, records = kind(config), label_records(2)
    older, batch = (collate(records[i:i + 8], TOKENIZER, 24) for i in (0, 7))    # labels 0 to 7; 7, 8, 9, 0 to 4
    task.after_step(task(older, 0.0, task.draws(0))[1])
    positives, excluded = [], []
    real, drawn = task.itc_loss, task.hard_negatives
    monkeypatch.setattr(task, "itc_loss", lambda *given: positives.append(given[3]) or real(*given))
    monkeypatch.setattr(task, "hard_negatives", lambda sim, own, uniform:
                        excluded.append(own) or drawn(sim, own, uniform))
    batch = replace(batch, ids=torch.where(batch.ids == 4, 3, batch.ids))        # labels 3 and 4 are one
    task(batch, 0.0, task.draws(1))
    labels = torch.tensor([7, 8, 9, 0, 1, 2, 3, 3])
    expected = labels[:, None] == torch.cat([labels, torch.arange(8)])
    assert expected[:, :8].sum() == 10 and all(torch.equal(positive, expected) for positive in positives)
    assert all(torch.equal(own, expected[:, :8]) for own in excluded)


def test_text_assignment_draws_no_image_of_the_same_label():
    task = TextAssignment(replace(CONFIG, equal_texts_match=False))
    records = label_records(3)
    batch = collate([*records[:3], *records[10:12], *records[20:21], *records[11:13]], TOKENIZER, 24)
    labels = batch.ids
    assert labels.tolist() == [0, 1, 2, 0, 1, 0, 1, 2]
    for step in range(20):
        pairs = task.assign(torch.randn(8, 10, CONFIG.image_width), batch, task.draws(step))
        for row in range(8):
            images = [pairs.first[row], pairs.second[row]]
            others = [image for image in images if image != row and pairs.valid[row]]
            assert all(labels[image] != labels[row] for image in others)


def test_a_record_without_a_key_is_known_by_its_id_and_written_as_before(tmp_path):
    plain = Record(ImageFile(tmp_path / "a.png", hash=7), "a cat", 7)
    assert plain.match_key == 7 and replace(plain, match=3).match_key == 3
    assert b"match" not in to_line(plain, tmp_path)
    for record in (plain, replace(plain, match=0)):
        assert from_line(to_line(record, tmp_path), Record, tmp_path) == record


def test_each_query_is_counted_in_its_own_group():
    """An image's two captions make the queries of one direction longer than those of the other."""
    records = [replace(record, match=None, group=group) for record, group in zip(label_records(1), [4, 4, 7, 7, 7, 2])]
    records.insert(1, replace(records[0], text=LABELS[2]))
    samples, _ = evaluate_retrieval(Perfect(), TOKENIZER, records, How(quiet=True))
    for name, sample in samples.items():
        assert sample.cluster.tolist() == ([4, 4, 7, 7, 7, 2] if "i2t" in name else [4, 4, 4, 7, 7, 7, 2])
