"""`minalbef doctor`: each finding alone, and what it says of runs of 50 and 1,000 steps, and of shuffled captions."""
import math
import random
import re
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minalbef import checkpoint
from minalbef.cli.main import main
from minalbef.config import Config
from minalbef.datasets.prepare import prepare
from minalbef.presets import preset
from minalbef.recipes import doctor, evidence
from minalbef.recipes.evidence import Evidence, Images, Search, Words, read_evidence
from minalbef.recipes.pretrain import pretrain, settings
from minalbef.recipes.report import GUESSING
from minalbef.recipes.vocabulary import Cut
from minalbef.tokenizer import Tokenizer
from runs import change_settings

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (30, 60, 220), "white": (250, 250, 250),
           "black": (10, 10, 10), "yellow": (240, 220, 40), "pink": (250, 150, 190), "brown": (120, 70, 30)}
SMALL = ["image_size=16", "image_width=32", "image_depth=1", "image_heads=2", "text_width=32", "text_depth=1",
         "text_heads=2", "fusion_depth=1", "embed_dim=16", "batch=16", "queue_size=64", "crop=1", "warmup_steps=20",
         "hard_from=0.5", "device=cpu"]


# each finding alone

def log(steps: int = 2000, **losses: tuple[float, float]) -> list[dict[str, float]]:
    """A row every ten steps; losses fall by half in each fifth of the run, from their first to their second value."""
    rows = []
    for step in range(10, steps + 1, 10):
        left = 2 ** (-5 * step / steps) if step < steps else 0
        rows.append({"step": step, "samples": 64.0 * step, "seconds": 1.0, "lr": 1e-3, "alpha": 0.0,
                     "samples_per_second": 9.0, **{name: b + (a - b) * left for name, (a, b) in losses.items()}})
    return rows


def healthy(**changes) -> Evidence:
    """A run in which all is well."""
    found = Search(texts=100, images=100, firsts=60, favourite=0.05, place=5.0, recall=0.9, k=10)
    values = dict(
        folder=Path("runs/own"), task="pretrain", config=preset("tiny", upright=True), step=None, temperature=0.03,
        log=log(itc=(7.0, 1.0), itm=(0.7, 0.2), mlm=(5.8, 0.6)),
        validation=[{"step": s, "loss_itc": x, "loss_itm": 0.3, "loss_mlm": 1.0, "loss": 1.3 + x}
                    for s, x in ((500, 3.0), (1000, 2.0), (2000, 1.5))],
        words=Words(100, 1000, Counter(), 4.0), images=Images(100, (), (), ()), seen=found, unseen=found)
    return Evidence(**values | changes)


def said(e: Evidence) -> list[str]:
    """The functions that find something."""
    return [finding.__name__ for finding in doctor.FINDINGS if finding(e)]


def test_a_healthy_run_has_no_findings_and_is_told_what_was_looked_at():
    text = doctor.describe(healthy(missing={"the moon": "clouds"}))
    assert said(healthy()) == [] and "Nothing is wrong that can be seen" in text
    for words in ("200 rows up to step 2,000", "3 rows", "100 training captions", "100 training images",
                  "among training pairs", "among validation pairs", "Not looked at:\n- the moon: clouds"):
        assert words in text


@pytest.mark.parametrize("finding, wrong, words", [
    ("too_few_steps", dict(config=preset("tiny", epoch=64 * 999)), "999 teach hardly anything; epochs=2 makes"),
    ("still_falling", dict(log=log(itc=(60.0, -2.0), itm=(0.7, 0.2))), "in the last tenth of the run"),
    ("itc_guesses", dict(log=log(itc=(7.2, 6.9), itm=(0.7, 0.2))), "ln of the 320 keys is 5.77"),
    ("itm_guesses", dict(log=log(itc=(7.0, 1.0), itm=(0.7, 0.631))), "its loss ended at 0.63"),
    ("only_word_frequencies", dict(words=Words(100, 1000, Counter(), 0.6)), "their entropy is 0.60"),
    ("temperature_at_floor", dict(temperature=0.02), "0.0200, and temperature_min is 0.02"),
    ("overfits", dict(validation=[dict(step=s, loss_itc=x, loss=x) for s, x in ((500, 2.0), (1000, 3.0), (2000, 4.0))]),
     "after step 500 the validation loss rose from 2.00 to 4.00"),
    ("nothing_beyond_chance", dict(unseen=Search(100, 100, 60, 0.05, 49.0, 0.1, 10)), "memorised"),
    ("itc_collapsed", dict(unseen=Search(100, 100, 20, 0.4, 5.0, 0.9, 10)), "find only 20 different images first, of"),
    ("unknown_words", dict(words=Words(100, 1000, Counter({"привет": 2}), 4.0)), "0.2% .* such as 'привет'"),
    ("cut_captions", dict(words=Words(100, 1000, Counter(), 4.0, Cut(0.25, 0.1))), "25.0% .* 10.0% of their words"),
    ("transparent_images", dict(images=Images(100, ("a", "b", "c"), (), ()), config=preset("tiny", upright=False)),
     "3 of 100, such as 'a', 'b', 'c'"),
    ("blank_images", dict(images=Images(100, ("b",), ("a", "b", "c"), ())), "3 of 100 .* 1 of them transparent"),
    ("tiny_images", dict(images=Images(100, (), (), ("a", "b", "c"))), "half of image_size=48")])
def test_each_finding_is_found_alone_with_its_evidence_and_a_way_out(finding, wrong, words):
    e = healthy(**wrong)
    assert said(e) == [finding]
    line = getattr(doctor, finding)(e)
    assert re.search(words, line) and ";" in line, line
    assert f"1. {line}\n" in doctor.describe(e) and "Nothing is wrong" not in doctor.describe(e)


def test_every_finding_has_its_case_above():
    cases = test_each_finding_is_found_alone_with_its_evidence_and_a_way_out.pytestmark[0].args[1]
    assert [case[0] for case in cases] == [finding.__name__ for finding in doctor.FINDINGS]


def test_of_what_was_not_read_nothing_is_said():
    nothing = Evidence(Path("runs/own"), "vqa", preset("tiny"), None)
    assert said(nothing) == []
    assert said(healthy(log=[], validation=[], words=None, images=None, seen=None, unseen=None)) == []


@pytest.mark.parametrize("wrong", [
    dict(images=Images(100, ("a", "b", "c"), (), ())),                   # over white, as own sets are opened
    dict(images=Images(100, (), ("a", "b"), ("a", "b"))),                # two of a hundred
    dict(words=Words(100, 1000, Counter({"x": 1}), 4.0)),                # one of a thousand
    dict(log=log(itc=(60.0, -2.0)), step=1500),                          # in training, all is falling
    dict(validation=[dict(step=s, loss_itc=x, loss=x) for s, x in ((500, 2.0), (1000, 2.05), (2000, 2.04))]),
    dict(unseen=Search(100, 100, 60, 0.05, 43.0, 0.1, 10)),              # better than chance, if not by much
    dict(unseen=Search(3, 100, 1, 1.0, 5.0, 0.9, 10))])                  # three captions can't find more
def test_what_is_usual_or_too_little_to_tell_is_no_finding(wrong):
    assert "Nothing is wrong" in doctor.describe(healthy(**wrong)) or said(healthy(**wrong)) == ["itc_collapsed"]
    if wrong.get("unseen", healthy().unseen).texts > 3:
        assert said(healthy(**wrong)) == []


def test_a_run_that_finds_no_pairs_at_all_is_not_said_to_have_memorised_any():
    chance = Search(100, 100, 60, 0.05, 50.5, 0.1, 10)
    line = doctor.nothing_beyond_chance(healthy(seen=chance, unseen=chance))
    assert "aren't found either" in line and "memorised" not in line


# what is measured

def test_places_recalls_and_first_answers_are_those_counted_by_hand():
    sim = torch.tensor([[.9, .1, .1, .2], [.8, .7, .1, .2], [.5, .5, .5, .5], [.9, .1, .1, .2]])
    found = evidence.places(sim, torch.tensor([0, 1, 2, 3]), ["a", "b", "c", "a"])
    assert found.place == pytest.approx((1 + 2 + 2.5 + 2) / 4), "ties count half"
    assert (found.texts, found.images, found.firsts, found.favourite) == (3, 4, 1, 1.0), "equal captions count once"
    assert (found.k, found.recall) == (1, (1 + 0 + 0.25 + 0) / 4), "ties are in random order"


def test_by_chance_the_mean_place_is_chance_and_is_called_so():
    def places(sim):
        return evidence.places(sim, torch.arange(50), [str(i) for i in range(50)])
    generator = torch.Generator().manual_seed(0)
    called = 0
    for _ in range(200):
        sim = torch.rand(50, 50, generator=generator)
        called += doctor.at_chance(places(sim))
    assert called >= 195
    good = torch.rand(50, 50, generator=generator) + 0.4 * torch.eye(50)
    assert not doctor.at_chance(places(good))


def test_the_entropy_is_mlms_loss_of_guessing_by_frequency():
    texts = ["red red red blue"] * 50
    tokenizer = Tokenizer.train(texts, 64)
    words = evidence.read_words([*texts, "ξ"], tokenizer, Config(mask_power=0.0))
    assert words.entropy == pytest.approx(-(.75 * math.log(.75) + .25 * math.log(.25)), abs=1e-4)
    assert (words.captions, words.total, words.unknown) == (51, 201, Counter({"ξ": 1}))
    even = evidence.read_words(texts, tokenizer, Config(mask_power=1.0))
    assert even.entropy == pytest.approx(math.log(2), abs=1e-4), "a mask that evens frequencies out"


def test_transparent_blank_and_tiny_images_are_counted_once_each(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    noise.save(tmp_path / "fine.png")
    noise.resize((7, 40)).save(tmp_path / "tiny.png")
    Image.new("RGBA", (40, 40), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    records = [evidence.Record(tmp_path / name, "a", i) for i, name in
               enumerate(("fine.png", "tiny.png", "clear.png", "fine.png"))]
    found = evidence.inspect_images(records, preset("tiny", image_size=16))
    assert found == Images(3, ("clear.png",), ("clear.png",), ("tiny.png",))


# runs

def squares(folder: Path, copies: int = 3, shuffled: bool = False) -> Path:
    """A prepared set: a square of a colour somewhere on another; so many images of each to train, one to validate."""
    rows = ["file,caption,split"]
    source = folder / "images"
    source.mkdir(parents=True)
    generator = np.random.default_rng(0)
    pairs = [(a, b) for a in COLOURS for b in COLOURS if a != b]
    for split, part in (("train", pairs * copies), ("validation", pairs)):
        captions = [f"a {a} square on {b}" for a, b in part]
        if shuffled:
            random.Random(0).shuffle(captions)
        for (a, b), caption in zip(part, captions):
            pixels = np.full((20, 20, 3), COLOURS[b])
            y, x = generator.integers(0, 10, 2)
            pixels[y:y + 10, x:x + 10] = COLOURS[a]
            pixels = (pixels + generator.integers(-15, 16, pixels.shape)).clip(0, 255).astype(np.uint8)
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


def test_50_steps_are_too_few_and_nothing_is_learnt(short, data):
    e = read_evidence(short, [data])
    assert {"too_few_steps", "itm_guesses", "only_word_frequencies", "nothing_beyond_chance"} <= {*said(e)}
    assert not {"overfits", "temperature_at_floor", "unknown_words", "blank_images", "tiny_images"} & {*said(e)}
    assert "training pairs aren't found either" in doctor.nothing_beyond_chance(e), "nothing is memorised, either"
    assert (e.words.captions, e.images.opened, e.unseen.images, len(e.log), e.missing) == (168, 168, 56, 5, {})


@pytest.mark.slow
def test_1000_steps_are_well(data, tmp_path):
    e = read_evidence(train(tmp_path / "run", data, 1000), [data])
    assert said(e) == [], doctor.describe(e)
    assert e.unseen.recall > 0.8 and len(e.validation) > 5


@pytest.mark.slow
def test_of_shuffled_captions_it_says_so(tmp_path):
    data = squares(tmp_path, shuffled=True)
    e = read_evidence(train(tmp_path / "run", data, 1000), [data])
    assert {"nothing_beyond_chance", "itm_guesses"} <= {*said(e)} and "too_few_steps" not in said(e)
    line = doctor.nothing_beyond_chance(e)
    assert "memorised" in line and "shuffled" in line, "told apart from a run that has learnt nothing at all"


@pytest.mark.slow
def test_few_pairs_without_end_are_overfitted(tmp_path):
    data = squares(tmp_path, copies=1)
    e = read_evidence(train(tmp_path / "run", data, 1000, "share=0.3", "dropout=0"), [data])
    assert "overfits" in said(e), doctor.describe(e)


def test_the_set_is_found_in_prepared_by_its_records_alone(short, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    e = read_evidence(short)
    assert e.words is None and "name its set with --data" in e.missing["captions, images and a search"]
    shutil.copytree(data, tmp_path / "prepared" / "under another name")
    damaged = tmp_path / "prepared" / "another"
    damaged.mkdir()
    (damaged / "about.json").write_text("{")
    e = read_evidence(short)
    assert e.images.opened == 168 and e.unseen.images == 56 and not e.missing


def test_another_set_is_named_as_such(short, tmp_path):
    e = read_evidence(short, [squares(tmp_path, copies=1)])
    assert "isn't what it was trained on" in e.missing["its own training pairs"]


def test_a_damaged_log_is_named(short, tmp_path):
    run = shutil.copytree(short, tmp_path / "run")
    text = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(text.replace("\n20,", "\n20,x", 1))
    with pytest.raises(ValueError, match="metrics.csv is damaged .*; copy it again"):
        read_evidence(run)


def test_a_fine_tuned_run_is_read_as_far_as_its_task_goes(short, data, tmp_path):
    run = shutil.copytree(short, tmp_path / "run")
    change_settings(run, task="vqa")
    e = read_evidence(run, [data])
    assert e.log and e.words is None and "a run of vqa" in e.missing["captions, images and a search"]
    assert "50 steps" in doctor.describe(e)


def test_the_command_tells_of_the_shipped_model_and_of_one_before_pretraining(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["minalbef", "doctor", "tiny"])
    main()
    shown = capsys.readouterr().out
    for words in ("Nothing is wrong that can be seen", "1,900 steps", "entropy of masked words"):
        assert words in shown
    start = str(checkpoint.run_folder("tiny") / "start")
    monkeypatch.setattr(sys, "argv", ["minalbef", "doctor", start, "--number", "100"])
    main()
    shown = capsys.readouterr().out
    assert "nothing is learnt" in shown and "ITC has collapsed" in shown and "has no metrics.csv" in shown


def test_pretraining_on_a_set_ends_by_naming_the_command(data, tmp_path, monkeypatch, capsys):
    words = ["minalbef", "--quiet", "pretrain", *SMALL, "warmup_steps=1", "epochs=0.2", "warm_steps=0",
             "--run", str(tmp_path / "run"), "--data", str(data)]
    monkeypatch.setattr(sys, "argv", words)
    main()
    assert f"minalbef doctor {tmp_path / 'run'} --data {data}" in capsys.readouterr().out


def test_a_run_in_training_is_said_to_be_one(short, data, tmp_path):
    run = shutil.copytree(short, tmp_path / "run")
    (run / "model.safetensors").unlink()
    e = read_evidence(run, [data])
    assert e.step == 50 and "training hasn't ended" in doctor.describe(e)


def test_the_level_of_guessing_is_forecasts():
    e = healthy(log=log(itm=(0.7, GUESSING - 0.02)))
    assert doctor.itm_guesses(e) is None and doctor.itm_guesses(healthy(log=log(itm=(0.7, GUESSING - 0.005))))
