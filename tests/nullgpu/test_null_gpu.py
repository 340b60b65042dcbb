"""Training on a GPU that computes nothing: where tensors are, and what a step costs.

Each test starts a process of its own, since the null GPU is loaded before torch is.
"""
import json
import subprocess
import sys

import pytest

import null_gpu
from helpers import SMALL_PAPER
from null_gpu import FOLDER

LACK = null_gpu.find_lack()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(LACK), reason=LACK)]

SMALL = [*(f"{field}={value}" for field, value in SMALL_PAPER.items()),
         "batch=8", "precision=bf16"]
RECIPES = ("paper-4m", "retrieval-coco", "entailment",
           "vqa", "nlvr2-assign", "nlvr2", "grounding")
# of a step of paper-4m, 64 rows, in bf16, MLM's kernels among them
MOST_KERNELS = 1760
MOST_PRODUCTS = 850
MOST_CUDNN = 60
MOST_GB = 11.6


def run(*words: str, devices: int = 1) -> subprocess.CompletedProcess:
    """A script of this folder on the null GPU; it must end well."""
    environment = null_gpu.environment() | {"NULLGPU_DEVICES": str(devices)}
    script = subprocess.run([sys.executable, *words], env=environment, capture_output=True,
                            text=True)
    assert script.returncode == 0, script.stderr
    return script


def count(*words: str) -> dict:
    """What count.py prints of a step."""
    return json.loads(run(str(FOLDER / "count.py"), *words).stdout)


@pytest.fixture(scope="module", params=[1, 2])
def steps(request):
    """What a step of each recipe costs, in one process:
    torch takes longer to start than all of them."""
    return count(",".join(RECIPES), *SMALL, f"accumulate={request.param}")


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_of_each_recipe_runs_on_a_gpu_and_never_waits_for_it(name, steps):
    step = steps[name]
    assert step["kernels"] > 100 and step["products"] > 50 and step["to_gpu"] > 1
    assert step["waits"] == 0 and step["from_gpu"] == 0, step["wait_lines"]


def test_launches_and_memory_of_the_papers_step_are_bounded():
    step = count("paper-4m", "batch=64", "precision=bf16")
    assert step["waits"] == 0 and step["triton"] == 0
    assert step["kernels"] <= MOST_KERNELS
    assert step["products"] <= MOST_PRODUCTS
    assert step["cudnn"] <= MOST_CUDNN
    assert step["peak_gb"] <= MOST_GB


def test_two_processes_train_by_ddp_and_nccl():
    script = run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
                 str(FOLDER / "count.py"), "paper-4m", *SMALL, devices=2)
    step = json.loads(script.stdout)
    assert step["collectives"] > 2 and step["waits"] == 0, step["wait_lines"]
