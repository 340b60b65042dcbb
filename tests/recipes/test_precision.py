"""A run keeps its precision, and evaluation in bf16 has fp32's figures."""
from dataclasses import replace

import pytest
import torch

from helpers import Batches, pretrain, same_state, small
from minalbef import load
from minalbef.data import data_folder
from minalbef.evaluation.loop import How
from minalbef.evaluation.ranking import encode, similarity
from minalbef.recipes.evaluate import CHOICE, evaluate_records
from minalbef.scenes.questions import scenes
from minalbef.scenes.records import minimal_pairs
from minalbef.system import checkpoint
from minalbef.system.distributed import autocast
from minalbef.train import fit

CPU, GPU = torch.device("cpu"), torch.device("cuda")
AUTO = small(precision="auto", image_size=16, epoch=5 * 8)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_goes_on_in_the_precision_in_which_it_began(precision, tmp_path):
    config = replace(AUTO, precision=precision)
    tokenizer = load(data_folder() / "tiny").tokenizer
    task = pretrain(config)
    part = pretrain(config)
    fit(task, Batches(config), config, tmp_path / "whole", quiet=True)

    def stopped(step):
        if step == 3:
            raise OSError("the end")
        return Batches(config)(step)
    checkpoint.begin_run(tmp_path / "part", config, tokenizer, "pretrain")
    with pytest.raises(OSError, match="the end"):
        fit(part, stopped, replace(config, save_every=1), tmp_path / "part", quiet=True)
    again = pretrain(config)
    fit(again, Batches(config), replace(AUTO, save_every=1), tmp_path / "part", quiet=True)
    assert same_state(again.state_dict(), task.state_dict())


@torch.no_grad()
def test_evaluation_in_bf16_has_the_figures_of_fp32():
    run = load("tiny")
    pairs = minimal_pairs(scenes(run, "validation", 0, counts=(0.2, 0.4, 0.4)), 60)
    types = set()
    layer = run.model.fusion.layers[0].mlp.fc1
    layer.register_forward_hook(lambda module, inputs, y: types.add(y.dtype))
    fp32 = evaluate_records(run, pairs, CHOICE, How(precision="fp32", quiet=True))
    bf16 = evaluate_records(run, pairs, CHOICE, How(precision="bf16", quiet=True))
    assert types == {torch.float32, torch.bfloat16}
    half = flat(bf16["test"])
    differences = [abs(half[name] - figure) for name, figure in flat(fp32["test"]).items()]
    assert max(differences) < 0.05, "of 30 problems one is 0.03"
    assert sum(differences) / len(differences) < 0.01


def flat(figures: dict, path: str = "") -> dict[str, float]:
    """Nested figures by their path."""
    result = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            result |= flat(value, f"{path}{name} ")
        else:
            result[path + name] = value
    return result


@torch.no_grad()
def test_similarities_are_compared_in_fp32_and_do_not_tie():
    run = load("tiny")
    batch = Batches(small(image_size=48, batch=32)).whole(0)
    with autocast(CPU, "bf16"):
        sim = similarity(run.model, encode(run.model, batch.image, batch.tokens, batch.keep))
    assert sim.dtype == torch.float32 and (sim.bfloat16().float() != sim).any()
