"""A task without a teacher gets none, a head without training refuses to answer."""

import pytest
import torch
import torch.nn.functional as F

from emojiscenes.scenes import Scenes, paint
from helpers import same_state
from minalbef import load
from minalbef.albef import ALBEF
from minalbef.ema import Trainable
from minalbef.presets import preset
from minalbef.recipes import finetune, pretrain
from minalbef.recipes import search as finder
from minalbef.system import checkpoint

SMALL = dict(image_size=24, image_width=32, text_width=32, image_heads=2, text_heads=2,
             embed_dim=16, batch=16,
             epoch=96, queue_size=64, objects=12, warm_steps=0, siblings_from=0, match_from=0,
             queue_from=0,
             hard_from=0, device="cpu")


class Symmetric(Trainable):
    """CLIP's loss and nothing else: no teacher, not even an empty one, nor a match head's loss."""

    def __init__(self, config, **_):
        super().__init__()
        self.student = ALBEF(config)

    def draws(self, step):
        return None

    def forward(self, batch, alpha, draws):
        image = self.student.image_feature(self.student.encode_image(batch.image))
        text = self.student.text_feature(self.student.encode_text(batch.tokens, batch.keep))
        sim = image @ text.T / 0.07
        rows = torch.arange(len(image))
        return {"clip": (F.cross_entropy(sim, rows) + F.cross_entropy(sim.T, rows)) / 2}, None

    def after_step(self, carry):
        return None


@pytest.fixture(scope="module")
def symmetric(tmp_path_factory):
    folder = tmp_path_factory.mktemp("symmetric") / "run"
    pretrain.pretrain(preset("tiny", **SMALL), folder, quiet=True, make=Symmetric)
    return folder


@pytest.fixture(scope="module")
def scenes():
    source = Scenes("test", size=24, objects=12)
    first = source.draw(0)
    second = source.draw(1)
    return [paint(first.scene, 24), paint(second.scene, 24)], [first.text, second.text]


def test_a_task_without_a_teacher_gets_none_and_a_run_from_it_begins_with_a_copy_of_its_student(
        symmetric):
    assert not (symmetric / "teacher.safetensors").exists()
    config = finetune.settings("entailment", symmetric, ["image_size=24"])
    torch.manual_seed(0)
    task = finetune.TASKS["entailment"].module(config)
    finetune.begin(task, symmetric, config)
    assert same_state(task.teacher.albef.state_dict(), task.student.albef.state_dict())


def test_a_head_that_no_loss_has_reached_refuses_to_answer_and_what_was_trained_answers(
        symmetric, scenes):
    run = load(symmetric)
    assert set(run.untrained) == {"temperature", "fusion", "match_head", "word_head"}
    assert run.similarity(*scenes).shape == (2, 2)
    for ask in (run.match_probability, run.match_pairs,
                lambda *_: run.attention(scenes[0][0], scenes[1][0]),
                lambda *_: run.explain(scenes[0][0], scenes[1][0]),
                lambda *_: finder.search(run, "an apple")):
        with pytest.raises(ValueError,
                           match="run never trained its .*fusion.*name a run that trained it"):
            ask(*scenes)
    assert "its training never reached temperature, fusion, match_head" in str(run)


def test_a_loss_that_begins_late_leaves_a_head_untrained_until_then_and_fine_tuning_trains_it(
        tmp_path, scenes):
    config = preset("tiny", **SMALL | {"match_from": 1.0})
    pretrain.pretrain(config, tmp_path / "run", quiet=True)
    assert checkpoint.untrained_parts(tmp_path / "run") == ("fusion", "match_head",
                                                            "word_head")
    # once more: it is finished, and nothing changes
    pretrain.pretrain(config, tmp_path / "run", quiet=True)
    assert checkpoint.untrained_parts(tmp_path / "run") == ("fusion", "match_head",
                                                            "word_head")
    changes = ["image_size=24", "batch=16", "epoch=16", "epochs=1", "queue_size=64"]
    tuned = finetune.settings("retrieval", tmp_path / "run", changes)
    finetune.finetune("retrieval", tmp_path / "run", tmp_path / "tuned", tuned, quiet=True)
    run = load(tmp_path / "tuned")
    assert run.untrained == ("word_head",) and run.match_probability(*scenes).shape == (2, 2)
