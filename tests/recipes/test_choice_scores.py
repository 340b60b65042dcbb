"""Choices among captions: Winoground's scores by hand, accuracy, chance, text alone; of sets and our minimal pairs."""
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from emojiscenes.grammar import KINDS
from emojiscenes.scenes import Scenes
from helpers import disturb
from minalbef.albef import ALBEF
from minalbef.cli.main import main
from minalbef.datasets.prepare import prepare
from minalbef.evaluation import choices
from minalbef.evaluation.choices import ChoiceRecord, accuracy, evaluate_choices, table, winoground_scores
from minalbef.evaluation.loop import How
from minalbef.recipes import provenance
from minalbef.recipes.evaluate import evaluate_pairs, evaluate_set
from minalbef.scenes import questions
from minalbef.scenes.records import minimal_pairs
from minalbef.system import checkpoint
from minalbef.tasks.run import Run
from miniature_sets import write
from untrained import untrained

QUIET = How(batch=3, quiet=True)


@pytest.fixture(scope="module")
def run() -> Run:
    """A model with opinions, made up, so that scores differ from each other."""
    blank = untrained()
    torch.manual_seed(1)
    return replace(blank, model=disturb(ALBEF(blank.config), 0.2).eval())


def noise(seed: int, width: int = 12, height: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# scores


@pytest.mark.parametrize("scores, expected", [       # rows are pictures; the right ones are on the diagonal
    ([[4, 1], [2, 3]], (1, 1, 1)),
    ([[4, 1], [3, 2]], (0, 1, 0)),                   # both pictures prefer caption 0
    ([[4, 3], [1, 2]], (1, 0, 0)),                   # both captions prefer picture 0
    ([[1, 2], [2, 1]], (0, 0, 0)),
    ([[2, 2], [1, 3]], (0, 1, 0)),                   # picture 0 has no preference
    ([[2, 1], [2, 3]], (1, 0, 0)),                   # caption 0 has none
    ([[1, 1], [1, 1]], (0, 0, 0))])
def test_winogrounds_scores_by_hand(scores, expected):
    assert tuple(winoground_scores(torch.tensor(scores, dtype=torch.float)).tolist()) == expected


def test_chance_is_what_random_scores_reach():
    torch.manual_seed(0)
    reached = torch.stack([winoground_scores(one) for one in torch.rand(6000, 2, 2)]).mean(0)
    assert reached.tolist() == pytest.approx([*choices.CHANCE.values()], abs=0.02)


def test_accuracy_by_hand():
    texts = ("a", "b", "c", "d")
    for scores, right in (([4., 1, 2, 3], 1), ([1., 2, 0, 0], 0), ([2., 2, 1, 0], 1 / 2), ([1., 1, 1, 1], 1 / 4)):
        assert accuracy(torch.tensor([scores]), texts).tolist() == pytest.approx([right])
    assert accuracy(torch.tensor([[1., 2, 0]]), ("a", "a", "b")).tolist() == [1], "a foil like the caption is no foil"


# sets


def test_figures_are_those_of_scores_by_hand(run, monkeypatch):
    """Two records of one picture each, of kinds x and y; and one of y whose second foil repeats the caption."""
    records = [ChoiceRecord((noise(0),), ("an apple", "a cat"), 7, "x"),
               ChoiceRecord((noise(1),), ("an apple", "a cat"), 8, "y"),
               ChoiceRecord((noise(1),), ("an apple", "a cat", "an apple", "a dog", "a fox"), 8, "y")]
    itc, itm = ([2, 1], [2, 1], [1, 2, 1, 1, 1]), ([1, 2], [3, 1], [3, 1, 1, 1, 1])
    grey = [[1, 0], [0, 1], [0, 0, 0, 0, 0]]
    def by_way(run, batch, weight):
        return [torch.tensor([[a], [b], [b], [g], [g], [g]], dtype=torch.float) for a, b, g in zip(itc, itm, grey)]
    monkeypatch.setattr(choices, "by_way", by_way)
    samples, more = evaluate_choices(run, records, QUIET)
    alone = samples.pop("baselines")["text_alone"]
    means = {name: {way: value.mean().item() for way, value in ways.items()} for name, ways in samples.items()}
    assert means == {"accuracy": dict.fromkeys(("itc", "itm", "both"), pytest.approx(2 / 3)),
                     "accuracy x": {"itc": 1, "itm": 0, "both": 0}, "accuracy y": {"itc": 0.5, "itm": 1, "both": 1}}
    assert {name: ways["itm"].mean().item() for name, ways in alone.items()} == {
        "accuracy": pytest.approx((1 + 0 + 2 / 5) / 3), "accuracy x": 1, "accuracy y": pytest.approx(0.2)}
    chance = {"accuracy": (0.5 + 0.5 + 2 / 5) / 3, "accuracy x": 0.5, "accuracy y": (0.5 + 2 / 5) / 2}
    assert more == {"chance": pytest.approx(chance), "weight": How.weight}
    assert len(samples["accuracy"]["itm"]) == 2, "captions of one picture are a cluster"


def test_scores_are_the_models_own_whatever_the_batch(run):
    texts = ("an apple left of a cat", "a cat left of an apple", "a big banana above a small cat and a dog")
    records = [ChoiceRecord((noise(0),), texts, 0, box=(2, 1, 8, 6)), ChoiceRecord((noise(1),), texts[:2], 1),
               ChoiceRecord((noise(2), noise(3)), texts[1:], 2)]
    shown = [noise(0)[1:6, 2:8], noise(1), noise(2), noise(3)]
    grey = np.full((8, 8, 3), 128, np.uint8)
    batch = choices.collate(records, run.tokenizer, run.config.image_size, run.config.positions).to("cpu")
    with torch.no_grad():
        found = choices.by_way(run, batch, 0.3)
    for scores, record, pictures in zip(found, records, (shown[:1], shown[1:2], shown[2:])):
        for rows, images in ((scores[:3], pictures), (scores[3:], [grey] * len(pictures))):
            itc = run.similarity(images, record.texts) / run.model.temperature.item()
            itm = run.match_probability(images, record.texts).logit()
            torch.testing.assert_close(rows, torch.stack([itc, itm, itm + 0.3 * itc]), rtol=1e-3, atol=1e-3)


def test_a_box_is_cut_from_the_pixels_as_stored_where_the_sets_boxes_were_drawn(run, tmp_path):
    """ARO's boxes are those of Visual Genome, which knows no EXIF."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6                          # a quarter turn
    Image.fromarray(noise(0)).save(tmp_path / "turned.png", exif=exif)
    shown = [choices.collate([ChoiceRecord((image,), ("a cat", "an apple"), 0, box=(2, 1, 8, 6))], run.tokenizer, 16, 9)
             for image in (tmp_path / "turned.png", noise(0))]
    assert shown[0].image.equal(shown[1].image)


def test_without_a_picture_no_model_has_a_score_of_winogrounds(run):
    records = [ChoiceRecord((noise(i), noise(i + 50)), ("an apple", "a cat"), i) for i in range(7)]
    samples, more = evaluate_choices(run, records, QUIET)
    assert all(value.mean() == 0 for ways in samples.pop("baselines")["text_alone"].values() for value in ways.values())
    assert more["chance"] == choices.CHANCE and [*samples] == ["text", "image", "group"]
    other, _ = evaluate_choices(run, records, replace(QUIET, batch=1))
    assert all(samples[name]["both"].values.equal(other[name]["both"].values) for name in samples)


def saved(run: Run, folder, task: str = "pretrain"):
    checkpoint.save(folder, run.model, run.tokenizer, None, task)
    return folder


@pytest.fixture
def prepared(tmp_path):
    """SugarCrepe in miniature: two kinds, prepared twice, so that its files have another name than at first."""
    for i in (1, 2):
        path = tmp_path / "in" / "val2017" / f"{i:012d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(i)).save(path)
    for kind in ("add_att", "swap_obj"):
        write(tmp_path / "in" / f"{kind}.json", {str(i): {
            "filename": f"{i:012d}.jpg", "caption": f"{i} cats left of an apple",
            "negative_caption": f"{i} apples left of a cat"} for i in (1, 2)})
    for _ in range(2):
        prepare("sugarcrepe", tmp_path / "in", tmp_path / "prepared")
    return tmp_path / "prepared" / "sugarcrepe"


def test_a_set_is_evaluated_from_the_command_line(run, prepared, tmp_path, monkeypatch, capsys):
    folder = saved(run, tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["minalbef", "evaluate", str(folder), "--data", str(prepared), "--batch", "3"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("choice on sugarcrepe/test, the pretrained model as it is")
    report = json.loads((folder / "sugarcrepe-test" / "report.json").read_text())
    assert lines == table(report).splitlines() and report["task"] == "choice" and report["weight"] == How.weight
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| accuracy", "| accuracy add att", "| accuracy swap obj"]
    value, (low, high) = report["test"]["accuracy"]["itm"], report["intervals"]["test"]["accuracy"]["itm"]
    alone = report["baselines"]["text_alone"]["accuracy"]
    cells = lines[4].strip("| ").split(" | ")
    assert cells[2] == f"{value:.2f} ({low:.2f} to {high:.2f})" and cells[4] == "0.50" and cells[6] == "2"
    assert cells[5] == f"{alone['itc']:.2f} / {alone['itm']:.2f} / {alone['both']:.2f}"


def test_the_weight_is_the_one_that_the_runs_evaluation_chose(run, prepared, tmp_path):
    folder = saved(run, tmp_path / "run")
    about = {"schema": 1, "rerank_plus_weight": 5.0, "weights": checkpoint.hash_of_weights(folder)}
    (folder / "report.json").write_text(json.dumps(about))
    found = evaluate_set(folder, prepared, out=tmp_path / "out")
    assert found["weight"] == 5 and found["baselines"]["text_alone"]["accuracy"].keys() == {"itc", "itm", "both"}


def test_a_set_that_was_prepared_again_has_its_own_hash(prepared):
    assert len(provenance.hash_of(prepared, "test")) == 32 and not (prepared / "test.jsonl").exists()


# our minimal pairs


def test_minimal_pairs_are_those_of_one_change():
    source = Scenes("test", objects=12, counts=(0.2, 0.4, 0.4))
    for kind in KINDS:
        for i in range(6):
            shown, form, foil = source.one_change(i, kind)
            first, second = source.minimal_pair(i, kind)
            assert first == shown and (second.form, second.text) == (form, foil)
            assert first.scene != second.scene and first.voice == second.voice and second.kind == kind


def test_either_scene_of_a_minimal_pair_may_come_first(monkeypatch):
    source, made = Scenes("test", objects=12), []
    def note(*args, make=source._minimal, **options):
        for found in make(*args, **options):
            made.append(found[0])
            yield found
    monkeypatch.setattr(source, "_minimal", note)
    as_made = [source.minimal_pair(i, "relation")[0].scene is made[-1] for i in range(40)]
    assert 10 < sum(as_made) < 30, "else the order of making would tell the caption from the foil"


def test_a_report_of_minimal_pairs_agrees_with_the_run(run, tmp_path):
    folder = saved(run, tmp_path / "run")
    found = evaluate_pairs(folder, size=0.02, seed=4)
    assert json.loads((folder / "minimal-pairs-test" / "report.json").read_text()) == found
    assert found["counts"]["test"]["text relation"]["itm"] == 10 and found["chance"]["group place"] == 0.16667
    assert [*found["test"]] == [name + kind for kind in ("", *(f" {kind}" for kind in KINDS))
                                for name in ("text", "image", "group")]
    pairs = minimal_pairs(questions.scenes(run, "test", 4, counts=(0.2, 0.4, 0.4)), 10)
    foils = questions.foils(run, "test", 4, 10)
    assert [one.texts for one in pairs] == [trio[1:] for some in foils.values() for trio in some]
    odds = torch.stack([run.match_probability([*one.images], one.texts) for one in pairs])
    right = torch.stack([winoground_scores(one) for one in odds])
    assert [found["test"][name]["itm"] for name in ("text", "image", "group")] == pytest.approx(
        right.mean(0).tolist(), abs=1e-4)


def test_pairs_want_a_run_of_scenes_with_both_scores(run, prepared, tmp_path, monkeypatch, capsys):
    folder = saved(replace(run, model=ALBEF(replace(run.config, objects=0))), tmp_path / "other")
    with pytest.raises(ValueError, match="was not trained on the embedded scenes"):
        evaluate_pairs(folder)
    with pytest.raises(ValueError, match="is a run of entailment, not of retrieval"):
        evaluate_pairs(saved(run, tmp_path / "task", "entailment"))
    monkeypatch.setattr(sys, "argv", ["minalbef", "evaluate", str(folder), "--pairs", "--data", str(prepared)])
    with pytest.raises(SystemExit):
        main()
    assert "--pairs: of use on the embedded scenes alone; leave it out with --data" in capsys.readouterr().err
