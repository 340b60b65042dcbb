"""Choices among captions: Winoground's scores and accuracy by hand; sets and minimal pairs."""
import json
import sys
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from emojiscenes.grammar import KINDS
from helpers import disturb
from minalbef.albef import ALBEF
from minalbef.cli.main import main
from minalbef.datasets.prepare import prepare
from minalbef.evaluation import choices
from minalbef.evaluation.choices import (
    ChoiceRecord,
    accuracy,
    evaluate_choices,
    table,
    winoground_scores,
)
from minalbef.evaluation.loop import How
from minalbef.recipes.evaluate import evaluate
from minalbef.scenes import questions
from minalbef.scenes.records import minimal_pairs
from minalbef.system import checkpoint
from minalbef.tasks.run import Run
from miniature_sets import write
from untrained import untrained

QUIET = How(batch=3, quiet=True)


@pytest.fixture(scope="module")
def run() -> Run:
    """A model with opinions, made up, so that scores differ from each other."""
    blank = untrained()
    torch.manual_seed(1)
    return replace(blank, model=disturb(ALBEF(blank.config), 0.2).eval())


def noise(seed: int, width: int = 12, height: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# scores


# rows are pictures; the right ones are on the diagonal
@pytest.mark.parametrize("scores, expected", [
    ([[4, 1], [2, 3]], (1, 1, 1)),
    ([[4, 1], [3, 2]], (0, 1, 0)),                   # both pictures prefer caption 0
    ([[4, 3], [1, 2]], (1, 0, 0)),                   # both captions prefer picture 0
    ([[1, 2], [2, 1]], (0, 0, 0)),
    ([[2, 2], [1, 3]], (0, 1, 0)),                   # picture 0 has no preference
    ([[2, 1], [2, 3]], (1, 0, 0)),                   # caption 0 has none
    ([[1, 1], [1, 1]], (0, 0, 0))])
def test_winogrounds_scores_by_hand(scores, expected):
    assert tuple(winoground_scores(torch.tensor(scores, dtype=torch.float)).tolist()) == expected


def test_accuracy_by_hand():
    texts = ("a", "b", "c", "d")
    for scores, right in (([4., 1, 2, 3], 1), ([1., 2, 0, 0], 0), ([2., 2, 1, 0], 1 / 2),
                          ([1., 1, 1, 1], 1 / 4)):
        assert accuracy(torch.tensor([scores]), texts).tolist() == pytest.approx([right])
    assert accuracy(torch.tensor([[1., 2, 0]]),
                    ("a", "a", "b")).tolist() == [1], "a foil like the caption is no foil"


# sets


def test_figures_are_those_of_scores_by_hand(run, monkeypatch):
    """Two records of one picture each, of kinds x and y; and one of y whose second foil repeats
    the caption.
    """
    records = [ChoiceRecord((noise(0),), ("an apple", "a cat"), 7, "x"),
               ChoiceRecord((noise(1),), ("an apple", "a cat"), 8, "y"),
               ChoiceRecord((noise(1),), ("an apple", "a cat", "an apple", "a dog", "a fox"),
                            8, "y")]
    itc = ([2, 1], [2, 1], [1, 2, 1, 1, 1])
    itm = ([1, 2], [3, 1], [3, 1, 1, 1, 1])
    grey = [[1, 0], [0, 1], [0, 0, 0, 0, 0]]
    def by_way(run, batch, weight):
        rows = zip(itc, itm, grey)
        return [torch.tensor([[a], [b], [b], [g], [g], [g]], dtype=torch.float)
                for a, b, g in rows]
    monkeypatch.setattr(choices, "by_way", by_way)
    samples, more = evaluate_choices(run, records, QUIET)
    alone = samples.pop("baselines")["text_alone"]
    means = {}
    for name, ways in samples.items():
        means[name] = {way: value.mean().item() for way, value in ways.items()}
    assert means == {"accuracy": dict.fromkeys(("itc", "itm", "both"), pytest.approx(2 / 3)),
                     "accuracy x": {"itc": 1, "itm": 0, "both": 0},
                     "accuracy y": {"itc": 0.5, "itm": 1, "both": 1}}
    assert {name: ways["itm"].mean().item() for name, ways in alone.items()} == {
        "accuracy": pytest.approx((1 + 0 + 2 / 5) / 3), "accuracy x": 1,
        "accuracy y": pytest.approx(0.2)}
    chance = {"accuracy": (0.5 + 0.5 + 2 / 5) / 3, "accuracy x": 0.5,
              "accuracy y": (0.5 + 2 / 5) / 2}
    assert more == {"chance": pytest.approx(chance), "weight": How.weight}
    assert len(samples["accuracy"]["itm"]) == 2, "captions of one picture are a cluster"


def test_a_box_is_cut_from_the_pixels_as_stored_where_the_sets_boxes_were_drawn(
        run, tmp_path):
    """ARO's boxes are those of Visual Genome, which knows no EXIF."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6                          # a quarter turn
    Image.fromarray(noise(0)).save(tmp_path / "turned.png", exif=exif)
    images = []
    for image in (tmp_path / "turned.png", noise(0)):
        record = ChoiceRecord((image,), ("a cat", "an apple"), 0, box=(2, 1, 8, 6))
        images.append(choices.collate([record], run.tokenizer, 16, 9).image)
    assert images[0].equal(images[1])


def saved(run: Run, folder, task: str = "pretrain"):
    checkpoint.save(folder, run.model, run.tokenizer, None, task)
    return folder


@pytest.fixture
def prepared(tmp_path):
    """SugarCrepe in miniature: two kinds, prepared twice, so that its files have other names."""
    for i in (1, 2):
        path = tmp_path / "in" / "val2017" / f"{i:012d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(i)).save(path)
    for kind in ("add_att", "swap_obj"):
        write(tmp_path / "in" / f"{kind}.json", {str(i): {
            "filename": f"{i:012d}.jpg", "caption": f"{i} cats left of an apple",
            "negative_caption": f"{i} apples left of a cat"} for i in (1, 2)})
    for _ in range(2):
        prepare("sugarcrepe", tmp_path / "in", tmp_path / "prepared")
    return tmp_path / "prepared" / "sugarcrepe"


def test_a_set_is_evaluated_from_the_command_line(
        run, prepared, tmp_path, monkeypatch, capsys):
    folder = saved(run, tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["minalbef", "evaluate", str(folder), "--data",
                                      str(prepared), "--batch", "3"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("choice on sugarcrepe/test, the pretrained model as it is")
    report = json.loads((folder / "sugarcrepe-test" / "report.json").read_text())
    assert lines == table(report).splitlines()
    assert report["task"] == "choice" and report["weight"] == How.weight
    names = [line.split(" | ")[0] for line in lines[4:]]
    assert names == ["| accuracy", "| accuracy add att", "| accuracy swap obj"]
    value = report["test"]["accuracy"]["itm"]
    low, high = report["intervals"]["test"]["accuracy"]["itm"]
    alone = report["baselines"]["text_alone"]["accuracy"]
    cells = lines[4].strip("| ").split(" | ")
    assert cells[2] == f"{value:.2f} ({low:.2f} to {high:.2f})"
    assert cells[4] == "0.50"
    assert cells[6] == "2"
    assert cells[5] == f"{alone['itc']:.2f} / {alone['itm']:.2f} / {alone['both']:.2f}"


# our minimal pairs


def test_a_report_of_minimal_pairs_agrees_with_the_run(run, tmp_path):
    folder = saved(run, tmp_path / "run")
    report = evaluate(folder, pairs=True, size=0.02, seed=4)
    assert json.loads((folder / "minimal-pairs-test" / "report.json").read_text()) == report
    assert report["counts"]["test"]["text relation"]["itm"] == 10
    assert report["chance"]["group place"] == 0.16667
    names = ("text", "image", "group")
    assert [*report["test"]] == [*names,
                                 *(f"{name} {kind}" for kind in KINDS for name in names)]
    pairs = minimal_pairs(questions.scenes(run, "test", 4, counts=(0.2, 0.4, 0.4)), 10)
    trios = chain.from_iterable(questions.foils(run, "test", 4, 10).values())
    scores = []
    for pair, trio in zip(pairs, trios, strict=True):
        assert pair.texts == trio[1:]
        odds = run.match_probability([*pair.images], pair.texts)
        scores.append(winoground_scores(odds))
    for name, score in zip(names, torch.stack(scores).mean(0)):
        assert report["test"][name]["itm"] == pytest.approx(score.item(), abs=1e-4)
