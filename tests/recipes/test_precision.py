"""Precision: bf16 by default where a GPU has it, a run keeps its own, and evaluation in bf16 has fp32's figures."""
import json
from dataclasses import replace

import pytest
import torch

from helpers import Batches, pretrain, same_state, small
from minalbef import load
from minalbef.data import data_folder
from minalbef.evaluation.loop import How
from minalbef.evaluation.ranking import encode, similarity
from minalbef.presets import PRESETS, preset
from minalbef.recipes.evaluate import CHOICE, evaluate_records
from minalbef.scenes.questions import scenes
from minalbef.scenes.records import minimal_pairs
from minalbef.system import checkpoint
from minalbef.system.distributed import autocast, precision_on
from minalbef.system.settings import from_dict
from minalbef.train import fit

CPU, GPU = torch.device("cpu"), torch.device("cuda")
AUTO = small(precision="auto", image_size=16, epoch=5 * 8)


@pytest.fixture(params=[True, False], ids=["bf16", "none"])
def has_bf16(request, monkeypatch) -> bool:
    """Whether a GPU has bf16."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True:
                        request.param or including_emulation)
    return request.param


def test_the_default_is_bf16_on_a_gpu_that_has_it_without_emulation_and_fp32_elsewhere(has_bf16):
    assert precision_on(GPU) == ("bf16" if has_bf16 else "fp32")
    assert precision_on(CPU) == precision_on(torch.device("mps")) == "fp32"
    for device in (CPU, GPU):
        assert [precision_on(device, name) for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert not torch.backends.cuda.matmul.allow_tf32, "similarities need fp32's digits"


def test_full_sizes_take_the_default_and_the_tuned_small_ones_their_own():
    of = {name: preset(name).precision for name in PRESETS}
    assert of.pop("tiny") == of.pop("desk") == of.pop("clipart") == "fp32"
    assert of.pop("small") == of.pop("base") == "bf16"
    assert set(of.values()) == {"auto"}
    old = preset("tiny").to_dict()
    del old["precision"]
    assert from_dict(old).precision == "fp32", "a run of a version without the field"


def test_a_new_run_records_what_auto_means_on_its_device(has_bf16, tmp_path):
    assert checkpoint.settle_precision(AUTO, tmp_path, GPU).precision == ("bf16" if has_bf16 else "fp32")
    assert checkpoint.settle_precision(replace(AUTO, precision="bf16"), tmp_path, CPU).precision == "bf16"
    fit(pretrain(AUTO), Batches(AUTO), AUTO, tmp_path, quiet=True)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["config"]["precision"] == "fp32", "on a CPU"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_goes_on_in_the_precision_in_which_it_began(precision, tmp_path):
    config = replace(AUTO, precision=precision)
    tokenizer = load(data_folder() / "tiny").tokenizer
    whole, part = pretrain(config), pretrain(config)
    fit(whole, Batches(config), config, tmp_path / "whole", quiet=True)

    def stopped(step):
        if step == 3:
            raise OSError("the end")
        return Batches(config)(step)
    checkpoint.begin_run(tmp_path / "part", config, tokenizer, "pretrain")
    with pytest.raises(OSError, match="the end"):
        fit(part, stopped, replace(config, save_every=1), tmp_path / "part", quiet=True)
    again = pretrain(config)
    fit(again, Batches(config), replace(AUTO, save_every=1), tmp_path / "part", quiet=True)
    assert same_state(again.state_dict(), whole.state_dict())


def test_settings_of_an_older_version_go_on_in_fp32_and_damaged_ones_leave_the_error_to_who_loads_them(tmp_path):
    (tmp_path / "state.pt").touch()
    for text in (json.dumps({"task": "pretrain"}), "[]", "{", json.dumps({"precision": "fp16"})):
        (tmp_path / "config.json").write_text(text)
        assert checkpoint.settle_precision(AUTO, tmp_path, CPU).precision == "fp32"


@torch.no_grad()
def test_evaluation_in_bf16_has_the_figures_of_fp32():
    run = load("tiny")
    pairs = minimal_pairs(scenes(run, "validation", 0, counts=(0.2, 0.4, 0.4)), 60)
    types = set()
    run.model.fusion.layers[0].mlp.fc1.register_forward_hook(lambda module, inputs, y: types.add(y.dtype))
    (fp32, _), (bf16, _) = [evaluate_records(run, pairs, CHOICE, How(precision=name, quiet=True))
                            for name in ("fp32", "bf16")]
    assert types == {torch.float32, torch.bfloat16}
    ours = flat(bf16["test"])
    differences = [abs(ours[name] - figure) for name, figure in flat(fp32["test"]).items()]
    assert max(differences) < 0.05 and sum(differences) / len(differences) < 0.01, "of 30 problems one is 0.03"


def flat(figures: dict, path: str = "") -> dict[str, float]:
    """Nested figures by their path."""
    result = {}
    for name, value in figures.items():
        result |= flat(value, f"{path}{name} ") if isinstance(value, dict) else {path + name: value}
    return result


@torch.no_grad()
def test_similarities_are_compared_in_fp32_and_do_not_tie():
    run = load("tiny")
    batch = Batches(small(image_size=48, batch=32)).whole(0)
    with autocast(CPU, "bf16"):
        sim = similarity(run.model, encode(run.model, batch.image, batch.tokens, batch.keep))
    assert sim.dtype == torch.float32 and (sim.bfloat16().float() != sim).any()
