"""Run folders: one in training loads, and reports go with the weights that they are of."""
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from captions import CAPTIONS, files, prepare_captions, stop_at, train
from helpers import disturb, same_state, small
from minalbef import load
from minalbef.albef import ALBEF
from minalbef.data import data_folder
from minalbef.datasets.prepare import prepare
from minalbef.recipes import finetune
from minalbef.recipes.convert import to_original
from minalbef.recipes.evaluate import evaluate
from minalbef.recipes.provenance import hash_of
from minalbef.system import checkpoint
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.retrieval import Retrieval
from minalbef.train import Stopped
from minalbef.weights.original import read_file
from runs import photographs

CHANGES = ("vocab_size=48", "fuse_cls=True", "stem=patch")     # what the original can build


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return prepare_captions(tmp_path_factory.mktemp("set"), CAPTIONS)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, data) -> Path:
    """A run that was stopped after step 3 of 4."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_at(patch, 2)
        train(run, data, changes=CHANGES)
    assert not (run / "model.safetensors").exists()
    return run


@pytest.fixture
def run(stopped, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(stopped, tmp_path / "run")


def student(run: Path, part: str = "student.") -> dict:
    """The weights of its state, read another way."""
    state = torch.load(run / "state.pt", weights_only=True)["task"]
    names = [name for name in state if name.startswith(part)]
    return {name.removeprefix(part): state[name] for name in names}


# a run in training

def test_a_stopped_run_is_loaded_as_of_its_last_checkpoint_and_says_so(run, data, caplog):
    model = load(run)
    assert model.step == 3 and same_state(model.model.state_dict(), student(run))
    says = f"{run} is not trained to the end: these are its weights after step 3 of 4"
    assert says in caplog.text
    assert "not trained to the end: weights after step 3 of 4" in str(model)
    caplog.clear()
    train(run, data, changes=CHANGES)
    model = load(run)
    assert model.step is None and "the end" not in caplog.text + str(model)
    assert same_state(model.model.state_dict(), load_file(run / "model.safetensors"))


def test_fine_tuning_and_the_original_take_student_and_teacher_of_a_stopped_run(
        run, tmp_path):
    state = torch.load(run / "state.pt", weights_only=True)
    name = "image_proj.weight"
    state["task"][f"teacher.{name}"] += 1
    torch.save(state, run / "state.pt")
    task = Retrieval(load(run).config)
    finetune.begin(task, run, task.config)
    assert torch.equal(task.student.state_dict()[name], student(run)[name])
    assert torch.equal(task.teacher.state_dict()[name], student(run, "teacher.")[name])
    to_original(run, tmp_path / "out.pth")
    original = read_file(tmp_path / "out.pth")
    assert torch.equal(original["vision_proj.weight"], student(run)[name])
    assert torch.equal(original["vision_proj_m.weight"], student(run, "teacher.")[name])


@pytest.mark.parametrize("names, says", [
    (["state.pt"], "is not a run folder: it lacks model.safetensors .during training: state.pt"),
    (["config.json", "tokenizer.json"],
     "is not a run folder: it lacks config.json, tokenizer.json; "),
    (["state.pt", "config.json"],
     "is not a run folder: it lacks config.json, model.safetensors")])
def test_what_a_run_in_training_lacks_is_named(run, names, says):
    for name in names:
        (run / name).unlink()
    with pytest.raises(ValueError, match=f"{run} {says}"):
        load(run)


# saving into a folder that is in use

@pytest.fixture
def saved(tmp_path) -> Path:
    """A run of random weights with reports, its own, a set's and one of a run within."""
    tokenizer = Tokenizer.train(CAPTIONS, 48)
    config = small(vocab_size=len(tokenizer))
    for folder in (tmp_path / "saved", tmp_path / "saved" / "start"):
        checkpoint.save(folder, disturb(ALBEF(config), seed=1), tokenizer)
    for name in ("report.json", "report.html", "coco-test/report.json", "start/report.json"):
        (tmp_path / "saved" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "saved" / name).write_text("{}")
    return tmp_path / "saved"


def test_reports_of_other_weights_go_and_those_of_the_same_stay(saved, caplog):
    caplog.set_level(logging.INFO)
    run = load(saved)
    reports = set(saved.rglob("report.*"))
    checkpoint.save(saved, run.model, run.tokenizer)
    assert set(saved.rglob("report.*")) == reports and len(reports) == 4
    checkpoint.save(saved, disturb(run.model), run.tokenizer)
    assert set(saved.rglob("report.*")) == {saved / "start" / "report.json"}
    assert "coco-test/report.json, made with the old weights" in caplog.text


def test_weights_are_not_saved_beside_the_state_of_others(run):
    loaded = load(run)
    checkpoint.save(run, loaded.model, loaded.tokenizer)
    before = files(run)
    with pytest.raises(ValueError,
                       match="holds a run in training, whose state.pt has other weights"):
        checkpoint.save(run, disturb(loaded.model), loaded.tokenizer)
    assert files(run) == before


def test_two_sets_of_your_own_never_share_a_report_and_it_knows_its_set_and_weights(
        tmp_path):
    run = shutil.copytree(data_folder() / "tiny", tmp_path / "run")
    reports = []
    for name in ("one", "two"):
        source = photographs(tmp_path / name, 3)
        for i in range(3):
            (source / f"{i}.txt").write_text(f"a cat, {name} {i}")
        prepare("pairs", source, tmp_path / "out" / name)
        data = tmp_path / "out" / name / "pairs"
        split = next(iter(json.loads((data / "about.json").read_text())["splits"]))
        reports.append(evaluate(run, data / split))
        assert reports[-1]["manifest"] == hash_of(data, split)
    assert len(list(run.glob("pairs-*/report.json"))) == 2 and reports[0] != reports[1]
    for report in reports:
        assert report["weights"] == checkpoint.hash_of_weights(run)
