"""What a run is made of (tokenizer, records, source): it goes on with nothing else."""
import shutil
from pathlib import Path

import pytest

from captions import CAPTIONS, SIZES, files, prepare_captions, train
from helpers import disturb, small
from minalbef.albef import ALBEF
from minalbef.datasets.loader import RecordBatches
from minalbef.datasets.store import Records
from minalbef.recipes import finetune, pretrain, provenance
from minalbef.recipes.provenance import trained_on
from minalbef.recipes.sets import TrainingSets
from minalbef.system import checkpoint
from minalbef.system.tokenizer import Tokenizer


def test_other_records_with_the_same_words_are_noticed_too(tmp_path):
    data = prepare_captions(tmp_path, CAPTIONS)
    run = tmp_path / "run"
    train(run, data)
    prepare_captions(tmp_path, [CAPTIONS[1], CAPTIONS[0], *CAPTIONS[2:]])
    with pytest.raises(ValueError, match=r"else .coco/train: \w+ there, \w+ here.; go on"):
        train(run, data)


def test_what_was_trained_on_is_what_stood_there_when_training_began(tmp_path, monkeypatch):
    """`prepare` may replace a set while a run reads on from the old files."""
    data = prepare_captions(tmp_path, CAPTIONS)
    real = RecordBatches.__call__
    first = provenance.hash_of(data, "train")

    def call(batches, step):
        if step == 1:
            prepare_captions(tmp_path, ["a quick brown fox", *CAPTIONS[1:]])
        return real(batches, step)
    monkeypatch.setattr(RecordBatches, "__call__", call)
    train(tmp_path / "run", data)
    assert trained_on(tmp_path / "run")["pretrained"] == {"coco/train": first}
    assert first != provenance.hash_of(data, "train"), "the check is blind"


def test_a_fraction_of_the_data_is_what_is_trained_on(tmp_path):
    data = prepare_captions(tmp_path, [f"{text} {i}" for i in range(5) for text in CAPTIONS])
    whole = {record.id for record in Records(data, "train")}
    config = pretrain.settings("tiny", [*SIZES, "data_fraction=0.5"], (data,))
    sets = TrainingSets("pretrain", (data,), config, Tokenizer.train(CAPTIONS, 96), tmp_path)
    part = {record.id for record in sets.records}
    assert part < whole and len(sets.records) == config.epoch == len(part)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[Path]:
    """Three runs to begin from; the second has other weights than the first, the third other
    word ids."""
    texts = ["yes no",
             "a red green blue cat dog apple lemon is the what two not of left right"]
    tokenizers = [Tokenizer.train(texts, 96), Tokenizer.train([*texts, "zebra quiz"], 96)]
    folder = tmp_path_factory.mktemp("sources")
    config = small(vocab_size=96, positions=32, objects=12)
    runs = (1, tokenizers[0]), (2, tokenizers[0]), (1, tokenizers[1])
    for i, (seed, tokenizer) in enumerate(runs):
        checkpoint.save(folder / str(i), disturb(ALBEF(config), 0.2, seed), tokenizer)
    return [folder / str(i) for i in range(3)]


def tune(source: Path, run: Path, task: str = "entailment", baseline: str = "") -> None:
    changes = ("image_size=24", "batch=6", "epochs=1", "epoch=12", "warmup_steps=1",
               "device=cpu")
    config = finetune.settings(task, source, changes)
    finetune.finetune(task, source, run, config, baseline=baseline, quiet=True)


def test_fine_tuning_does_not_go_on_from_another_run(sources, tmp_path):
    run = tmp_path / "run"
    tune(sources[0], run)
    before = files(run)
    with pytest.raises(ValueError,
                       match=r"something else .source: \w+ there, \w+ here.; go on"):
        tune(sources[1], run)
    with pytest.raises(ValueError, match="something else .tokenizer: "):
        tune(sources[2], run)
    assert files(run) == before
    tune(shutil.copytree(sources[0], tmp_path / "moved"), run)
    assert files(run) == before, "a copy of the source is the same"
