"""The speed board's arithmetic, and a record from a run of a few steps."""
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks" / "experiments" / "speed"))

import speed  # noqa: E402

FEW = ("epoch=64", "batch=16", "warm_steps=2", "warm_batch=16", "queue_size=16", "objects=8",
       "bucket=1")


def test_a_record_is_timed_written_and_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "FOLDER", tmp_path)
    monkeypatch.setattr(speed, "RECORDS", tmp_path / "records")
    page = tmp_path / "README.md"
    page.write_text("<!-- board -->\n<!-- end of board -->\n", encoding="utf-8")
    figures = dict.fromkeys((*speed.LEAST, *speed.MOST), 0.5)
    report = figures | {"config": {}}
    monkeypatch.setattr(speed, "evaluate", lambda *_, **__: report)
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


def test_the_board_is_that_of_its_records():
    page = (speed.FOLDER / "README.md").read_text(encoding="utf-8")
    records = speed.read_records()
    assert f"<!-- board -->\n{speed.table(records)}\n<!-- end of board -->" in page
    for record in records:
        assert speed.name_missed(record["figures"]) == record["missed"]
