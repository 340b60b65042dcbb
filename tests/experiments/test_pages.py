"""The tables of each page are what its script makes of its recorded results."""
import re

import pytest

import closeup
import forecast
import pages
import results
import stress
from emojiscenes.stream import Stream
from emojiscenes.stress import QUESTIONS, stage_for
from minalbef import load

OTHERS = {"board"}                    # speed.py writes it, and test_speed.py compares


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_pages_tables_are_made_of_what_was_measured(name, tmp_path):
    page = pages.HERE / name
    before = page.read_text(encoding="utf-8")
    tables = pages.PAGES[name]()
    places = {place for _, place, _ in results.MARKS.findall(before)}
    assert places - OTHERS == set(tables)

    copy = tmp_path / "page.md"
    emptied = results.MARKS.sub(empty, before)
    assert emptied != before
    copy.write_text(emptied, encoding="utf-8")
    results.write_tables(copy, **tables)
    assert copy.read_text(encoding="utf-8") == before, "call notebooks/experiments/pages.py"


def empty(place: re.Match) -> str:
    """A table's place without its table."""
    start, name, end = place.groups()
    return place[0] if name in OTHERS else start + end


def test_recorded_relations_are_those_of_the_shipped_model():
    recorded = pages.read("closeup.json")
    run = load("tiny")
    for name, figures in closeup.families(run).items():
        assert figures == pytest.approx(recorded["families"][name], abs=0.005), name
    assert closeup.contrasts(run) == recorded["contrasts"]


def test_recorded_answers_to_the_stress_test_are_those_of_the_shipped_model():
    recorded = pages.read("stress.json")
    run = load("tiny")
    title = "not"
    stage = stage_for(title, run.config.objects)
    questions = []
    for i in range(recorded["count"]):
        stream = Stream("stress", recorded["seed"], title, i)
        questions.append(QUESTIONS[title](stage, stream))
    answers = recorded["questions"]["styles of training"][title]
    assert stress.judge(run, questions) == pytest.approx(answers, abs=0.005)


def test_the_recorded_forecast_is_that_of_the_recorded_curves():
    recorded = pages.read("forecast.json")
    curves = forecast.curve("tiny"), forecast.curve("desk")
    assert recorded["figures"] == forecast.forecast(*curves, recorded["samples"])
