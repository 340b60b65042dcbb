"""Six tasks from a prepared set and a pretrained run to a report."""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands import call
from helpers import disturb, same_state, small
from minalbef.albef import ALBEF
from minalbef.data import Record, transform
from minalbef.datasets import loader
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records
from minalbef.evaluation.loop import How
from minalbef.presets import preset
from minalbef.recipes import finetune, pretrain, report
from minalbef.recipes.evaluate import evaluate, table
from minalbef.recipes.finetune import settings
from minalbef.recipes.provenance import trained_on
from minalbef.system import checkpoint, distributed
from minalbef.system.images import open_image
from minalbef.system.metrics import read_table
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import nlvr2, vqa
from minalbef.tasks.entailment import EntailmentRecord
from minalbef.tasks.table import TASKS, load_model
from miniature_sets import change_about, refcoco, write
from runs import change_settings

TUNED = [task for task, row in TASKS.items() if row.begins_from]
# three steps
QUICK = ("image_size=32", "batch=4", "epochs=2", "epoch=6", "warmup_steps=1", "save_every=2",
         "lr=0.01")
SETS = {"retrieval": "coco", "text_assignment": "coco", "entailment": "entailment",
        "vqa": "vqa", "nlvr2": "nlvr2", "grounding": "grounding"}
COLOURS = "red green blue white black brown".split()
# in normal form, as the official evaluation expects
ANSWERS = ["red", "big dogs", "yes", "on walls"]
SEEN = "train2014/COCO_train2014_{:012d}.jpg"
ASKED = "val2014/COCO_val2014_{:012d}.jpg"


def recipe_of(task, data, source, name="", changes=()):
    return settings(task, source, changes, data, name)


def finetune_on(task, data, source, run, name="", changes=(), **options):
    finetune.finetune(task, source, run, recipe_of(task, data, source, name, changes), data,
                      **options)


def picture(path: Path, seed: int):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(noise).resize((60, 40), Image.Resampling.NEAREST).save(path, quality=95)


LABELS = "neutral entailment contradiction neutral entailment neutral".split()


def originals(folder: Path):
    """Six pictures to train on and six to be asked about, and each task's lists of them."""
    splits = {"train": list(map(SEEN.format, range(1, 7))),
              "test": list(map(ASKED.format, range(11, 17)))}
    for i, name in enumerate([*splits["train"], *splits["test"]]):
        picture(folder / "all" / name, i)
        picture(folder / "all" / "flickr30k-images" / f"{i}.jpg", i)
    answers = []
    for i in range(5):
        answers.append([ANSWERS[i % 4]] * 2 + [ANSWERS[(i + 1) % 4]] * 8)
    answers.append(["a sofa"] * 10)
    for split, files in splits.items():
        write(folder / "coco" / f"coco_{split}.json", [
            {"image": name, "caption": [f"a {colour} cat", f"{colour} dogs on the wall"]}
            for name, colour in zip(files, COLOURS)])
        write(folder / "entailment" / f"ve_{split}.json", [
            {"image": str(i + 6 * (split == "test")), "sentence": f"the cat is {COLOURS[i]}",
             "label": label}
            for i, label in enumerate(LABELS)])
        write(folder / "nlvr2" / f"nlvr_{split}.json", [
            {"images": [files[i], files[-1 - i]], "sentence": f"two dogs and {i // 2} cats",
             "label": str(i % 2 == 0)}
            for i in range(6)])
        write(folder / "vqa" / f"vqa_{split}.json", [
            {"question_id": 70 + i, "question": f"what is {COLOURS[i]}?", "image": name,
             "dataset": "vqa", "answer": answers[i]}
            for i, name in enumerate(files)])
    write(folder / "vqa" / "answer_list.json", ANSWERS)
    refs = [{"ref_id": i, "ann_id": 10 + i, "image_id": 1 + i,
             "split": ("train", "testA", "testB", "val")[i],
             "sentences": [{"sent": f"the {colour} cat"} for colour in COLOURS[:4 - i % 2]]}
            for i in range(4)]
    boxes = [[8.0, 4.0, 20.0, 16.0], [30.0, 10.0, 25.0, 25.0],
             [2.0, 20.0, 40.0, 18.0], [0.0, 0.0, 30.0, 40.0]]
    refcoco(folder / "grounding", refs)
    write(folder / "grounding" / "instances.json", {
        "images": [{"id": i, "file_name": Path(SEEN.format(i)).name, "height": 40, "width": 60}
                   for i in range(1, 5)],
        "annotations": [{"id": 10 + i, "bbox": box} for i, box in enumerate(boxes)]})
    write(folder / "grounding" / "dets.json",
          {str(i): [[0, 0, 30, 40], [31, 9, 24, 26], [2, 2, 56, 36]] for i in range(1, 5)})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    originals(folder)
    for name in dict.fromkeys(SETS.values()):
        prepare(name, folder / name, folder / "prepared", images=[folder / "all"])
    return folder / "prepared"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A pretrained run, as far as files go, whose teacher differs from its student."""
    tokenizer = Tokenizer.train([*COLOURS, *ANSWERS,
                                 "a cat two what is the and or 0 1 2 sofa"], 96)
    torch.manual_seed(0)
    config = small(vocab_size=len(tokenizer), positions=32)
    model = disturb(ALBEF(config), 0.2, 1)
    teacher = disturb(ALBEF(config), 0.2, 2)
    model.temperature.data.fill_(0.05)
    checkpoint.save(folder := tmp_path_factory.mktemp("source"), model, tokenizer, teacher)
    return folder


@pytest.fixture(scope="module")
def tuned(prepared, source, tmp_path_factory) -> dict[str, Path]:
    """Task -> a run folder after three steps; nlvr2's was begun from that of text assignment."""
    runs = {}
    for task in TUNED:                           # text assignment comes before nlvr2
        runs[task] = tmp_path_factory.mktemp("tuned") / task
        start = runs["text_assignment"] if task == "nlvr2" else source
        finetune_on(task, [prepared / SETS[task]], start, runs[task], changes=QUICK, quiet=True)
    return runs


# training


@pytest.mark.parametrize("task", TUNED)
def test_a_run_stopped_and_taken_up_again_ends_with_the_same_weights(
        task, tuned, prepared, source, tmp_path, monkeypatch):
    start = tuned["text_assignment"] if task == "nlvr2" else source
    real = loader.RecordBatches.__call__
    def failing(self, step):
        if step == 2:
            raise KeyboardInterrupt
        return real(self, step)
    arguments = task, [prepared / SETS[task] / "train"], start, tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loader.RecordBatches, "__call__", failing)
        finetune_on(*arguments, changes=QUICK, quiet=True)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    finetune_on(*arguments, changes=QUICK, quiet=True)
    files = ["model.safetensors", "teacher.safetensors"]
    for file in files[:1 if task == "text_assignment" else 2]:
        weights = checkpoint.load_file(tmp_path / "run" / file)
        assert same_state(checkpoint.load_file(tuned[task] / file), weights)
    config, kind, _, weights = checkpoint.read_run(tuned[task])
    assert kind == task
    assert config.steps == 3
    assert config.image_size == 32
    assert config.image_width == 32
    name = next(name for name in weights if name.endswith("image_encoder.pos_embed"))
    assert weights[name].shape[1] == 17
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 3
    assert (tuned[task] / "metrics.csv").exists()
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3
    with pytest.raises(ValueError,
                       match="holds a run with other settings .lr: 0.01 there, 0.02 here"):
        finetune_on(*arguments, changes=(*QUICK, "lr=0.02"), quiet=True)


@pytest.mark.parametrize("task, name",
                         [("retrieval", "retrieval-coco"), ("vqa", "vqa"), ("nlvr2", "nlvr2"),
                          ("text_assignment", "nlvr2-assign"), ("grounding", "grounding"),
                          ("entailment", "entailment")])
def test_the_recipe_is_the_papers_and_the_model_its_own(
        task, name, prepared, source, tmp_path):
    # as large as the paper's in pictures and batch
    large = shutil.copytree(source, tmp_path / "run")
    change_settings(large, image_size=256, batch=512, lr=1e-4)
    data = prepared / SETS[task]
    base = checkpoint.read_run(large)[0]
    paper = preset(name)
    config = recipe_of(task, [data, data / "test"], large)
    for field in ("image_size", "crop", "lr", "lr_end", "batch", "epochs", "alpha",
                  "warmup_steps", "top"):
        assert getattr(config, field) == getattr(paper, field)
    assert config.text_length == min(paper.text_length, base.positions)
    for field in ("image_width", "vocab_size", "positions", "queue_size", "embed_dim",
                  "dropout"):
        assert getattr(config, field) == getattr(base, field)
    number = len(Records(data, "train")) + len(Records(data, "test"))
    assert config.epoch == number, "two sets are one epoch"
    changed = recipe_of(task, [data], large, "retrieval-flickr", ("epochs=1", "queue_size=8"))
    assert (changed.epochs, changed.lr, changed.queue_size) == (1, 1e-5, 8)


def test_a_small_runs_pictures_grow_by_as_much_as_the_papers(prepared, source, tuned):
    for task, run, size in (("retrieval", source, 32), ("grounding", tuned["retrieval"], 32),
                            ("nlvr2", tuned["text_assignment"], 48)):
        config = recipe_of(task, [prepared / SETS[task]], run)
        # 24 * 384 / 256, in patches of 8
        assert config.image_size == size, task
        assert config.batch == checkpoint.read_run(run)[0].batch, task


def test_a_small_models_learning_rates_grow_as_its_own_was_above_the_papers(
        prepared, source, tmp_path):
    assert checkpoint.read_run(source)[0].lr == 1e-3 and preset("paper-4m").lr == 1e-4
    paper = preset("retrieval-coco")
    for lr, growth in ((1e-3, 10), (2e-5, 1)):                   # never below the paper's
        run = shutil.copytree(source, tmp_path / str(lr))
        config = json.loads((run / "config.json").read_text()) | {"lr": lr}
        (run / "config.json").write_text(json.dumps(config))
        config = recipe_of("retrieval", [prepared / "coco"], run)
        for field in ("lr", "lr_start", "lr_end"):
            rate = growth * getattr(paper, field)
            assert getattr(config, field) == pytest.approx(rate), field
    config = recipe_of("retrieval", [prepared / "coco"], source, changes=("lr=0.5",))
    assert config.lr == 0.5


@pytest.mark.parametrize("task, data, options, message", [
    ("retreival", "coco", {},
     r"no task 'retreival' .did you mean 'retrieval'..; there are retrieval, entailment"),
    ("retrieval", "entailment", {},
     "holds records of EntailmentRecord, and retrieval learns from Record: name a set"),
    ("vqa", "vqa", {"changes": ("image_depth=1",)},
     "image_depth=1: the model of .* has 2, which training cannot change")])
def test_what_does_not_fit_together_is_said_before_training(
        task, data, options, message, prepared, source, tmp_path):
    with pytest.raises(ValueError, match=message):
        finetune_on(task, [prepared / data], source, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_run_to_begin_from_must_fit_and_is_not_overwritten(
        prepared, source, tuned, tmp_path):
    with pytest.raises(ValueError,
                       match="is a run of retrieval, and vqa begins from one of pretrain; name it with --from"):
        finetune_on("vqa", [prepared / "vqa"], tuned["retrieval"], tmp_path / "run")
    with pytest.raises(ValueError,
                       match="would be overwritten; choose another folder with --run"):
        finetune_on("vqa", [prepared / "vqa"], source, source)
    with pytest.raises(ValueError,
                       match="question 70, 'what is red.', has no answer to learn from|no answer"):
        secret = secretly(prepared, tmp_path)
        finetune_on("vqa", [secret / "test"], source, tmp_path / "run", changes=QUICK,
                    quiet=True)


def secretly(prepared: Path, tmp_path: Path) -> Path:
    """The questions whose answers only the official server knows."""
    sets = prepared.parent
    entries = json.loads((sets / "vqa" / "vqa_test.json").read_text())
    for entry in entries:
        del entry["answer"]
    write(tmp_path / "secret" / "vqa_test.json", entries)
    prepare("vqa", tmp_path / "secret", tmp_path / "prepared", images=[sets / "all"])
    return tmp_path / "prepared" / "vqa"


# evaluating


def evaluated(task: str, tuned, prepared, tmp_path, **options):
    """A report, its records, model and tokenizer: random, as it answers this and that."""
    shutil.copytree(tuned[task], run := tmp_path / "run")
    (run / "state.pt").unlink()                                  # it is of the trained weights
    config, _, tokenizer, _ = checkpoint.read_run(run)
    torch.manual_seed(0)
    made_up = disturb(TASKS[task].module(config).student, 0.3, 1)
    checkpoint.save(run, made_up, tokenizer, None, task)
    record = json.loads((tuned[task] / "trained_on.json").read_text())
    del record["weights"]
    (run / "trained_on.json").write_text(json.dumps(record))
    folder = prepared / SETS[task]
    result = evaluate(run, folder / "test", batch=4, command="a command", **options)
    assert result == report.read_report(run / f"{SETS[task]}-test")
    assert (result["task"], result["set"], result["split"]) == (task, SETS[task], "test")
    return result, list(Records(folder, "test")), load_model(task, run)[0], tokenizer


def read(record, tokenizer: Tokenizer):
    """A record's picture and text as the model reads them, a batch of one."""
    return transform(open_image(record.image), 32)[None], *tokenizer.encode([record.text], 32)


def near(figure: float, values) -> bool:
    return abs(figure - sum(values) / len(values)) < 1e-4


@torch.no_grad()
def test_entailment_counts_what_is_right(tuned, prepared, tmp_path):
    result, records, model, tokenizer = evaluated("entailment", tuned, prepared, tmp_path)
    answers = [model(*read(record, tokenizer)).argmax().item() for record in records]
    labels = [("contradiction", "neutral", "entailment").index(record.label)
              for record in records]
    assert len(set(answers)) > 1, "the check is blind"
    assert near(result["test"]["accuracy"], [a == b for a, b in zip(answers, labels)])
    assert result["counts"]["test"]["accuracy"] == 6
    assert near(result["baselines"]["majority"]["accuracy"], [label == 1 for label in labels])
    low, high = result["intervals"]["test"]["accuracy"]
    assert low < result["test"]["accuracy"] < high
    assert result["protocol"] == "fine-tuned on entailment/train"
    assert f"accuracy{'':29}{100 * result['test']['accuracy']:6.2f}  (" in table(result)
    assert ")  chance 33.33\n" in table(result) and result["chance"] == {"accuracy": 0.33333}


@torch.no_grad()
def test_vqa_writes_freely_and_answers_may_be_secret(tuned, prepared, tmp_path):
    secret = secretly(prepared, tmp_path)
    with pytest.raises(ValueError,
                       match="answers.json is not there: name a list of .* with --answers, or let .* with --free"):
        evaluate(tuned["vqa"], secret)
    result = evaluate(tuned["vqa"], secret, out=tmp_path / "out", free=True)
    assert result["answered"] == "freely" and result["test"] == {} and "answers" not in result
    assert "the right answers are secret: send vqa_result.json to the official server" in table(result)
    model, tokenizer, _ = load_model("vqa", tuned["vqa"])
    submission = json.loads((tmp_path / "out" / "vqa_result.json").read_text())
    for line, record in zip(submission, Records(secret, "test"), strict=True):
        batch = vqa.collate_questions([record], tokenizer, 32, 32).to("cpu")
        written, _ = vqa.generate(model, batch, tokenizer)
        assert line == {"question_id": record.id,
                        "answer": tokenizer.decode(written[0].tolist())}
    result = evaluate(tuned["vqa"], prepared / "vqa", out=tmp_path / "out", free=True)
    assert result["counts"]["test"]["accuracy"] == 6


# protocols, and what is refused


def test_a_run_records_what_it_was_trained_on_and_hands_it_on(prepared, tmp_path):
    def protocol(run, split="test", data=prepared / "coco", **options) -> str:
        return evaluate(run, data / split, out=tmp_path / "out", **options)["protocol"]
    changes = [*QUICK, "text_length=9", "bucket=1", "warm_steps=0"]
    for field in (*finetune.SIZES, "queue_size"):
        changes.append(f"{field}={96 if field == 'vocab_size' else getattr(small(), field)}")
    config = pretrain.settings("tiny", changes, [prepared / "coco"])
    pretrain.pretrain(config, run := tmp_path / "run", [prepared / "coco"], quiet=True)
    assert protocol(run).startswith("pretrained on coco/train: not zero-shot")
    assert protocol(run, "train") == "pretrained on coco/train: trained on this very split"
    shutil.copytree(prepared / "coco", tmp_path / "mine")
    change_about(tmp_path / "mine", set="mine")
    text = protocol(run, "train", tmp_path / "mine")
    assert text.endswith("trained on this very split"), "under another name, too"
    text = protocol(run, "test", tmp_path / "mine")
    assert text == "zero-shot: pretrained on coco/train, not on mine"
    finetune_on("grounding", [prepared / "grounding"], run, tmp_path / "tuned", changes=QUICK,
                quiet=True)
    assert protocol(tmp_path / "tuned", "train") == (
        "pretrained on coco/train, fine-tuned on grounding/train: trained on this very split")
    model, tokenizer, _ = load_model("retrieval", run)
    checkpoint.save(run, model, tokenizer)
    # other weights keep no record of those before them
    assert trained_on(run) == {"pretrained": None, "tuned": {}}


# the command line


def test_both_commands_work_and_name_mistakes(prepared, source, tmp_path):
    run = tmp_path / "run"
    status, text = call("finetune", "vqa", *QUICK, "--data", prepared / "vqa",
                        prepared / "vqa" / "test", "--from", source, "--run", run, "--quiet")
    assert status == 0 and f"next: minalbef evaluate {run} --data {prepared}/vqa/test" in text
    assert trained_on(run)["tuned"].keys() == {"vqa/test", "vqa/train"}
    status, text = call("evaluate", run, "--data", prepared / "vqa" / "test", "--top", 2,
                        "--tuned-on", "vqa")
    result = json.loads((run / "vqa-test" / "report.json").read_text())
    assert status == 0
    assert "vqa on vqa/test, fine-tuned on vqa: trained on this very split" in text
    assert result["top"] == 2
    assert result["command"].startswith("minalbef evaluate ")
    assert (run / "vqa-test" / "vqa_result.json").exists()
    status, text = call("evaluate", run, "--data", prepared / "vqa" / "test", "--size", 0.5)
    assert status == 2
    assert "--size: of use on the embedded scenes alone; leave it out with --data" in text
    status, text = call("evaluate", source, "--data", prepared / "vqa")
    assert status == 2 and "a run of pretrain, not of vqa" in text


# the work shared


@pytest.mark.parametrize("task", ["retrieval", "entailment", "vqa", "grounding"])
def test_two_processes_do_what_one_does(task, tuned, prepared, monkeypatch):
    model, tokenizer, _ = load_model(task, tuned[task])
    records = Records(prepared / SETS[task], "test")
    how = How(batch=2, top=3, answers=ANSWERS)
    alone = TASKS[task].evaluate(model, tokenizer, records, how)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    sums: list[list] = []
    for rank in (0, 1):                          # the second adds to what the first has found
        turn = iter(list(sums))
        def total(x, turn=turn):
            sums.append(x.clone())
            return x + next(turn, torch.zeros_like(x))
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "total", total)
        shared = TASKS[task].evaluate(model, tokenizer, records, how)
    def flat(tree) -> list:
        leaves = []
        for value in tree.values():
            leaves += flat(value) if isinstance(value, dict) else [value]
        return leaves
    for a, b in zip(flat(alone[0]), flat(shared[0]), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert alone[1] == shared[1]


@pytest.mark.parametrize("name, words", [
    ("retrieval-coco", 30), ("entailment", 30), ("nlvr2", 30), ("vqa", 24),
    ("nlvr2-assign", 24)])
def test_texts_are_cut_at_thirty_words_and_at_25_pieces_where_the_original_does(
        name, words):
    """Its tokenizer cuts, [CLS] included, in VQA's training, text assignment and pretraining;
    else pre_caption does.
    """
    config = preset(name)
    picture = np.zeros((16, 16, 3), np.uint8)
    text = "cat " * 40
    kind = "text_assignment" if name == "nlvr2-assign" else name.partition("-")[0]
    collate = TASKS[kind].collate
    records = {"vqa": vqa.VQARecord(picture, text, ("yes",), 0),
               "nlvr2": nlvr2.NLVR2Record((picture, picture), text, True, 0),
               "entailment": EntailmentRecord(picture, text, 0, "neutral")}
    record = records.get(kind, Record(picture, text, 0))
    pieces = Tokenizer.train(["c", "a", "t", "yes"], 20)         # three pieces a word
    tokens = collate([record], pieces, 16, config.text_length).tokens[0]
    assert len(tokens) == 1 + (3 * words if words == 30 else words)


# validation

VALIDATED = ["retrieval", "grounding"]           # figures of both are made of others


@pytest.fixture(scope="module")
def with_validation(prepared, tmp_path_factory) -> Path:
    """The prepared sets, whose test split is the validation split, too."""
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("validated") / "prepared")
    for path in folder.glob("*/about.json"):
        splits = json.loads(path.read_text())["splits"]
        change_about(path.parent, splits=splits | {"validation": splits["test"]})
    return folder


@pytest.mark.parametrize("task", VALIDATED)
def test_each_epoch_is_evaluated_and_the_best_weights_are_a_run_of_their_own(
        task, with_validation, source, tmp_path, caplog):
    caplog.set_level("INFO", "minalbef")
    data = with_validation / SETS[task]
    run = tmp_path / "run"
    quick = ("image_size=32", "batch=3", "epochs=3", "epoch=6", "warmup_steps=1", "lr=0.05",
             "top=4")
    assert recipe_of(task, [data], source).validate_every == 1
    finetune_on(task, [data], source, run, changes=quick, quiet=True)
    rows = read_table(run / "validation.csv", ())
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    name = {"retrieval": "rerank_r_mean", "grounding": "proposals"}.get(task, "accuracy")
    assert list(rows[0])[:3] == ["step", "epoch", name] and list(rows[0])[-1] == "best_step"
    figures = [float(row[name]) for row in rows]
    best = rows[figures.index(max(figures))]
    assert rows[-1]["best_step"] == best["step"]
    result = evaluate(run / "best", data / "validation", top=4)
    if task == "grounding":
        total = 0
        number = 0
        for name_of_split, split in result["test"].items():
            count = result["counts"]["test"][name_of_split]["proposals"]
            total += split["proposals"] * count
            number += count
        figure = total / number
    else:
        figure = result["r_mean"]["rerank"] if task == "retrieval" else result["test"]["accuracy"]
    assert figure == pytest.approx(max(figures), abs=1e-4)
    assert result["protocol"].startswith(f"fine-tuned on {SETS[task]}/train")
    assert trained_on(run / "best") == trained_on(run)
    for words in (f"the best {name} in validation is {max(figures):.4f}, after step {best['step']} of 6",
                  f"validation after epoch 1, step 2: {name} {figures[0]:.4f}; the best so far"):
        assert words in caplog.text


def test_r_mean_is_the_mean_of_six_recalls(tuned, prepared, tmp_path):
    """As the original's itm_eval has it, in which a direction's mean is of R@1, R@5 and R@10."""
    result, *_ = evaluated("retrieval", tuned, prepared, tmp_path, top=3)
    for way, figure in result["r_mean"].items():
        recalls = [result["test"][f"{way}_{side}_r{k}"] for side in ("i2t", "t2i")
                   for k in (1, 5, 10)]
        assert figure == pytest.approx(sum(recalls) / 6, abs=1e-4)
        assert f"{way + ' r mean':36} {100 * figure:6.2f}" in table(result)
    assert result["r_mean"].keys() == {"itc", "rerank", "rerank_plus"}
    assert len({round(value, 4) for value in result["r_mean"].values()}) > 1
