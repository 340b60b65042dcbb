"""gpu_check on a CPU: every check passes there."""
import json
import sys

import pytest

import gpu_check
from helpers import SMALL_PAPER
from minalbef.cli.main import run_script

CHANGES = {name: str(value) for name, value in SMALL_PAPER.items()}


@pytest.fixture
def quick(monkeypatch):
    """Few recipes, files and rows, and nothing compiled, which takes a CPU minutes."""
    monkeypatch.setattr(gpu_check, "VARIANTS", gpu_check.VARIANTS[:2])
    monkeypatch.setattr(gpu_check, "FILES", 4)
    monkeypatch.setattr(gpu_check, "ROWS", (4,))
    modes = {name: gpu_check.MODES[name] for name in ("bf16", "fp32")}
    monkeypatch.setattr(gpu_check, "MODES", modes)
    names = ("pretrain", "entailment")
    tasks = {name: gpu_check.TASKS[name] for name in names}
    monkeypatch.setattr(gpu_check, "TASKS", tasks)


def call(monkeypatch, *words: str) -> int:
    """The exit status of the script."""
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *words])
    try:
        run_script(gpu_check.main)
    except SystemExit as end:
        return end.code
    return 0


def test_a_cpu_agrees_with_itself_and_every_figure_is_written(quick, monkeypatch, tmp_path, capsys):
    changes = [f"{name}={value}" for name, value in CHANGES.items()]
    out = tmp_path / "runs" / "a.json"
    words = (*changes, "--device", "cpu", "--workers", "1", "--out", str(out))
    assert call(monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    assert all(f"PASS {name}: " in printed for name in gpu_check.CHECKS)
    checks = json.loads(out.read_text())["checks"]
    assert checks["golden"]["details"]["gradient"] < 1e-5
    rows = checks["recipes"]["details"]
    assert len(rows) == 2 * 2 + 2
    for row in rows:
        if row["precision"] == "fp32":
            assert row["loss"] < 1e-6 and row["cosine"] > 0.999999
        else:
            assert 0 < row["loss"] < 0.01
    assert checks["speed"]["details"][0]["samples_per_second"] > 0


@pytest.mark.gpu
def test_a_gpu_passes_every_check(monkeypatch, tmp_path):
    assert call(monkeypatch, "--out", str(tmp_path / "a.json")) == 0
