"""The circuit of "left of": what is switched off, moved and corrected, and verdicts by hand."""
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import checkpoints
import circuit
import circuit_failures
import circuit_training
from emojiscenes.language import holds
from minalbef import load
from minalbef.presets import preset
from minalbef.recipes import pretrain as recipe
from minalbef.system import checkpoint

ROOT = Path(__file__).parents[2]
SHORT = dict(epoch=64 * 4, warm_steps=2)


def digest(folder: Path) -> str:
    return checkpoint.digest_of(checkpoint.read_run(folder)[3])


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


# heads and directions

def test_a_pass_with_heads_own_outputs_is_the_same_and_with_another_scenes_it_is_not():
    run = load("tiny")
    questions = circuit.Questions(run, circuit.draw(run, "relation", 1, 6, sideways=True))
    odds = questions.odds(0)
    outputs = circuit.outputs_of(questions, 0)
    heads = circuit.heads_of(run)
    assert len(heads) == len(outputs) == len(set(map(str, heads))) == 12
    with circuit.replace_outputs(run, heads, outputs):
        assert torch.allclose(questions.odds(0), odds, atol=1e-5)
    with circuit.replace_outputs(run, heads, circuit.outputs_of(questions, 1)):
        assert not torch.allclose(questions.odds(0), odds, atol=0.1)
    assert torch.equal(questions.odds(0), odds), "hooks are gone"


# failures


@pytest.fixture(scope="module")
def questions() -> circuit.Questions:
    run = load("tiny")
    pairs = []
    for title in circuit_failures.SETS:
        for true, false in circuit_failures.draw_set(run, title, 1, 6):
            pairs.append((replace(true, id=len(pairs)), replace(false, id=len(pairs))))
    return circuit.Questions(run, pairs)


def test_captions_are_true_of_one_scene_and_false_of_the_other(questions):
    for true, false in questions.pairs:
        assert holds(true.form, true.scene) is True
        assert holds(true.form, false.scene) is False
        first, second = true.form.a.name, true.form.b.name
        assert f"{first} {true.form.kind} of" in true.text
        assert true.text.endswith(second)
        both = circuit_failures.name_both((true, false))[0].text
        assert first in both and second in both
        assert " of " not in both


# through training

def figures(step: int, objects: float, relations: float, itc: float, place: float, moved: float,
            cost: float) -> dict:
    """A checkpoint's."""
    way = {"explained": place, "moved": moved, "control": 0.0}
    return {
        "step": step, "object": objects, "relation": relations, "relation_by_itc": itc,
        "head": "one", "cost": cost, "directions": {"place": way, "fits": way},
    }


def test_the_registered_claims_are_judged_by_the_first_checkpoints():
    run = [
        figures(0, 0.5, 0.5, 0.5, 0.0, 0.6, 0.0),
        figures(190, 0.9, 0.5, 0.5, 0.4, 0.9, 0.3),
        figures(380, 0.9, 0.8, 0.5, 0.6, 0.6, 0.2),
        figures(570, 0.9, 0.9, 0.8, 0.8, 0.7, 0.05),
    ]
    assert circuit_training.firsts(run) == {
        "objects": 190, "place": 190, "relations": 380, "relations_by_itc": 570}
    assert all(circuit_training.verdicts(run).values())
    relations_first = [
        figures(0, 0.5, 0.5, 0.5, 0.0, 0.6, 0.0),
        figures(190, 0.5, 0.8, 0.8, 0.4, 0.4, 0.0),
        figures(380, 0.9, 0.9, 0.9, 0.6, 0.6, 0.2),
    ]
    assert circuit_training.firsts(relations_first)["objects"] == 380
    assert not any(circuit_training.verdicts(relations_first).values())


# weights through training

def test_a_run_with_checkpoints_is_an_ordinary_run_and_its_hashes_are_compared(
        tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "RECIPES", {"tiny": SHORT})
    monkeypatch.setattr(recipe, "CAPTIONS", 300)
    out = tmp_path / "hashes.json"
    make = partial(checkpoints.main, ("tiny",), seed=(3,), number=2, folder=tmp_path, out=out)
    make()
    folder = tmp_path / "tiny-3"
    recipe.pretrain(preset("tiny", **SHORT, seed=3), tmp_path / "ordinary", quiet=True)
    hashes = read(out)["tiny-3"][0]["hashes"]
    assert list(hashes) == ["start", "step_0002", "step_0004"]
    assert hashes["start"] == digest(tmp_path / "ordinary" / "start")
    assert hashes["step_0004"] == digest(tmp_path / "ordinary") == digest(folder)
    assert load(folder / "step_0002").config == load(folder).config

    make()
    assert "3 of 3 hashes are in checkpoints.json, all are the same" in capsys.readouterr().out
    wrong = read(out)
    wrong["tiny-3"][0]["hashes"]["step_0002"] = "0"
    out.write_text(json.dumps(wrong), encoding="utf-8")
    make()
    assert "in checkpoints.json, and step_0002 and 0 more differ" in capsys.readouterr().out
    assert read(out) == wrong, "nothing is written over"
    monkeypatch.setattr(checkpoints, "describe_device", lambda: "another processor")
    make()
    assert "step_0002 and 0 more differ" in capsys.readouterr().out, "another's are compared, too"
    assert [run["device"] for run in read(out)["tiny-3"]][1:] == ["another processor"]
    with pytest.raises(ValueError, match="began from something else .argument steps: "):
        make(number=4)


def test_the_stored_hashes_end_in_the_shipped_model():
    hashes = read(checkpoints.PATH)["tiny-4"][0]["hashes"]
    assert hashes["step_1900"] == digest(ROOT / "data" / "tiny")
