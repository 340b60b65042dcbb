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

FEW = ("epoch=64", "batch=16", "warm_steps=2", "warm_batch=16", "queue_size=16", "objects=8",
       "bucket=1")


def test_chance_of_a_faster_record_by_hand():
    assert speed.chance_of([1.0, 2.0], [3.0, 4.0]) == 1 / 6
    assert speed.chance_of([3.0, 4.0], [1.0, 2.0]) == 1
    assert speed.chance_of([1.0] * 5, [2.0] * 5) == 1 / 252 < speed.SURE


@pytest.mark.parametrize("name, mean, missed", [
    ("itm_accepted.other_direction", 0.0, []),
    ("itm_accepted.other_direction", 0.2,
     ["itm_accepted.other_direction 0.200, not at most 0.1"]),
    ("families.rerank_t2i_r1", 0.899, ["families.rerank_t2i_r1 0.899, not 0.9"]),
])
def test_what_misses_the_target_is_named(name, mean, missed):
    figures = dict.fromkeys(speed.LEAST, {"mean": 1.0}) | dict.fromkeys(speed.MOST, {"mean": 0.0})
    assert speed.name_missed(figures | {name: {"mean": mean}}) == missed


def test_more_steps_take_more_flops_in_proportion():
    few = speed.run_flops(settings("tiny", FEW))
    twice = speed.run_flops(settings("tiny", (*FEW, "epoch=128", "warm_steps=4")))
    assert twice == pytest.approx(2 * few, rel=0.1)


def test_a_record_is_timed_written_and_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "FOLDER", tmp_path)
    monkeypatch.setattr(speed, "RECORDS", tmp_path / "records")
    page = tmp_path / "README.md"
    page.write_text("<!-- board -->\n<!-- end of board -->\n", encoding="utf-8")
    figures = dict.fromkeys((*speed.LEAST, *speed.MOST), 0.5)
    report = figures | {"config": {}}
    monkeypatch.setattr(speed, "evaluate_run", lambda run, command, seed: report)
    arguments = dict(what="few steps", run=tmp_path / "runs", processes=1)
    speed.main("few", FEW, only=(0,), **arguments)
    assert not (tmp_path / "records").exists(), "a part of the seeds is no record"
    speed.main("few", FEW, seeds=1, **arguments)
    record = json.loads((tmp_path / "records" / "few.json").read_text(encoding="utf-8"))
    assert record["n"] == 1 and record["flops"] > 1e9
    assert record["wall"] > 0.5 * record["cpu"] > 0
    assert record["figures"]["families.rerank_t2i_r1"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert "[few steps](records/few.json) | 1 |" in page.read_text(encoding="utf-8")
    monkeypatch.setattr(speed.launch, "launch", lambda *_, **__: pytest.fail("trained again"))
    speed.main("few", FEW, seeds=1, **arguments)


def test_a_run_that_was_broken_off_is_not_timed(tmp_path):
    (tmp_path / "seed0").mkdir()
    with pytest.raises(ValueError, match="seed0 was begun and not timed to its end"):
        speed.train_seed("tiny", FEW, 0, tmp_path, 1)


def test_two_of_the_seeds_can_be_trained_in_a_second_shell(monkeypatch):
    calls = []

    def train_seed(preset, changes, seed, *rest):
        calls.append((changes, seed))

    monkeypatch.setattr(speed, "train_seed", train_seed)
    command = "speed.py mine muon_lr=1.6 --what Muon --only 1 3"
    monkeypatch.setattr(sys, "argv", command.split())
    run_script(speed.main)
    assert calls == [(("muon_lr=1.6",), 1), (("muon_lr=1.6",), 3)]


def test_another_task_is_trained_by_its_own_command_and_has_its_flops(tmp_path, monkeypatch):
    def evaluate_run(run, command, seed):
        return {"config": load(run).config.batch}

    monkeypatch.setattr(speed, "evaluate_run", evaluate_run)
    timed = speed.train_seed("tiny", FEW, 0, tmp_path, 1, "in-batch")
    assert timed["cpu"] > 0
    assert "itm" in timed["log"][0], "the student learns by the same objectives"
    assert timed["config"] == 16, "an ordinary run, which evaluation loads"
    config = settings("tiny", (*FEW, "match_from=0"))
    without_teacher = speed.run_flops(config, "in-batch")
    assert without_teacher < speed.run_flops(config)
    with pytest.raises(ValueError, match="no task 'batch'.*there are scenes, in-batch"):
        speed.main("few", FEW, what="x", task="batch")
    with pytest.raises(ValueError, match="in one process, not in 2"):
        speed.main("few", FEW, what="x", task="in-batch", processes=2)


def test_the_board_is_that_of_its_records():
    page = (speed.FOLDER / "README.md").read_text(encoding="utf-8")
    records = speed.read_records()
    assert f"<!-- board -->\n{speed.table(records)}\n<!-- end of board -->" in page
    for record in records:
        assert speed.name_missed(record["figures"]) == record["missed"]
