"""Run folders: one in training loads, a model without its state stays, and so do its reports."""
import json
import logging
import re
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
from minalbef.pretrain import Pretrain
from minalbef.recipes import finetune, search
from minalbef.recipes.convert import to_original, to_run
from minalbef.recipes.evaluate import evaluate_run, evaluate_set
from minalbef.recipes.features import embed_folder
from minalbef.recipes.provenance import hash_of, trained_on
from minalbef.recipes.report import output_folder, read_report, set_folder
from minalbef.system import checkpoint
from minalbef.system.tokenizer import SPECIALS, Tokenizer
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
    found = load(run)
    assert found.step == 3 and same_state(found.model.state_dict(), student(run))
    says = f"{run} is not trained to the end: these are its weights after step 3 of 4"
    assert says in caplog.text
    assert "not trained to the end: weights after step 3 of 4" in str(found)
    caplog.clear()
    train(run, data, changes=CHANGES)
    found = load(run)
    assert found.step is None and "the end" not in caplog.text + str(found)
    assert same_state(found.model.state_dict(), load_file(run / "model.safetensors"))


def test_a_stopped_run_is_searched_and_its_features_are_kept_for_its_weights_alone(run, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(data_folder() / "tiny" / "example.png", tmp_path / "photos" / name)
    found = load(run)
    found.untrained = ()                         # three steps don't reach every head
    first = embed_folder(found, tmp_path / "photos", tmp_path)
    assert len(search.search_features(found, "a cat", first.paths, first.features, first.folder)) == 2
    other = disturb(load(run).model)
    found.model.load_state_dict(other.state_dict())
    assert not embed_folder(found, tmp_path / "photos", tmp_path).features.equal(first.features)


def test_a_report_of_a_stopped_run_names_step_and_data_and_goes_when_it_ends(run, data, tmp_path):
    report = evaluate_set(run, data / "train")
    assert report["step"] == 3 and report["protocol"].startswith("pretrained on coco/train")
    assert trained_on(run)["pretrained"] == {"coco/train": hash_of(data, "train")}
    (run / "report.json").write_text("{}")
    (run / "best").mkdir()
    for name in ("report.json", "model.safetensors"):
        (run / "best" / name).write_text("of the best weights, which stay")
    train(run, data, changes=CHANGES)
    assert not (run / "coco-train" / "report.json").exists() and not (run / "report.json").exists()
    assert (run / "best" / "report.json").exists()
    report = evaluate_set(run, data / "train")
    train(run, data, changes=CHANGES)
    assert "step" not in report
    assert (run / "coco-train" / "report.json").exists(), "it is of the same weights"


def test_fine_tuning_and_the_original_take_student_and_teacher_of_a_stopped_run(run, tmp_path):
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


def test_a_run_of_scenes_is_evaluated_while_it_trains(tmp_path):
    shutil.copytree(data_folder() / "tiny", run := tmp_path / "run")
    model = load(run)
    torch.manual_seed(0)
    task = Pretrain(model.config)
    task.student.load_state_dict(model.model.state_dict())
    optimiser = torch.optim.AdamW(task.student.parameters())
    checkpoint.save_state(run, task, optimiser, 7, model.config)
    (run / "model.safetensors").unlink()
    assert evaluate_run(run, size=0.02, out=tmp_path / "out")["step"] == 7


@pytest.mark.parametrize("gone, says", [
    (["state.pt"], "has no weights: it lacks model.safetensors, and state.pt, which training"),
    (["config.json", "tokenizer.json"],
     "is a run in training that lacks config.json, tokenizer.json, as an older"),
    (["state.pt", "config.json"], "is not a run folder: it lacks config.json, model.safetensors")])
def test_what_a_run_in_training_lacks_is_named(run, gone, says):
    for name in gone:
        (run / name).unlink()
    with pytest.raises(ValueError, match=f"{run} {says}"):
        load(run)


def test_a_run_killed_before_its_first_checkpoint_begins_again(run, data):
    for path in run.iterdir():
        if path.name not in ("config.json", "tokenizer.json"):
            path.unlink()
    train(run, data, changes=CHANGES)
    assert (run / "model.safetensors").exists()


def test_a_tokenizer_of_another_run_is_noticed(run):
    other = Tokenizer.train(["zebras", *CAPTIONS], len(load(run).tokenizer))
    other.save(run / "tokenizer.json")
    says = "tokenizer.json belongs to another run: .*copy the run again"
    with pytest.raises(ValueError, match=says):
        load(run)
    config = json.loads((run / "config.json").read_text())
    config["tokenizer"] = other.digest()         # the weights know theirs, also in training
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="was trained with other settings .* tokenizer was"):
        load(run)
    del config["tokenizer"]
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="belongs to another run: config.json names a tokenizer with other"):
        load(run)


# a model without its state

def without_state(run: Path) -> dict[str, bytes]:
    """A finished run whose state was removed, to save space: -> its files."""
    (run / "state.pt").unlink(missing_ok=True)
    (run / "report.json").write_text("{}")
    return files(run)


def test_a_model_without_its_state_is_not_trained_over(run, data, tmp_path):
    train(run, data, changes=CHANGES)
    before = without_state(run)
    says = "holds a trained model .*without the state of its training.*choose another folder"
    with pytest.raises(ValueError, match=f"{run} {says}"):
        train(run, data, changes=CHANGES)
    assert files(run) == before
    tiny = shutil.copytree(data_folder() / "tiny", tmp_path / "tiny")
    before = files(tiny)
    config = finetune.settings("entailment", "tiny", ["epochs=1", "epoch=64"])
    with pytest.raises(ValueError, match=f"{tiny} {says}"):
        finetune.finetune("entailment", data_folder() / "tiny", tiny, config, quiet=True)
    assert files(tiny) == before


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
    reports = {path for path in saved.rglob("report.*")}
    checkpoint.save(saved, run.model, run.tokenizer)
    assert {path for path in saved.rglob("report.*")} == reports and len(reports) == 4
    checkpoint.save(saved, disturb(run.model), run.tokenizer)
    assert {path for path in saved.rglob("report.*")} == {saved / "start" / "report.json"}
    assert "removed coco-test/report.json, report.html, report.json, made with the old weights" in caplog.text


def test_weights_are_not_saved_beside_the_state_of_others(run):
    loaded = load(run)
    checkpoint.save(run, loaded.model, loaded.tokenizer)
    before = files(run)
    with pytest.raises(ValueError, match="holds a run in training, whose state.pt has other weights"):
        checkpoint.save(run, disturb(loaded.model), loaded.tokenizer)
    assert files(run) == before


def test_a_checkpoint_is_not_converted_into_a_folder_that_holds_a_run(saved, tmp_path, note):
    before = files(saved)
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(SPECIALS))
    says = re.escape("holds a run already (config.json, tokenizer.json, model.safetensors, report.json)")
    with pytest.raises(ValueError, match=f"{saved} {says}, which would be overwritten; name a new"):
        to_run(tmp_path / "in.pth", saved, vocab)
    assert files(saved) == before
    note("convert into a folder with a run", 1, "refused; its files stand")


# files that were changed by hand

@pytest.mark.parametrize("text", [
    "[]", "null", "3", '"x"', "{}", "{", '{"pretrained": null}', '{"pretrained": [], "tuned": {}}',
    '{"pretrained": {}, "tuned": {"coco/train": 3}}', '{"pretrained": {}, "tuned": null}'])
def test_a_record_that_was_changed_by_hand_is_named(tmp_path, text, note):
    path = tmp_path / "trained_on.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path} is damaged .*copy it again, or remove it"):
        trained_on(tmp_path)
    note(f"trained_on.json: {text}", 1, "refused by name")


def test_a_record_of_unknown_pretraining_is_read(tmp_path):
    for splits in (None, {"coco/train": "a"}):
        seen = {"pretrained": splits, "tuned": {}}
        (tmp_path / "trained_on.json").write_text(json.dumps(seen))
        assert trained_on(tmp_path) == seen


@pytest.mark.parametrize("changes, says", [
    ({"seconds": {"train": "x"}}, "'seconds train' is 'x', which is no number"),
    ({"rerank_plus_weight": "x"}, "'rerank_plus_weight' is 'x', which is no number"),
    ({"plain": None}, "'plain' is None, which is no table"),
    ({"plain": {"r1": [0.5, None]}}, "'plain r1' is None, which is no number"),
    ({"source": 3}, "'source' is 3, which is no text")])
def test_a_report_that_was_changed_by_hand_is_named(tmp_path, changes, says, note):
    facts = read_report(data_folder() / "tiny")
    (tmp_path / "report.json").write_text(json.dumps(facts))
    assert read_report(tmp_path) == facts
    (tmp_path / "report.json").write_text(json.dumps(facts | changes))
    message = f"{tmp_path}/report.json is damaged .{says}.; `minalbef evaluate"
    with pytest.raises(ValueError, match=message):
        read_report(tmp_path)
    note(f"report.json: {changes}", 1, "refused by name")


def test_two_sets_of_your_own_never_share_a_report_and_it_knows_its_set_and_weights(tmp_path):
    run = shutil.copytree(data_folder() / "tiny", tmp_path / "run")
    reports = []
    for name in ("one", "two"):
        source = photographs(tmp_path / name, 3)
        for i in range(3):
            (source / f"{i}.txt").write_text(f"a cat, {name} {i}")
        prepare("pairs", source, tmp_path / "out" / name)
        data = tmp_path / "out" / name / "pairs"
        split = next(iter(json.loads((data / "about.json").read_text())["splits"]))
        reports.append(evaluate_set(run, data / split))
        assert reports[-1]["manifest"] == hash_of(data, split)
    assert len(list(run.glob("pairs-*/report.json"))) == 2 and reports[0] != reports[1]
    assert {report["weights"] for report in reports} == {checkpoint.hash_of_weights(run)}


def test_results_are_never_written_outside_of_the_runs_folder(tmp_path):
    for name in ("../x", "/x", "..", "", "a\\b", "a/b"):
        with pytest.raises(ValueError, match="can't name a folder of results"):
            set_folder(tmp_path / "run", name, "test", "0" * 32)
    assert set_folder(tmp_path / "run", "pairs", "test", "0123456789") == tmp_path / "run" / "pairs-test-01234567"
    assert set_folder(tmp_path / "run", "coco", "test", "0123456789") == tmp_path / "run" / "coco-test"
    assert output_folder(tmp_path / "snapshots" / "run") == tmp_path / "snapshots" / "run", "not the hub's cache"
