"""The card of the shipped models: written from their reports, with the figures of their seed."""

import importlib.util
import re
from pathlib import Path

import pytest

from minalbef import load
from minalbef.recipes import report
from minalbef.scenes import evaluation, questions

DATA = Path(__file__).parents[2] / "data"


@pytest.mark.parametrize("name", ["tiny", "tiny-paper"])
def test_a_card_is_what_its_script_writes_with_the_figures_of_its_command(name):
    spec = importlib.util.spec_from_file_location("ship_checkpoint", DATA / "ship_checkpoint.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    card = (DATA / name / "README.md").read_text(encoding="utf-8")
    recorded = report.read_report(DATA / name)
    run = load(DATA / name)
    run.path = Path("data", name)
    assert script.card(recorded, str(run), name) == card

    # ITC's accuracy on the 500 minimal pairs about relations
    seed = int(re.search(rf"`minalbef evaluate {name} --seed (\d+)`", card)[1])
    source = questions.scenes(run, "test", seed, counts=(0.2, 0.4, 0.4))
    changes = [source.one_change(i, "relation") for i in range(500)]
    pairs = {"relation": [(example.scene, example.text, foil) for example, _, foil in changes]}
    accuracy = evaluation.one_change(run, pairs)["itc"]["relation"].mean().item()
    stated = recorded["itc_one_change_accuracy"]["relation"]
    assert accuracy == pytest.approx(stated, abs=1e-5)
