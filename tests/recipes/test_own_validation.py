"""pretraining on your own pictures is validated: what is measured, how often, and what is kept."""
import logging
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import same_state
from minalbef import checkpoint, metrics
from minalbef.datasets import loader
from minalbef.datasets.prepare import prepare
from minalbef.metrics import read_table
from minalbef.presets import preset
from minalbef.recipes import pretrain, sets
from minalbef.recipes.evaluate import evaluate_set, table
from minalbef.recipes.pretrain import settings
from minalbef.recipes.provenance import trained_on
from minalbef.recipes.report import read_report
from minalbef.tasks.retrieval import collate
from minalbef.tokenizer import Tokenizer
from miniature_sets import change_about
from processes import ENVIRONMENT, LAUNCHERS, ROOT

COLOURS = "red green blue white black brown grey pink".split()
SMALL = ["image_size=16", "image_width=32", "text_width=32", "image_heads=2", "text_heads=2", "embed_dim=16",
         "batch=8", "queue_size=16", "device=cpu", "match_from=0.5", "warmup_steps=2", "epochs=4", "dropout=0.1"]


def pictures(folder: Path, counts: dict[str, int]) -> Path:
    """Two captions for each picture, a square of a colour; counts: pictures of each split."""
    folder.mkdir(parents=True)
    rows, number = ["file,caption,split"], 0
    for split, count in counts.items():
        for i in range(count):
            noise = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(noise).resize((20, 20), Image.Resampling.NEAREST).save(folder / f"{number}.png")
            rows += [f"{number}.png,a {COLOURS[i % 8]} cat number {i},{split}", f"{number}.png,the {i} dogs,{split}"]
            number += 1
    (folder / "captions.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    prepare("pairs", pictures(folder / "pictures", {"train": 20, "validation": 12, "test": 2}), folder / "prepared")
    return folder / "prepared" / "pairs"


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory) -> Path:
    """An undisturbed run of 20 steps, 5 an epoch, validated each epoch."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    pretrain.pretrain(settings("tiny", [*SMALL, "validate_every=1"], [prepared]), run, [prepared], quiet=True)
    return run


def test_each_epoch_has_recalls_and_losses_and_the_best_weights_are_a_run(prepared, whole):
    rows = read_table(whole / "validation.csv", ())
    assert [row["step"] for row in rows] == ["5", "10", "15", "20"]
    assert list(rows[0]) == ["step", "epoch", "itc_r_mean", *(f"itc_{way}_r{k}" for way in ("i2t", "t2i")
                                                             for k in (1, 5, 10)),
                             "loss_itc", "loss_itm", "loss_mlm", "loss", "best_step"]
    for row in rows:
        parts = [float(row[f"loss_{name}"]) for name in ("itc", "itm", "mlm")]
        assert float(row["loss"]) == pytest.approx(sum(parts), abs=1e-4) and min(parts) > 0
    assert len({row["loss"] for row in rows}) == 4
    best = max(rows, key=lambda row: float(row["itc_r_mean"]))
    assert rows[-1]["best_step"] == best["step"]
    found = evaluate_set(whole / "best", prepared / "validation", out=whole / "report")
    assert found["r_mean"]["itc"] == pytest.approx(float(best["itc_r_mean"]), abs=1e-4)
    for name in ("itc_i2t_r1", "itc_t2i_r5"):
        assert found["test"][name] == pytest.approx(float(best[name]), abs=1e-4)
    assert trained_on(whole / "best") == trained_on(whole)
    assert (whole / "best" / "words.json").read_bytes() == (whole / "words.json").read_bytes()


def test_a_report_has_the_row_of_the_weights_that_it_is_of(prepared, whole, tmp_path):
    rows = read_table(whole / "validation.csv", ())
    rows[-1]["best_step"] = "10"                         # not the last, whatever was the best
    run = shutil.copytree(whole, tmp_path / "run")
    metrics.write_table(run / "validation.csv", rows)
    for folder, row in ((run, rows[-1]), (run / "best", rows[1])):
        found = evaluate_set(folder, prepared / "test", out=tmp_path / "report")
        assert found["validation"] == {name: float(value) for name, value in row.items() if name != "best_step"}
        assert read_report(tmp_path / "report")["validation"]["step"] == int(row["step"])
        line = f"validation after step {row['step']}, epoch {float(row['epoch']):g}: itc_r_mean "
        assert f"{line}{float(row['itc_r_mean']):.4f}, loss {float(row['loss']):.3f}" in table(found)
    (run / "validation.csv").unlink()
    assert "validation" not in evaluate_set(run / "best", prepared / "test", out=tmp_path / "report")


def test_weights_without_a_loss_so_far_are_named_in_the_best_run_as_in_any(prepared, tmp_path):
    changes = [*SMALL, "validate_every=1", "epochs=1", "match_from=1"]
    pretrain.pretrain(settings("tiny", changes, [prepared]), tmp_path, [prepared], quiet=True)
    assert "match_head" in checkpoint.untrained_parts(tmp_path / "best")
    one, two = (checkpoint.load_file(folder / "model.safetensors") for folder in (tmp_path, tmp_path / "best"))
    assert same_state(one, two), "the only validation was after the last step"


def test_a_killed_run_ends_with_the_same_files_and_training_is_the_same_without(prepared, whole, tmp_path, monkeypatch):
    config, real = settings("tiny", [*SMALL, "validate_every=1"], [prepared]), sets.pretraining_figures
    calls = []
    def killed(*given):
        calls.append(1)
        if len(calls) in (1, 4):
            raise KeyboardInterrupt
        return real(*given)
    with monkeypatch.context() as patch:
        patch.setattr(sets, "pretraining_figures", killed)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                pretrain.pretrain(config, tmp_path / "run", [prepared], quiet=True)
    pretrain.pretrain(config, tmp_path / "run", [prepared], quiet=True)
    for name in ("validation.csv", "model.safetensors", "teacher.safetensors", "trained_on.json", "best/config.json",
                 "best/model.safetensors", "best/teacher.safetensors", "best/trained_on.json", "best/tokenizer.json"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name
    without = settings("tiny", [*SMALL, "validate_every=0"], [prepared])
    pretrain.pretrain(without, tmp_path / "without", [prepared], quiet=True)
    one, two = (checkpoint.load_file(run / "model.safetensors") for run in (whole, tmp_path / "without"))
    assert same_state(one, two) and not (tmp_path / "without" / "best").exists()


def test_two_processes_measure_what_one_does(prepared, tmp_path):
    changes = [*SMALL, "dropout=0", "epochs=2", "validate_every=1"]
    words = [*LAUNCHERS[2][:-1], "-m", "--", "minalbef", "pretrain", *changes, "--data", str(prepared),
             "--run", str(tmp_path / "two"), "--quiet"]
    subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, timeout=400)
    pretrain.pretrain(settings("tiny", changes, [prepared]), tmp_path / "one", [prepared], quiet=True)
    two, one = (read_table(tmp_path / name / "validation.csv", ()) for name in ("two", "one"))
    assert [row["step"] for row in two] == [row["step"] for row in one] == ["5", "10"]
    for a, b in zip(two, one):
        assert all(float(a[name]) == pytest.approx(float(b[name]), abs=1e-3) for name in b)
    assert (tmp_path / "two" / "best" / "model.safetensors").exists()


def test_own_sets_are_validated_by_default_at_a_few_percent_of_the_time(prepared, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "minalbef")
    config = settings("tiny", ["batch=8"], [prepared])
    assert config.epoch == 40 and config.validate_every == 15    # 24 captions to validate on, 25 times as many between
    assert settings("tiny", ["batch=64"], [prepared]).validate_every == 80       # 50 steps
    assert settings("tiny", ["validate_every=0"], [prepared]).validate_every == 0
    monkeypatch.setattr(sets, "MOST", 3)
    assert settings("tiny", ["batch=1"], [prepared]).validate_every == 2
    alone = pictures(tmp_path / "pictures", {"train": 9})
    prepare("pairs", alone, tmp_path / "prepared")
    config = settings("tiny", [*SMALL, "epochs=1"], [tmp_path / "prepared" / "pairs"])
    pretrain.pretrain(config, tmp_path / "run", [tmp_path / "prepared" / "pairs"], quiet=True)
    assert "nothing is validated" in caplog.text and not (tmp_path / "run" / "best").exists()


def test_own_sets_are_trained_for_a_thousand_steps_unless_more_or_fewer_are_asked_for(prepared, tmp_path, caplog):
    caplog.set_level(logging.INFO, "minalbef")
    config = settings("tiny", ["batch=8"], [prepared])
    assert (config.epoch, config.epochs, config.steps) == (40, 200, 1000)
    assert "epochs=200 in place of the preset's 1: 1000 steps, since fewer teach hardly anything" in caplog.text
    assert settings("tiny", ["batch=8", "epochs=3"], [prepared]).steps == 15
    assert settings("base", ["batch=8"], [prepared]).epochs == 200 and preset("base").epochs == 12
    assert settings("base", ["batch=8", "epoch=4000"], [prepared]).epochs == 12, "they are enough"
    public = shutil.copytree(prepared, tmp_path / "coco")
    change_about(public, set="coco")
    assert settings("base", ["batch=8"], [public]).epochs == 12, "the paper's"


def test_public_sets_are_not_validated_in_pretraining_and_scenes_cannot_be(prepared, tmp_path):
    public = shutil.copytree(prepared, tmp_path / "coco")
    change_about(public, set="coco")
    assert settings("tiny", [], [public]).validate_every == 0 == preset("base").validate_every
    assert settings("tiny", ["validate_every=2"], [public]).validate_every == 2
    with pytest.raises(ValueError, match="validate_every=1 is for prepared sets"):
        settings("tiny", ["validate_every=1"])


def test_an_unreadable_picture_gives_way_to_the_next(prepared):
    class Broken(torch.utils.data.Dataset):
        upright = False
        def __len__(self):
            return 6
        def __getitem__(self, i):
            record = sets.Records(prepared, "validation")[i]
            return record if i != 3 else type(record)(Path("nothing.png"), record.text, record.id)
    config = settings("tiny", [*SMALL, "batch=4"], [prepared])
    tokenizer = Tokenizer.train([*COLOURS, "cat dogs the number"], 64)
    batches = loader.ValidationBatches(Broken(), collate, config, tokenizer, 5)
    assert (batches.count, batches.size) == (2, 2), "five of six, four of which two batches share"
    turn = loader.order(6, config.seed, 0)[:4]
    following = {int(a): int(b) for a, b in zip(loader.order(6, config.seed, 0), loader.order(6, config.seed, 0)[1:])}
    read = [following[3] if number == 3 else int(number) for number in turn]
    ids = torch.cat([batch.ids for batch in batches]).tolist()
    assert ids == [sets.Records(prepared, "validation")[i].id for i in read]
    assert ids == torch.cat([batch.ids for batch in batches]).tolist(), "the same each time"
