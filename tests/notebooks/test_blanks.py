"""Every blank of every chapter: its answer passes its check, a likely mistake doesn't (wrong_ways.py).

A blank's cell runs without the chapter: what it needs are the chapter's imports, the definitions that it
names, and the cells that hold a text that wrong_ways.NEEDS has for the blank. That is enough, since no
other cell reads a blank's name, and an answer leaves torch's generator as the blank does: nbval runs the
others as they are. Where it doesn't, test_chapters.py runs the chapter with its answers.
"""

import ast

import pytest
import torch

import wrong_ways
from blanks import (
    CHAPTERS,
    DRAWING,
    ROOT,
    answer_to,
    blanks_of,
    cells_of,
    fill,
    names_in,
    parse,
    prepare,
)

BLANKS = []
for _chapter in CHAPTERS:
    for _name in blanks_of(_chapter):
        BLANKS.append(pytest.param(_chapter, _name, id=f"{_chapter}-{_name}"))
every_blank = pytest.mark.parametrize("chapter, name", BLANKS)


@pytest.fixture(autouse=True)
def in_the_chapters_folder(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")


def run_blank(chapter: str, name: str, body: str) -> None:
    """Run a blank's cell, filled with this body, which is indented anyhow."""
    cell = cells_of(chapter)[blanks_of(chapter)[name]]
    source = fill(cell.source, name, body)
    names = prepare(chapter, name, source)
    code = compile(ast.Module(parse(source), []), f"blank {name}", "exec")
    torch.manual_seed(0)
    exec(code, names)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_blank_of_a_chapter_has_a_wrong_way_to_fill_it(chapter):
    assert wrong_ways.WRONG[chapter].keys() == blanks_of(chapter).keys() != set()


@every_blank
def test_the_answer_folded_below_a_blank_passes_its_check(chapter, name, capsys):
    run_blank(chapter, name, answer_to(chapter, name))
    output = capsys.readouterr().out
    assert "same output" in output
    assert "yours to write" not in output
    if chapter not in DRAWING:
        after_the_answer = torch.get_rng_state()
        run_blank(chapter, name, "raise NotImplementedError")
        assert torch.equal(after_the_answer, torch.get_rng_state()), "see DRAWING"


@every_blank
def test_a_likely_mistake_in_a_blank_is_heard(chapter, name):
    with pytest.raises(AssertionError):
        run_blank(chapter, name, wrong_ways.WRONG[chapter][name])


def statements_beside(source: str, name: str) -> list[str]:
    """What a cell does beside defining a name."""
    statements = []
    for node in parse(source):
        if getattr(node, "name", "") != name:
            statements.append(ast.unparse(node))
    return statements


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_rest_of_a_chapter_is_the_same_whether_its_blanks_are_filled_or_not(chapter):
    cells = cells_of(chapter)
    blanks = blanks_of(chapter)
    for i, cell in enumerate(cells):
        if cell.cell_type == "code" and i not in blanks.values():
            used = names_in(parse(cell.source)) & blanks.keys()
            assert not used, f"{used} is a blank, and this cell reads the name: {cell.source}"
    for name, i in blanks.items():
        source = cells[i].source
        filled = fill(source, name, answer_to(chapter, name))
        assert statements_beside(filled, name) == statements_beside(source, name)
