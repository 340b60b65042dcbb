"""The reports of five tasks as one table."""
import json

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


def test_five_reports_make_the_table_of_docs_tasks(tmp_path):
    for task, test in FIGURES.items():
        folder = tmp_path / task
        folder.mkdir()
        figures = {"test": test, "baselines": BASELINES}
        times = {"train": 1.0}
        report.write_report(folder, task, figures, preset("tiny"), times, "a command")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- tasks -->\nold\n<!-- end of tasks -->\nafter\n")
    out = tmp_path / "tasks.json"
    table = tasks.gather(tmp_path, out, page)
    for row in ("entailment: accuracy, three classes | 0.80 |  | text alone 0.33",
                "grounding: proposals, accuracy at IoU 0.5 | 0.65 |  | random box 0.20",
                "retrieval: R@1 in a family of 4, ITM | 0.60 / 0.60 |  | "):
        assert f"| {row} |" in table
    assert "relation" not in table, "a figure that no report has is left out"
    assert page.read_text() == f"before\n<!-- tasks -->\n{table}\n<!-- end of tasks -->\nafter\n"
    assert tables.task_table(json.loads(out.read_text())) == table
    assert tasks.gather(tmp_path, out, page) == table, "a second time changes nothing"
