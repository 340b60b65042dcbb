"""`minalbef doctor`: what it says of a short run, of shuffled captions, of the shipped model."""
import itertools
import random
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minalbef.cli.main import main
from minalbef.datasets.prepare import prepare
from minalbef.presets import preset
from minalbef.recipes import doctor
from minalbef.recipes.doctor import Diagnosis, examine
from minalbef.recipes.evaluate import at_chance
from minalbef.recipes.pretrain import GUESSING, pretrain, settings
from minalbef.system import checkpoint

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (30, 60, 220),
           "white": (250, 250, 250), "black": (10, 10, 10), "yellow": (240, 220, 40),
           "pink": (250, 150, 190), "brown": (120, 70, 30)}
SMALL = ["image_size=16", "image_width=32", "image_depth=1", "image_heads=2", "text_width=32",
         "text_depth=1", "text_heads=2", "fusion_depth=1", "embed_dim=16", "batch=16", "queue_size=64",
         "crop=1", "warmup_steps=20", "hard_from=0.5", "device=cpu"]


def kinds(diagnosis: Diagnosis) -> list[str]:
    """The beginning of each finding."""
    return [re.split("[:,]", line)[0] for line in diagnosis.findings]


# each finding alone

@pytest.mark.parametrize("itc, itm, names", [
    (1.0, 0.2, []), (5.6, 0.2, ["ITC guesses"]),
    (1.0, GUESSING, ["ITM has learnt nothing yet"]), (1.0, GUESSING - 0.02, [])])
def test_losses_at_the_level_of_guessing_are_named(tmp_path, itc, itm, names):
    rows = ["step,seconds,itc,itm"]
    for step in range(10, 2001, 10):
        rows.append(f"{step},1,{max(9 - step / 100, itc)},{max(0.9 - step / 1000, itm)}")
    (tmp_path / "metrics.csv").write_text("\n".join(rows), encoding="utf-8")
    diagnosis = Diagnosis("a run")
    doctor.look_at_log(diagnosis, tmp_path, preset("tiny"))
    assert kinds(diagnosis) == names and "200 rows up to step 2,000" in diagnosis.notes[0]


def test_figures_that_chance_may_give_are_named_at_the_end_of_an_evaluation():
    figures = {"r1": 0.3, "r5": 0.4, "r10": 1.0, "text": {"itc": 0.3, "itm": 0.5}}
    spans = {"r1": [0.2, 0.4], "r5": [0.3, 0.5], "r10": [0.9, 1.0],
             "text": {"itc": [0.2, 0.4], "itm": [0.3, 0.7]}}
    report = {"test": figures, "intervals": {"test": spans}}
    chance = {"r1": 0.1, "r5": 0.4, "r10": 1, "text": 0.25}
    assert at_chance(report | {"chance": chance}) == ["r5", "text itc"]
    assert at_chance(report) == []


# runs

def squares(folder: Path, copies: int = 3, shuffled: bool = False) -> Path:
    """A prepared set: a square of a colour somewhere on another; so many images of each to train,
    one to validate.
    """
    rows = ["file,caption,split"]
    source = folder / "images"
    source.mkdir(parents=True)
    generator = np.random.default_rng(0)
    pairs = [*itertools.permutations(COLOURS, 2)]
    for split, part in (("train", pairs * copies), ("validation", pairs)):
        captions = [f"a {a} square on {b}" for a, b in part]
        if shuffled:
            random.Random(0).shuffle(captions)
        for (a, b), caption in zip(part, captions):
            pixels = np.full((20, 20, 3), COLOURS[b])
            y, x = generator.integers(0, 10, 2)
            pixels[y:y + 10, x:x + 10] = COLOURS[a]
            pixels = pixels + generator.integers(-15, 16, pixels.shape)
            pixels = pixels.clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(source / f"{len(rows)}.png")
            rows.append(f"{len(rows)}.png,{caption},{split}")
    (source / "captions.csv").write_text("\n".join(rows), encoding="utf-8")
    prepare("pairs", source, folder / "prepared")
    return folder / "prepared" / "pairs"


def train(run: Path, data: Path, steps: int, *changes: str) -> Path:
    config = settings("tiny", [*SMALL, *changes], [data])
    config = replace(config, epochs=(steps + 0.5) * config.batch / config.epoch)
    assert config.steps == steps
    pretrain(config, run, [data], quiet=True)
    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return squares(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def short(data, tmp_path_factory) -> Path:
    """A run of 50 steps."""
    return train(tmp_path_factory.mktemp("short") / "run", data, 50)


def test_after_50_steps_nothing_is_learnt(short, data):
    diagnosis = examine(short, [data])
    assert "nothing is learnt that holds for unseen pairs" in kinds(diagnosis)
    assert "memorised" not in str(diagnosis), "training pairs aren't found, either"
    assert "unknown words" not in kinds(diagnosis)
    assert len(diagnosis.notes) == 4


@pytest.mark.slow
def test_of_shuffled_captions_it_says_so(tmp_path):
    data = squares(tmp_path, shuffled=True)
    diagnosis = examine(train(tmp_path / "run", data, 1000), [data])
    line, = [line for line in diagnosis.findings if line.startswith("nothing is learnt")]
    # told apart from a run that has learnt nothing at all
    assert "memorised" in line and "shuffled" in line


def test_the_command_tells_of_the_shipped_model_and_of_one_before_pretraining(
        monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["minalbef", "doctor", "tiny"])
    main()
    text = capsys.readouterr().out
    assert "Nothing is wrong that can be seen" in text and "1,900 steps" in text
    start = str(checkpoint.run_folder("tiny") / "start")
    monkeypatch.setattr(sys, "argv", ["minalbef", "doctor", start, "--number", "100"])
    main()
    text = capsys.readouterr().out
    for words in ("nothing is learnt", "ITC has collapsed", "has no metrics.csv"):
        assert words in text
