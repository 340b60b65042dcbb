"""Checkpoints of a run are those that the circuit's report names; chapter 17 has its heads."""
import json
from functools import partial
from pathlib import Path

import pytest

import checkpoints
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
    with pytest.raises(ValueError, match="began from something else .argument steps: "):
        make(number=4)


def test_the_stored_hashes_end_in_the_shipped_model():
    hashes = read(checkpoints.PATH)["tiny-4"][0]["hashes"]
    assert hashes["step_1900"] == digest(ROOT / "data" / "tiny")
