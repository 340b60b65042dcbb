"""gpu-check's parts where there is a GPU: a real one, or the null GPU, on which they run but compute nothing."""
import json
import os
import subprocess
import sys

import pytest

import null_gpu
from checkout import python_path
from helpers import SMALL_PAPER
from minalbef.gpu_check.parts import FAIL, PARTS, PASS, SKIPPED

SMALL = [f"{name}={value}" for name, value in {**SMALL_PAPER, "epoch": 640, "batch": 16, "warm_steps": 6}.items()]
NAMES = [part.name for part in PARTS if part.needs_gpu or part.name in ("machine", "hours")]
ENVIRONMENT = os.environ | {"PYTHONPATH": python_path(null_gpu.ROOT)}


def parts_of(folder) -> dict:
    return json.loads((folder / "gpu_check.json").read_text(encoding="utf-8"))["parts"]


@pytest.fixture(scope="module")
def on_null_gpu(tmp_path_factory):
    """The parts that need a GPU, in small on the null one: -> the folder that they wrote."""
    lack = null_gpu.find_lack()
    if lack:
        pytest.skip(lack)
    out = tmp_path_factory.mktemp("gpu")
    command = ["-m", "minalbef", "gpu-check", *SMALL, "--out", str(out), "--price-per-hour", "2", "--quiet"]
    compiling = ["correctness", "speed"]         # they compile until they are killed
    others = [name for name in NAMES if name not in compiling]
    for minutes, names in (("5", compiling), ("25", others)):
        run = null_gpu.run(*command, "--minutes", minutes, "--parts", *names, capture_output=True, text=True)
        assert run.returncode == 1, run.stderr
    return out


@pytest.mark.slow(minutes=3)
def test_on_the_null_gpu_every_part_ends_with_a_verdict_and_a_figure(on_null_gpu):
    results = parts_of(on_null_gpu)
    assert list(results) == NAMES
    for result in results.values():
        assert result["verdict"] in (PASS, FAIL, SKIPPED) and result["figure"]
    assert results["machine"]["verdict"] == PASS and "null" in results["machine"]["figure"]
    assert results["correctness"]["verdict"] == FAIL, "nothing is computed"
    assert "samples/s in bf16" in results["speed"]["figure"] and "base" in results["hours"]["figure"]
    assert {"price", "hours"} <= results["hours"]["details"]["presets"][0].keys()
    assert [case["case"] for case in results["memory"]["details"]["cases"]] == [
        "plain", "two micro-batches", "checkpointing"]


@pytest.mark.slow(minutes=3)
def test_on_the_null_gpu_no_step_waits_and_no_devices_are_mixed(on_null_gpu):
    results = parts_of(on_null_gpu)
    assert results["waits"]["verdict"] == PASS, results["waits"]["figure"]
    assert len(results["waits"]["details"]["recipes"]) == 14
    comparisons = results["correctness"]["details"]["comparisons"]
    assert len(comparisons) >= 21, "all but the compiled ones"
    assert [row for row in comparisons if "problem" in row] == []
    for name in NAMES:
        log = on_null_gpu / name / "log.txt"
        assert "same device" not in log.read_text(encoding="utf-8", errors="replace"), name


@pytest.mark.gpu
def test_a_gpu_computes_what_the_cpu_computes_and_waits_nowhere_within_the_plans_memory(tmp_path):
    names = ["machine", "correctness", "waits", "memory", "processes", "resume"]
    command = [sys.executable, "-m", "minalbef", "gpu-check", "--out", str(tmp_path), "--parts", *names]
    run = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    verdicts = {name: part["verdict"] for name, part in parts_of(tmp_path).items()}
    assert verdicts == dict.fromkeys(names, PASS), run.stdout


@pytest.mark.gpu
@pytest.mark.slow
def test_a_gpu_passes_every_part(tmp_path):
    command = [sys.executable, "-m", "minalbef", "gpu-check", "--out", str(tmp_path), "--minutes", "25"]
    run = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert run.returncode == 0, run.stdout
