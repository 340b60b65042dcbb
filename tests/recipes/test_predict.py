"""Predictions: what each task's own functions say, in words and as a picture; and what cannot be asked."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from helpers import disturb, small, texts
from minalbef import load
from minalbef.cli import main
from minalbef.data import Batch, transform
from minalbef.evaluation.gradcam import pair_relevance, relevance, text_map
from minalbef.layers import record_weights
from minalbef.recipes import predict, report
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.system import checkpoint
from minalbef.tasks import entailment, grounding, prediction, vqa
from minalbef.tasks.nlvr2 import PairModel
from minalbef.tasks.table import TASKS
from untrained import untrained

TEXTS = {"retrieval": "an apple left of a key", "entailment": "an apple left of a key",
         "vqa": "how many apples are there?", "nlvr2": "both pictures show an apple",
         "grounding": "the apple on the left"}
BOXES = [[5.0, 5, 20, 20], [30.0, 10, 40, 30], [60.0, 5, 15, 40]]


@pytest.fixture(scope="module")
def models():
    """One of each task, of 6 x 6 patches, with weights that answer decidedly."""
    torch.manual_seed(0)
    return {task: disturb(TASKS[task].module(untrained().config).student, 0.15).eval() for task in SCENE_TASKS}


@pytest.fixture(scope="module")
def pictures():
    """Two, 80 wide and 50 high."""
    chance = np.random.default_rng(0)
    return [Image.fromarray(chance.integers(0, 255, (50, 80, 3), dtype=np.uint8)) for _ in range(2)]


@pytest.fixture(scope="module")
def ask(models, pictures):
    def ask(task: str, candidates=None, **changes):
        given = {"images": pictures[:1 + (task == "nlvr2")], "text": TEXTS[task], "candidates": candidates} | changes
        return predict.predict(task, models[task], untrained().tokenizer, **given)
    return ask


def inputs(pictures, text: str, **options):
    """pixels (i, 3, s, s), tokens and keep (1, l)"""
    return (torch.stack([transform(one, untrained().config.image_size) for one in pictures]),
            *untrained().tokenizer.encode([text], **options))


def test_retrieval_says_what_a_run_says(ask, models, pictures):
    found = ask("retrieval")
    run = replace(untrained(), model=models["retrieval"])
    match = run.match_probability(pictures[0], found.text).item()
    assert found.similarity == pytest.approx(run.similarity(pictures[0], found.text).item(), abs=1e-5)
    assert found.probabilities == pytest.approx({"match": match, "no match": 1 - match}, abs=1e-5)
    assert found.answer == ("match" if match > 0.5 else "no match") == next(iter(found.probabilities))


def test_entailment_says_the_likeliest_label(ask, models, pictures):
    found = ask("entailment")
    odds = models["entailment"](*inputs(pictures[:1], found.text)).softmax(-1)[0]
    assert found.probabilities == pytest.approx(dict(zip(entailment.LABELS, odds.tolist())), abs=1e-5)
    assert list(found.probabilities.values()) == sorted(odds.tolist(), reverse=True) == pytest.approx(
        [found.probabilities[found.answer], *list(found.probabilities.values())[1:]])


def test_of_two_pictures_the_first_is_the_left_one(ask, models, pictures):
    for given in (pictures, pictures[::-1]):
        found = ask("nlvr2", images=given)
        image = inputs(given, found.text)[0]
        false, true = models["nlvr2"](image, torch.tensor([[0, 1]]),
                                      *inputs(given, found.text)[1:]).softmax(-1)[0].tolist()
        assert found.probabilities == pytest.approx({"true": true, "false": false}, abs=1e-5)
        assert found.answer == ("true" if true > false else "false") and len(found.maps) == 2
    assert ask("nlvr2").probabilities["true"] != pytest.approx(true, abs=1e-4), "the check is blind"


def question(pictures):
    pixels, tokens, keep = inputs(pictures[:1], "how many apples are there", raw=True)
    return Batch(pixels, tokens, keep, torch.zeros(1, dtype=torch.long))


def test_an_answer_is_the_best_of_the_candidates_and_one_is_written_freely(ask, models, pictures):
    tokenizer, listed = untrained().tokenizer, ["two", "yes", "an apple", "three", "two"]
    found = ask("vqa", listed)
    chosen, odds = vqa.rank(models["vqa"], question(pictures), *vqa.encode_answers(tokenizer, listed[:4]))
    assert list(found.probabilities) == [listed[i] for i in chosen[0]] and found.answer == listed[chosen[0, 0]]
    assert list(found.probabilities.values()) == pytest.approx(odds[0].tolist(), abs=1e-5)
    written, logp = vqa.generate(models["vqa"], question(pictures), tokenizer, beams=vqa.BEAMS)
    assert found.written == tokenizer.decode(written[0])
    assert {"yes", "three",
            "apple"} < set(ask("vqa").probabilities), "the scenes' answers, where a model learnt from scenes"


def test_without_a_list_the_written_answer_is_the_answer(ask, models, pictures, monkeypatch):
    monkeypatch.setattr(models["vqa"].albef, "config", replace(untrained().config, objects=0))
    found = ask("vqa")
    logp = vqa.generate(models["vqa"], question(pictures), untrained().tokenizer, beams=vqa.BEAMS)[1]
    assert found.probabilities == pytest.approx({found.written: logp.exp().item()}) and found.answer == found.written


def middle_map(albef, seen, text, score):
    """Of fusion's first layer, which is the middle of two, over the whole text."""
    tokens, keep = untrained().tokenizer.encode([text])
    return text_map(relevance(albef, seen, albef.encode_text(tokens, keep), keep, score, 0), keep).reshape(6, 6)


@pytest.mark.parametrize("label", entailment.LABELS)
def test_the_map_explains_the_label_that_was_chosen(ask, models, pictures, label, monkeypatch):
    model, i = models["entailment"], entailment.LABELS.index(label)
    bias = model.head[2].bias.clone()
    bias[i] += 100.0
    monkeypatch.setattr(model.head[2].bias, "data", bias)
    found = ask("entailment")
    assert found.answer == found.explained == label
    seen = model.albef.encode_image(inputs(pictures[:1], "a")[0])
    def maps(i):
        return middle_map(model.albef, seen, found.text, lambda fused: model.head(fused[:, 0])[:, i])
    assert_close(found.maps[0], maps(i))
    assert not torch.allclose(found.maps[0], maps(i - 1), rtol=0.01), "the check is blind"


def test_the_map_of_an_answer_explains_all_its_words(ask, models, pictures):
    model, tokenizer = models["vqa"], untrained().tokenizer
    batch = question(pictures)
    def maps(answer: str, words: slice):
        ids = tokenizer.encode([answer], raw=True, sep=True)[0]
        def score(fused):
            seen, row = model.decoder.keys_values(fused), torch.zeros(1, dtype=torch.long)
            x = model.decoder(ids[:, :-1], ids[:, :-1] != tokenizer.pad, seen, batch.keep, row)
            return model.decoder.word_logits(x).log_softmax(-1)[0, range(ids.shape[1] - 1),
                                                                ids[0, 1:]][words].sum()[None]
        text = model.albef.encode_text(batch.tokens, batch.keep)
        return text_map(relevance(model.albef, model.albef.encode_image(batch.image), text, batch.keep, score, 0),
                        batch.keep).reshape(6, 6)
    for answer in ("two", "an apple"):
        found = ask("vqa", [answer])
        assert_close(found.maps[0], maps(answer, slice(None)))
        assert not torch.allclose(found.maps[0], maps(answer, slice(0, 1)), rtol=0.01), "the check is blind"


def test_a_place_is_that_of_the_matchs_map(ask, models, pictures):
    found = ask("grounding")
    heat = grounding.heat_map(models["grounding"], *inputs(pictures[:1], found.text), layer=0)[0]
    assert_close(found.maps[0], heat)
    row, column = divmod(int(heat.argmax()), 6)
    assert found.answer == f"around x {(column + 0.5) * 80 / 6:.0f}, y {(row + 0.5) * 50 / 6:.0f}"
    assert found.boxes is None
    found = ask("grounding", BOXES)
    scores = grounding.score_boxes(heat, torch.tensor(BOXES), (50, 80))
    assert_close(found.scores, scores)
    assert found.box.tolist() == BOXES[scores.argmax()]
    assert "the box at x {:g}, y {:g}".format(*found.box) in found.answer


@pytest.mark.parametrize("mode, layer", [("mlm", 0), ("itc", 0), ("itm", 1)])
def test_a_place_is_that_of_the_map_that_was_chosen(ask, models, pictures, mode, layer):
    found = ask("grounding", BOXES, place=(mode, layer))
    mask = {"mask": untrained().tokenizer.mask} if mode == "mlm" else {}
    heat = grounding.heat_map(models["grounding"], *inputs(pictures[:1], found.text), layer, mode, **mask)[0]
    assert_close(found.maps[0], heat)
    assert_close(found.scores, grounding.score_boxes(heat, torch.tensor(BOXES), (50, 80)))
    assert not torch.allclose(heat, ask("grounding").maps[0], rtol=0.01), "the check is blind"


def test_a_map_of_nothing_is_nowhere(ask, monkeypatch):
    monkeypatch.setattr(prediction, "relevance", lambda *args: relevance(*args) * 0)
    assert ask("grounding").answer == "nowhere"
    found = ask("grounding", BOXES)
    assert found.answer == "none of the boxes" and found.box is None and found.boxes.tolist() == BOXES


# ------------------------------------------------------------------------------------------------ the maps of a pair
@pytest.fixture(scope="module", params=[False, True])
def pair(request):
    """A model of pairs that fuses [CLS] or not, two images' tokens, text tokens and keep."""
    torch.manual_seed(0)
    model = disturb(PairModel(small(fuse_cls=request.param), torch.nn.Linear(48, 2))).eval()
    image = model.albef.encode_image(torch.randn(6, 3, 24, 24)).detach().chunk(2)
    tokens, keep = texts(3, 8, lengths=[8, 5, 3])
    return model, image, model.albef.encode_text(tokens, keep).detach(), keep


@pytest.mark.parametrize("layer", [0, 1])
def test_each_picture_of_a_pair_has_the_map_of_the_layers_that_look_at_it(pair, layer):
    model, image, text, keep = pair
    def score(fused):
        return model.head(fused[:, 0])[:, 1]
    maps = pair_relevance(model.albef, image, text, keep, score, layer)
    shown = torch.cat(image), torch.tensor([[0, 3], [1, 4], [2, 5]])
    with record_weights(model.albef.fusion, "cross") as weights:
        fused = model.albef.fuse(text.requires_grad_(), keep, shown)
    assert len(weights) == 4
    for i in (0, 1):
        own = weights[2 * layer + i]
        gradient, = torch.autograd.grad(score(fused).sum(), own, retain_graph=True)
        assert maps[i].shape == (3, 8, 9)
        columns = (own * gradient.clamp(min=0)).mean(1).detach() * keep[:, :, None]
        assert_close(maps[i], columns[:, :, -9:])       # of the patches; [CLS] stands before them
    assert maps[0].max() > 0 and not torch.allclose(maps[0], maps[1], rtol=0.01)


# ------------------------------------------------------------------------------------------------ shown
@pytest.mark.parametrize("task", SCENE_TASKS)
def test_an_answer_is_words_and_a_picture(ask, task, tmp_path):
    found = ask(task, BOXES if task == "grounding" else None)
    told = predict.describe_prediction(found)
    assert told.startswith(found.answer)
    assert all(word in told for word in list(found.probabilities)[:predict.TOP_ANSWERS])
    plot = predict.figure(found)
    assert found.text in plot.alt and found.answer in plot.alt and len(plot.axes) == (4 if task == "nlvr2" else 2)
    assert all(len(ax.patches) == (3 if task == "grounding" else 0) for ax in plot.axes)
    predict.figure(found).save(tmp_path / "answer.png")
    assert Image.open(tmp_path / "answer.png").width > 450


def test_boxes_are_drawn_where_they_lie_and_the_chosen_one_bold(ask):
    found = ask("grounding", BOXES)
    best = BOXES.index(found.box.tolist())
    for ax in predict.figure(found).axes:
        drawn = [(patch.get_x() + 0.5, patch.get_y() + 0.5, patch.get_width(), patch.get_height())
                 for patch in ax.patches]
        assert_close(torch.tensor(drawn), torch.tensor(BOXES) * predict.SIDE / 80)
        assert max(range(3), key=lambda i: ax.patches[i].get_linewidth()) == best
        assert ax.images[0].get_array().shape == (180, 288, 3)


# ------------------------------------------------------------------------------------------------ what cannot be asked
@pytest.mark.parametrize("task, changes, message", [
    ("captioning", {}, "no task 'captioning'.*retrieval, entailment, vqa, nlvr2, grounding"),
    ("vqa", {"images": 2}, "vqa takes one image, but got 2.*--image"),
    ("nlvr2", {"images": 1}, "nlvr2 takes two images, the left one first, but got 1"),
    ("retrieval", {"images": 0}, "but got 0"),
    ("vqa", {"text": " ?! "}, "' .! ' has no words"), ("entailment", {"text": ""}, "no words"),
    ("retrieval", {"text": "an apple " * 20}, "the limit is 30"),
    ("vqa", {"text": "how many " * 20}, "the limit is 30"),
    ("grounding", {"candidates": [[5, 5, 9, 9], [80, 5, 9, 9]]}, "box 1.*outside the image of 80 x 50 pixels"),
    ("grounding", {"candidates": [[5, 5, 0, 9]]}, "no area"),
    ("grounding", {"candidates": [[5, 5, 9]]}, r"must be \(k, 4\)"),
    ("entailment", {"candidates": ["yes"]}, "entailment does not choose among these"),
    ("vqa", {"candidates": BOXES}, "vqa does not choose among these candidates: answers"),
    ("nlvr2", {"candidates": BOXES}, "nlvr2 does not choose among these.*leave them out")])
def test_what_cannot_be_asked_is_refused(models, pictures, task, changes, message):
    images = (pictures * 2)[:changes.get("images", 1 + (task == "nlvr2"))]
    given = {"images": images,
             "text": TEXTS.get(task, "an apple")} | {k: v for k, v in changes.items() if k != "images"}
    with pytest.raises(ValueError, match=message):
        predict.predict(task, models.get(task), untrained().tokenizer, **given)


def test_what_is_no_picture_is_refused(ask, tmp_path):
    (tmp_path / "words.png").write_text("these are words")
    for name in ("words.png", "none.png"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as an image"):
            ask("vqa", images=tmp_path / name)


# ------------------------------------------------------------------------------------------------ the command
@pytest.fixture(scope="module")
def runs(models, pictures, tmp_path_factory):
    """runs/TASK of each task, and a.png and b.png beside them."""
    folder = tmp_path_factory.mktemp("predict")
    for task, model in models.items():
        checkpoint.save(folder / "runs" / task, model, untrained().tokenizer, None, task)
    for name, picture in zip("ab", pictures):
        picture.save(folder / f"{name}.png")
    return folder


def command(*args: str):
    main.call_command(["predict", *args])


def test_the_command_tells_the_answer_and_draws_it(runs, ask, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    command("vqa", "--image", "a.png", "--text", TEXTS["vqa"])
    assert capsys.readouterr().out.startswith(predict.describe_prediction(ask("vqa")))
    assert (runs / "runs/vqa/answer.png").exists()
    command("grounding", "--image", "a.png", "--text", TEXTS["grounding"], "--run", "runs/grounding",
            "--out", "here.png", "--boxes", *(f"{value:g}" for box in BOXES for value in box))
    assert capsys.readouterr().out.startswith(ask("grounding", BOXES).answer + "\n") and (runs / "here.png").exists()
    figures = {"map": {"mode": "itc", "layer": 0}, "weights": checkpoint.hash_of_weights("runs/grounding")}
    report.write_report(runs / "runs/grounding", "grounding", figures, untrained().config, {}, "", 0)
    command("grounding", "--image", "a.png", "--text", TEXTS["grounding"])
    assert capsys.readouterr().out.startswith(predict.describe_prediction(ask("grounding",
                                                                   place=("itc", 0)))), "the report's own map"


def test_a_pretrained_run_and_the_shipped_model_are_asked_for_a_match(runs, models, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = "--image", str(runs / "a.png"), "--text", "a cat"
    for words in ((), ("--run", "tiny")):
        command("retrieval", *given, *words)
        run = load("tiny")
        assert f"{run.similarity(runs / 'a.png', 'a cat').item():7.2f}  similarity" in capsys.readouterr().out
        assert (tmp_path / "runs/tiny/answer.png").exists() and not (run.path / "answer.png").exists()
    checkpoint.save("mine", models["retrieval"], untrained().tokenizer)
    for task in ("retrieval", "grounding"):
        command(task, *given, "--run", "mine")
    with pytest.raises(ValueError, match="mine is a run of pretrain, not of vqa"):
        command("vqa", *given, "--run", "mine")


def test_two_pictures_are_named_at_once_or_one_by_one(runs, ask, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    for images in (["--image", "a.png", "b.png"], ["--image", "a.png", "--image", "b.png"]):
        command("nlvr2", *images, "--text", TEXTS["nlvr2"])
        assert capsys.readouterr().out.startswith(predict.describe_prediction(ask("nlvr2")))


@pytest.mark.parametrize("args, message", [
    (["vqa", "--image", "a.png", "--text", "a", "--run", "runs/nlvr2"],
     "runs/nlvr2 is a run of nlvr2, not of vqa.*finetune vqa"),
    (["vqa", "--image", "a.png", "--text", "a", "--run", "runs/mine"], "no runs/mine; `minalbef finetune vqa`.*--run"),
    (["vqa", "--image", "a.png", "--text", "a", "--run", "empty"], "not a run folder"),
    (["vqa", "--image", "c.png", "--text", "a"], "c.png cannot be read"),
    (["nlvr2", "--image", "a.png", "--text", "a"], "got 1"),
    (["vqa", "--image", "a.png", "--text", "a", "--boxes", "1", "1", "5", "5"], "boxes for grounding"),
    (["entailment", "--image", "a.png", "--text", "a", "--boxes", "1", "1", "5", "5"], "boxes for grounding"),
    (["grounding", "--image", "a.png", "--text", "a", "--boxes", "90", "1", "5", "5"],
     "outside the image of 80 x 50")])
def test_a_command_that_cannot_be_done_says_what_can(runs, monkeypatch, args, message):
    monkeypatch.chdir(runs)
    (runs / "empty").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=message):
        command(*args)
