"""The scripts of notebooks/experiments: mistakes on the command line, and what they compute."""
import importlib
import json
import sys
from pathlib import Path

import pytest

import clipart
import curve
from minalbef.cli.main import run_script

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "notebooks" / "experiments"
CURVES = sorted(RESULTS.glob("curve_*.json"))
SCRIPTS = []
for path in sorted(RESULTS.glob("*.py")):
    if "run_script(main)" in path.read_text(encoding="utf-8"):
        SCRIPTS.append(path.stem)


def call(monkeypatch, script: str, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *words])
    run_script(importlib.import_module(script).main)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_explains_itself(script, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, script, "--help")
    assert not stop.value.code
    assert "usage: " in capsys.readouterr().out


@pytest.mark.parametrize("words, message", [
    ("learn --seeds 0", "--seeds 0 must lie between 1 and 256"),
    ("learn objects=100000", "objects=100000 must lie between 0 and 223"),
    ("ablate --share nan", "--share nan must lie between"),
    ("ablate harf", "no row 'harf' (did you mean 'hard'?); there are the groups paper, noise"),
    ("effects", "runs/ablation.jsonl has no results; `python notebooks/experiments/ablate.py`"),
    ("tasks", "runs has no report of a task, such as runs/retrieval/report.json"),
])
def test_a_mistake_is_one_line_before_anything_is_written(
        words, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, *words.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1
    assert error.replace("\\", "/").startswith(f"minalbef: {message}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", CURVES, ids=lambda path: path.stem)
def test_a_curve_is_of_the_settings_that_its_command_has_today(path):
    recorded = json.loads(path.read_text(encoding="utf-8"))
    today = json.loads(json.dumps(curve.RUNS[path.stem[6:]].to_dict()))
    for name, value in recorded["config"].items():
        assert value == today[name], name
    assert recorded["rows"][-1]["samples"] == today["epochs"] * today["epoch"]


@pytest.mark.slow(minutes=1)
def test_clip_arts_two_starts_are_trained_measured_and_written(tmp_path):
    out = tmp_path / "clipart.json"
    clipart.main(("epochs=0.1",), seeds=1, run=tmp_path / "runs", out=out)
    recorded = json.loads(out.read_text(encoding="utf-8"))
    for (figures,) in recorded["seeds"].values():
        assert 0 < figures["test.itc_i2t_r10"] < 0.3
        assert 1 <= figures["words.firsts"] <= len(clipart.WORDS)
        assert figures["words.found"] <= figures["words.asked"]
        assert figures["itm"] > 0 and figures["seconds"] > 0
    assert len(clipart.table(recorded).splitlines()) == 2 + len(clipart.ROWS)
