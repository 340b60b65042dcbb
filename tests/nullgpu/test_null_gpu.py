"""Training on a GPU that computes nothing: where tensors are, and what a step costs."""
import json
import subprocess
import sys

import pytest

import null_gpu
from helpers import SMALL_PAPER

LACK = null_gpu.find_lack()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(LACK), reason=LACK)]
SMALL = [*(f"{field}={value}" for field, value in SMALL_PAPER.items()),
         "batch=8", "precision=bf16"]
RECIPES = ("paper-4m", "retrieval-coco", "entailment", "vqa", "nlvr2-assign", "nlvr2", "grounding")


def count(*words: str, launcher: tuple[str, ...] = (), devices: int = 1) -> dict:
    """What count.py prints of a step."""
    environment = null_gpu.environment() | {"NULLGPU_DEVICES": str(devices)}
    program = [sys.executable, *launcher, str(null_gpu.FOLDER / "count.py")]
    script = subprocess.run([*program, *words], env=environment, capture_output=True, text=True)
    assert script.returncode == 0, script.stderr
    return json.loads(script.stdout)


def test_a_step_of_each_recipe_runs_on_a_gpu_and_never_waits_for_it():
    """In one process, since torch takes longer to start than all of them."""
    for step in count(",".join(RECIPES), *SMALL, "accumulate=2").values():
        assert step["kernels"] > 100 and step["products"] > 50 and step["to_gpu"] > 1
        assert step["waits"] == 0 and step["from_gpu"] == 0, step["wait_lines"]


def test_launches_and_memory_of_the_papers_step_are_bounded():
    step = count("paper-4m", "batch=64", "precision=bf16")
    assert step["waits"] == 0 and step["triton"] == 0
    assert step["kernels"] <= 1760 and step["products"] <= 850 and step["cudnn"] <= 60
    assert step["peak_gb"] <= 11.6


def test_two_processes_train_by_ddp_and_nccl():
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    step = count("paper-4m", *SMALL, launcher=torchrun, devices=2)
    assert step["collectives"] > 2 and step["waits"] == 0, step["wait_lines"]
