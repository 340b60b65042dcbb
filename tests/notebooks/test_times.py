"""The chapters' times: what their headers say is what notebooks/times.py counts."""

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
