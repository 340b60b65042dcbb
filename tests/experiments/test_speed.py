"""The speed board's arithmetic, and a record from a run of a few steps."""
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks" / "experiments" / "speed"))

import speed  # noqa: E402
from minalbef import load  # noqa: E402
from minalbef.cli.main import run_script  # noqa: E402
from minalbef.recipes.pretrain import settings  # noqa: E402

FEW = ("epoch=64", "batch=16", "warm_steps=2", "warm_batch=16", "queue_size=16", "objects=8", "bucket=1")


def test_chance_of_a_faster_record_by_hand():
    assert speed.chance_of([1.0, 2.0], [3.0, 4.0]) == 1 / 6
    assert speed.chance_of([3.0, 4.0], [1.0, 2.0]) == 1
    assert speed.chance_of([1.0] * 5, [2.0] * 5) == 1 / 252 < speed.SURE


def test_what_misses_the_target_is_named():
    good = dict.fromkeys(speed.LEAST, {"mean": 1.0}) | dict.fromkeys(speed.MOST, {"mean": 0.0})
    assert speed.name_missed(good) == []
    assert speed.name_missed(good | {"itm_accepted.other_direction": {"mean": 0.2}}) == [
        "itm_accepted.other_direction 0.200, not at most 0.1"]
    assert speed.name_missed(good | {"families.rerank_t2i_r1": {"mean": 0.899}}) == [
        "families.rerank_t2i_r1 0.899, not 0.9"]


def test_more_steps_take_more_flops_in_proportion():
    one = speed.run_flops(settings("tiny", FEW))
    assert speed.run_flops(settings("tiny", (*FEW, "epoch=128", "warm_steps=4"))) == pytest.approx(2 * one, rel=0.1)


def test_a_record_is_timed_written_and_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "FOLDER", tmp_path)
    monkeypatch.setattr(speed, "RECORDS", tmp_path / "records")
    (tmp_path / "README.md").write_text("<!-- board -->\n<!-- end of board -->\n", encoding="utf-8")
    figures = {name: 0.5 for name in (*speed.LEAST, *speed.MOST)}
    monkeypatch.setattr(speed, "evaluate_run", lambda run, command, seed: {**figures, "config": {}})
    record = ("few", FEW)
    speed.main(*record, what="few steps", only=(0,), run=tmp_path / "runs", processes=1)
    assert not (tmp_path / "records").exists(), "a part of the seeds is no record"
    speed.main(*record, what="few steps", seeds=1, run=tmp_path / "runs", processes=1)
    made = json.loads((tmp_path / "records" / "few.json").read_text(encoding="utf-8"))
    assert made["n"] == 1 and made["wall"] > 0.5 * made["cpu"] > 0 and made["flops"] > 1e9 and len(made["missed"]) == 6
    assert made["figures"]["families.rerank_t2i_r1"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert "[few steps](records/few.json) | 1 |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(speed.launch, "launch", lambda *_, **__: pytest.fail("trained again"))
    speed.main(*record, what="few steps", seeds=1, run=tmp_path / "runs", processes=1)


def test_a_run_that_was_broken_off_is_not_timed(tmp_path):
    (tmp_path / "seed0").mkdir()
    with pytest.raises(ValueError, match="seed0 was begun and not timed to its end"):
        speed.train_seed("tiny", FEW, 0, tmp_path, 1)


def test_two_of_the_seeds_can_be_trained_in_a_second_shell(monkeypatch):
    trained = []
    monkeypatch.setattr(speed, "train_seed", lambda preset, changes, seed, *rest: trained.append((changes, seed)))
    monkeypatch.setattr(sys, "argv", ["speed.py", "mine", "muon_lr=1.6", "--what", "Muon", "--only", "1", "3"])
    run_script(speed.main)
    assert trained == [(("muon_lr=1.6",), 1), (("muon_lr=1.6",), 3)]


def test_another_task_is_trained_by_its_own_command_and_its_flops_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "evaluate_run", lambda run, command, seed: {"config": load(run).config.batch})
    timed = speed.train_seed("tiny", FEW, 0, tmp_path, 1, "in-batch")
    assert timed["cpu"] > 0 and "itm" in timed["log"][0], "the student learns by the same objectives"
    assert timed["config"] == 16, "an ordinary run, which evaluation loads"
    config = settings("tiny", (*FEW, "match_from=0"))
    assert speed.run_flops(config, "in-batch") < speed.run_flops(config), "a teacher's pass is spared"
    with pytest.raises(ValueError, match="no task 'batch'.*there are scenes, in-batch"):
        speed.main("few", FEW, what="x", task="batch")
    with pytest.raises(ValueError, match="in one process, not in 2"):
        speed.main("few", FEW, what="x", task="in-batch", processes=2)


def test_the_board_is_that_of_its_records():
    page = (speed.FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"<!-- board -->\n{speed.table(speed.read_records())}\n<!-- end of board -->" in page
    missed = {record["name"]: speed.name_missed(record["figures"]) for record in speed.read_records()}
    assert missed == {record["name"]: record["missed"] for record in speed.read_records()}
    assert len(missed) >= 4 and missed["third-again"] == []
