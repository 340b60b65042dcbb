"""Classification of label folders, zero-shot and by a linear probe."""
import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.testing import assert_close

from commands import call
from emojiscenes.scenes import Scenes, paint
from minalbef.recipes import features
from minalbef.recipes.label_folders import (
    LabelledImages,
    classified,
    most_confused,
    read_label_folders,
    table,
)
from minalbef.recipes.linear_probe import L2S, fit_logistic, hold_out, probe, probe_scores
from minalbef.recipes.report import read_report
from minalbef.recipes.zero_shot import fill, label_features, zero_shot
from minalbef.system import checkpoint
from minalbef.tasks.run import load
from untrained import untrained

COLOURS = ("red", "lime", "blue")


@pytest.fixture(scope="module")
def folder_of_run(tmp_path_factory):
    """An untrained run's folder, whose training said three colours."""
    path = tmp_path_factory.mktemp("runs") / "one"
    checkpoint.save(path, untrained().model, untrained().tokenizer)
    (path / checkpoint.WORDS).write_text(json.dumps(["a", *COLOURS]))
    return path


@pytest.fixture
def run(folder_of_run):
    """A made-up model: an image's feature is its mean colour, a text's the colour it names."""
    run = load(folder_of_run)
    run.model = copy.deepcopy(run.model)
    run.model.encode_image = lambda pixels: pixels.mean((2, 3))[:, None]
    run.model.image_feature = lambda tokens: F.normalize(tokens[:, 0], dim=-1)

    def embed_texts(texts):
        named = [[float(colour in text) for colour in COLOURS] for text in texts]
        return F.normalize(torch.tensor(named), dim=-1)
    run.embed_texts = embed_texts
    return run


def fill_folder(folder, colour, number, first=0):
    """Images of one colour in a folder; each has another size, and so another content."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + number):
        Image.new("RGB", (8 + i, 8), colour).save(folder / f"{i}.png")


def images_of(labels, x, truths, contents=None):
    if contents is None:
        contents = torch.arange(len(x))
    return LabelledImages("", labels, x, truths, contents, None, [], 0)


# zero-shot


def test_a_model_whose_features_name_the_label_is_always_right(run, tmp_path):
    for colour in COLOURS:
        fill_folder(tmp_path / "set" / colour, colour, 4)
    figures = zero_shot(run, tmp_path / "set", out=tmp_path / "out")
    assert figures["test"] == {"top_1": 1} and figures["most_confused"] == {}
    assert figures["by_label"] == dict.fromkeys(sorted(COLOURS), 1)
    assert figures["chance"]["top_1"] == pytest.approx(1 / 3, abs=1e-5)
    assert figures["intervals"]["test"]["top_1"] == [pytest.approx(12 / (12 + 1.96 ** 2), abs=1e-4),
                                                     1]
    assert read_report(tmp_path / "out") == figures


@pytest.mark.parametrize("holds", [("lime", "red", "blue"), ("lime", "blue", "red")])
def test_permuted_folders_are_right_where_the_permutation_stays(run, tmp_path, holds):
    for i, (label, colour) in enumerate(zip(COLOURS, holds)):
        fill_folder(tmp_path / label, colour, 3 + i)
    figures = zero_shot(run, tmp_path, out=tmp_path / "out")
    right = {}
    mistakes = []
    for i, (label, colour) in enumerate(zip(COLOURS, holds)):
        right[label] = float(label == colour)
        if label != colour:
            mistakes.append({"label": label, "taken_for": colour, "images": 3 + i, "of": 3 + i})
    assert figures["by_label"] == right
    assert figures["most_confused"] == mistakes[-1]
    share = sum(n * right[label] for n, label in zip((3, 4, 5), COLOURS)) / 12
    assert figures["test"]["top_1"] == pytest.approx(share, abs=1e-4)
    assert figures["baselines"]["commonest_label"]["top_1"] == pytest.approx(5 / 12, abs=1e-4)


def test_top_1_and_top_5_are_those_worked_by_hand():
    scores = torch.tensor([
        [9.0, 1, 2, 3, 4, 5, 6],      # truth 0: first
        [3.0, 9, 8, 7, 6, 5, 4],      # truth 0: last of 7
        [5.0, 9, 8, 7, 6, 4, 3],      # truth 0: fifth
        [9.0, 9, 1, 1, 1, 1, 1],      # truth 1: one of two that tie
    ])
    truths = torch.tensor([0, 0, 0, 1])
    samples = classified(scores, truths, torch.arange(4))
    assert samples["top_1"].tolist() == [1, 0, 0, 0.5]
    assert samples["top_5"].tolist() == [1, 0, 1, 1]
    assert "top_5" not in classified(scores[:, :5], truths, torch.arange(4))
    confused = most_confused(scores[:3], truths[:3], "abcdefg")
    assert confused == {"label": "a", "taken_for": "b", "images": 2, "of": 3}


@pytest.mark.parametrize("template, label, text", [
    ("{}", "apple", "apple"), ("a {}", "apple", "an apple"), ("a {}", "dog", "a dog"),
    ("A {} or a {}", "owl", "An owl or an owl"), ("a photo of a {}", "unicorn",
                                                 "a photo of a unicorn"),
    ("a big {}", "apple", "a big apple"), ("pizza {}", "egg", "pizza egg")])
def test_a_template_takes_an_before_a_vowel(template, label, text):
    assert fill(template, label) == text


def test_a_labels_feature_is_the_mean_over_templates_of_unit_length(folder_of_run):
    run = load(folder_of_run)
    both = label_features(run, ["apple", "dog"], ["a {}", "one {}"])
    texts = run.embed_texts(["an apple", "one apple", "a dog", "one dog"])
    assert_close(both[0], F.normalize(texts[0] + texts[1], dim=0))
    assert_close(both[1], F.normalize(texts[2] + texts[3], dim=0))
    alone = label_features(run, ["apple"], ["a {}"])
    assert_close(alone[0], texts[0])
    assert not torch.allclose(both[0], alone[0], atol=1e-4)


def test_what_is_left_out_is_counted_and_copies_are_one_cluster(run, tmp_path, caplog):
    fill_folder(tmp_path / "red_wine", "red", 3)
    fill_folder(tmp_path / "blue-sky", "blue", 3)
    fill_folder(tmp_path / ".thumbnails", "red", 2)
    fill_folder(tmp_path, "red", 1)
    (tmp_path / "blue-sky" / "copy.png").write_bytes((tmp_path / "blue-sky/0.png").read_bytes())
    (tmp_path / "red_wine" / "bad.png").write_text("no image")
    figures = zero_shot(run, tmp_path, ("a {}", "my {}"), out=tmp_path / "out")
    assert figures["labels"] == 2 and figures["by_label"].keys() == {"red wine", "blue sky"}
    assert figures["outside"] == 3 and figures["images"] == {"test": 7}
    assert len(figures["unreadable"]) == 1 and "bad.png" in figures["unreadable"][0]
    assert figures["counts"]["test"]["top_1"] == 6
    assert all(f"{word!r}" in caplog.text for word in ("sky", "wine", "my"))
    assert "'a'" not in caplog.text and "'red'" not in caplog.text
    text = table(figures)
    assert "100.00" in text and "chance 50.00" in text and "unreadable images: 1" in text


def test_zero_shot_takes_the_part_test_and_a_label_may_be_called_test(run, tmp_path):
    for part, colours in (("train", COLOURS), ("test", COLOURS[:2]), ("other", COLOURS)):
        for i, colour in enumerate(colours):
            fill_folder(tmp_path / "set" / part / colour, colour, 2 + i)
    figures = zero_shot(run, tmp_path / "set", out=tmp_path / "out")
    assert figures["labels"] == 2 and figures["images"] == {"test": 5}
    for label in ("test", "red"):
        fill_folder(tmp_path / "flat" / label, "red", 2)
    assert read_label_folders(run, tmp_path / "flat").labels == ["red", "test"]


# the linear probe


def test_a_probe_separates_what_is_linearly_separable_and_is_at_chance_on_noise():
    generator = torch.Generator().manual_seed(0)
    truths = torch.arange(600) % 3
    noise = torch.randn(600, 8, generator=generator)
    separable = noise.clone()
    separable[:, :3] += 12 * F.one_hot(truths, 3)
    train = torch.arange(600) < 300
    right = []
    for x in (separable, noise):
        scores, _ = probe_scores(100 * x + 7, images_of("abc", x, truths), train, 0)
        right.append((scores.argmax(1) == truths)[~train].float().mean().item())
    assert right[0] == 1
    assert right[1] == pytest.approx(1 / 3, abs=3 * math.sqrt(2 / 9 / 300))


def test_l2_is_that_of_the_highest_accuracy_on_held_out_training_images():
    generator = torch.Generator().manual_seed(0)
    truths = torch.arange(150) % 3
    x = torch.randn(150, 40, generator=generator)
    x[:, :3] += F.one_hot(truths, 3)
    data = images_of("abc", x, truths)
    train = torch.arange(150) < 120
    _, l2 = probe_scores(x, data, train, 0)
    x = ((x - x[train].mean(0)) / x[train].std(0)).double()
    held = torch.zeros_like(train)
    held[train] = hold_out(truths[train], data.contents[train], 0)
    accuracy = {}
    for strength in L2S:
        weights = fit_logistic(x[train & ~held], truths[train & ~held], 3, strength)
        answers = (x[held] @ weights[:-1] + weights[-1]).argmax(1)
        accuracy[strength] = (answers == truths[held]).float().mean().item()
    assert accuracy[l2] == max(accuracy.values()) > min(accuracy.values())


def test_a_probe_is_fitted_to_its_training_images_alone():
    torch.manual_seed(0)
    x = torch.randn(40, 4)
    truths = torch.arange(40) % 2
    train = torch.arange(40) < 30
    scores, _ = probe_scores(x, images_of("ab", x, truths), train, 0)
    other = truths.clone()
    other[30:] = 1 - other[30:]
    changed = x.clone()
    changed[35:] = 1e4
    again, _ = probe_scores(changed, images_of("ab", x, other), train, 0)
    assert scores[:35].equal(again[:35])
    trained, _ = probe_scores(x, images_of("ab", x, other), ~train, 0)
    assert not torch.allclose(scores, trained)


def test_logistic_regression_solves_the_equation_of_two_points():
    """Of x = -1 and 1 and margin m, the gradient is zero where sigmoid(-m) = l2 * m / 2."""
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    for l2 in (0.01, 0.1, 1.0):
        weights = fit_logistic(x, torch.tensor([0, 1]), 2, l2)
        margin = weights[0, 1] - weights[0, 0]
        assert torch.sigmoid(-margin).item() == pytest.approx(l2 * margin.item() / 2, abs=1e-6)
        assert weights[1].tolist() == pytest.approx([0, 0], abs=1e-6)


def test_the_bias_is_not_regularised_so_frequencies_are_learnt():
    truths = torch.tensor([0, 1, 1, 1])
    weights = fit_logistic(torch.zeros(4, 2, dtype=torch.float64), truths, 2, l2=1.0)
    assert weights[-1].softmax(0).tolist() == pytest.approx([0.25, 0.75], abs=1e-6)


def test_a_fifth_of_each_label_is_held_out_and_copies_stay_together():
    truths = torch.tensor([0] * 10 + [1] * 20 + [2] * 2 + [3])
    contents = torch.arange(33)
    contents[1] = contents[0]                    # two copies in a label
    contents[12] = contents[3]                   # and in two
    held = hold_out(truths, contents, seed=0)
    for seed in range(20):
        part = hold_out(truths, contents, seed)
        assert not torch.isin(contents[part], contents[~part]).any()
        images = [len(contents[part & (truths == label)].unique()) for label in range(4)]
        assert 2 <= images[0] <= 3 and 4 <= images[1] <= 5 and images[2:] == [1, 0]
    assert held.equal(hold_out(truths, contents, seed=0))
    assert not held.equal(hold_out(truths, contents, seed=1))


def test_a_folders_own_parts_are_kept_and_copies_are_not_trained_on(run, tmp_path, caplog):
    for colour in COLOURS:
        fill_folder(tmp_path / "set" / "train" / colour, colour, 5)
        fill_folder(tmp_path / "set" / "test" / colour, colour, 3, first=4)      # one is a copy
    fill_folder(tmp_path / "set" / "test", "red", 1)
    figures = probe(run, tmp_path / "set", out=tmp_path / "out")
    assert figures["images"] == {"train": 12, "test": 9} and figures["outside"] == 1
    assert figures["test"] == {"cls": {"top_1": 1}, "shared_space": {"top_1": 1}}
    assert "3 images to train on" in caplog.text
    run.absent = ("image_proj",)                 # as a run of VQA has it
    assert [*probe(run, tmp_path / "set", out=tmp_path / "out")["test"]] == ["cls"]


# the command


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Six scenes each of six objects."""
    folder = tmp_path_factory.mktemp("scenes") / "emoji"
    source = Scenes("test", objects=("apple", "banana", "car", "frog", "pizza", "rocket"),
                    counts=(1, 0, 0))
    number = dict.fromkeys(("apple", "banana", "car", "frog", "pizza", "rocket"), 0)
    i = 0
    while min(number.values()) < 6:
        scene = source.draw(i).scene
        name = scene.objects[0].name
        if number[name] < 6:
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(paint(scene, 48)).save(folder / name / f"{i}.png")
            number[name] += 1
        i += 1
    return folder


def test_the_shipped_model_classifies_scenes_and_keeps_their_features(scenes, tmp_path,
                                                                      monkeypatch):
    for flag, task in (("--zero-shot", "zero-shot"), ("--probe", "probe")):
        outcome = call("evaluate", "tiny", flag, scenes, "--quiet", folder=tmp_path)
        assert not outcome.failed
        report, = tmp_path.glob(f"runs/tiny/{task}-emoji-*/report.json")
        figures = read_report(report.parent)
        top = figures["test"] if task == "zero-shot" else figures["test"]["cls"]
        assert top["top_1"] > 0.7 and top["top_5"] >= top["top_1"]
        assert f"{100 * top['top_1']:.2f}" in outcome.text and "chance 16.67" in outcome.text
        with monkeypatch.context() as patch:
            patch.setattr(features, "embed_paths", None)
            again = call("evaluate", "tiny", flag, scenes, "--quiet", folder=tmp_path)
        assert again == outcome
    one = call("evaluate", "tiny", "--zero-shot", scenes, "--quiet", "--template", "one {}",
               "--template", "a big {}", folder=tmp_path)
    assert not one.failed
    assert read_report(next(tmp_path.glob("runs/tiny/zero-shot-*")))["templates"] == ["one {}",
                                                                                      "a big {}"]


@pytest.mark.parametrize("words, said", [
    (["--zero-shot", "emoji/frog"], ["no label folders", "6 images", "dog/1.png"]),
    (["--zero-shot", "one"], ["one label, 'frog'", "dog/1.png"]),
    (["--zero-shot", "nowhere"], ["nowhere is no folder"]),
    (["--probe", "few"], ["'car' has too few", "1 to train on and 0 to test on"]),
    (["--probe", "half"], ["half has label folders in train", "test"]),
    (["--zero-shot", "unread"], ["can be read", "car/1.png"]),
    (["--probe", "untested"], ["can be read", "untested/test/car/1.png"]),
    (["--probe", "missing"], ["can be read", "they have none"]),
    (["--zero-shot", "emoji", "--template", "a photo"], ["'a photo' has no {}"]),
    (["--probe", "emoji", "--template", "a {}"], ["--template", "--zero-shot"]),
    (["--zero-shot", "emoji", "--probe", "emoji"], ["name one of them"]),
    (["--template", "a {}"], ["--zero-shot"]),
    (["--zero-shot", "emoji", "--data", "set"], ["--data set"]),
    (["--probe", "emoji", "--among", "500"], ["--among"]),
])
def test_what_cannot_be_classified_is_refused(scenes, tmp_path, words, said):
    (tmp_path / "emoji").symlink_to(scenes)
    fill_folder(tmp_path / "one" / "frog", "lime", 2)
    fill_folder(tmp_path / "few" / "frog", "lime", 2)
    fill_folder(tmp_path / "few" / "car", "red", 1)
    fill_folder(tmp_path / "half" / "train" / "frog", "lime", 1)
    fill_folder(tmp_path / "unread", "lime", 1)
    for label in ("car", "frog"):
        (tmp_path / "unread" / label).mkdir()
        (tmp_path / "unread" / label / "1.png").write_text("no image")
    for name in ("untested", "missing"):
        for label in ("car", "frog"):
            fill_folder(tmp_path / name / "train" / label, "lime", 2)
            (tmp_path / name / "test" / label).mkdir(parents=True)
    (tmp_path / "untested" / "test" / "car" / "1.png").write_text("no image")
    outcome = call("evaluate", "tiny", *words, "--quiet", folder=tmp_path)
    assert outcome.status == 2
    for part in said:
        assert part in outcome.text
    assert not list(tmp_path.rglob("report.json"))
