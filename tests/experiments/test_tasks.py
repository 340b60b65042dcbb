"""The reports of five tasks as one table."""
import json

import pytest

import tasks
from minalbef.presets import preset
from minalbef.recipes import report
from minalbef.scenes import tables
from minalbef.scenes.tasks.table import SCENE_TASKS


def write(folder, task: str, figures: dict):
    report.write_report(folder / task, task, figures, preset("tiny"), {"train": 1.0}, "a command", 0)


@pytest.fixture
def runs(tmp_path):
    """Reports of all five tasks, by hand."""
    four = {f"{name}_{way}_r1": value for name, value in (("itc", 0.5), ("itm", 0.6)) for way in ("i2t", "t2i")}
    for task, figures in {"retrieval": {"families": four, "plain": four},
                          "grounding": {"pointing": 0.7, "proposals": 0.65},
                          "nlvr2": {"accuracy": 0.75, "consistency": 0.4}, "entailment": {"accuracy": 0.8},
                          "vqa": {"accuracy": 0.751}
                          }.items():
        (tmp_path / task).mkdir()
        write(tmp_path, task, {"test": figures,
                               "baselines": {"text_alone": {"accuracy": 0.334}, "random_box": {"proposals": 0.2}}})
    (tmp_path / "page.md").write_text("before\n<!-- tasks -->\nold\n<!-- end of tasks -->\nafter\n")
    return tmp_path


def test_five_reports_make_the_table_of_docs_tasks(runs):
    table = tasks.gather(runs, runs / "tasks.json", runs / "page.md")
    assert "| entailment: accuracy, three classes | 0.80 |  | text alone 0.33 |" in table
    assert "| grounding: proposals, accuracy at IoU 0.5 | 0.65 |  | random box 0.20 |" in table
    assert "| retrieval: R@1 in a family of 4, ITM | 0.60 / 0.60 |  |  |" in table
    assert "relation" not in table, "a figure that no report has is left out"
    assert (runs / "page.md").read_text() == f"before\n<!-- tasks -->\n{table}\n<!-- end of tasks -->\nafter\n"
    assert tables.task_table(json.loads((runs / "tasks.json").read_text())) == table
    assert tasks.gather(runs, runs / "tasks.json", runs / "page.md") == table, "a second time changes nothing"


def test_what_is_missing_is_said_and_nothing_is_written(runs):
    with pytest.raises(ValueError, match="has no report of a task"):
        tasks.gather(runs / "nothing", runs / "tasks.json", runs / "page.md")
    (runs / "page.md").write_text("no place")
    with pytest.raises(ValueError, match="no place for a table: add the lines <!-- tasks -->"):
        tasks.gather(runs, runs / "tasks.json", runs / "page.md")
    assert not (runs / "tasks.json").exists()


def test_a_task_that_has_not_run_is_kept_as_it_was_or_left_out(runs):
    whole = tasks.gather(runs, runs / "tasks.json", runs / "page.md")
    (runs / "vqa" / "report.json").unlink()
    assert tasks.gather(runs, runs / "tasks.json", runs / "page.md") == whole
    (runs / "tasks.json").unlink()
    table = tasks.gather(runs, runs / "tasks.json", runs / "page.md")
    assert "vqa" in whole and "vqa" not in table and "nlvr2" in table


def test_the_code_behind_each_figure_is_named(runs):
    for task in SCENE_TASKS:
        path = runs / task / "report.json"
        path.write_text(json.dumps(json.loads(path.read_text())
                                   | {"commit": "another one" if task == "vqa" else "0123456789+"}))
    table = tasks.gather(runs, runs / "tasks.json", runs / "page.md")
    assert table.endswith("\n\nCode: retrieval, entailment, nlvr2, grounding at 0123456; vqa at another.")


def test_text_assignments_gain_is_paired_over_seeds(runs):
    for seed, (accuracy, without) in enumerate([(0.8, 0.7), (0.74, 0.76), (0.78, 0.74)]):
        (folder := runs / f"nlvr2-seed{seed}" if seed else runs / "nlvr2").mkdir(exist_ok=True)
        report.write_report(folder, "nlvr2", {"test": {"accuracy": accuracy, "consistency": 0.4}, "baselines": {
            "without_assignment": {"accuracy": without}}}, preset("tiny"), {"train": 1.0}, "a command", seed)
    table = tasks.gather(runs, runs / "tasks.json", runs / "page.md")
    assert "| nlvr2: accuracy | 0.80 |  | without assignment 0.70 |" in table and table.count("nlvr2: accuracy") == 1
    gains = "| nlvr2: gain from text assignment | +0.040 | | seed 0 +0.100, seed 1 -0.020, seed 2 +0.040 |"
    assert gains in table
    report.write_report(runs / "nlvr2", "nlvr2", {"test": {"accuracy": 0.9}, "baselines": {}},
                        preset("tiny"), {}, "", 0)
    table = tasks.gather(runs, runs / "tasks.json", runs / "page.md")
    assert "| nlvr2: accuracy | 0.90 |" in table and "seed 0" not in table, "a new model is no pair of an old baseline"


def test_fresh_tests_stand_beside_the_first_and_a_seed_that_did_not_run_again_is_kept(runs):
    tasks.gather(runs, runs / "tasks.json", runs / "page.md")
    report.write_report(runs / "nlvr2-seed1", "nlvr2", {"test": {"accuracy": 0.7}, "baselines": {}},
                        preset("tiny"), {}, "", 1)
    tasks.gather(runs, runs / "tasks.json", runs / "page.md")
    (runs / "nlvr2-seed1" / "report.json").unlink()
    report.write_report(runs / "vqa", "vqa", {"test": {"accuracy": 0.76}, "baselines": {"chance": {"accuracy": 0.1}}},
                        preset("tiny"), {}, "evaluated again", 0)
    write(runs / "vqa", "fresh", {"test": {"accuracy": 0.73}})
    table = tasks.gather(runs, runs / "tasks.json", runs / "page.md")
    assert "| vqa: VQA accuracy | 0.76 | 0.73 | chance 0.10 |" in table
    held = json.loads((runs / "tasks.json").read_text())
    assert [one["seed"] for one in held if one["task"] == "nlvr2"] == [0, 1], "a seed that did not run again stays"
    assert tasks.gather(runs, runs / "tasks.json", runs / "page.md") == table
