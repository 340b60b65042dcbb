"""The reports of five tasks as one table."""
import json

import pytest

import tasks
from minalbef.presets import preset
from minalbef.recipes import report
from minalbef.scenes import tables

RECALL = {"itc_i2t_r1": 0.5, "itc_t2i_r1": 0.5, "itm_i2t_r1": 0.6, "itm_t2i_r1": 0.6}
FIGURES = {
    "retrieval": {"families": RECALL, "plain": RECALL},
    "grounding": {"pointing": 0.7, "proposals": 0.65},
    "nlvr2": {"accuracy": 0.75, "consistency": 0.4},
    "entailment": {"accuracy": 0.8},
    "vqa": {"accuracy": 0.751},
}
BASELINES = {"text_alone": {"accuracy": 0.334}, "random_box": {"proposals": 0.2}}


def write(folder, task: str, test: dict, baselines: dict, seed: int = 0):
    figures = {"test": test, "baselines": baselines}
    folder.mkdir(exist_ok=True)
    report.write_report(folder, task, figures, preset("tiny", seed=seed),
                        {"train": 1.0}, "a command")


def gather(runs) -> str:
    return tasks.gather(runs, runs / "tasks.json", runs / "page.md")


@pytest.fixture
def runs(tmp_path):
    """Reports of all five tasks, by hand."""
    for task, figures in FIGURES.items():
        write(tmp_path / task, task, figures, BASELINES)
    (tmp_path / "page.md").write_text("before\n<!-- tasks -->\nold\n<!-- end of tasks -->\nafter\n")
    return tmp_path


def test_five_reports_make_the_table_of_docs_tasks(runs):
    table = gather(runs)
    for row in ("entailment: accuracy, three classes | 0.80 |  | text alone 0.33",
                "grounding: proposals, accuracy at IoU 0.5 | 0.65 |  | random box 0.20",
                "retrieval: R@1 in a family of 4, ITM | 0.60 / 0.60 |  | "):
        assert f"| {row} |" in table
    assert "relation" not in table, "a figure that no report has is left out"
    page = f"before\n<!-- tasks -->\n{table}\n<!-- end of tasks -->\nafter\n"
    assert (runs / "page.md").read_text() == page
    assert tables.task_table(json.loads((runs / "tasks.json").read_text())) == table
    assert gather(runs) == table, "a second time changes nothing"


def test_what_is_missing_is_an_error_and_nothing_is_written(runs):
    with pytest.raises(ValueError, match="has no report of a task"):
        tasks.gather(runs / "nothing", runs / "tasks.json", runs / "page.md")
    (runs / "page.md").write_text("no place")
    with pytest.raises(ValueError, match="no place for a table: add the lines <!-- tasks -->"):
        gather(runs)
    assert not (runs / "tasks.json").exists()


def test_text_assignments_gain_is_paired_over_seeds(runs):
    accuracies = [(0.8, 0.7), (0.74, 0.76), (0.78, 0.74)]
    for seed, (accuracy, without) in enumerate(accuracies):
        folder = runs / (f"nlvr2-seed{seed}" if seed else "nlvr2")
        baselines = {"without_assignment": {"accuracy": without}}
        write(folder, "nlvr2", {"accuracy": accuracy, "consistency": 0.4}, baselines, seed)
    table = gather(runs)
    assert "| nlvr2: accuracy | 0.80 |  | without assignment 0.70 |" in table
    assert table.count("nlvr2: accuracy") == 1
    gains = "| +0.040 | | seed 0 +0.100, seed 1 -0.020, seed 2 +0.040 |"
    assert f"| nlvr2: gain from text assignment {gains}" in table
    write(runs / "nlvr2", "nlvr2", {"accuracy": 0.9}, {})
    table = gather(runs)
    assert "| nlvr2: accuracy | 0.90 |" in table
    assert "seed 0" not in table, "a new model is no pair of an old baseline"
