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


def made(
    *markdown: str, code: str = "x = 1\n", folded: bool = False, seconds: int | None = None
) -> dict:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}
        for text in markdown
    ]
    cells.append(
        {
            "cell_type": "code",
            "metadata": {"jupyter": {"source_hidden": folded}},
            "source": code.splitlines(keepends=True),
        }
    )
    return {"cells": cells, "metadata": {} if seconds is None else {"cpu_seconds": seconds}}


def test_words_lines_and_blanks_are_counted_and_what_is_folded_is_not():
    folded = (
        "Two words. <details><summary>Answer</summary>\n\nfour words that hide\n\n</details>\n\n"
        "[a link](of/no/words.md) - $x$"
    )
    assert times.visible_words(folded) == 2 + 1 + 2 + 1
    assert times.count(made(folded, code="x = 1\n\ny = 2\n")).lines == 2
    assert times.count(made(folded, code="x = 1\n\ny = 2\n", folded=True)).lines == 0
    blanks = (
        "### Blank 1: a\n\nHint. (easy, 4 minutes)\n\n### Blank 2: b\n\n(hard,\n12 minutes)\n\n"
        "## Next\n\n(easy, 9 minutes)"
    )
    assert times.blank_minutes(blanks) == [4, 12]
    with pytest.raises(ValueError, match="a blank must name its minutes"):
        times.blank_minutes("### Blank 1: a\n\nHint.\n")
