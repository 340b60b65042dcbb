"""The chapters' times: what their headers and docs/course.md say is what notebooks/times.py counts."""
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks"))
import times  # noqa: E402

AGAIN = "call `python notebooks/times.py --write`"


@pytest.mark.parametrize("chapter", times.chapters(), ids=lambda path: path.stem)
def test_a_header_says_what_is_counted(chapter):
    notebook = times.read(chapter)
    header = "".join(notebook["cells"][0]["source"])
    assert times.with_header(header, times.count(notebook)) == header, AGAIN


def test_the_page_has_the_table_that_is_counted():
    page = times.PAGE.read_text(encoding="utf-8")
    assert times.table() in page and times.with_table(page) == page, AGAIN


def made(*markdown: str, code: str = "x = 1\n", folded: bool = False, seconds: int | None = None) -> dict:
    cells = [{"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)} for text in markdown]
    cells.append({"cell_type": "code", "metadata": {"jupyter": {"source_hidden": folded}},
                  "source": code.splitlines(keepends=True)})
    return {"cells": cells, "metadata": {} if seconds is None else {"cpu_seconds": seconds}}


def test_words_lines_and_blanks_are_counted_and_what_is_folded_is_not():
    folded = ("Two words. <details><summary>Answer</summary>\n\nfour words that hide\n\n</details>\n\n"
              "[a link](of/no/words.md) - $x$")
    assert times.visible_words(folded) == 2 + 1 + 2 + 1
    assert times.count(made(folded, code="x = 1\n\ny = 2\n")).lines == 2
    assert times.count(made(folded, code="x = 1\n\ny = 2\n", folded=True)).lines == 0
    blanks = ("### Blank 1: a\n\nHint. (easy, 4 minutes)\n\n### Blank 2: b\n\n(hard,\n12 minutes)\n\n"
              "## Next\n\n(easy, 9 minutes)")
    assert times.blank_minutes(blanks) == [4, 12]
    with pytest.raises(ValueError, match="a blank must name its minutes"):
        times.blank_minutes("### Blank 1: a\n\nHint.\n")


def test_a_header_that_is_no_longer_true_would_be_seen_and_mended():
    header = ("# A\n\n- **Needs:** b.\n- **Time:** about a minute to run on one CPU core, 5 minutes to read, and 5 "
              "for its 1 blanks. It\n  runs without them.\n- **Paper:** c.")
    short = made(header, "### Blank 1: a\n\n(easy, 4 minutes)", seconds=61)
    assert times.with_header(header, times.count(short)) == header
    longer = made(header, "### Blank 1: a\n\n(easy, 4 minutes)", "word " * 2000, seconds=150)
    mended = times.with_header(header, times.count(longer))
    assert "- **Time:** about 2 minutes to run on one CPU core, 10 minutes to read, and 5 for its 1 blanks." in mended
    assert mended.endswith("\n- **Paper:** c.") and times.with_header(mended, times.count(longer)) == mended


def test_a_run_that_was_not_measured_keeps_the_words_of_its_header():
    header = "# A\n\n*It takes* half a minute to run on a laptop's CPU, an hour to read. More."
    mended = times.with_header(header, times.count(made(header)))
    assert mended.endswith("*It takes* half a minute to run on a laptop's CPU, and 5 minutes to read. More.")
    with pytest.raises(ValueError, match="must say its time"):
        times.with_header("# A\n\nNo word of time.", times.count(made(header)))


@pytest.mark.slow
def test_a_run_is_measured_and_nothing_else_of_the_notebook_changes(tmp_path, capsys):
    notebook = times.read(ROOT / "notebooks" / "solutions" / "00_tour.ipynb")
    notebook["cells"] = [{"cell_type": "code", "execution_count": 7, "id": "spin", "metadata": {}, "outputs": [],
                          "source": ["import time\n", "while time.process_time() < 3: pass"]}]
    notebook["metadata"].pop("cpu_seconds", None)
    times.save(tmp_path / "spin.ipynb", notebook)
    times.measure([str(tmp_path / "spin.ipynb")])
    measured = times.read(tmp_path / "spin.ipynb")
    assert 3 <= measured["metadata"].pop("cpu_seconds") < 10 and measured == notebook
