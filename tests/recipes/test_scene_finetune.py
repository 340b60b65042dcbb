"""finetune, evaluate, task_problems: five tasks from a pretrained run to a report, in a size for tests."""
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from checkout import python_path
from emojiscenes import phrasing
from emojiscenes.problems import answer_list
from helpers import small
from minalbef import checkpoint, distributed, load
from minalbef.albef import ALBEF
from minalbef.cli import main, measure
from minalbef.data import data_folder
from minalbef.evaluation import answers, intervals
from minalbef.recipes import finetune, report
from minalbef.recipes.evaluate import baseline_models, evaluate_run
from minalbef.recipes.finetune import at_size, finetune_with_baselines, settings
from minalbef.scenes import tables, task_problems
from minalbef.scenes.task_problems import ProblemBatches
from minalbef.scenes.tasks import grounding as grounding_scenes
from minalbef.scenes.tasks import vqa as vqa_scenes
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.tasks import nlvr2, vqa
from minalbef.tasks.table import TASKS, load_model
from minalbef.tokenizer import Tokenizer
from runs import change_settings

BASELINES = {"retrieval": {"chance", "pretrained"}, "entailment": {"majority"}, "vqa": {"majority", "chance"},
             "nlvr2": {"majority"}, "grounding": {"random_box", "largest_box", "random_point", "pretrained",
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
        finetune.finetune(task, source, folders[task], settings(task, source, QUICK), assign=16, quiet=True)
    return folders


@pytest.mark.parametrize("task", SCENE_TASKS)
def test_a_task_goes_from_a_pretrained_run_to_a_report(task, tuned, source):
    found = evaluate_run(tuned[task], "a command", source, size=0.02)
    assert found == report.read_report(tuned[task]) and found["task"] == task
    model, tokenizer, _ = load_model(task, tuned[task])
    config = getattr(model, "albef", model).config
    def fresh(name, number):                             # the least number that an evaluation asks
        source = task_problems.problems(name, "test", config, 0)
        return [source.draw(i) for i in range(36)]
    samples = task_problems.evaluate_problems(task, model, tokenizer, fresh).samples
    for title, paths in SCENE_TASKS[task].titles:
        for path in paths.split(" / "):
            value = tables.at(found["test"], path)
            assert value == pytest.approx(tables.at(samples, path).mean().item(), abs=5e-5), title
            low, high = tables.at(found["intervals"]["test"], path)
            assert 0 <= low <= value <= high <= 1, title
    assert set(found["baselines"]) == BASELINES[task]
    assert ("map" in found) == (task == "grounding")
    table = tables.task_table([found])
    plain = tables.at(found, "counts.test.plain.itc_i2t_r1")
    assert all(title.format(block=plain) in table for title, _ in SCENE_TASKS[task].titles) and "None" not in table


def test_the_start_that_ships_is_a_baseline_with_its_own_vocabulary(tmp_path):
    tiny, start = load(data_folder() / "tiny"), load(data_folder() / "tiny" / "start")
    assert len(tiny.tokenizer) != len(start.tokenizer), "with one vocabulary this test says nothing"
    config = settings("grounding", data_folder() / "tiny")
    models = baseline_models("grounding", at_size(tiny.model, config), tiny.tokenizer, tmp_path, data_folder() / "tiny")
    found = {name: parts for name, *parts in models}
    assert list(found) == ["pretrained", "warm_start", "random_weights", "shuffled_text"]
    for name, run in (("pretrained", tiny), ("warm_start", start)):
        model, tokenizer, hide = found[name]
        words, own = (each.encode(["a big cat left of a dog"]) for each in (tokenizer, run.tokenizer))
        assert_close(model.encode_text(*words), run.model.encode_text(*own))
        assert model.config.image_size == config.image_size and not hide
    assert found["shuffled_text"][1:] == [tiny.tokenizer, "shuffled"]


def test_begun_at_its_own_size_a_model_is_the_pretrained_one_and_else_only_positions_differ(source):
    model, config = load(source).model, checkpoint.read_run(source)[0]
    image = torch.randn(2, 3, 24, 24)
    assert_close(at_size(model, config).encode_image(image), model.encode_image(image))
    larger = at_size(model, settings("vqa", source, QUICK))
    assert larger.image_encoder.pos_embed.shape[1] == 17
    assert [name for name, value in model.state_dict().items() if value.shape != larger.state_dict()[name].shape
            or not torch.equal(value, larger.state_dict()[name])] == [checkpoint.POSITIONS[0]]


def test_vqa_and_nlvr2_begin_with_what_fusion_learnt(source):
    fusion = load(source).model.fusion.layers
    task = vqa.VQA(config := settings("vqa", source, QUICK))
    finetune.begin(task, source, config)
    assert torch.equal(task.student.decoder.layers[1].attn.q.weight, fusion[1].attn.q.weight)
    assert torch.equal(task.teacher.decoder.layers[1].attn.q.weight, fusion[1].attn.q.weight)
    task = nlvr2.NLVR2(config := settings("nlvr2", source, QUICK))
    finetune.begin(task, source, config)
    for layer in (2, 3):
        assert torch.equal(task.student.albef.fusion.layers[layer].attn.q.weight, fusion[1].attn.q.weight)


@pytest.mark.parametrize("task", SCENE_TASKS)
def test_two_processes_share_the_batch_of_one(task, source, monkeypatch):
    config, tokenizer = settings(task, source, ["batch=16"]), checkpoint.read_run(source)[2]
    def batches():
        return ProblemBatches(task, config, tokenizer)
    whole = batches()(3)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    halves = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        halves.append(batches()(3))
    length = whole.tokens.shape[1]
    sources = len(SCENE_TASKS[task].problems)
    share = len(whole.ids) // sources // 2       # with two sources, each half has its part of both
    parts = [F.pad(half.tokens, (0, length - half.tokens.shape[1]))[i * share:(i + 1) * share]
             for i in range(sources) for half in halves]
    assert torch.equal(torch.cat(parts), whole.tokens)
    assert sorted(whole.ids.tolist()) == sorted(halves[0].ids.tolist() + halves[1].ids.tolist())


@pytest.mark.parametrize("task", ["entailment", "vqa", "nlvr2"])
def test_what_is_hidden_cannot_be_seen(task, source):
    tokenizer = checkpoint.read_run(source)[2]
    some = [task_problems.problems(task, "train", small(objects=50), 0).draw(i) for i in range(8)]
    batch = {hide: task_problems.batch(task, some, tokenizer, 24, hide) for hide in ("", "image", "text", "right")}
    def alike(x):
        return bool((x == x[:1]).all())
    assert not alike(batch[""].image) and not alike(batch[""].tokens)
    assert alike(batch["image"].image) and torch.equal(batch["image"].tokens, batch[""].tokens)
    assert alike(batch["text"].tokens) and torch.equal(batch["text"].image, batch[""].image)
    if task == "nlvr2":
        second, first = ({hide: one.image[one.pairs[:, i]] for hide, one in batch.items()} for i in (1, 0))
        assert alike(second["image"]) and alike(second["right"]) and torch.equal(first["right"], first[""])
        assert len(batch[""].image) == 8, "each of four pairs shares its two pictures"


@pytest.mark.parametrize("task", SCENE_TASKS)
def test_texts_are_cut_where_the_settings_say_in_training_and_in_the_exam(task, source, monkeypatch):
    seen, encode = [], Tokenizer.encode
    def remember(self, texts, length=25, *more, **options):
        seen.append(length)
        return encode(self, texts, length, *more, **options)
    monkeypatch.setattr(Tokenizer, "encode", remember)
    monkeypatch.setitem(SCENE_TASKS, task, replace(SCENE_TASKS[task], choose=None))
    config, tokenizer = settings(task, source, ["batch=16", "text_length=7"]), checkpoint.read_run(source)[2]
    assert ProblemBatches(task, config, tokenizer)(0).tokens.shape[1] == 7
    model = TASKS[task].module(config).student.eval()
    task_problems.evaluate_problems(task, model, tokenizer, lambda name, number: draw(name, number)[:8])
    assert set(seen) - {10_000} == {7}, "VQA's answers are not cut"


# evaluations, by models that know the truth


def draw(name, number):
    source = task_problems.problems(name, "test", small(objects=50), 5)
    return [source.draw(i) for i in range(36)]


def test_consistency_is_all_four_pairs_of_a_statement(monkeypatch, tuned):
    model, tokenizer, _ = load_model("nlvr2", tuned["nlvr2"])
    truth = torch.tensor([int(p.true) for p in draw("nlvr2", 36)])
    truth[5] = 1 - truth[5]
    monkeypatch.setattr(nlvr2.PairModel, "forward", lambda *_: torch.eye(2)[truth])
    found = task_problems.evaluate_problems("nlvr2", model, tokenizer, draw).samples
    assert_close(found["accuracy"].mean(), torch.tensor(35 / 36))
    assert_close(found["consistency"].mean(), torch.tensor(8 / 9))


def test_who_knows_the_answer_gets_what_the_annotators_agree_on(monkeypatch, tuned):
    model, tokenizer, _ = load_model("vqa", tuned["vqa"])
    drawn, listed = draw("vqa", 36), answer_list(50)
    chosen = torch.tensor([[listed.index(p.answer)] for p in drawn])
    monkeypatch.setattr(vqa, "rank", lambda *_, **options: (chosen, None))
    found = task_problems.evaluate_problems("vqa", model, tokenizer, draw).samples
    assert found["accuracy"].values.min() >= 0.99, "seven or more of ten annotators say it, numbers too"
    assert {"two", "three"} & {p.answer for p in drawn} and answers.normalise("two") == "2"
    assert set(found["by_kind"]) == {p.kind for p in drawn}


def test_pairs_of_one_statement_are_one_cluster(monkeypatch, tuned):
    model, tokenizer, _ = load_model("nlvr2", tuned["nlvr2"])
    monkeypatch.setattr(nlvr2.PairModel, "forward", lambda *_: torch.eye(2)[torch.ones(36, dtype=torch.long)])
    found = task_problems.evaluate_problems("nlvr2", model, tokenizer, draw).samples
    assert len(found["accuracy"]) == 9 and found["accuracy"].cluster.tolist() == [i // 4 for i in range(36)]
    assert sum(map(len, found["by_kind"].values())) == 9
    assert intervals.interval(found["accuracy"]) == [0.5, 0.5], "two of a statement's four are true, always"


def test_no_constant_answer_beats_the_majority_and_baselines_are_scored_as_models_are(monkeypatch, tuned):
    model, tokenizer, _ = load_model("vqa", tuned["vqa"])
    source = task_problems.problems("vqa", "test", small(objects=50), 5)
    drawn, listed = [source.draw(i) for i in range(120)], answer_list(50)
    simple, yes = vqa_scenes.baselines(lambda *_: drawn), listed.index("yes")
    scores = {}
    for kind in phrasing.ASKED:
        asked = [p for p in drawn if p.kind == kind]
        scores[kind] = {said: sum(vqa_scenes.agreement(said, p) for p in asked) / 20 for said in listed}
    for kind, found in simple["majority"]["by_kind"].items():
        assert found.mean().item() == pytest.approx(max(scores[kind].values())), kind
    polar = scores["yes or no"]
    assert simple["chance"]["by_kind"]["yes or no"].mean().item() == pytest.approx((polar["yes"] + polar["no"]) / 2)
    p = next(p for p in drawn if p.kind == "compare" and len(set(p.answers)) == 1)
    assert simple["chance"]["accuracy"].values[drawn.index(p)] == 0.5, "the question names both that may be right"
    monkeypatch.setattr(vqa, "rank", lambda model, batch, *_, **how: (torch.full((len(batch.tokens), 1), yes), None))
    samples = task_problems.evaluate_problems("vqa", model, tokenizer, lambda *_: drawn).samples
    said_yes = samples["by_kind"]["yes or no"].mean().item()
    assert said_yes == pytest.approx(polar["yes"]) and said_yes != 0.5, "the annotators count, not the one right answer"


def test_an_evaluation_draws_from_its_split_and_the_report_says_which(monkeypatch, tuned, source, tmp_path):
    asked, drawn = [], task_problems.problems
    monkeypatch.setattr(task_problems, "problems", lambda *given: asked.append((given[1], given[3])) or drawn(*given))
    shutil.copytree(tuned["entailment"], run := tmp_path / "run")
    measure.evaluate(str(run), seed=7, scenes=measure.EvaluateScenes(source=source, size=0.02, split="validation"))
    found = report.read_report(run / "evaluation")
    assert set(asked) == {("validation", 7)} and (found["split"], found["scenes_seed"]) == ("validation", 7)
    with pytest.raises(ValueError, match="--split: of use on the embedded scenes alone; leave it out with --data"):
        scenes = measure.EvaluateScenes(split="validation")
        main.COMMANDS["evaluate"](str(run), scenes=scenes, data=Path("prepared/coco"))


def test_groundings_map_is_chosen_on_validation_whatever_is_evaluated(monkeypatch):
    asked, evaluated = [], []
    def note_problems(name, split, config, seed):
        asked.append((name, split, seed))
        return SimpleNamespace(draw=lambda i: i)
    def note_evaluation(model, tokenizer, records, how):
        evaluated.append((records, how.mode, how.layer))
        return {"proposals": torch.tensor([float(how.mode == "mlm")])}, {}
    monkeypatch.setattr(grounding_scenes, "validation_problems", grounding_scenes.validation_problems.__wrapped__)
    monkeypatch.setattr(grounding_scenes, "problems", note_problems)
    monkeypatch.setattr(grounding_scenes, "make_records", lambda record, problems, *_: problems)
    monkeypatch.setattr(grounding_scenes.grounding, "evaluate_grounding", note_evaluation)
    assert grounding_scenes.choose_map(ALBEF(small(objects=50)), None) == {"mode": "mlm", "layer": 0}
    assert asked == [("grounding", "validation", 1_000_000)], "the test has no say"
    assert [records for records, _, _ in evaluated] == [list(range(200))] * 6
    places = [(mode, layer) for mode in ("itm", "mlm", "itc") for layer in (0, 1)]
    assert [(mode, layer) for _, mode, layer in evaluated] == places


def test_simple_baselines_by_hand(tuned):
    assert_close(intervals.commonest(["a", "b", "b"]), torch.tensor([0.0, 1.0, 1.0]))
    model, tokenizer, _ = load_model("entailment", tuned["entailment"])
    found = task_problems.evaluate_problems("entailment", model, tokenizer, draw)
    assert_close(found.baselines["majority"]["accuracy"].mean(), torch.tensor(1 / 3))
    boxes = grounding_scenes.baselines(draw)
    assert 0 < boxes["random_point"]["pointing"].mean() < 0.2 and 0.1 < boxes["random_box"]["proposals"].mean() < 0.3


# the command line, and what it refuses


def run(*arguments, folder: Path):
    return subprocess.run([sys.executable, "-m", "minalbef", *map(str, arguments)], capture_output=True,
                          text=True, cwd=folder, env={**__import__("os").environ,
                                                      "PYTHONPATH": python_path(Path(__file__).parents[2])})


def test_the_command_trains_in_two_processes_and_evaluates(source, tmp_path):
    result = run("finetune", "entailment", *QUICK, "--from", source, "--baselines", "text_alone", "--size",
                 "0.02", "--quiet", "--processes", "2", folder=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "entailment: accuracy, three classes" in result.stdout and "text alone" in result.stdout
    found = json.loads((tmp_path / "runs/entailment/evaluation/report.json").read_text())
    assert found["task"] == "entailment" and {"majority", "text_alone"} == set(found["baselines"])
    assert found["seconds"]["train"] > 0 and found["command"].startswith("minalbef finetune entailment")
    result = run("evaluate", "entailment", "--from", source, "--size", "0.02", folder=tmp_path)
    assert result.returncode == 0 and "accuracy, three classes" in result.stdout, result.stderr[-3000:]


@pytest.mark.parametrize("arguments, message", [
    (("entailmnt",), "no task 'entailmnt' (did you mean 'entailment'?); there are retrieval"),
    (("vqa", "--baselines", "left_alone"), "vqa has no baseline 'left_alone' (did you mean 'text_alone'?) to train"),
    (("vqa", "lr"), "'lr' is no change of an option; write name=value"),
    (("vqa", "batsh=8"), "no option 'batsh' (did you mean 'batch'?)"),
    (("vqa", "--from", "nowhere"), "nowhere is not a run folder")])
def test_what_finetune_cannot_do_is_said_before_it_trains(arguments, message, source):
    task, *rest = arguments
    baselines = (rest[1],) if "--baselines" in rest else ()
    changes = () if "--baselines" in rest or "--from" in rest else tuple(rest)
    origin = Path("nowhere") if "--from" in rest else source
    with pytest.raises(ValueError) as caught:
        finetune_with_baselines(task, origin, Path("never"), changes, baselines)
    assert message in str(caught.value)


def test_a_batch_that_kinds_of_problems_and_processes_cannot_share_is_refused(source):
    with pytest.raises(ValueError, match="batch=63 is not a multiple of 2 .1 processes, for each of 2 kinds"):
        ProblemBatches("retrieval", settings("retrieval", source, ["batch=63"]), load(source).tokenizer)


def test_an_evaluation_knows_the_run_that_a_task_began_from(source, tuned, monkeypatch, tmp_path):
    shutil.copytree(tuned["grounding"], tmp_path / "runs" / "grounding")
    monkeypatch.chdir(tmp_path)
    def evaluate(*arguments):
        monkeypatch.setattr(sys, "argv", ["minalbef", "evaluate", "grounding", "--size", "0.02", *arguments])
        main.main()
    evaluate("--from", str(source), "--out", "first")
    shutil.copy("first/report.json", "runs/grounding/report.json")
    checkpoint.save("runs/demo", ALBEF(small(seed=1)), load(source).tokenizer)      # not what it began from
    evaluate("--out", "second")
    first, second = (json.loads(Path(name, "report.json").read_text()) for name in ("first", "second"))
    assert first["source"] == second["source"] == str(source) and first["baselines"] == second["baselines"]


def test_a_run_of_another_kind_is_refused(source, tuned, tmp_path):
    with pytest.raises(ValueError, match="is a run of vqa, and nlvr2 begins from one of pretrain"):
        settings("nlvr2", tuned["vqa"])
    with pytest.raises(ValueError, match="share=0.5 is for pretraining; to fine-tune on part of a set, prepare it"):
        settings("vqa", source, ["share=0.5"])
    shutil.copytree(tuned["retrieval"], run := tmp_path / "run")
    change_settings(run, task="text_assignment")
    with pytest.raises(ValueError, match="is a run of text_assignment; `minalbef finetune` makes those of"):
        evaluate_run(run)
