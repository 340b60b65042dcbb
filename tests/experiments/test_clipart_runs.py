"""The experiment on clip art: what counts as found, its table, and a whole run of it in small."""
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks" / "experiments"))

import clipart  # noqa: E402


def test_a_word_is_found_in_a_caption_that_has_it_or_its_plural():
    assert clipart.names("dog", "A Dog, animal") and clipart.names("dog", "two dogs")
    assert not clipart.names("dog", "hotdog") and not clipart.names("cat", "category")


def test_the_words_are_thirty_four_different_ones():
    assert len(set(clipart.WORDS)) == len(clipart.WORDS) == 34


def test_the_table_has_means_and_ranges_in_percent():
    figures = {name: {"mean": 0.2, "low": 0.1, "high": 0.3} for _, name, *_ in clipart.ROWS}
    text = clipart.table({"figures": {"a start": figures, "none": figures}, "seeds": {"a start": [1, 2], "none": [1]}})
    assert text.splitlines()[0] == "| | a start, 2 seeds | none, 1 seed |"
    assert "| R@10, ITC, image to text | 20.0 (10.0 to 30.0) | 20.0 (10.0 to 30.0) |" in text
    assert len({len(line.split("|")) for line in text.splitlines()}) == 1


@pytest.mark.slow(minutes=1)
def test_two_starts_are_trained_measured_and_written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- clipart -->\n<!-- end of clipart -->\n")
    clipart.main(("epochs=0.1",), seeds=1, run=tmp_path / "runs", out=tmp_path / "clipart.json", page=page)
    results = json.loads((tmp_path / "clipart.json").read_text())
    for start, (row,) in results["seeds"].items():
        assert 0 < row["test.itc_i2t_r10"] < 0.3 and 1 <= row["words.firsts"] <= 34, (start, row)
        assert row["words.found"] <= row["words.asked"] == 26 and row["itm"] > 0 and row["seconds"] > 0
    assert clipart.table(results) in page.read_text()


def test_the_page_has_the_table_of_the_last_runs_with_command_and_date():
    results = json.loads(clipart.OUT.read_text())
    page = " ".join(clipart.PAGE.read_text().split())
    assert " ".join(clipart.table(results).split()) in page
    assert f"`{results['command']}`" in page and results["date"][:10] in page
