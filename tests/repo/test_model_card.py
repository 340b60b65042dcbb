"""The card of the shipped model: written from its report, and its figures are those of the seed that it names."""
import importlib.util
import re
from pathlib import Path

import pytest

from minalbef import load
from minalbef.recipes import report
from minalbef.scenes import evaluation, questions

DATA = Path(__file__).parents[2] / "data"
CARD = (DATA / "tiny" / "README.md").read_text(encoding="utf-8")


def write_card() -> str:
    spec = importlib.util.spec_from_file_location("ship_checkpoint", DATA / "ship_checkpoint.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    run = load(DATA / "tiny")
    run.path = Path("data/tiny")
    return script.card(report.read_report(DATA / "tiny"), run.summary())


def relation_by_similarity(seed: int) -> float:
    """ITC's accuracy on the 500 minimal pairs about relations of an evaluation with this seed."""
    run = load(DATA / "tiny")
    source = questions.scenes(run, "test", seed, counts=(0.2, 0.4, 0.4))
    drawn = [source.one_change(i, "relation") for i in range(500)]
    pairs = {"relation": [(shown.scene, shown.text, foil) for shown, _, foil in drawn]}
    return evaluation.one_change(run, pairs)["itc"]["relation"].mean().item()


def test_the_card_is_what_its_script_writes():
    assert write_card() == CARD


def test_the_figures_are_those_of_the_command_that_the_card_names():
    """An evaluation with the default seed draws other scenes, and has other figures."""
    seed = int(re.search(r"`minalbef evaluate tiny --seed (\d+)`", CARD)[1])
    stated = report.read_report(DATA / "tiny")["itc_one_change_accuracy"]["relation"]
    assert relation_by_similarity(seed) == pytest.approx(stated, abs=1e-5)
    assert relation_by_similarity(0) != pytest.approx(stated, abs=1e-2)
