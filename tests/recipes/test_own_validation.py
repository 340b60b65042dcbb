"""pretraining on your own pictures is validated: what is measured, how often, and what is kept."""
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minalbef.datasets.prepare import prepare
from minalbef.recipes import pretrain
from minalbef.recipes.evaluate import evaluate
from minalbef.recipes.pretrain import settings
from minalbef.recipes.provenance import trained_on
from minalbef.system.metrics import read_table
from miniature_sets import change_about
from processes import ENVIRONMENT, LAUNCHERS, ROOT

COLOURS = "red green blue white black brown grey pink".split()
SMALL = ["image_size=16", "image_width=32", "text_width=32", "image_heads=2", "text_heads=2",
         "embed_dim=16", "batch=8", "queue_size=16", "device=cpu", "match_from=0.5",
         "warmup_steps=2", "epochs=4", "dropout=0.1"]


def pictures(folder: Path, counts: dict[str, int]) -> Path:
    """Two captions for each picture, a square of a colour; counts: pictures of each split."""
    folder.mkdir(parents=True)
    rows = ["file,caption,split"]
    number = 0
    for split, count in counts.items():
        for i in range(count):
            noise = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
            picture = Image.fromarray(noise).resize((20, 20), Image.Resampling.NEAREST)
            picture.save(folder / f"{number}.png")
            rows += [f"{number}.png,a {COLOURS[i % 8]} cat number {i},{split}",
                     f"{number}.png,the {i} dogs,{split}"]
            number += 1
    (folder / "captions.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    source = pictures(folder / "pictures", {"train": 20, "validation": 12, "test": 2})
    prepare("pairs", source, folder / "prepared")
    return folder / "prepared" / "pairs"


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory) -> Path:
    """An undisturbed run of 20 steps, 5 an epoch, validated each epoch."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    config = settings("tiny", [*SMALL, "validate_every=1"], [prepared])
    pretrain.pretrain(config, run, [prepared], quiet=True)
    return run


def steps(rows: list[dict]) -> list[str]:
    return [row["step"] for row in rows]


def test_each_epoch_has_recalls_and_losses_and_the_best_weights_are_a_run(prepared, whole):
    rows = read_table(whole / "validation.csv", ())
    assert steps(rows) == ["5", "10", "15", "20"]
    recalls = [f"itc_{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]
    assert list(rows[0]) == ["step", "epoch", "itc_r_mean", *recalls,
                             "loss_itc", "loss_itm", "loss_mlm", "loss", "best_step"]
    for row in rows:
        parts = [float(row[f"loss_{name}"]) for name in ("itc", "itm", "mlm")]
        assert float(row["loss"]) == pytest.approx(sum(parts), abs=1e-4) and min(parts) > 0
    assert len({row["loss"] for row in rows}) == 4
    best = max(rows, key=lambda row: float(row["itc_r_mean"]))
    assert rows[-1]["best_step"] == best["step"]
    report = evaluate(whole / "best", prepared / "validation", out=whole / "report")
    assert report["r_mean"]["itc"] == pytest.approx(float(best["itc_r_mean"]), abs=1e-4)
    for name in ("itc_i2t_r1", "itc_t2i_r5"):
        assert report["test"][name] == pytest.approx(float(best[name]), abs=1e-4)
    assert trained_on(whole / "best") == trained_on(whole)
    words = (whole / "best" / "words.json").read_bytes()
    assert words == (whole / "words.json").read_bytes()


def test_two_processes_measure_what_one_does(prepared, tmp_path):
    changes = [*SMALL, "dropout=0", "epochs=2", "validate_every=1"]
    words = [*LAUNCHERS[2][:-1], "-m", "--", "minalbef", "pretrain", *changes, "--data",
             str(prepared), "--run", str(tmp_path / "two"), "--quiet"]
    subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True,
                   timeout=400)
    config = settings("tiny", changes, [prepared])
    pretrain.pretrain(config, tmp_path / "one", [prepared], quiet=True)
    pair = read_table(tmp_path / "two" / "validation.csv", ())
    single = read_table(tmp_path / "one" / "validation.csv", ())
    assert steps(pair) == steps(single) == ["5", "10"]
    for a, b in zip(pair, single):
        for name in b:
            assert float(a[name]) == pytest.approx(float(b[name]), abs=1e-3)
    assert (tmp_path / "two" / "best" / "model.safetensors").exists()


def test_own_sets_are_trained_for_a_thousand_steps_unless_you_say_otherwise(
        prepared, tmp_path):
    config = settings("tiny", ["batch=8"], [prepared])
    assert (config.epoch, config.epochs, config.steps) == (40, 200, 1000)
    assert settings("tiny", ["batch=8", "epochs=3"], [prepared]).steps == 15
    public = shutil.copytree(prepared, tmp_path / "coco")
    change_about(public, set="coco")
    assert settings("base", ["batch=8"], [public]).epochs == 12, "the paper's"
