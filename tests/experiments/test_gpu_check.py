"""gpu_check on a CPU: every check passes there, and each can fail."""
import json
import sys
from pathlib import Path

import pytest
import torch

import gpu_check
import null_gpu
from gpu_check import Setting
from helpers import SMALL_PAPER
from minalbef.cli.main import run_script

CPU = torch.device("cpu")
CHANGES = {name: str(value) for name, value in SMALL_PAPER.items()}
SETTING = Setting(CPU, CHANGES, 1)


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


def test_a_check_that_ends_in_an_error_fails_and_the_others_are_made(monkeypatch, tmp_path, capsys):
    def broken(setting):
        raise RuntimeError("CUDA error: an illegal memory access\nand more")
    checks = {"broken": broken, "golden": gpu_check.check_golden}
    monkeypatch.setattr(gpu_check, "CHECKS", checks)
    assert call(monkeypatch, "--device", "cpu", "--out", str(tmp_path / "a.json")) == 1
    printed = capsys.readouterr().out
    assert "FAIL broken: RuntimeError: CUDA error: an illegal memory access\n" in printed
    assert "PASS golden" in printed


@pytest.mark.parametrize("wrong", ["a loss", "a gradient", "nan", "an error"])
def test_what_differs_from_the_cpu_fails(wrong, monkeypatch):
    plain = gpu_check.backward
    calls = []

    def backward(task, config, batch, device):
        losses, gradient = plain(task, config, batch, device)
        calls.append(task)
        if len(calls) == 1:
            return losses, gradient
        if wrong == "an error":
            raise RuntimeError("no kernel")
        if wrong == "a gradient":
            return losses, gradient + 0.02 * gradient.norm() * gradient.flip(0) / gradient.norm()
        return losses | {"itm": losses["itm"] * (torch.nan if wrong == "nan" else 1.0003)}, gradient
    monkeypatch.setattr(gpu_check, "backward", backward)
    row = gpu_check.compare("pretrain", {"precision": "fp32"}, CPU)
    assert not row["passed"] and row.get("problem", "no kernel") == "no kernel"


def test_what_was_to_be_compiled_and_was_not_fails(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: None)
    row = gpu_check.compare("pretrain", {"precision": "fp32", "compile": True}, CPU)
    assert not row["passed"] and row["problem"] == "nothing was compiled"


def test_weights_that_are_off_are_seen_in_the_golden_figures(monkeypatch):
    task = gpu_check.task_at_start()
    with torch.no_grad():
        task.student.image_proj.weight.mul_(1.01)
    monkeypatch.setattr(gpu_check, "task_at_start", lambda: task)
    assert not gpu_check.check_golden(SETTING).passed


def test_batches_that_differ_are_seen():
    plain = torch.nn.Module()
    plain.image = torch.zeros(2)
    other = torch.nn.Module()
    other.image = torch.ones(2)
    assert gpu_check.same_batches(lambda step: plain, lambda step: plain)
    assert not gpu_check.same_batches(lambda step: plain, lambda step: other)


def test_what_does_not_fit_is_said(monkeypatch):
    def too_large(config):
        if config.batch > 16:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
        return {"samples_per_second": 100.0 + (config.precision == "bf16"), "peak_memory_gb": 1.0}
    monkeypatch.setattr(gpu_check, "measure_step", too_large)
    result = gpu_check.check_speed(SETTING)
    assert result.passed and "bf16 101 samples/s with 16 rows" in result.figure
    problems = [row["problem"] for row in result.details if "problem" in row]
    assert problems == ["CUDA out of memory. Tried to allocate 2 GiB."] * len(gpu_check.MODES)
    monkeypatch.setattr(gpu_check, "ROWS", (64,))
    assert not gpu_check.check_speed(SETTING).passed


@pytest.mark.slow
@pytest.mark.skipif(bool(null_gpu.find_lack()), reason=null_gpu.find_lack())
def test_on_the_null_gpu_no_check_mixes_devices(tmp_path):
    """It computes nothing: the figures differ, and every check comes to its end."""
    folder = str(Path(gpu_check.__file__).parent)
    code = (f"import sys; sys.path.insert(0, {folder!r}); import gpu_check; "
            "from minalbef.cli.main import run_script; gpu_check.ROWS = (4,); "
            "gpu_check.VARIANTS = gpu_check.VARIANTS[:2]; "
            "gpu_check.MODES.pop('bf16, compiled'); run_script(gpu_check.main)")
    changes = [f"{name}={value}" for name, value in CHANGES.items()]
    words = ["-c", code, *changes, "--workers", "1", "--out", str(tmp_path / "a.json")]
    run = null_gpu.run(*words, capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    checks = json.loads((tmp_path / "a.json").read_text())["checks"]
    assert "FAIL recipes" in run.stdout and "same device" not in run.stdout
    assert not [row for row in checks["recipes"]["details"] if "problem" in row]
    assert "samples/s" in checks["speed"]["figure"] and "samples/s" in checks["feed"]["figure"]


@pytest.mark.gpu
def test_a_gpu_passes_every_check(monkeypatch, tmp_path):
    assert call(monkeypatch, "--out", str(tmp_path / "a.json")) == 0
