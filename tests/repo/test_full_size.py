"""The model at the paper's size: shapes, parameter counts, and the memory that loading costs."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from golden_rule import figures
from minalbef.albef import ALBEF
from minalbef.presets import preset
from minalbef.pretrain import Pretrain
from minalbef.weights import key_table
from original_keys import PRETRAINING

ROOT = Path(__file__).parents[2]


def parameters(*parts: torch.nn.Module) -> int:
    return sum(p.numel() for part in parts for p in part.parameters())


@pytest.mark.parametrize("name", ["paper-4m", "paper-14m"])
def test_the_paper_presets_have_the_originals_parameter_counts(name):
    with torch.device("meta"):
        model = ALBEF(preset(name))
    assert parameters(model.image_encoder) == 85_844_736
    assert parameters(model.text_encoder, model.fusion, model.word_head) == 123_697_722
    assert parameters(model) == 209_937_725
    counts = figures("full_state_dict_keys")["counts"]
    assert parameters(model.text_encoder.embeddings) == counts["embeddings"]
    assert parameters(model.text_encoder.layers) == counts["text_layers_0_5"]
    assert parameters(model.fusion) == counts["fusion_layers_6_11"]
    crossing = [part for layer in model.fusion.layers for part in (layer.cross, layer.norm_cross)]
    assert parameters(*crossing) == counts["cross_attention"]
    assert parameters(model.word_head) == counts["mlm_head_only"]


def test_pretraining_at_full_size_has_every_key_and_shape_of_the_originals_checkpoint():
    with torch.device("meta"):
        task = Pretrain(preset("paper-4m"))
        queue = {"image": task.queue.image, "text": task.queue.text, "pointer": torch.zeros(1)}
        student = task.student.state_dict()
        written = key_table.write(student, task.teacher.state_dict(), queue, 6, True)
    assert len(written) == 844
    assert {key: tuple(value.shape) for key, value in written.items()} == PRETRAINING


LOAD = """
import resource, sys
import torch
from minalbef.recipes.convert import pretrain_from_original
task = pretrain_from_original(sys.argv[1])
for model, value in ((task.student, 1.0), (task.teacher, 2.0)):
    for name, p in model.named_parameters():
        if model is task.student or "head" not in name and name != "temperature":
            assert (p == value).all()
assert (task.queue.image == 3).all() and task.queue.filled == 65536 and task.queue.pointer == 3
unit = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


@pytest.mark.slow
def test_a_full_checkpoint_loads_within_6_gb_of_memory(tmp_path):
    state = {}
    repeated = {}
    for key, shape in PRETRAINING.items():
        if key.endswith("position_ids"):
            state[key] = torch.arange(shape[-1])[None]
        else:
            value = 3 if "queue" in key else 2 if "_m." in key else 1
            dtype = torch.int64 if key == "queue_ptr" else torch.float32
            state[key] = torch.full(shape, value, dtype=dtype)
    for side in ("text_encoder", "text_encoder_m"):      # as in the file: one storage, said twice
        for tied, once in key_table.TIED.items():
            repeated[f"{side}.{tied}"] = state[f"{side}.{once}"]
    torch.save({"model": state | repeated, "epoch": 29}, tmp_path / "full.pth")
    assert (tmp_path / "full.pth").stat().st_size > 1.8e9
    del state, repeated
    run = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path / "full.pth")], cwd=ROOT,
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (tmp_path / "full.pth").unlink()
    peak = int(run.stdout) / 1e9
    print(f"peak resident memory {peak:.2f} GB")
    assert 1.8 < peak < 6, peak
