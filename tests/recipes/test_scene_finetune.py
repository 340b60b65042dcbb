"""Five tasks on scenes, from a pretrained run to a report, in a size for tests."""
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from checkout import python_path
from emojiscenes.problems import answer_list
from helpers import small
from minalbef.albef import ALBEF
from minalbef.data import data_folder
from minalbef.evaluation import answers
from minalbef.recipes import finetune, report
from minalbef.recipes.evaluate import evaluate
from minalbef.recipes.finetune import settings
from minalbef.scenes import tables, task_problems
from minalbef.scenes.task_problems import ProblemBatches
from minalbef.scenes.tasks import grounding as grounding_scenes
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.system import checkpoint, distributed
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import vqa
from minalbef.tasks.table import load_model

BASELINES = {"retrieval": {"chance", "pretrained"}, "entailment": {"majority"},
             "vqa": {"majority", "chance"}, "nlvr2": {"majority"},
             "grounding": {"random_box", "largest_box", "random_point", "pretrained",
                           "warm_start", "random_weights", "shuffled_text"}}
QUICK = ("image_size=32", "epoch=16", "epochs=1", "batch=8", "warmup_steps=1")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A pretrained run, as far as files go, with its warm start."""
    folder = tmp_path_factory.mktemp("source")
    tokenizer = Tokenizer.load(data_folder() / "tiny" / "tokenizer.json")
    torch.manual_seed(0)
    model = ALBEF(small(objects=50, vocab_size=len(tokenizer), text_length=30, positions=32))
    checkpoint.save(folder, model, tokenizer)
    checkpoint.save(folder / "start", model, tokenizer)
    return folder


@pytest.fixture(scope="module")
def tuned(source, tmp_path_factory):
    """Task -> a run folder with two steps of training."""
    folders = {}
    for task in SCENE_TASKS:
        folders[task] = tmp_path_factory.mktemp("tuned") / task
        finetune.finetune(task, source, folders[task], settings(task, source, QUICK),
                          assign=16, quiet=True)
    return folders


@pytest.mark.parametrize("task", SCENE_TASKS)
def test_a_task_goes_from_a_pretrained_run_to_a_report(task, tuned, source):
    result = evaluate(tuned[task], None, tuned[task], "a command", source=source, size=0.02)
    assert result == report.read_report(tuned[task]) and result["task"] == task
    model, tokenizer, _ = load_model(task, tuned[task])
    config = getattr(model, "albef", model).config
    # the least number that an evaluation asks
    def fresh(name, number):
        return list(map(task_problems.problems(name, "test", config, 0).draw, range(36)))
    samples = task_problems.evaluate_problems(task, model, tokenizer, fresh).samples
    for title, paths in SCENE_TASKS[task].titles:
        for path in paths.split(" / "):
            value = tables.at(result["test"], path)
            mean = tables.at(samples, path).mean().item()
            assert value == pytest.approx(mean, abs=5e-5), title
            low, high = tables.at(result["intervals"]["test"], path)
            assert 0 <= low <= value <= high <= 1, title
    assert set(result["baselines"]) == BASELINES[task]
    assert ("map" in result) == (task == "grounding")
    table = tables.task_table([result])
    plain = tables.at(result, "counts.test.plain.itc_i2t_r1")
    assert "None" not in table
    for title, _ in SCENE_TASKS[task].titles:
        assert title.format(block=plain) in table


@pytest.mark.parametrize("task", SCENE_TASKS)
def test_two_processes_share_the_batch_of_one(task, source, monkeypatch):
    config = settings(task, source, ["batch=16"])
    tokenizer = checkpoint.read_run(source)[2]
    def batches():
        return ProblemBatches(task, config, tokenizer)
    batch = batches()(3)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    halves = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        halves.append(batches()(3))
    length = batch.tokens.shape[1]
    sources = len(SCENE_TASKS[task].problems)
    # with two sources, each half has its part of both
    share = len(batch.ids) // sources // 2
    parts = []
    for i in range(sources):
        for half in halves:
            rows = F.pad(half.tokens, (0, length - half.tokens.shape[1]))
            parts.append(rows[i * share:(i + 1) * share])
    assert torch.equal(torch.cat(parts), batch.tokens)
    ids = halves[0].ids.tolist() + halves[1].ids.tolist()
    assert sorted(batch.ids.tolist()) == sorted(ids)


# evaluations, by models that know the truth


def draw(name, number):
    source = task_problems.problems(name, "test", small(objects=50), 5)
    return list(map(source.draw, range(36)))


def test_who_knows_the_answer_gets_what_the_annotators_agree_on(monkeypatch, tuned):
    model, tokenizer, _ = load_model("vqa", tuned["vqa"])
    problems = draw("vqa", 36)
    words = answer_list(50)
    choices = torch.tensor([[words.index(p.answer)] for p in problems])
    monkeypatch.setattr(vqa, "rank", lambda *_, **options: (choices, None))
    samples = task_problems.evaluate_problems("vqa", model, tokenizer, draw).samples
    # seven or more of ten annotators say it, numbers too
    assert samples["accuracy"].values.min() >= 0.99
    assert {"two", "three"} & {p.answer for p in problems} and answers.normalise("two") == "2"
    assert set(samples["by_kind"]) == {p.kind for p in problems}


def test_groundings_map_is_chosen_on_validation_whatever_is_evaluated(monkeypatch):
    calls = []
    evaluated = []
    def note_problems(name, split, config, seed):
        calls.append((name, split, seed))
        return SimpleNamespace(draw=lambda i: i)
    def note_evaluation(model, tokenizer, records, how):
        evaluated.append((records, how.mode, how.layer))
        return {"proposals": torch.tensor([float(how.mode == "mlm")])}, {}
    uncached = grounding_scenes.validation_problems.__wrapped__
    monkeypatch.setattr(grounding_scenes, "validation_problems", uncached)
    monkeypatch.setattr(grounding_scenes, "problems", note_problems)
    monkeypatch.setattr(grounding_scenes, "make_records",
                        lambda record, problems, *_: problems)
    monkeypatch.setattr(grounding_scenes.grounding, "evaluate_grounding", note_evaluation)
    place = grounding_scenes.choose_map(ALBEF(small(objects=50)), None)
    assert place == {"mode": "mlm", "layer": 0}
    assert calls == [("grounding", "validation", 1_000_000)], "the test has no say"
    assert [records for records, _, _ in evaluated] == [list(range(200))] * 6
    places = [(mode, layer) for mode in ("itm", "mlm", "itc") for layer in (0, 1)]
    assert [(mode, layer) for _, mode, layer in evaluated] == places


# the command line, and what it refuses


def run(*arguments, folder: Path):
    env = os.environ | {"PYTHONPATH": python_path(Path(__file__).parents[2])}
    return subprocess.run([sys.executable, "-m", "minalbef", *map(str, arguments)],
                          capture_output=True, text=True, cwd=folder, env=env)


def test_the_command_trains_in_two_processes_and_evaluates(source, tmp_path):
    result = run("finetune", "entailment", *QUICK, "--from", source, "--baselines",
                 "text_alone", "--size", "0.02", "--quiet", "--processes", "2",
                 folder=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "entailment: accuracy, three classes" in result.stdout
    assert "text alone" in result.stdout
    record = json.loads((tmp_path / "runs/entailment/evaluation/report.json").read_text())
    assert record["task"] == "entailment"
    assert {"majority", "text_alone"} == set(record["baselines"])
    assert record["seconds"]["train"] > 0
    assert record["command"].startswith("minalbef finetune entailment")
    result = run("evaluate", "entailment", "--from", source, "--size", "0.02", folder=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "accuracy, three classes" in result.stdout
