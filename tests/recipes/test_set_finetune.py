"""finetune, evaluate: six tasks from a prepared set and a pretrained run to a report, counted again by hand."""
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import disturb, same_state, small
from minalbef.albef import ALBEF
from minalbef.cli.main import main
from minalbef.data import Record, transform
from minalbef.datasets import loader
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records
from minalbef.evaluation import answers
from minalbef.evaluation.loop import How
from minalbef.presets import preset
from minalbef.recipes import evaluate, finetune, pretrain, provenance, report
from minalbef.recipes.evaluate import evaluate_set, table
from minalbef.recipes.finetune import begin, settings
from minalbef.recipes.provenance import protocol, trained_on
from minalbef.system import checkpoint, distributed
from minalbef.system.images import open_image
from minalbef.system.metrics import read_table
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import grounding, nlvr2, vqa
from minalbef.tasks.entailment import EntailmentRecord
from minalbef.tasks.table import TASKS, load_model
from miniature_sets import change_about, refcoco, write
from runs import change_settings, write_weights

TUNED = [task for task, row in TASKS.items() if row.begins_from]
QUICK = ("image_size=32", "batch=4", "epochs=2", "epoch=6", "warmup_steps=1", "save_every=2", "lr=0.01")  # three steps
SETS = {"retrieval": "coco", "text_assignment": "coco", "entailment": "entailment", "vqa": "vqa", "nlvr2": "nlvr2",
        "grounding": "grounding"}
COLOURS = "red green blue white black brown".split()
ANSWERS = ["red", "big dogs", "yes", "on walls"]          # in normal form, as the official evaluation expects
SEEN = "train2014/COCO_train2014_{:012d}.jpg"
ASKED = "val2014/COCO_val2014_{:012d}.jpg"


def recipe_of(task, data, source, name="", changes=()):
    return settings(task, source, changes, data, name)


def finetune_on(task, data, source, run, name="", changes=(), **options):
    finetune.finetune(task, source, run, recipe_of(task, data, source, name, changes), data, **options)


def picture(path: Path, seed: int):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(noise).resize((60, 40), Image.Resampling.NEAREST).save(path, quality=95)


def originals(folder: Path):
    """Six pictures to train on and six to be asked about, and each task's lists of them."""
    key_table = {"train": [SEEN.format(i) for i in range(1, 7)], "test": [ASKED.format(i) for i in range(11, 17)]}
    for i, name in enumerate([*key_table["train"], *key_table["test"]]):
        picture(folder / "all" / name, i)
        picture(folder / "all" / "flickr30k-images" / f"{i}.jpg", i)
    for split, some in key_table.items():
        write(folder / "coco" / f"coco_{split}.json", [
            {"image": name, "caption": [f"a {colour} cat", f"{colour} dogs on the wall"]}
            for name, colour in zip(some, COLOURS)])
        write(folder / "entailment" / f"ve_{split}.json", [
            {"image": str(i + 6 * (split == "test")), "sentence": f"the cat is {COLOURS[i]}", "label": label}
            for i, label in enumerate("neutral entailment contradiction neutral entailment neutral".split())])
        write(folder / "nlvr2" / f"nlvr_{split}.json", [
            {"images": [some[i], some[-1 - i]], "sentence": f"two dogs and {i // 2} cats", "label": str(i % 2 == 0)}
            for i in range(6)])
        write(folder / "vqa" / f"vqa_{split}.json", [
            {"question_id": 70 + i, "question": f"what is {COLOURS[i]}?", "image": name, "dataset": "vqa",
             "answer": [ANSWERS[i % 4]] * 2 + [ANSWERS[(i + 1) % 4]] * 8 if i < 5 else ["a sofa"] * 10}
            for i, name in enumerate(some)])
    write(folder / "vqa" / "answer_list.json", ANSWERS)
    refs = [{"ref_id": i, "ann_id": 10 + i, "image_id": 1 + i, "split": ("train", "testA", "testB", "val")[i],
             "sentences": [{"sent": f"the {colour} cat"} for colour in COLOURS[:4 - i % 2]]} for i in range(4)]
    boxes = [[8.0, 4.0, 20.0, 16.0], [30.0, 10.0, 25.0, 25.0], [2.0, 20.0, 40.0, 18.0], [0.0, 0.0, 30.0, 40.0]]
    refcoco(folder / "grounding", refs)
    write(folder / "grounding" / "instances.json", {
        "images": [{"id": i, "file_name": Path(SEEN.format(i)).name, "height": 40, "width": 60} for i in range(1, 5)],
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
    tokenizer = Tokenizer.train([*COLOURS, *ANSWERS, "a cat two what is the and or 0 1 2 sofa"], 96)
    torch.manual_seed(0)
    model, teacher = (disturb(ALBEF(small(vocab_size=len(tokenizer), positions=32)), 0.2, seed) for seed in (1, 2))
    model.temperature.data.fill_(0.05)
    checkpoint.save(folder := tmp_path_factory.mktemp("source"), model, tokenizer, teacher)
    return folder


@pytest.fixture(scope="module")
def tuned(prepared, source, tmp_path_factory) -> dict[str, Path]:
    """Task -> a run folder after three steps; nlvr2's was begun from that of text assignment."""
    runs = {}
    for task in TUNED:                           # text assignment comes before nlvr2
        runs[task] = tmp_path_factory.mktemp("tuned") / task
        finetune_on(task, [prepared / SETS[task]], runs["text_assignment"] if task == "nlvr2" else source,
                        runs[task], changes=QUICK, quiet=True)
    return runs


# training


@pytest.mark.parametrize("task", TUNED)
def test_a_run_stopped_and_taken_up_again_ends_with_the_same_weights(
        task, tuned, prepared, source, tmp_path, monkeypatch):
    begun = tuned["text_assignment"] if task == "nlvr2" else source
    real = loader.RecordBatches.__call__
    def failing(self, step):
        if step == 2:
            raise KeyboardInterrupt
        return real(self, step)
    arguments = task, [prepared / SETS[task] / "train"], begun, tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loader.RecordBatches, "__call__", failing)
        finetune_on(*arguments, changes=QUICK, quiet=True)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    finetune_on(*arguments, changes=QUICK, quiet=True)
    for file in ("model.safetensors", "teacher.safetensors")[:1 if task == "text_assignment" else 2]:
        one, two = (checkpoint.load_file(run / file) for run in (tuned[task], tmp_path / "run"))
        assert same_state(one, two)
    config, kind, _, weights = checkpoint.read_run(tuned[task])
    assert kind == task and config.steps == 3 and config.image_size == 32 and config.image_width == 32
    assert weights[next(name for name in weights if name.endswith("image_encoder.pos_embed"))].shape[1] == 17
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 3
    first, last = (run / "metrics.csv" for run in (tuned[task], tmp_path / "run"))
    assert first.exists() and len(last.read_text().splitlines()) == 3
    with pytest.raises(ValueError, match="holds a run with other settings .lr: 0.01 there, 0.02 here"):
        finetune_on(*arguments, changes=(*QUICK, "lr=0.02"), quiet=True)


def test_student_and_teacher_begin_from_those_of_the_run(source):
    student, teacher = (checkpoint.load_file(source / f"{name}.safetensors") for name in ("model", "teacher"))
    name = "fusion.layers.1.attn.q.weight"
    for make, place in ((TASKS["retrieval"].module, name), (TASKS["vqa"].module, f"albef.{name}"),
                        (TASKS["vqa"].module, "decoder.layers.1.attn.q.weight"),
                        (TASKS["entailment"].module, f"albef.{name}"),
                        (TASKS["nlvr2"].module, "albef.fusion.layers.3.attn.q.weight")):
        task = make(config := checkpoint.read_run(source)[0])
        begin(task, source, config)
        assert torch.equal(task.student.state_dict()[place], student[name])
        assert torch.equal(task.teacher.state_dict()[place], teacher[name])
        assert not any(p.requires_grad for p in task.teacher.parameters())


@pytest.mark.parametrize("task, name", [("retrieval", "retrieval-coco"), ("vqa", "vqa"), ("nlvr2", "nlvr2"),
                                        ("text_assignment", "nlvr2-assign"), ("grounding", "grounding"),
                                        ("entailment", "entailment")])
def test_the_recipe_is_the_papers_and_the_model_its_own(task, name, prepared, source, tmp_path):
    large = shutil.copytree(source, tmp_path / "run")            # as large as the paper's in pictures and batch
    change_settings(large, image_size=256, batch=512, lr=1e-4)
    data, base, paper, source = prepared / SETS[task], checkpoint.read_run(large)[0], preset(name), large
    config = recipe_of(task, [data, data / "test"], source)
    for field in ("image_size", "crop", "lr", "lr_end", "batch", "epochs", "alpha", "warmup_steps", "top"):
        assert getattr(config, field) == getattr(paper, field)
    assert config.text_length == min(paper.text_length, base.positions)
    for field in ("image_width", "vocab_size", "positions", "queue_size", "embed_dim", "dropout"):
        assert getattr(config, field) == getattr(base, field)
    assert config.epoch == len(Records(data, "train")) + len(Records(data, "test")), "two sets are one epoch"
    other = recipe_of(task, [data], source, "retrieval-flickr", ("epochs=1", "queue_size=8"))
    assert (other.epochs, other.lr, other.queue_size) == (1, 1e-5, 8)


def test_a_small_runs_recipe_has_its_batch_and_pictures_larger_by_as_much_as_the_papers(prepared, source, tuned):
    for task, run, size in (("retrieval", source, 32), ("text_assignment", source, 24),
                            ("grounding", tuned["retrieval"], 32), ("nlvr2", tuned["text_assignment"], 48)):
        config, base = recipe_of(task, [prepared / SETS[task]], run), checkpoint.read_run(run)[0]
        assert (config.image_size, config.batch) == (size, base.batch), task     # 24 * 384 / 256, in patches of 8
    assert recipe_of("retrieval", [prepared / "coco"], source, changes=("image_size=64", "batch=9")).image_size == 64


def test_a_small_models_learning_rates_grow_as_its_own_was_above_the_papers(prepared, source, tmp_path):
    assert checkpoint.read_run(source)[0].lr == 1e-3 and preset("paper-4m").lr == 1e-4
    paper = preset("retrieval-coco")
    for lr, growth in ((1e-3, 10), (2e-5, 1)):                   # never below the paper's
        run = shutil.copytree(source, tmp_path / str(lr))
        config = json.loads((run / "config.json").read_text()) | {"lr": lr}
        (run / "config.json").write_text(json.dumps(config))
        config = recipe_of("retrieval", [prepared / "coco"], run)
        for field in ("lr", "lr_start", "lr_end"):
            assert getattr(config, field) == pytest.approx(growth * getattr(paper, field)), field
    assert recipe_of("retrieval", [prepared / "coco"], source, changes=("lr=0.5",)).lr == 0.5


def test_flickrs_recipe_is_taken_for_flickr(prepared, source, tmp_path):
    shutil.copytree(prepared / "coco", tmp_path / "mine")
    change_about(tmp_path / "mine", set="flickr30k")
    assert recipe_of("retrieval", [tmp_path / "mine"], source).epochs == preset("retrieval-flickr").epochs == 10


@pytest.mark.parametrize("task, data, options, message", [
    ("retreival", "coco", {}, r"no task 'retreival' .did you mean 'retrieval'..; there are retrieval, entailment"),
    ("retrieval", "entailment", {}, "holds records of EntailmentRecord, and retrieval learns from Record: name a set"),
    ("vqa", "nlvr2", {}, "holds records of NLVR2Record, and vqa learns from VQARecord"),
    ("grounding", "vqa", {}, "of VQARecord, and grounding learns from GroundingRecord or Record"),
    ("vqa", "vqa/trian", {}, "trian holds no prepared records|has no split 'trian'; there are train, test"),
    ("vqa", "nothing", {}, "nothing holds no prepared records"),
    ("vqa", "vqa", {"changes": ("batsh=4",)}, "no option 'batsh' .did you mean 'batch'.."),
    ("vqa", "vqa", {"changes": ("image_depth=1",)},
     "image_depth=1: the model of .* has 2, which training cannot change"),
    ("vqa", "vqa", {"changes": ("image_size=30",)}, "image_size=30 is not a multiple of patch_size=8"),
    ("vqa", "vqa", {"name": "vqqa"}, "no preset 'vqqa' .did you mean 'vqa'")])
def test_what_does_not_fit_together_is_said_before_training(task, data, options, message, prepared, source, tmp_path):
    with pytest.raises(ValueError, match=message):
        finetune_on(task, [prepared / data], source, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_run_to_begin_from_must_fit_and_is_not_overwritten(prepared, source, tuned, tmp_path):
    with pytest.raises(ValueError,
                       match="is a run of retrieval, and vqa begins from one of pretrain; name it with --from"):
        finetune_on("vqa", [prepared / "vqa"], tuned["retrieval"], tmp_path / "run")
    with pytest.raises(ValueError, match="would be overwritten; choose another folder with --run"):
        finetune_on("vqa", [prepared / "vqa"], source, source)
    with pytest.raises(ValueError, match="question 70, 'what is red.', has no answer to learn from|no answer"):
        secret = secretly(prepared, tmp_path)
        finetune_on("vqa", [secret / "test"], source, tmp_path / "run", changes=QUICK, quiet=True)


def test_training_passes_over_pictures_that_are_gone_and_says_so(prepared, source, tmp_path):
    moved = elsewhere(prepared / "coco", tmp_path)
    (tmp_path / "all" / SEEN.format(2)).unlink()
    finetune_on("retrieval", [moved], source, tmp_path / "run", changes=QUICK, quiet=True)
    assert trained_on(tmp_path / "run") == {
        "pretrained": None, "tuned": {"coco/train": provenance.hash_of(moved, "train")}, "unreadable": 2}
    assert SEEN.format(2) in (tmp_path / "run" / "unreadable.txt").read_text()


def elsewhere(folder: Path, tmp_path: Path) -> Path:
    """A copy of a prepared set whose pictures one may break."""
    shutil.copytree(folder, tmp_path / folder.name)
    about = tmp_path / folder.name / "about.json"
    values = json.loads(about.read_text())
    shutil.copytree(values["root"], tmp_path / "all", dirs_exist_ok=True)
    about.write_text(json.dumps(values | {"root": str(tmp_path / "all")}))
    return about.parent


def secretly(prepared: Path, tmp_path: Path) -> Path:
    """The questions whose answers only the official server knows."""
    sets = prepared.parent
    some = [{key: value for key, value in entry.items() if key != "answer"}
            for entry in json.loads((sets / "vqa" / "vqa_test.json").read_text())]
    write(tmp_path / "secret" / "vqa_test.json", some)
    prepare("vqa", tmp_path / "secret", tmp_path / "prepared", images=[sets / "all"])
    return tmp_path / "prepared" / "vqa"


# evaluating


def evaluated(task: str, tuned, prepared, tmp_path, data: str = "",
             **options) -> tuple[dict, list, torch.nn.Module, Tokenizer]:
    """A report, its records, and the model: random, as it answers this and that, which trained ones do not."""
    shutil.copytree(tuned[task], run := tmp_path / "run")
    (run / "state.pt").unlink()                                  # it is of the trained weights
    config, _, tokenizer, _ = checkpoint.read_run(run)
    torch.manual_seed(0)
    made_up = disturb(TASKS[task].module(config).student, 0.3, 1)
    checkpoint.save(run, made_up, tokenizer, None, task)
    record = json.loads((tuned[task] / "trained_on.json").read_text())
    del record["weights"]
    (run / "trained_on.json").write_text(json.dumps(record))
    folder, _, split = (data or f"{SETS[task]}/test").partition("/")
    found = evaluate_set(run, prepared / folder / split, batch=4, command="a command", **options)
    assert found == report.read_report(run / f"{SETS[task]}-{split}")
    assert (found["task"], found["set"], found["split"], found["command"]) == (task, folder, split, "a command")
    assert found["seconds"]["evaluate"] >= 0 and found["config"]["image_size"] == 32
    return found, list(Records(prepared / folder, split)), load_model(task, run)[0], tokenizer


def read(record, tokenizer: Tokenizer, question: bool = False):
    """One record's pictures and text as the model reads them, a batch of one."""
    images = record.images if hasattr(record, "images") else (record.image,)
    tokens, keep = tokenizer.encode([vqa.clean_question(record.question) if question else record.text], 32,
                                    raw=question)
    return *(transform(open_image(image), 32)[None] for image in images), tokens, keep


def near(figure: float, values) -> bool:
    return abs(figure - sum(values) / len(values)) < 1e-4


@torch.no_grad()
def test_entailment_counts_what_is_right(tuned, prepared, tmp_path):
    found, records, model, tokenizer = evaluated("entailment", tuned, prepared, tmp_path)
    said = [model(*read(record, tokenizer)).argmax().item() for record in records]
    labels = [("contradiction", "neutral", "entailment").index(record.label) for record in records]
    assert len(set(said)) > 1, "the check is blind"
    assert near(found["test"]["accuracy"],
                [a == b for a, b in zip(said, labels)]) and found["counts"]["test"]["accuracy"] == 6
    assert near(found["baselines"]["majority"]["accuracy"], [label == 1 for label in labels])
    low, high = found["intervals"]["test"]["accuracy"]
    assert low < found["test"]["accuracy"] < high
    assert found["protocol"] == "fine-tuned on entailment/train"
    assert f"accuracy{'':29}{100 * found['test']['accuracy']:6.2f}  (" in table(found)
    assert ")  chance 33.33\n" in table(found) and found["chance"] == {"accuracy": 0.33333}


@pytest.mark.parametrize("task", [task for task in TUNED if TASKS[task].evaluate])
def test_evaluation_in_bf16_runs_for_every_task_and_says_so(task, tuned, prepared, tmp_path):
    found = [evaluate_set(tuned[task], prepared / SETS[task], out=tmp_path / precision, precision=precision)
             for precision in ("auto", "bf16")]
    assert [report["precision"] for report in found] == ["fp32", "bf16"]
    fp32, bf16 = (report["test"] for report in found)
    assert fp32.keys() == bf16.keys() and found[0]["counts"] == found[1]["counts"]


@torch.no_grad()
def test_nlvr2_counts_statements_that_are_judged_rightly_of_all_pairs(tuned, prepared, tmp_path):
    found, records, model, tokenizer = evaluated("nlvr2", tuned, prepared, tmp_path)
    both = torch.tensor([[0, 1]])
    right = [model(torch.cat([left, other]), both, *text).argmax().item() == record.true
             for record in records for left, other, *text in [read(record, tokenizer)]]
    assert 0 < sum(right) < 6, "the check is blind"
    assert near(found["test"]["accuracy"], right) and found["counts"]["test"] == {"accuracy": 3, "consistency": 3}
    assert near(found["test"]["consistency"], [all(right[i:i + 2]) for i in (0, 2, 4)])
    assert near(found["baselines"]["majority"]["accuracy"], [1, 0, 1, 0, 1, 0])
    assert found["chance"] == {"accuracy": 0.5, "consistency": 0.25}
    assert found["protocol"] == "fine-tuned on coco/train, nlvr2/train", "text assignment's set is told, too"
    truth = torch.tensor([record.true for record in records]).long()
    truth[3] = 1 - truth[3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nlvr2.PairModel, "forward", lambda *_: torch.eye(2)[truth])
        samples, _ = nlvr2.evaluate_nlvr2(model, tokenizer, Records(prepared / "nlvr2", "test"), How())
    assert samples["accuracy"].values.tolist() == [1, 1, 1, 0, 1, 1] and samples["consistency"].tolist() == [1, 0, 1]


def hand_recall(scores: list[list[float]], right: list[list[int]], k: int) -> list[bool]:
    """Is one of the right ones among the k best? Sorted in plain Python."""
    return [bool({*sorted(range(len(row)), key=row.__getitem__, reverse=True)[:k]} & {*mine})
            for row, mine in zip(scores, right)]


@torch.no_grad()
def test_retrieval_counts_each_captions_picture_and_any_caption_of_a_picture(tuned, prepared, tmp_path):
    top = 3
    found, records, model, tokenizer = evaluated("retrieval", tuned, prepared, tmp_path, top=top)
    read_ones = [read(record, tokenizer) for record in records]
    images = [model.encode_image(image) for image, _, _ in read_ones[::2]]       # two captions follow each other
    texts = [(model.encode_text(tokens, keep), keep) for _, tokens, keep in read_ones]
    cosine = [[(model.image_feature(image) @ model.text_feature(text).T).item() for text, _ in texts]
              for image in images]
    yes = [[model.match_logits(model.fuse(text, keep, image))[0, 1].item() for text, keep in texts] for image in images]
    def both(scores):
        return {"i2t": (scores, [[2 * i, 2 * i + 1] for i in range(6)]),
                "t2i": ([[row[t] for row in scores] for t in range(12)], [[t // 2] for t in range(12)])}
    for way in ("i2t", "t2i"):
        sims, right = both(cosine)[way]
        for k in (1, 5, 10):
            assert near(found["test"][f"itc_{way}_r{k}"], hand_recall(sims, right, k)), (way, k)
        for name, score in (("rerank", yes),
                            ("rerank_plus", [[a + b for a, b in zip(*rows)] for rows in zip(yes, cosine)])):
            kept = [[s if c >= sorted(row, reverse=True)[top - 1] else -1e9 for s, c in zip(line, row)]
                    for line, row in zip(both(score)[way][0], sims)]
            assert near(found["test"][f"{name}_{way}_r1"], hand_recall(kept, right, 1)), (name, way)
    assert found["counts"]["test"]["itc_i2t_r1"] == 6 and found["counts"]["test"]["itc_t2i_r1"] == 12
    assert (found["pictures"], found["captions"], found["top"]) == (6, 12, 3)
    assert found["test"]["itc_i2t_r5"] < 1, "the check is blind"
    for name, chance in (("i2t_r1", 2 / 12), ("t2i_r1", 1 / 6), ("i2t_r5", 1 - 252 / 792), ("t2i_r5", 5 / 6)):
        assert found["chance"][f"itc_{name}"] == pytest.approx(chance, abs=1e-5)
        assert found["chance"][f"rerank_plus_{name}"] == found["chance"][f"itc_{name}"]
    assert found["test"]["rerank_t2i_r1"] != found["test"]["itc_t2i_r1"], "the check is blind"


def likelihood(model: vqa.VQAModel, tokenizer: Tokenizer, record, answer: str) -> float:
    """log p(answer | picture, question), word for word."""
    image, tokens, keep = read(record, tokenizer, question=True)
    albef = model.albef
    seen = model.decoder.keys_values(albef.fuse(albef.encode_text(tokens, keep), keep, albef.encode_image(image)))
    said = tokenizer.encode([answer], 32, raw=True, sep=True)[0]
    total = 0.0
    for i in range(1, said.shape[1]):
        before = said[:, :i]
        x = model.decoder(before, torch.ones_like(before, dtype=torch.bool), seen, keep, torch.tensor([0]))[0, -1]
        total += model.decoder.word_logits(x).log_softmax(-1)[said[0, i]].item()
    return total


@torch.no_grad()
def test_vqa_chooses_the_likeliest_answer_and_writes_it_for_the_server(tuned, prepared, tmp_path):
    found, records, model, tokenizer = evaluated("vqa", tuned, prepared, tmp_path)
    best = [max(ANSWERS, key=lambda answer: likelihood(model, tokenizer, record, answer)) for record in records]
    path = tmp_path / "run" / "vqa-test" / "vqa_result.json"
    assert json.loads(path.read_text()) == [{"question_id": 70 + i, "answer": answer} for i, answer in enumerate(best)]
    def official(answer: str, given: tuple[str, ...]) -> float:
        counts = [sum(other == answer for j, other in enumerate(given) if j != i) for i in range(len(given))]
        return sum(min(n / 3, 1) for n in counts) / len(given)
    assert near(found["test"]["accuracy"], [official(answer, record.answers) for answer, record in zip(best, records)])
    assert official("red", ("red",) * 2 + ("yes",)
                    * 8) == pytest.approx(answers.accuracy("red", ("red",) * 2 + ("yes",) * 8))
    assert len(set(best)) > 1, "the check is blind"
    each = [official(answer, record.answers) for record in records for answer in ANSWERS]
    assert near(found["chance"]["accuracy"], each) and sum(each) > 0
    tokens = vqa.collate_questions(records[:1], tokenizer, 32, 32).tokens
    assert records[0].question == "what is red?" and torch.equal(tokens, tokenizer.encode(["what is red"], raw=True)[0])
    assert (found["answered"], found["answers"], found["lacking"]) == ("by choosing", 4, 1)
    assert "  1 questions have none of their answers among the 4 listed" in table(found)


@pytest.mark.parametrize("made_on, evaluated_on", [("cpu", "cpu"), ("auto", "auto"), ("cuda", "auto")])
def test_a_run_that_kept_to_the_cpu_is_evaluated_there_and_others_where_there_is_a_gpu(
        made_on, evaluated_on, tuned, prepared, tmp_path, monkeypatch):
    asked, (model, *more) = [], load_model("vqa", tuned["vqa"])
    model.albef.config = replace(model.albef.config, device=made_on)
    monkeypatch.setattr(evaluate, "load_model", lambda *_: (model, *more))
    monkeypatch.setattr(distributed, "join", lambda name: asked.append(name) or torch.device("cpu"))
    evaluate_set(tuned["vqa"], prepared / "vqa", out=tmp_path)
    assert asked == [evaluated_on]


def test_vqas_original_score_counts_the_first_word_twice(tuned, prepared, tmp_path, monkeypatch):
    asked = []
    rank = vqa.rank
    monkeypatch.setattr(vqa, "rank", lambda *a, **options: asked.append(options) or rank(*a, **options))
    evaluate_set(tuned["vqa"], prepared / "vqa", out=tmp_path, original=True)
    assert {(one["k"], one["count_first_twice"]) for one in asked} == {(128, True)}


def test_a_list_of_answers_that_lacks_the_right_ones_is_told_and_a_wrong_one_refused(tuned, prepared, tmp_path):
    listed = write(tmp_path / "answers.json", ["cat", "dogs"])
    found = evaluate_set(tuned["vqa"], prepared / "vqa", out=tmp_path / "out", answers=listed)
    assert found["lacking"] == 6 and found["test"]["accuracy"] == 0 and found["answers"] == 2
    assert "6 questions have none of their answers among the 2 listed" in table(found)
    for name, values, message in (("answers.json", ["cat", "cat"], "repeats 1 answers"),
                                  ("answers.json", {}, "is no list of answers"),
                                  ("none.json", None, "none.json is not there: name a list of answers with --answers")):
        path = tmp_path / name if values is None else write(tmp_path / name, values)
        with pytest.raises(ValueError, match=message):
            evaluate_set(tuned["vqa"], prepared / "vqa", out=tmp_path / "out", answers=path)
    with pytest.raises(ValueError, match="is of no use to vqa that writes freely; leave --answers out"):
        evaluate_set(tuned["vqa"], prepared / "vqa", answers=listed, free=True)
    with pytest.raises(ValueError, match="is of no use to retrieval; leave --answers out"):
        evaluate_set(tuned["retrieval"], prepared / "coco", answers=listed)


@torch.no_grad()
def test_vqa_writes_freely_and_answers_may_be_secret(tuned, prepared, tmp_path):
    secret = secretly(prepared, tmp_path)
    with pytest.raises(ValueError,
                       match="answers.json is not there: name a list of .* with --answers, or let .* with --free"):
        evaluate_set(tuned["vqa"], secret)
    found = evaluate_set(tuned["vqa"], secret, out=tmp_path / "out", free=True)
    assert found["answered"] == "freely" and found["test"] == {} and "answers" not in found
    assert "the right answers are secret: send vqa_result.json to the official server" in table(found)
    model, tokenizer, _ = load_model("vqa", tuned["vqa"])
    submission = json.loads((tmp_path / "out" / "vqa_result.json").read_text())
    for line, record in zip(submission, Records(secret, "test"), strict=True):
        batch = vqa.collate_questions([record], tokenizer, 32, 32).to("cpu")
        written, _ = vqa.generate(model, batch, tokenizer)
        assert line == {"question_id": record.id, "answer": tokenizer.decode(written[0].tolist())}
    assert evaluate_set(tuned["vqa"], prepared / "vqa", out=tmp_path / "out",
                           free=True)["counts"]["test"]["accuracy"] == 6


def overlap(a, b) -> float:
    """Intersection over union of (x, y, width, height), in plain Python."""
    sides = [max(0.0, min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    shared = sides[0] * sides[1]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def test_grounding_counts_boxes_that_meet_and_patches_that_point_by_split(tuned, prepared, tmp_path):
    found, records, model, tokenizer = evaluated("grounding", tuned, prepared, tmp_path, layer=1)
    hits: dict[str, list] = {}
    for record in records:
        heat = grounding.heat_map(model, *read(record, tokenizer), layer=1)[0]
        boxes = torch.tensor(record.proposals)
        chosen = grounding.choose_box(grounding.score_boxes(heat, boxes, (40, 60)), boxes)
        y, x = divmod(heat.argmax().item(), 4)
        left, top, width, height = record.box
        points = left <= (x + 0.5) * 15 <= left + width and top <= (y + 0.5) * 10 <= top + height
        largest = max(record.proposals, key=lambda box: box[2] * box[3])
        hits.setdefault(record.split, []).append((points, overlap(chosen.tolist(), record.box) >= 0.5,
                                                  overlap(largest, record.box) >= 0.5))
    assert [len(some) for some in hits.values()] == [3, 4] and list(hits) == ["testA", "testB"]
    for split, some in hits.items():
        pointing, proposals, largest = zip(*some)
        assert near(found["test"][split]["pointing"], pointing) and near(found["test"][split]["proposals"], proposals)
        assert near(found["baselines"]["largest_box"][split]["proposals"], largest)
    assert found["layer"] == 1 and found["proposals"] == 7
    some = [record for record in records if record.split == "testB"]
    guess = [overlap(box, record.box) >= 0.5 for record in some for box in record.proposals]
    assert near(found["chance"]["testB"]["proposals"], guess)
    assert near(found["chance"]["testB"]["pointing"], [record.box[2] * record.box[3] / 2400 for record in some])
    assert "testB pointing" in table(found)


def test_every_layer_is_tried_and_the_best_taken(tuned, prepared, tmp_path, monkeypatch):
    every = evaluate_set(tuned["grounding"], prepared / "grounding" / "validation", out=tmp_path, layer="all")
    ones = {str(i): evaluate_set(tuned["grounding"], prepared / "grounding" / "validation", out=tmp_path, layer=i)
            for i in (0, 1)}
    assert every["layers"].keys() == ones.keys()
    assert all(abs(every["layers"][i] - ones[i]["test"]["val"]["proposals"]) < 1e-4 for i in ones)
    best = max(ones, key=lambda i: ones[i]["test"]["val"]["proposals"])
    assert str(every["layer"]) == best and every["test"] == ones[best]["test"]
    assert f"--layer {best}: " in table(every)
    with monkeypatch.context() as patch:
        patch.setattr(grounding, "judge_maps", lambda *_: torch.zeros(0, 5))
        for depth, third in ((6, 2), (3, 1), (2, 0)):
            model = SimpleNamespace(config=SimpleNamespace(fusion_depth=depth, image_size=32, positions=32))
            assert grounding.evaluate_grounding(model, None, [], How())[1]["layer"] == third, "the paper's third of six"
    with pytest.raises(ValueError, match="layer=7: mode 'itm' of this model has 2, from 0 to 1"):
        evaluate_set(tuned["grounding"], prepared / "grounding", out=tmp_path, layer=7)


def test_without_proposals_only_pointing_is_asked(tuned, prepared, tmp_path):
    sets = tmp_path / "in"
    shutil.copytree(prepared.parent / "grounding", sets)
    (sets / "dets.json").unlink()
    prepare("grounding", sets, tmp_path, images=[prepared.parent / "all"])
    found = evaluate_set(tuned["grounding"], tmp_path / "grounding", out=tmp_path, layer="all")
    assert found["test"].keys() == {"testA", "testB"} and found["proposals"] == 0
    assert all(some.keys() == {"pointing"} for some in found["test"].values())
    assert "proposals" not in table(found).partition("validation after step")[0], "its training had them"


# protocols, and what is refused


def test_protocols_say_what_a_model_was_trained_on():
    assert protocol("pretrain", "flickr30k", "test", []) == "zero-shot: the pretrained model as it is"
    assert protocol("retrieval", "coco", "test",
                    ["coco/train"]) == protocol("retrieval", "coco", "test", ["coco"]).replace(
        "coco", "coco/train") == "fine-tuned on coco/train"
    assert protocol("retrieval", "flickr30k", "test", ["coco"]) == "zero-shot: fine-tuned on coco, not on flickr30k"
    assert protocol("retrieval", "coco", "test", []) == (
        "fine-tuned for retrieval, on which set the run does not say: name it with --tuned-on")
    assert protocol("vqa", "vqa", "validation", ["vqa/train", "vqa/validation"]) == (
        "fine-tuned on vqa/train, vqa/validation: trained on this very split")
    assert protocol("retrieval", "flickr30k", "test", ["coco"], None) == (
        "zero-shot: fine-tuned on coco, not on flickr30k; what it was pretrained on is not recorded")


@pytest.mark.parametrize("name, split, pretrained, says", [
    ("coco", "test", None, "the pretrained model as it is; what it was trained on is not recorded: name it with "
                           "--tuned-on"),
    ("coco", "test", ["vg/train"], "zero-shot: pretrained on vg/train, not on coco"),
    ("coco", "test", ["coco/train"], "pretrained on coco/train: not zero-shot, for it was pretrained on coco"),
    ("coco", "train", ["coco/train"], "pretrained on coco/train: trained on this very split")])
def test_what_pretraining_saw_is_not_zero_shot(name, split, pretrained, says):
    assert protocol("pretrain", name, split, [], pretrained) == says
    if pretrained:
        assert protocol("retrieval", name, split, ["flickr30k/train"], pretrained) == says.replace(
            f"pretrained on {pretrained[0]}", f"pretrained on {pretrained[0]}, fine-tuned on flickr30k/train", 1)


def test_a_run_records_what_it_was_trained_on_and_hands_it_on(prepared, tmp_path):
    def asked(run, split="test", data=prepared / "coco", **options) -> str:
        return evaluate_set(run, data / split, out=tmp_path / "out", **options)["protocol"]
    fields = [field for field in (*finetune.SIZES, "queue_size") if field != "vocab_size"]
    sizes = [f"{field}={getattr(small(), field)}" for field in fields]
    changes, data = (*QUICK, *sizes, "text_length=9", "bucket=1", "warm_steps=0", "vocab_size=96"), [prepared / "coco"]
    pretrain.pretrain(pretrain.settings("tiny", changes, data), run := tmp_path / "run", data, quiet=True)
    assert asked(run).startswith("pretrained on coco/train: not zero-shot")
    assert asked(run, "train") == "pretrained on coco/train: trained on this very split"
    shutil.copytree(prepared / "coco", tmp_path / "mine")
    change_about(tmp_path / "mine", set="mine")
    assert asked(run, "train",
                 tmp_path / "mine").endswith("trained on this very split"), "under another name, too"
    assert asked(run, "test", tmp_path / "mine") == "zero-shot: pretrained on coco/train, not on mine"
    finetune_on("grounding", [prepared / "grounding"], run, tmp_path / "tuned", changes=QUICK, quiet=True)
    assert asked(tmp_path / "tuned", "train") == (
        "pretrained on coco/train, fine-tuned on grounding/train: trained on this very split")
    model, tokenizer, _ = load_model("retrieval", run)
    checkpoint.save(run, model, tokenizer)
    assert trained_on(run) == {"pretrained": None, "tuned": {}}, "other weights keep no record of those before them"


def test_a_report_names_its_protocol(tuned, source, prepared, tmp_path):
    def asked(run, **options) -> str:
        return evaluate_set(run, prepared / "coco", out=tmp_path / "out", **options)["protocol"]
    assert asked(source) == ("the pretrained model as it is; what it was trained on is not recorded: "
                             "name it with --tuned-on")
    assert asked(source, tuned=["vg"]) == "zero-shot: pretrained on vg, not on coco"
    assert asked(tuned["retrieval"]) == "fine-tuned on coco/train"
    assert asked(tuned["retrieval"], tuned=["flickr30k"]) == (
        "zero-shot: fine-tuned on flickr30k, not on coco; what it was pretrained on is not recorded")
    assert asked(tuned["grounding"]) == (
        "zero-shot: fine-tuned on grounding/train, not on coco; what it was pretrained on is not recorded")
    finetune_on("retrieval", [prepared / "coco" / "test"], tuned["grounding"], tmp_path / "run",
                    changes=QUICK, quiet=True)
    assert asked(tmp_path
                 / "run") == "fine-tuned on coco/test, grounding/train: trained on this very split"


@pytest.mark.parametrize("task, run", [("vqa", "retrieval"), ("nlvr2", "text_assignment"), ("coco", "vqa"),
                                       ("entailment", "pretrain"), ("grounding", "nlvr2")])
def test_a_run_of_another_task_is_refused(task, run, tuned, source, prepared):
    name = "retrieval" if task == "coco" else task
    with pytest.raises(ValueError, match=f"is a run of {run}, not of {name}: .*finetune {name} --from .*--data"):
        evaluate_set(source if run == "pretrain" else tuned[run], prepared / task)


def test_wrong_splits_and_folders_are_named(tuned, prepared, source):
    with pytest.raises(ValueError, match="has no split 'validation'; there are train, test"):
        evaluate_set(tuned["retrieval"], prepared / "coco" / "validation")
    with pytest.raises(ValueError, match="holds no prepared records"):
        evaluate_set(tuned["retrieval"], prepared / "nothing" / "test")
    with pytest.raises(ValueError, match="image_size=30 is not a multiple"):
        evaluate_set(source, prepared / "coco", image_size=30)
    found = {task for task, row in TASKS.items() for name in SETS.values()
             if row.evaluate and row.records[0] is Records(prepared / name, "test").kind}
    assert found == set(TUNED) - {"text_assignment"}


@pytest.mark.parametrize("task", ["retrieval", "entailment", "vqa", "nlvr2"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_gone_stops_an_exam(task, workers, tuned, prepared, tmp_path):
    if workers and task != "vqa":
        return
    moved = elsewhere(prepared / SETS[task], tmp_path)
    shutil.rmtree(tmp_path / "all")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        evaluate_set(tuned[task], moved, out=tmp_path / "out", workers=workers)
    assert not (tmp_path / "out").exists()


def test_a_converted_checkpoint_that_lacks_other_heads_answers_alike(tuned, prepared, tmp_path):
    shutil.copytree(tuned["vqa"], run := tmp_path / "run")
    weights = {name: value for name, value in checkpoint.load_file(run / "model.safetensors").items()
               if name.removeprefix("albef.").partition(".")[0] not in TASKS["vqa"].lacks}
    write_weights(run / "model.safetensors", weights)
    (run / "trained_on.json").unlink()
    lacking, whole = (evaluate_set(one, prepared / "vqa", out=tmp_path / "out") for one in (run, tuned["vqa"]))
    assert lacking["test"] == whole["test"] and "name it with --tuned-on" in lacking["protocol"]
    assert len(weights) < len(checkpoint.load_file(tuned["vqa"] / "model.safetensors")), "nothing was left out"


def test_larger_pictures_are_read_by_resized_positions(source, prepared, tmp_path):
    found = evaluate_set(source, prepared / "coco", out=tmp_path, image_size=48)
    assert found["config"]["image_size"] == 48 and load_model("retrieval", source,
                                                              48)[0].image_encoder.pos_embed.shape[1] == 37


# the command line


def test_both_commands_work_and_name_mistakes(prepared, source, tmp_path, monkeypatch, capsys):
    def call(*words) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["minalbef", *map(str, words)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code
        return status, "".join(capsys.readouterr())
    run = tmp_path / "run"
    status, said = call("finetune", "vqa", *QUICK, "--data", prepared / "vqa", prepared / "vqa" / "test",
                        "--from", source, "--run", run, "--quiet")
    assert status == 0 and f"next: minalbef evaluate {run} --data {prepared}/vqa/test" in said
    assert trained_on(run)["tuned"].keys() == {"vqa/test", "vqa/train"}
    status, said = call("evaluate", run, "--data", prepared / "vqa" / "test", "--top", 2, "--tuned-on", "vqa")
    found = json.loads((run / "vqa-test" / "report.json").read_text())
    assert status == 0 and said.startswith("vqa on vqa/test, fine-tuned on vqa: trained on this very split")
    assert found["top"] == 2
    assert found["command"].startswith("minalbef evaluate ") and (run / "vqa-test" / "vqa_result.json").exists()
    for words, message in ((("evaluate", run, "--data", prepared / "vqa" / "test", "--size", 0.5),
                            "--size: of use on the embedded scenes alone; leave it out with --data"),
                           (("evaluate", run, "--data", prepared / "vqa" / "test", "--among", 50),
                            "--among: of use on the embedded scenes alone; leave it out with --data"),
                           (("evaluate", run, "--among", 50), "--among is for runs of pretraining"),
                           (("evaluate", run, "--among", 3), "--among 3: must be at least 10, as many as ITM re-ranks"),
                           (("finetune", "vqa", "--data", prepared / "vqa", "--baselines", "all"),
                            "--baselines: of use on the embedded scenes alone; leave it out with --data"),
                           (("evaluate", run, "--top", 2), "--top: of use on prepared sets alone; name one"),
                           (("finetune", "vqa", "--workers", 1), "--workers: of use on prepared sets alone"),
                           (("evaluate", source, "--data", prepared / "vqa"), "a run of pretrain, not of vqa")):
        status, said = call(*words)
        assert status == 2 and said.startswith("minalbef: ") and message in said


# the work shared


@pytest.mark.parametrize("task", ["retrieval", "entailment", "vqa", "grounding"])
def test_two_processes_do_what_one_does(task, tuned, prepared, monkeypatch):
    model, tokenizer, _ = load_model(task, tuned[task])
    records, how = Records(prepared / SETS[task], "test"), How(batch=2, top=3, answers=ANSWERS)
    whole = TASKS[task].evaluate(model, tokenizer, records, how)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    sums: list[list] = []
    for rank in (0, 1):                          # the second adds to what the first has found
        turn = iter(list(sums))
        def total(x, turn=turn):
            sums.append(x.clone())
            return x + next(turn, torch.zeros_like(x))
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "total", total)
        found = TASKS[task].evaluate(model, tokenizer, records, how)
    def flat(tree) -> list:
        return [leaf for value in tree.values() for leaf in (flat(value) if isinstance(value, dict) else [value])]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(flat(whole[0]), flat(found[0]), strict=True))
    assert whole[1] == found[1]


@pytest.mark.parametrize("name, words", [
    ("retrieval-coco", 30), ("retrieval-flickr", 30), ("entailment", 30), ("nlvr2", 30), ("grounding", 30),
    ("vqa", 24), ("nlvr2-assign", 24)])
def test_texts_are_cut_at_thirty_words_and_at_25_pieces_where_the_original_does(name, words):
    """Its tokenizer cuts, [CLS] included, in VQA's training, text assignment and pretraining; else pre_caption does."""
    config, picture, text = preset(name), np.zeros((16, 16, 3), np.uint8), "cat " * 40
    kind, collate = ("text_assignment", TASKS["text_assignment"].collate) if name == "nlvr2-assign" else (
        name.partition("-")[0], TASKS[name.partition("-")[0]].collate)
    record = {"vqa": vqa.VQARecord(picture, text, ("yes",), 0),
              "nlvr2": nlvr2.NLVR2Record((picture, picture), text, True, 0),
              "entailment": EntailmentRecord(picture, text, 0, "neutral")}.get(kind, Record(picture, text, 0))
    pieces = Tokenizer.train(["c", "a", "t", "yes"], 20)         # three pieces a word
    tokens = collate([record], pieces, 16, config.text_length).tokens[0]
    assert len(tokens) == 1 + (3 * words if words == 30 else words)


# validation

VALIDATED = [task for task in TUNED if TASKS[task].validation_figures]


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
    data, run = with_validation / SETS[task], tmp_path / "run"
    quick = ("image_size=32", "batch=3", "epochs=3", "epoch=6", "warmup_steps=1", "lr=0.05", "top=4")
    assert recipe_of(task, [data], source).validate_every == 1
    finetune_on(task, [data], source, run, changes=quick, quiet=True)
    rows = read_table(run / "validation.csv", ())
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    name = {"retrieval": "rerank_r_mean", "grounding": "proposals"}.get(task, "accuracy")
    assert list(rows[0])[:3] == ["step", "epoch", name] and list(rows[0])[-1] == "best_step"
    figures = [float(row[name]) for row in rows]
    best = rows[figures.index(max(figures))]
    assert rows[-1]["best_step"] == best["step"]
    found = evaluate_set(run / "best", data / "validation", top=4)
    if task == "grounding":
        splits = [(split["proposals"], found["counts"]["test"][name]["proposals"])
                  for name, split in found["test"].items()]
        told = sum(figure * count for figure, count in splits) / sum(count for _, count in splits)
    else:
        told = found["r_mean"]["rerank"] if task == "retrieval" else found["test"]["accuracy"]
    assert told == pytest.approx(max(figures), abs=1e-4)
    assert found["protocol"].startswith(f"fine-tuned on {SETS[task]}/train")
    assert trained_on(run / "best") == trained_on(run)
    assert f"the best {name} in validation is {max(figures):.4f}, after step {best['step']} of 6" in caplog.text
    assert f"validation after epoch 1, step 2: {name} {figures[0]:.4f}; the best so far" in caplog.text


def test_validation_of_a_set_leaves_training_as_it_is(with_validation, source, tmp_path):
    for every in (0, 1):
        finetune_on("retrieval", [with_validation / "coco"], source, tmp_path / str(every),
                    changes=(*QUICK, f"validate_every={every}"), quiet=True)
    one, two = (checkpoint.load_file(tmp_path / name / "model.safetensors") for name in "01")
    assert same_state(one, two) and not (tmp_path / "0" / "validation.csv").exists()


def test_a_set_without_a_validation_split_is_not_validated_and_a_line_says_so(
        prepared, with_validation, source, tmp_path, caplog):
    caplog.set_level("INFO", "minalbef")
    lacking, trained = prepared / "coco", with_validation / "coco"
    for run, data in (("lacking", [lacking]), ("trained", [trained, trained / "validation"])):
        finetune_on("retrieval", data, source, tmp_path / run, changes=QUICK, quiet=True)
        assert "nothing is validated, and the weights of the last step are kept" in caplog.text
        assert not (tmp_path / run / "validation.csv").exists()
        caplog.clear()


@pytest.mark.parametrize("task, data, message", [
    ("vqa", "vqa", "validate_every=1: vqa has no validation"),
    ("text_assignment", "coco", "text_assignment has no validation"),
    ("retrieval", "", "validate_every=1 is for prepared sets")])
def test_a_validation_that_there_is_none_of_is_refused(task, data, message, prepared, tmp_path, source):
    assert preset(TASKS[task].preset).validate_every == (task == "retrieval")
    start = source if data else "tiny"
    with pytest.raises(ValueError, match=message):
        settings(task, start, ("validate_every=1",), [prepared / data] if data else [])


def test_r_mean_is_the_mean_of_six_recalls(tuned, prepared, tmp_path):
    """As the original's itm_eval has it, in which a direction's mean is of R@1, R@5 and R@10."""
    found, *_ = evaluated("retrieval", tuned, prepared, tmp_path, top=3)
    for way, figure in found["r_mean"].items():
        means = [sum(found["test"][f"{way}_{side}_r{k}"] for k in (1, 5, 10)) / 3 for side in ("i2t", "t2i")]
        assert figure == pytest.approx(sum(means) / 2, abs=1e-4)
        assert f"{way + ' r mean':36} {100 * figure:6.2f}" in table(found)
    assert found["r_mean"].keys() == {"itc", "rerank", "rerank_plus"}
    assert len({round(value, 4) for value in found["r_mean"].values()}) > 1
