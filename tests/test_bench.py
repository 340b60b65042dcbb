"""bench: many reports as one table."""
import json

import pytest

from minalbef import bench, report
from minalbef.config import preset


def write(folder, task: str, figures: dict):
    report.write_report(folder / task, task, figures, preset("tiny"), {"train": 1.0}, "a command", 0)


@pytest.fixture
def runs(tmp_path):
    """Reports of all five tasks, by hand."""
    four = {f"{name}_{way}_r1": value for name, value in (("itc", 0.5), ("itm", 0.6)) for way in ("i2t", "t2i")}
    for task, figures in {"retrieval": {"families": four, "plain": four}, "grounding": {"pointing": 0.7, "proposals": 0.65},
                          "nlvr2": {"accuracy": 0.75, "consistency": 0.4}, "entailment": {"accuracy": 0.8}, "vqa": {"accuracy": 0.751}
                          }.items():
        (tmp_path / task).mkdir()
        write(tmp_path, task, {"test": figures, "baselines": {"text_alone": {"accuracy": 0.334}, "random_box": {"proposals": 0.2}}})
    (tmp_path / "README.md").write_text("before\n<!-- tasks -->\nold\n<!-- end of tasks -->\nafter\n")
    return tmp_path


def test_five_reports_make_the_readmes_table(runs):
    table = bench.tasks(runs, runs / "tasks.json", runs / "README.md")
    assert "| entailment: right of three | 0.80 | text alone 0.33 |" in table
    assert "| grounding: proposals, IoU 0.5 | 0.65 | random box 0.20 |" in table
    assert "| retrieval: one of a family, ITM | 0.60 / 0.60 |  |" in table
    assert (runs / "README.md").read_text() == f"before\n<!-- tasks -->\n{table}\n<!-- end of tasks -->\nafter\n"
    assert report.task_table(json.loads((runs / "tasks.json").read_text())) == table
    assert bench.tasks(runs, runs / "tasks.json", runs / "README.md") == table, "a second time changes nothing"


def test_what_is_missing_is_said_and_nothing_is_written(runs):
    with pytest.raises(ValueError, match="has no report of a task"):
        bench.tasks(runs / "nothing", runs / "tasks.json", runs / "README.md")
    (runs / "README.md").write_text("no place")
    with pytest.raises(ValueError, match="no lines <!-- tasks -->"):
        bench.tasks(runs, runs / "tasks.json", runs / "README.md")
    assert not (runs / "tasks.json").exists()


def test_a_task_that_has_not_run_is_left_out(runs):
    whole = bench.tasks(runs, runs / "tasks.json", runs / "README.md")
    (runs / "vqa" / "report.json").unlink()
    table = bench.tasks(runs, runs / "tasks.json", runs / "README.md")
    assert "vqa" in whole and "vqa" not in table and "nlvr2" in table


def test_reports_of_several_commits_are_no_table(runs):
    path = runs / "vqa" / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"commit": "another"}))
    with pytest.raises(ValueError, match="come from 2 commits.*minalbef evaluate TASK"):
        bench.tasks(runs, runs / "tasks.json", runs / "README.md")
