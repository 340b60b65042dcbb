"""original: checkpoints load strictly and whole, from files that execute nothing,
or an error names the keys."""

import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from golden_rule import figures, weight
from helpers import pretrain, same_state, small, texts
from minalbef import load_original
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.pretrain import PretrainBatch
from minalbef.recipes.convert import pretrain_from_original
from minalbef.tasks.table import TASKS as TABLE
from minalbef.weights import key_table
from minalbef.weights.original import (
    fill,
    infer_config,
    load_original_with_report,
    read_file,
    read_original,
    task_of,
)
from original_files import HEADS, TASKS, UNEQUAL, as_file, small_state
from original_keys import SCRIPTS, full_state


@pytest.fixture(scope="module")
def unequal() -> dict[str, torch.Tensor]:
    """A pretraining file of widths 32 and 48, of other MLPs,
    depths and tables than the golden ones."""
    task = pretrain(small(**UNEQUAL))
    return as_file(task)


# files


@pytest.mark.parametrize("form", ["the original's", "before torch 1.6", "safetensors"])
def test_every_form_of_file_gives_the_same_weights(unequal, tmp_path, form):
    path = tmp_path / "file.pth"
    if form == "safetensors":
        path = tmp_path / "file.safetensors"
        save_file({key: value.clone() for key, value in unequal.items()}, path)
    elif form == "the original's":
        others = {"optimizer": {"state": {0: torch.ones(2)}}, "epoch": 29, "config": {"lr": 1e-4}}
        torch.save({"model": unequal} | others, path)
    else:
        torch.save(unequal, path, _use_new_zipfile_serialization=False)
    assert same_state(read_file(path), unequal)
    by_file = load_original(path, **HEADS).state_dict()
    assert same_state(by_file, load_original(unequal, **HEADS).state_dict())


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_file_that_executes_code_is_refused_unexecuted(tmp_path):
    path = tmp_path / "file.pth"
    evil = tmp_path / "executed"
    torch.save({"model": {"temp": torch.ones(())}, "config": Evil(evil)}, path)
    refusal = r"file.pth holds a \S*open, which cannot be read without running code"
    with pytest.raises(ValueError, match=refusal):
        read_file(path)
    assert not evil.exists()
    torch.load(path, weights_only=False)["config"].close()
    assert evil.exists(), "the check is blind"


@pytest.mark.parametrize("damage", ["cut", "a page", "safetensors"])
def test_a_damaged_file_is_refused(unequal, tmp_path, damage):
    path = tmp_path / ("file.safetensors" if damage == "safetensors" else "file.pth")
    torch.save(unequal, path, _use_new_zipfile_serialization=damage == "cut")
    content = path.read_bytes()
    path.write_bytes(b"<html>404" if damage == "a page" else content[: len(content) // 2])
    refusal = r"file\.\w+ is missing, damaged or holds no weights .*fetch it again"
    with pytest.raises(ValueError, match=refusal):
        read_file(path)


def test_a_missing_file_and_another_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere.pth is missing, damaged or holds no weights"):
        load_original(tmp_path / "nowhere.pth")
    refusal = "keys that no model of the original's has: layer1.weight, fc.bias"
    with pytest.raises(ValueError, match=refusal):
        load_original({"layer1.weight": torch.ones(1), "fc.bias": torch.ones(1)})
    with pytest.raises(ValueError, match="it lacks 'image_encoder.patch_embed.proj.weight'"):
        load_original({"itm_head.weight": torch.ones(2, 4)})


# what is read off the tensors


@pytest.mark.parametrize("file", TASKS)
def test_task_and_sizes_are_read_off_the_tensors(file):
    original = key_table.read(small_state(file))
    assert task_of(original.student) == TASKS[file]
    deep = "native" in file
    sizes = dict(
        image_size=32, patch_size=8, image_width=48, image_depth=4, image_heads=4,
        image_mlp_ratio=4.0, vocab_size=64, text_length=25, positions=40, text_width=48,
        text_depth=6 if deep else 2, text_heads=4, text_mlp_ratio=4.0,
        fusion_depth=6 if deep else 2,
    )
    if "image" in original.queue:
        sizes["queue_size"] = 16
    if "image_proj.weight" in original.student:
        sizes["embed_dim"] = 16
    assert infer_config(original, **HEADS) == Config(name="original", **sizes)


# loading


@pytest.mark.parametrize(
    "task", [task for task in SCRIPTS if not (task in TABLE and TABLE[task].pairs)]
)
def test_every_key_of_a_full_file_is_accounted_for(task):
    state = full_state(task)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ALBEF(infer_config(key_table.read(state)))
        opened = read_original(state)
        report = fill(model, opened)
        teacher = fill(model, opened, teacher=True)
    for result in (report, teacher):
        assert set(result.loaded) | set(result.unexpected) == set(state)
        assert not set(result.loaded) & set(result.unexpected)
    assert {name.partition(".")[0] for name in report.absent} == set(TABLE[task].lacks)
    assert {name.partition(".")[0] for name in teacher.absent} == set(TABLE[task].lacks) | set(
        key_table.UNTAUGHT
    )
    assert not [
        key
        for key in report.loaded
        if "_m." in key or "queue" in key or key.startswith("text_decoder")
    ]
    for key in teacher.loaded:
        assert key.partition(".")[0].endswith("_m")


MISTAKES = {
    "a weight missing": (
        lambda s: s.pop("visual_encoder.blocks.1.norm2.bias"),
        "image_encoder.blocks.1.norm2.bias",
    ),
    "a key too many": (
        lambda s: s.update({"visual_encoder.head.weight": torch.ones(1)}),
        "has: visual_encoder.head.weight",
    ),
    "another width": (
        lambda s: s.update({"text_proj.weight": torch.ones(24, 32)}),
        r"text_proj.weight is \(24, 32\), wanted \(24, 48\)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_not_accounted_for_is_named(unequal, mistake):
    change, says = MISTAKES[mistake]
    state = dict(unequal)
    change(state)
    with pytest.raises(ValueError, match=says):
        load_original(state, **HEADS)


# positions


def test_positions_are_resized_as_the_original_does():
    recorded = figures("encoders")["arrays"]
    state = small_state("encoders") | {"visual_encoder.pos_embed": recorded["pos_embed_src"]}
    for side in (3, 6):
        model, report = load_original_with_report(state, image_size=8 * side, **HEADS)
        assert_close(
            model.image_encoder.pos_embed, nn.Parameter(recorded[f"pos_embed_{side}x{side}"]),
            atol=2e-5, rtol=0,
        )
        assert report.resized == (f"image_encoder.pos_embed from 4 to {side} patches a side",)
        assert model.encode_image(torch.zeros(1, 3, 8 * side, 8 * side)).shape == (
            1, 1 + side * side, 48,
        )


# pretraining


def test_pretraining_goes_on_with_teacher_and_queue():
    state = small_state("encoders")
    task = pretrain_from_original(
        state, special=(0, 2), mask=4, batch=4, teacher_momentum=0.9, **HEADS
    )
    assert task.student.training
    assert not task.teacher.training
    assert not task.teacher.temperature.requires_grad
    assert task.config.batch == 4 and task.config.teacher_momentum == 0.9
    assert task.student.image_proj.weight.equal(weight("vision_proj.weight", [16, 48]))
    assert task.teacher.image_proj.weight.equal(weight("vision_proj_m.weight", [16, 48]))
    # the file has one of it
    assert task.teacher.match_head.weight.equal(task.student.match_head.weight)
    image, text, ids = task.queue.features()
    assert image.equal(state["image_queue"].T)
    assert text.equal(state["text_queue"].T)
    assert len(ids) == 16
    assert (ids < 0).all() and task.queue.pointer == 12
    image = torch.randn(4, 3, 32, 32)
    tokens, keep = texts(4, 9)
    losses, carry = task(PretrainBatch(image, tokens, keep, torch.arange(4)),
                         0.4, task.draws(5))
    sum(losses.values()).backward()
    task.after_step(carry)
    assert set(losses) == {"itc", "itm", "mlm"}
    assert task.queue.pointer == 0
    assert task.queue.filled == 16
