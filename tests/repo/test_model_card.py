"""The card of the shipped model: written from its report, and its figures are those of the seed that it names."""

import importlib.util
import json
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
    drawn = [source.one_change(i, "relation") for i in range(500)]
    pairs = {"relation": [(shown.scene, shown.text, foil) for shown, _, foil in drawn]}
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


@pytest.mark.parametrize("name", SHIPPED)
def test_the_answers_to_the_stress_test_are_those_of_the_card_and_its_threshold(name):
    facts = report.read_report(DATA / name)
    run = load(DATA / name)
    for kind in ("negation", "half_truth"):
        part = questions.contrasts(run, "test", facts["scenes_seed"], 200, [kind])[kind]
        found = evaluation.contrast_values(run, facts["itm_threshold"], part)
        for name, values in found.items():
            stated = facts["stress"][name][kind]
            assert values.mean().item() == pytest.approx(stated, abs=0.011), (name, kind)
            assert facts["counts"]["stress"][name][kind] == len(values) == 200


def test_added_figures_move_no_other_and_say_how_they_were_measured():
    about = {
        "command": "minalbef evaluate tiny --seed 5",
        "commit": "b",
        "date": "later",
        "device": "another",
    }
    shipped = {
        "command": "train",
        "commit": "a",
        "exam_seed": 5,
        "pointing_itm": 0.8,
        "intervals": {"pointing_itm": [0.7, 0.9]},
        "counts": {"pointing_itm": 40},
    }
    newer = {
        **about,
        "scenes_seed": 5,
        "pointing_itm": 0.9,
        "stress": {"half_truth": 0.5},
        "intervals": {"pointing_itm": [0.8, 1.0], "stress": {"half_truth": [0.4, 0.6]}},
        "counts": {"pointing_itm": 50, "stress": {"half_truth": 4}},
    }
    add_figures = load_script().add_figures
    found = add_figures(shipped, newer, "tiny")
    assert found == {
        **shipped,
        "stress": {"half_truth": 0.5},
        "added": {"stress": about},
        "intervals": {"pointing_itm": [0.7, 0.9], "stress": {"half_truth": [0.4, 0.6]}},
        "counts": {"pointing_itm": 40, "stress": {"half_truth": 4}},
    }
    assert add_figures(found, {**newer, "stress": {"half_truth": 0.6}}, "tiny") == found
    with pytest.raises(ValueError, match="has seed 6, not 5: `minalbef evaluate tiny --seed 5`"):
        add_figures(shipped, {**newer, "scenes_seed": 6}, "tiny")


def test_the_seed_that_ships_is_the_middle_one_by_itm_in_families(tmp_path):
    for seed, (image_to_text, text_to_image) in enumerate([(0.9, 0.9), (0.7, 0.95), (0.8, 0.91)]):
        (tmp_path / f"seed{seed}").mkdir()
        families = {"rerank_i2t_r1": image_to_text, "rerank_t2i_r1": text_to_image}
        figures = {"schema": report.SCHEMA, "families": families}
        (tmp_path / f"seed{seed}" / "report.json").write_text(json.dumps(figures))
    script = load_script()
    assert script.middle(tmp_path) == tmp_path / "seed2"
    (tmp_path / "seed2" / "report.json").unlink()
    with pytest.raises(ValueError, match="has 2 evaluated seeds: an odd number has a middle"):
        script.middle(tmp_path)
