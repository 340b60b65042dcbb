"""The card of the shipped model: written from its report, with the figures of its seed."""

import importlib.util
import re
from pathlib import Path

import pytest

from minalbef import load
from minalbef.recipes import report
from minalbef.scenes import evaluation, questions

DATA = Path(__file__).parents[2] / "data"
SHIPPED = ("tiny", "tiny-paper")


def card_of(name: str) -> str:
    return (DATA / name / "README.md").read_text(encoding="utf-8")


def load_script():
    spec = importlib.util.spec_from_file_location("ship_checkpoint", DATA / "ship_checkpoint.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def write_card(name: str) -> str:
    run = load(DATA / name)
    run.path = Path("data", name)
    return load_script().card(report.read_report(DATA / name), str(run), name)


def relation_by_similarity(name: str, seed: int) -> float:
    """ITC's accuracy on the 500 minimal pairs about relations of an evaluation with this seed."""
    run = load(DATA / name)
    source = questions.scenes(run, "test", seed, counts=(0.2, 0.4, 0.4))
    changes = [source.one_change(i, "relation") for i in range(500)]
    pairs = {"relation": [(example.scene, example.text, foil) for example, _, foil in changes]}
    return evaluation.one_change(run, pairs)["itc"]["relation"].mean().item()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_is_what_its_script_writes(name):
    assert write_card(name) == card_of(name)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_figures_are_those_of_the_command_that_the_card_names(name):
    """An evaluation with the default seed draws other scenes, and has other figures."""
    seed = int(re.search(rf"`minalbef evaluate {name} --seed (\d+)`", card_of(name))[1])
    stated = report.read_report(DATA / name)["itc_one_change_accuracy"]["relation"]
    assert relation_by_similarity(name, seed) == pytest.approx(stated, abs=1e-5)
    if name == "tiny":  # the other is at chance in all scenes
        assert relation_by_similarity(name, 0) != pytest.approx(stated, abs=1e-2)
