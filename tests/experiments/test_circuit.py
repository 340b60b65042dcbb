"""The circuit of "left of": what is switched off, moved and corrected, and verdicts by hand."""
import json
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import checkpoints
import circuit
import circuit_failures
import circuit_training
import closeup
from emojiscenes.language import holds
from minalbef import load
from minalbef.cli.main import run_script
from minalbef.presets import preset
from minalbef.recipes import pretrain as recipe
from minalbef.system import checkpoint

ROOT = Path(__file__).parents[2]
SHORT = dict(epoch=64 * 4, warm_steps=2)


def digest(folder: Path) -> str:
    return checkpoint.digest_of(checkpoint.read_run(folder)[3])


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


# heads and directions

def test_a_pass_with_heads_own_outputs_is_the_same_and_with_another_scenes_it_is_not():
    run = load("tiny")
    questions = circuit.Questions(run, circuit.draw(run, "relation", 1, 6, sideways=True))
    odds = questions.odds(0)
    outputs = circuit.outputs_of(questions, 0)
    heads = circuit.heads_of(run)
    assert len(heads) == len(outputs) == len(set(map(str, heads))) == 12
    with circuit.replace_outputs(run, heads, outputs):
        assert torch.allclose(questions.odds(0), odds, atol=1e-5)
    with circuit.replace_outputs(run, heads, circuit.outputs_of(questions, 1)):
        assert not torch.allclose(questions.odds(0), odds, atol=0.1)
    assert torch.equal(questions.odds(0), odds), "hooks are gone"


def test_the_fewest_heads_are_chosen_that_harm_relations_and_not_objects(monkeypatch):
    run = load("tiny")
    questions = circuit.Questions(run, circuit.draw(run, "relation", 1, 2, True))
    by_kind = {"relation": questions, "object": questions}
    first, second, third, *_ = circuit.heads_of(run)
    needed = {first, third}

    def without(heads, part, means):
        if means == "object":
            return 0.9 if second in heads else 1.0
        if needed <= set(heads):
            return 0.5
        return 0.8 if second in heads or third in heads else 1.0

    monkeypatch.setattr(circuit, "without", without)
    means = {"relation": "relation", "object": "object"}
    assert circuit.choose_heads(by_kind, means) == [first, third]
    needed.add(second)
    assert circuit.choose_heads(by_kind, means) == [third], "no set reaches chance, so the lowest"


def test_a_direction_of_random_words_is_fitted():
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(400, 8, dtype=torch.double, generator=generator)
    weights = torch.linspace(-1, 1, 8, dtype=torch.double)
    assert circuit.explained(weights, words, words @ weights + 3) == pytest.approx(1)
    assert circuit.explained(weights, words, words.flip(0) @ weights) < 0


def test_the_sampler_of_a_model_that_knows_nothing_draws_evenly():
    """Of equal similarities every key that isn't masked has the same chance."""
    class Nothing:
        temperature = 1.0

        def encode_text(self, tokens, keep):
            return torch.zeros(len(tokens), 4)

        def encode_image(self, image):
            return torch.zeros(len(image), 4)

        def text_feature(self, text):
            return text

        def image_feature(self, image):
            return image

    run = load("tiny")
    shares = closeup.sampler(run, replace(run, model=Nothing()))["start"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert shares["the sibling"] == pytest.approx(1 / 63, abs=2e-3)


# failures

@pytest.mark.parametrize("counts, expected", [
    ((29, 29, 0, 29), "too few"),
    ((40, 30, 10, 40), "place"),
    ((40, 30, 25, 40), "not decided"),
    ((40, 5, 0, 35), "comparison"),
    ((40, 5, 0, 15), "objects"),
    ((40, 5, 0, 25), "not decided"),
])
def test_what_fails_is_judged_as_registered(counts, expected):
    names = ("wrong", "repaired", "control", "objects")
    assert circuit_failures.verdict(dict(zip(names, counts))) == expected


@pytest.fixture(scope="module")
def questions() -> circuit.Questions:
    run = load("tiny")
    pairs = []
    for title in circuit_failures.SETS:
        for true, false in circuit_failures.draw_set(run, title, 1, 6):
            pairs.append((replace(true, id=len(pairs)), replace(false, id=len(pairs))))
    return circuit.Questions(run, pairs)


def test_captions_are_true_of_one_scene_and_false_of_the_other(questions):
    for true, false in questions.pairs:
        assert holds(true.form, true.scene) is True
        assert holds(true.form, false.scene) is False
        first, second = true.form.a.name, true.form.b.name
        assert f"{first} {true.form.kind} of" in true.text
        assert true.text.endswith(second)
        both = circuit_failures.name_both((true, false))[0].text
        assert first in both and second in both
        assert " of " not in both


def test_a_corrected_word_has_the_true_place(questions):
    """What the second layer reads, once words are moved by what the reading lacks."""
    reading = circuit_failures.fit_reading(questions)
    second = questions.run.model.fusion.layers[1]
    for scene in (0, 1):
        missing = circuit_failures.lacks(questions, reading, scene)
        inputs = []
        hook = second.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        circuit_failures.correct(questions, reading.direction, missing, scene)
        hook.remove()
        for row, pair in enumerate(questions.pairs):
            for thing, pieces in circuit.object_words(questions.run, pair[0]).items():
                word = inputs[0][row, pieces].mean(0).double()
                place = ((word - reading.mean) @ reading.weights).item() + reading.middle
                assert place == pytest.approx(circuit.place_of(pair[scene], thing), abs=1e-3)


def test_corrections_are_exchanged_among_the_wrong_answers_alone():
    corrections = [{"cat": 1.0, "dog": 2.0}, {"pig": 3.0, "bee": 4.0}, {"cat": 5.0, "pig": 6.0}]
    exchanged = [{"cat": 5.0, "dog": 6.0}, {"pig": 3.0, "bee": 4.0}, {"cat": 1.0, "pig": 2.0}]
    assert circuit_failures.exchange(corrections, [0, 2]) == exchanged


@torch.no_grad()
def test_itc_prefers_the_nearer_scene(questions):
    model = questions.run.model
    text = model.text_feature(questions.scenes[0].text, questions.scenes[0].keep)
    similarity = []
    for scenes in questions.scenes:
        similarity.append((model.image_feature(scenes.image) @ text.T).diagonal())
    right = (similarity[0] > similarity[1]).float().mean().item()
    assert questions.right_by_itc() == pytest.approx(right)


# through training

def figures(step: int, objects: float, relations: float, itc: float, place: float, moved: float,
            cost: float) -> dict:
    """A checkpoint's."""
    way = {"explained": place, "moved": moved, "control": 0.0}
    return {
        "step": step, "object": objects, "relation": relations, "relation_by_itc": itc,
        "head": "one", "cost": cost, "directions": {"place": way, "fits": way},
    }


def test_the_registered_claims_are_judged_by_the_first_checkpoints():
    run = [
        figures(0, 0.5, 0.5, 0.5, 0.0, 0.6, 0.0),
        figures(190, 0.9, 0.5, 0.5, 0.4, 0.9, 0.3),
        figures(380, 0.9, 0.8, 0.5, 0.6, 0.6, 0.2),
        figures(570, 0.9, 0.9, 0.8, 0.8, 0.7, 0.05),
    ]
    assert circuit_training.firsts(run) == {
        "objects": 190, "place": 190, "relations": 380, "relations_by_itc": 570}
    assert all(circuit_training.verdicts(run).values())
    relations_first = [
        figures(0, 0.5, 0.5, 0.5, 0.0, 0.6, 0.0),
        figures(190, 0.5, 0.8, 0.8, 0.4, 0.4, 0.0),
        figures(380, 0.9, 0.9, 0.9, 0.6, 0.6, 0.2),
    ]
    assert circuit_training.firsts(relations_first)["objects"] == 380
    assert not any(circuit_training.verdicts(relations_first).values())


def test_the_circuit_is_measured_at_tenths_of_a_run_however_many_checkpoints_it_has(tmp_path):
    folder = tmp_path / "tiny-7"
    shutil.copytree(ROOT / "data" / "tiny", folder / "start")
    for step in range(95, 1901, 95):
        (folder / f"step_{step:04}").mkdir()
    assert list(circuit_training.tenths(folder)) == list(range(0, 1901, 190))
    (folder / "step_1710").rmdir()
    with pytest.raises(ValueError, match="lacks step_1710; .* tiny --seed 7` makes it"):
        circuit_training.tenths(folder)


def test_checkpoints_that_are_missing_are_named_with_their_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["circuit_training.py", "--seed", "7"])
    with pytest.raises(SystemExit):
        run_script(circuit_training.main)
    assert "checkpoints.py tiny --seed 7` makes it" in capsys.readouterr().err


def test_a_seed_keeps_a_run_of_each_processor_and_the_last_of_one(tmp_path, monkeypatch):
    out = tmp_path / "runs.json"
    monkeypatch.setattr(circuit_training, "tenths", lambda folder: {0: folder})
    monkeypatch.setattr(circuit_training, "load", lambda folder: None)
    monkeypatch.setattr(circuit_training, "paint_questions", lambda run: {})

    def measure_on(device: str, name: str) -> None:
        monkeypatch.setattr(circuit_training, "describe_device", lambda: device)
        monkeypatch.setattr(circuit_training, "measure_run", lambda folder, painted: name)
        circuit_training.main((7,), out)

    measure_on("One (x86_64), 2 cores", "first")
    measure_on("Two (x86_64)", "second")
    measure_on("One (x86_64), 4 cores", "third")
    runs = read(out)
    assert list(runs) == ["7"]
    assert [run["checkpoints"] for run in runs["7"]] == ["third", "second"]


# weights through training

def test_a_run_with_checkpoints_is_an_ordinary_run_and_its_hashes_are_compared(
        tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "RECIPES", {"tiny": SHORT})
    monkeypatch.setattr(recipe, "CAPTIONS", 300)
    out = tmp_path / "hashes.json"
    make = partial(checkpoints.main, ("tiny",), seed=(3,), number=2, folder=tmp_path, out=out)
    make()
    folder = tmp_path / "tiny-3"
    recipe.pretrain(preset("tiny", **SHORT, seed=3), tmp_path / "ordinary", quiet=True)
    hashes = read(out)["tiny-3"][0]["hashes"]
    assert list(hashes) == ["start", "step_0002", "step_0004"]
    assert hashes["start"] == digest(tmp_path / "ordinary" / "start")
    assert hashes["step_0004"] == digest(tmp_path / "ordinary") == digest(folder)
    assert load(folder / "step_0002").config == load(folder).config

    make()
    assert "3 of 3 hashes are in checkpoints.json, all are the same" in capsys.readouterr().out
    wrong = read(out)
    wrong["tiny-3"][0]["hashes"]["step_0002"] = "0"
    out.write_text(json.dumps(wrong), encoding="utf-8")
    make()
    assert "in checkpoints.json, and step_0002 and 0 more differ" in capsys.readouterr().out
    assert read(out) == wrong, "nothing is written over"
    monkeypatch.setattr(checkpoints, "describe_device", lambda: "another processor")
    make()
    assert "step_0002 and 0 more differ" in capsys.readouterr().out, "another's are compared, too"
    assert [run["device"] for run in read(out)["tiny-3"]][1:] == ["another processor"]
    with pytest.raises(ValueError, match="began from something else: its argument steps differs"):
        make(number=4)


def test_the_stored_hashes_end_in_the_shipped_model():
    hashes = read(checkpoints.PATH)["tiny-4"][0]["hashes"]
    assert hashes["step_1900"] == digest(ROOT / "data" / "tiny")
