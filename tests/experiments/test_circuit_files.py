"""Weights through training, and what the circuit does there and where it fails: the scripts, and the page's figures."""
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
from emojiscenes.language import holds
from helpers import short
from minalbef import checkpoint, load
from minalbef.cli.main import run_script
from minalbef.presets import preset
from minalbef.recipes import pretrain as recipe

ROOT = Path(__file__).parents[2]
SHORT = dict(epoch=64 * 4, warm_steps=2)


def digest(folder: Path) -> str:
    return checkpoint.digest_of(checkpoint.read_run(folder)[3])


def stored(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_run_with_checkpoints_is_an_ordinary_run_and_its_hashes_are_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "RECIPES", {"tiny": SHORT})
    monkeypatch.setattr(recipe, "CAPTIONS", 300)
    out = tmp_path / "hashes.json"
    make = partial(checkpoints.main, ("tiny",), seed=(3,), number=2, folder=tmp_path, out=out)
    make()
    folder = tmp_path / "tiny-3"
    recipe.pretrain(preset("tiny", **SHORT, seed=3), tmp_path / "ordinary", quiet=True)
    hashes = stored(out)["tiny-3"][0]["hashes"]
    assert list(hashes) == ["start", "step_0002", "step_0004"] and len(set(hashes.values())) == 3
    assert hashes["start"] == digest(tmp_path / "ordinary" / "start")
    assert hashes["step_0004"] == digest(tmp_path / "ordinary") == digest(folder)
    assert load(folder / "step_0002").config == load(folder).config

    make()
    said = capsys.readouterr().out.splitlines()[-2:]
    assert said[0].endswith("3 hashes written to " + str(out)), "a first run has nothing to be compared with"
    assert said[1].startswith("tiny-3: 3 of 3 hashes are in checkpoints.json, all are the same; made with ")
    wrong = stored(out)
    wrong["tiny-3"][0]["hashes"]["step_0002"] = "0"
    out.write_text(json.dumps(wrong), encoding="utf-8")
    make()
    assert "in checkpoints.json, and step_0002 and 0 more differ; made with" in capsys.readouterr().out
    assert stored(out) == wrong, "nothing is written over"
    monkeypatch.setattr(checkpoints, "describe_device", lambda: "another processor")
    make()
    assert "and step_0002 and 0 more differ; made with" in capsys.readouterr().out, "another's bits are compared, too"
    assert [one["device"] for one in stored(out)["tiny-3"]] == [wrong["tiny-3"][0]["device"], "another processor"]
    assert stored(out)["tiny-3"][1]["hashes"] == hashes
    with pytest.raises(ValueError, match="began from something else: its argument steps differs"):
        make(number=4)


def test_the_stored_hashes_end_in_the_shipped_model():
    hashes = stored(checkpoints.PATH)["tiny-4"][0]["hashes"]
    assert hashes["step_1900"] == digest(ROOT / "data" / "tiny")
    assert len(hashes) == 11 == len(set(hashes.values()))


def test_three_recipes_by_five_seeds_by_twenty_checkpoints_have_their_hashes_of_one_processor():
    runs = stored(checkpoints.PATH)
    assert sorted(runs) == sorted(f"{recipe}-{seed}" for recipe in checkpoints.RECIPES for seed in range(5))
    found = {}
    for name, records in runs.items():
        hashes = [record["hashes"] for record in records if record["device"].startswith("Intel(R) Xeon(R)")]
        assert [len(each) for each in hashes] == [21], "the start, and twenty steps"
        found |= {(name, step): digest for step, digest in hashes[0].items()}
    tiny = preset("tiny")
    assert 190 < tiny.step_of(tiny.lesson_from) < 285
    for seed in range(5):
        for step in ("start", "step_0095", "step_0190"):
            assert found.pop((f"tiny-paper-{seed}", step)) == found[f"tiny-{seed}", step], "until the lesson begins"
    assert len(set(found.values())) == len(found) == 5 * (3 * 21 - 3), "from then on all differ"


def test_the_page_has_the_table_of_failures_and_its_verdicts_follow():
    models = stored(circuit_failures.PATH)["models"]
    assert circuit_failures.table(models) in (ROOT / "docs" / "circuit.md").read_text(encoding="utf-8")
    said = {seed: [circuit_failures.verdict(found) for found in models[seed]["sets"].values()] for seed in ("4", "1")}
    assert said == {"4": ["too few", "not decided", "not decided", "objects"],
                    "1": ["not decided", "not decided", "comparison", "objects"]}
    for seed in ("4", "1"):
        sets = models[seed]["sets"]
        assert sets["straight pairs"]["error"] < sets["anywhere"]["error"]
        assert sets["unseen style"]["explained"] <= .70


def test_runs_of_the_first_models_processor_end_in_these_models():
    ends = stored(circuit.PATH)
    same = {seed: run for seed, records in stored(circuit_training.PATH).items() for run in records
            if run["device"] == ends["device"]}
    assert list(same) == ["4", "1", "2"]
    for seed, run in same.items():
        assert run["checkpoints"][-1]["directions"] == ends["models"][f"runs/bench/seed{seed}"]["directions"]


def test_what_the_page_says_of_training_is_what_was_measured():
    page = (ROOT / "docs" / "circuit_training.md").read_text(encoding="utf-8")
    text = " ".join(page.split())
    runs = stored(circuit_training.PATH)
    assert circuit_training.table(runs) in page and list(runs) == ["4", "1", "2", "3", "0"]
    found = {(seed, circuit_training.processor_of(run)): run["checkpoints"]
             for seed, records in runs.items() for run in records}
    assert len(found) == 8 and "Eight runs" in text
    assert all(len(each) == 11 and each[-1]["step"] == 1900 for each in found.values())
    assert [run[1] for run in found].count("Intel Xeon") == 5

    def way(run: tuple[str, str], step: int, name: str = "moved") -> float:
        return next(each["directions"]["place"][name] for each in found[run] if each["step"] == step)

    xeon = {seed: (seed, "Intel Xeon") for seed in runs}
    first, last = ([short(way(xeon[seed], step)) for seed in "30"] for step in (760, 1900))
    assert f"{' and '.join(first)} of answers at step 760, soon after" in text
    assert f"learnt, and {' and '.join(last)} at the end" in text
    four, same = xeon["4"], ("4", "AMD EPYC")
    assert f"{short(way(four, 950))} at step 950 and {short(way(four, 1900))} at the end, but " \
           f"{short(way(same, 950))} and {short(way(same, 1900))} on the EPYC" in text
    assert f"on both ({short(way(xeon['1'], 1900))} and {short(way(('1', 'AMD EPYC'), 1900))} at the end)" in text
    learnt = {run: [each["directions"]["place"] for each in part[3:]] for run, part in found.items()}
    turning = {run for run, place in learnt.items() if max(each["moved"] for each in place) > .5}
    assert turning == {run for run in found if run[0] != "2"} and len(turning) == 6
    controls = [[each["control"] for each in learnt[run]] for run in turning]
    control = " and ".join(short(way(xeon[seed], 760, "control")) for seed in "30")
    assert f"(the control: {control} in seeds 3 and 0 at step 760, up to {short(max(map(max, controls)))} in" in text
    assert f"at the end {short(max(each[-1] for each in controls))} at most" in text

    held = {run: list(circuit_training.verdicts(part).values()) for run, part in found.items()}
    assert [run for run, (_, _, at_once, *_) in held.items() if not at_once] == [xeon["3"], xeon["0"]]
    assert all(each[:2] + each[3:] == [False, True, True, False] for each in held.values())
    begun = {run: circuit_training.firsts(part) for run, part in found.items()}
    assert sum(each["relations_by_itc"] is None for each in begun.values()) == 3
    assert sorted(each["relations"] for each in begun.values()) == [570] * 7 + [760]
    assert {each["place"] - each["relations"] for each in begun.values()} == {0, 190}
    costs = {run: max(each["cost"] for each in part) for run, part in found.items()}
    assert f"a head of layer 1 costs {short(costs.pop(xeon['1']))} as soon as" in text
    assert f"In seven runs no head costs more than {short(max(costs.values()))}" in text
    lowest = [min(each["object"] for each in part[2:]) for part in found.values()]
    assert f"objects fall to {short(min(lowest))} to {short(max(lowest))}" in text


def test_the_circuit_is_measured_at_tenths_of_a_run_however_many_checkpoints_it_has(tmp_path):
    folder = tmp_path / "tiny-7"
    shutil.copytree(ROOT / "data" / "tiny", folder / "start")
    for step in range(95, 1901, 95):
        (folder / f"step_{step:04}").mkdir()
    assert list(circuit_training.tenths(folder)) == list(range(0, 1901, 190))
    (folder / "step_1710").rmdir()
    with pytest.raises(ValueError, match="lacks step_1710; .* tiny --seed 7` makes it"):
        circuit_training.tenths(folder)


def test_checkpoints_that_are_missing_are_named_with_the_command_that_makes_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["circuit_training.py", "--seed", "7"])
    with pytest.raises(SystemExit):
        run_script(circuit_training.main)
    assert "checkpoints.py tiny --seed 7` makes it" in capsys.readouterr().err


def test_a_seed_keeps_a_run_of_each_processor_and_the_last_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(circuit_training, "tenths", lambda folder: {0: folder})
    monkeypatch.setattr(circuit_training, "load", lambda folder: None)
    monkeypatch.setattr(circuit_training, "paint_questions", lambda run: {})
    out = tmp_path / "runs.json"
    measured = [("One (x86_64), 2 cores", "first"), ("Two (x86_64)", "second"), ("One (x86_64), 4 cores", "third")]
    for device, found in measured:
        monkeypatch.setattr(circuit_training, "describe_device", lambda device=device: device)
        monkeypatch.setattr(circuit_training, "measure_run", lambda folder, painted, found=found: found)
        circuit_training.main((7,), out)
    runs = stored(out)
    assert list(runs) == ["7"]
    assert [(run["device"], run["checkpoints"]) for run in runs["7"]] == [
        ("One (x86_64), 4 cores", "third"), ("Two (x86_64)", "second")]


def figures(step: int, objects: float, relations: float, itc: float, place: float, moved: float, cost: float) -> dict:
    way = {"explained": place, "moved": moved, "control": 0.0}
    return {"step": step, "object": objects, "relation": relations, "relation_by_itc": itc, "head": "one",
            "cost": cost, "directions": {"place": way, "fits": way}}


def test_the_registered_claims_are_judged_by_the_first_checkpoints():
    found = [figures(0, .5, .5, .5, .0, .6, .0), figures(190, .9, .5, .5, .4, .9, .3),
             figures(380, .9, .8, .5, .6, .6, .2), figures(570, .9, .9, .8, .8, .7, .05)]
    assert circuit_training.firsts(found) == {"objects": 190, "place": 190, "relations": 380, "relations_by_itc": 570}
    assert all(circuit_training.verdicts(found).values())
    late = [figures(0, .5, .5, .5, .0, .6, .0), figures(190, .5, .8, .8, .4, .4, .0),
            figures(380, .9, .9, .9, .6, .6, .2)]
    assert circuit_training.firsts(late)["objects"] == 380
    assert not any(circuit_training.verdicts(late).values())


@pytest.mark.parametrize("counts, expected", [
    ((29, 29, 0, 29), "too few"), ((40, 30, 10, 40), "place"), ((40, 30, 25, 40), "not decided"),
    ((40, 5, 0, 35), "comparison"), ((40, 5, 0, 15), "objects"), ((40, 5, 0, 25), "not decided")])
def test_what_fails_is_judged_as_registered(counts, expected):
    found = dict(zip(("wrong", "repaired", "control", "objects"), counts))
    assert circuit_failures.verdict(found) == expected


@pytest.fixture(scope="module")
def asked() -> circuit.Questions:
    run = load("tiny")
    pairs = [pair for title in circuit_failures.SETS for pair in circuit_failures.draw_set(run, title, 1, 6)]
    pairs = [tuple(replace(drawn, id=i) for drawn in pair) for i, pair in enumerate(pairs)]
    return circuit.Questions(run, pairs)


def test_captions_are_true_of_one_scene_and_false_of_the_other(asked):
    for true, false in asked.pairs:
        assert holds(true.form, true.scene) is True
        assert holds(true.form, false.scene) is False
        first, second = (noun.name for noun in (true.form.a, true.form.b))
        assert f"{first} {true.form.kind} of" in true.text and true.text.endswith(second)
        both = circuit_failures.name_both((true, false))[0].text
        assert first in both and second in both and " of " not in both


def test_a_corrected_word_tells_the_true_place(asked):
    """What the second layer reads, once words are moved by what the reading lacks."""
    reading = circuit_failures.fit_reading(asked)
    for which in (0, 1):
        missing = circuit_failures.lacks(asked, reading, which)
        assert max(abs(value) for each in missing for value in each.values()) > 0.01
        noted = []
        second = asked.run.model.fusion.layers[1]
        hook = second.register_forward_pre_hook(lambda _, arguments: noted.append(arguments[0]))
        circuit_failures.correct(asked, reading.direction, missing, which)
        hook.remove()
        for row, pair in enumerate(asked.pairs):
            for thing, pieces in circuit.object_words(asked.run, pair[0]).items():
                word = noted[0][row, pieces].mean(0).double()
                read = ((word - reading.mean) @ reading.weights).item() + reading.middle
                assert read == pytest.approx(circuit.place_of(pair[which], thing), abs=1e-3)


def test_corrections_are_exchanged_among_the_wrong_answers_alone():
    found = [{"cat": 1.0, "dog": 2.0}, {"pig": 3.0, "bee": 4.0}, {"cat": 5.0, "pig": 6.0}]
    assert circuit_failures.exchange(found, [0, 2]) == [{"cat": 5.0, "dog": 6.0}, found[1], {"cat": 1.0, "pig": 2.0}]


def test_itc_prefers_the_nearer_scene(asked):
    model = asked.run.model
    with torch.no_grad():
        text = model.text_feature(asked.scenes[0].text, asked.scenes[0].keep)
        true, false = ((model.image_feature(scenes.image) @ text.T).diagonal() for scenes in asked.scenes)
    assert asked.right_by_itc() == pytest.approx((true > false).float().mean().item())
