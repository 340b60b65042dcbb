"""Predictions: what each task's functions say, as words and a picture; what cannot be asked."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from helpers import disturb, small, texts
from minalbef.cli import main
from minalbef.data import Batch, transform
from minalbef.evaluation.gradcam import pair_relevance, relevance, text_map
from minalbef.layers import record_weights
from minalbef.recipes import predict, report
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.system import checkpoint
from minalbef.tasks import entailment, grounding, vqa
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
    models = {}
    for task in SCENE_TASKS:
        student = TASKS[task].module(untrained().config).student
        models[task] = disturb(student, 0.15).eval()
    return models


@pytest.fixture(scope="module")
def pictures():
    """Two, 80 wide and 50 high."""
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 255, (2, 50, 80, 3), dtype=np.uint8)
    return list(map(Image.fromarray, pixels))


@pytest.fixture(scope="module")
def ask(models, pictures):
    def ask(task: str, candidates=None, **changes):
        options = {"images": pictures[:1 + (task == "nlvr2")], "text": TEXTS[task]} | changes
        return predict.predict(task, models[task], untrained().tokenizer,
                               candidates=candidates, **options)
    return ask


def inputs(pictures, text: str, **options):
    """pixels (i, 3, s, s), tokens and keep (1, l)"""
    size = untrained().config.image_size
    pixels = torch.stack([transform(picture, size) for picture in pictures])
    return pixels, *untrained().tokenizer.encode([text], **options)


def test_retrieval_says_what_a_run_says(ask, models, pictures):
    hit = ask("retrieval")
    run = replace(untrained(), model=models["retrieval"])
    match = run.match_probability(pictures[0], hit.text).item()
    similarity = run.similarity(pictures[0], hit.text).item()
    assert hit.similarity == pytest.approx(similarity, abs=1e-5)
    assert hit.probabilities == pytest.approx({"match": match, "no match": 1 - match},
                                              abs=1e-5)
    answer = "match" if match > 0.5 else "no match"
    assert hit.answer == answer == next(iter(hit.probabilities))


def test_of_two_pictures_the_first_is_the_left_one(ask, models, pictures):
    for images in (pictures, pictures[::-1]):
        hit = ask("nlvr2", images=images)
        image, tokens, keep = inputs(images, hit.text)
        logits = models["nlvr2"](image, torch.tensor([[0, 1]]), tokens, keep)
        false, true = logits.softmax(-1)[0].tolist()
        assert hit.probabilities == pytest.approx({"true": true, "false": false}, abs=1e-5)
        assert hit.answer == ("true" if true > false else "false")
        assert len(hit.maps) == 2
    hit = ask("nlvr2")
    assert hit.probabilities["true"] != pytest.approx(true, abs=1e-4), "the check is blind"


def question(pictures):
    pixels, tokens, keep = inputs(pictures[:1], "how many apples are there", raw=True)
    return Batch(pixels, tokens, keep, torch.zeros(1, dtype=torch.long))


def test_an_answer_is_the_best_of_the_candidates_and_one_is_written_freely(
        ask, models, pictures):
    tokenizer = untrained().tokenizer
    words = ["two", "yes", "an apple", "three", "two"]
    hit = ask("vqa", words)
    answers = vqa.encode_answers(tokenizer, words[:4])
    order, odds = vqa.rank(models["vqa"], question(pictures), *answers)
    assert list(hit.probabilities) == [words[i] for i in order[0]]
    assert hit.answer == words[order[0, 0]]
    assert list(hit.probabilities.values()) == pytest.approx(odds[0].tolist(), abs=1e-5)
    written, logp = vqa.generate(models["vqa"], question(pictures), tokenizer, beams=vqa.BEAMS)
    assert hit.written == tokenizer.decode(written[0])
    # the scenes' answers, where a model learnt from scenes
    assert {"yes", "three", "apple"} < set(ask("vqa").probabilities)


def middle_map(albef, image, text, score):
    """Of fusion's first layer, which is the middle of two, over the whole text."""
    tokens, keep = untrained().tokenizer.encode([text])
    text = albef.encode_text(tokens, keep)
    return text_map(relevance(albef, image, text, keep, score, 0), keep).reshape(6, 6)


@pytest.mark.parametrize("label", entailment.LABELS)
def test_the_map_explains_the_label_that_was_chosen(
        ask, models, pictures, label, monkeypatch):
    model = models["entailment"]
    i = entailment.LABELS.index(label)
    bias = model.head[2].bias.clone()
    bias[i] += 100.0
    monkeypatch.setattr(model.head[2].bias, "data", bias)
    hit = ask("entailment")
    assert hit.answer == hit.explained == label
    image = model.albef.encode_image(inputs(pictures[:1], "a")[0])
    def maps(i):
        def score(fused):
            return model.head(fused[:, 0])[:, i]
        return middle_map(model.albef, image, hit.text, score)
    assert_close(hit.maps[0], maps(i))
    assert not torch.allclose(hit.maps[0], maps(i - 1), rtol=0.01), "the check is blind"


def test_a_place_is_that_of_the_matchs_map(ask, models, pictures):
    hit = ask("grounding")
    pixels = inputs(pictures[:1], hit.text)
    heat = grounding.heat_map(models["grounding"], *pixels, layer=0)[0]
    assert_close(hit.maps[0], heat)
    row, column = divmod(int(heat.argmax()), 6)
    assert hit.answer == f"around x {(column + 0.5) * 80 / 6:.0f}, y {(row + 0.5) * 50 / 6:.0f}"
    assert hit.boxes is None
    hit = ask("grounding", BOXES)
    scores = grounding.score_boxes(heat, torch.tensor(BOXES), (50, 80))
    assert_close(hit.scores, scores)
    assert hit.box.tolist() == BOXES[scores.argmax()]
    assert "the box at x {:g}, y {:g}".format(*hit.box) in hit.answer


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
    images = torch.cat(image), torch.tensor([[0, 3], [1, 4], [2, 5]])
    with record_weights(model.albef.fusion, "cross") as weights:
        fused = model.albef.fuse(text.requires_grad_(), keep, images)
    assert len(weights) == 4
    for i in (0, 1):
        share = weights[2 * layer + i]
        gradient, = torch.autograd.grad(score(fused).sum(), share, retain_graph=True)
        assert maps[i].shape == (3, 8, 9)
        columns = (share * gradient.clamp(min=0)).mean(1).detach() * keep[:, :, None]
        # of the patches; [CLS] stands before them
        assert_close(maps[i], columns[:, :, -9:])
    assert maps[0].max() > 0 and not torch.allclose(maps[0], maps[1], rtol=0.01)


# what cannot be asked
@pytest.mark.parametrize("task, changes, message", [
    ("captioning", {}, "no task 'captioning'.*retrieval, entailment, vqa, nlvr2, grounding"),
    ("vqa", {"images": 2}, "vqa takes one image, but got 2.*--image"),
    ("nlvr2", {"images": 1}, "nlvr2 takes two images, the left one first, but got 1"),
    ("vqa", {"text": " ?! "}, "' .! ' has no words"), ("entailment", {"text": ""}, "no words"),
    ("retrieval", {"text": "an apple " * 20}, "the limit is 30"),
    ("grounding", {"candidates": [[5, 5, 9, 9], [80, 5, 9, 9]]},
     "box 1.*outside the image of 80 x 50 pixels"),
    ("vqa", {"candidates": BOXES}, "vqa does not choose among these candidates: answers")])
def test_what_cannot_be_asked_is_refused(models, pictures, task, changes, message):
    images = (pictures * 2)[:changes.get("images", 1 + (task == "nlvr2"))]
    options = {"text": TEXTS.get(task, "an apple")} | changes | {"images": images}
    with pytest.raises(ValueError, match=message):
        predict.predict(task, models.get(task), untrained().tokenizer, **options)


# the command
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
    command("grounding", "--image", "a.png", "--text", TEXTS["grounding"], "--run",
            "runs/grounding", "--out", "here.png", "--boxes",
            *(f"{value:g}" for box in BOXES for value in box))
    assert capsys.readouterr().out.startswith(ask("grounding", BOXES).answer + "\n")
    assert (runs / "here.png").exists()
    weights = checkpoint.hash_of_weights("runs/grounding")
    figures = {"map": {"mode": "itc", "layer": 0}, "weights": weights}
    report.write_report(runs / "runs/grounding", "grounding", figures, untrained().config, {},
                        "")
    command("grounding", "--image", "a.png", "--text", TEXTS["grounding"])
    hit = ask("grounding", place=("itc", 0))             # the report's own map
    assert capsys.readouterr().out.startswith(predict.describe_prediction(hit))
