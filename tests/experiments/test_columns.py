"""The table of recipes side by side: means, spreads where seeds differ, and every row a figure of the report."""
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks" / "experiments"))

import columns  # noqa: E402
import missed  # noqa: E402
from results import flatten  # noqa: E402

ROOT = Path(__file__).parents[2]


def test_every_row_is_a_figure_of_an_evaluation():
    figures = flatten(json.loads((ROOT / "data" / "tiny" / "report.json").read_text(encoding="utf-8")))
    names = [name for _, row in columns.ROWS for name in row]
    assert not [name for name in names if name not in figures]
    assert len(set(names)) == len(names)


def test_a_cell_has_means_and_the_spread_of_what_differs_between_seeds():
    figures = {"a": {"mean": 0.5, "low": 0.25, "high": 0.75}, "b": {"mean": 0.9, "low": 0.88, "high": 0.92}}
    assert columns.cell(figures, ("a", "b")) == "0.50 (0.25 to 0.75) / 0.90"
    assert columns.cell(figures, ("b",)) == "0.90" and columns.cell(figures, ("c",)) == ""


def test_records_stand_side_by_side_on_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "RECORDS", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("<!-- columns -->\n<!-- end of columns -->\n", encoding="utf-8")
    for name, mean in (("old", 0.25), ("new", 0.75)):
        figures = {"pointing_itm": {"mean": mean, "low": mean, "high": mean}}
        record = {"what": name, "n": 5, "cpu": 100.0, "figures": figures}
        (tmp_path / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    columns.main(("old", "new"), page=page)
    text = page.read_text(encoding="utf-8")
    assert "| | old, 5 seeds | new, 5 seeds |" in text and "| pointing, ITM / MLM | 0.25 | 0.75 |" in text


def test_the_page_of_trials_says_which_aims_are_missed():
    before, now = (columns.read(name)["figures"] for name in ("today", "learn"))
    assert missed.table(before, now) in missed.PAGE.read_text(encoding="utf-8")


def test_an_aim_is_met_when_each_of_its_figures_is_by_the_digits_that_are_shown():
    aim = missed.Aim("asked", ("a", "b"), least=.85)
    assert aim.bound() == "at least 0.85" and missed.Aim("asked", ("a",), most=.08).bound() == "at most 0.08"
    assert aim.is_met({"a": {"mean": .85}, "b": {"mean": .846}})
    assert not aim.is_met({"a": {"mean": .85}, "b": {"mean": .844}})
    assert not aim._replace(spread="low").is_met({"a": {"mean": .9, "low": .9}, "b": {"mean": .9, "low": .8}})
    assert not missed.Aim("asked", ("a",), most=.08).is_met({"a": {"mean": .09}})
