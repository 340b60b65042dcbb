"""The scripts of notebooks/experiments: mistakes on the command line, and what they compute."""
import importlib
import json
import math
import sys
from pathlib import Path

import pytest

import clipart
import curve
import effects
import lesson_toy
from ablate_rows import ROWS
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


def test_a_difference_is_paired_by_seed_and_gets_students_interval_and_a_verdict():
    runs = []
    for row, rights in {"hard": (5, 6, 4), "distil": (7, 7, 7)}.items():
        for seed, right in enumerate(rights):
            answers = "9" * right + "0" * (10 - right)
            outcomes = dict.fromkeys(("change relation", "both", "itc", "itm"), answers)
            samples = ROWS[row].samples
            runs.append({"row": row, "seed": seed, "samples": samples, "equal": False,
                         "cpu_seconds": 10.0, "outcomes": outcomes})
    claim = effects.Claim("it helps", "distil", "hard", "relation", 0.1, 0.05, 10)
    effect = effects.paired_effect(runs, claim, 0.95)
    assert effect.values == pytest.approx((0.2, 0.1, 0.3))
    # Student's t for two degrees of freedom at 95% is 4.303, the standard error .1 / sqrt(3)
    assert effect.mean == pytest.approx(0.2)
    assert effect.high == pytest.approx(0.2 + 4.3027 * 0.057735, abs=1e-4)
    for low, mean, high, verdict in (
        (0.01, 0.05, 0.09, "supported"),
        (0.01, 0.02, 0.09, "can't tell"),
        (0.005, 0.01, 0.02, "contradicted: too small"),
        (-0.2, -0.1, -0.01, "contradicted: below zero"),
    ):
        assert effects.Effect((mean, mean), mean, low, high).verdict(least=0.03) == verdict


def slope(optimiser: str, low: float, high: float) -> float:
    """Of the logarithm of the lesson's toy's plateau on that of its bias, between two biases."""
    long = lesson_toy.plateau(low, optimiser, 1)[0].mean().item()
    short = lesson_toy.plateau(high, optimiser, 1)[0].mean().item()
    return math.log(short / long) / math.log(high / low)


def test_the_lessons_toys_plateau_goes_like_one_over_the_bias():
    assert slope("SGD", 0.3, 1.0) == pytest.approx(-1, abs=0.15)
    assert slope("Adam", 0.3, 1.0) == pytest.approx(-0.5, abs=0.15), "Adam divides the size out"
