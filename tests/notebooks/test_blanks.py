"""Every blank of every chapter: its answer and other right ways pass its check, likely mistakes don't.

The ways are in tests/support/blanks_NN.py, for chapter NN: RIGHT and WRONG, bodies of functions by the blank's name; a
wrong one may come with words that the check must say.
A blank's cell runs without the chapter: what it needs are the chapter's imports and the definitions that it names, and
the cells that hold a text that NEEDS has for the blank. That is enough, since no other cell reads a blank's name, and
an answer leaves torch's generator as the blank does: nbval runs the others as they are. Where it doesn't,
test_chapters.py runs the chapter with its answers.
"""
import ast

import pytest
import torch

from blanks import CHAPTERS, DRAWING, ROOT, answer_to, blanks_of, cells_of, fill, names_in, parse, prepare, ways_of

LEAST = {"00": 3, "14": 3, "15": 3} | {f"{n:02}": 6 for n in (*range(1, 14), 16, 17, 18)}


def run_blank(chapter: str, name: str, body: str) -> None:
    source = fill(cells_of(chapter)[blanks_of(chapter)[name]].source, name, body)
    names = prepare(chapter, name, source)
    torch.manual_seed(0)
    exec(compile(ast.Module(parse(source), []), f"blank {name}", "exec"), names)


def cases(kind: str) -> list:
    return [pytest.param(chapter, name, body, id=f"{chapter}-{name}-{i}") for chapter in CHAPTERS
            for name, bodies in getattr(ways_of(chapter), kind).items() for i, body in enumerate(bodies)]


@pytest.fixture(autouse=True)
def in_the_chapters_folder(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")


@pytest.mark.parametrize("chapter", [*LEAST])
def test_a_chapter_has_its_blanks_and_each_has_ways_to_fill_it(chapter):
    blanks = blanks_of(chapter)
    assert len(blanks) >= LEAST[chapter], f"{len(blanks)} blanks"
    ways = ways_of(chapter)
    assert set(ways.RIGHT) | set(ways.WRONG) <= set(blanks)
    assert all(len(ways.WRONG.get(name, ())) >= 2 for name in blanks), set(blanks) - set(ways.WRONG)


@pytest.mark.parametrize("chapter, name", [(chapter, name) for chapter in CHAPTERS for name in blanks_of(chapter)])
def test_the_answer_folded_below_a_blank_passes_its_check(chapter, name, capsys):
    run_blank(chapter, name, answer_to(chapter, name))
    said = capsys.readouterr().out
    assert "same output" in said and "yours to write" not in said, said
    if chapter not in DRAWING:
        filled = torch.get_rng_state()
        run_blank(chapter, name, "raise NotImplementedError")
        assert torch.equal(filled, torch.get_rng_state()), "then test_chapters.py must run it filled: see DRAWING"


def statements_beside(source: str, name: str) -> list[str]:
    """What a cell does beside defining a name."""
    return [ast.unparse(node) for node in parse(source) if getattr(node, "name", "") != name]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_rest_of_a_chapter_is_the_same_whether_its_blanks_are_filled_or_not(chapter):
    cells, blanks = cells_of(chapter), blanks_of(chapter)
    for place, cell in enumerate(cells):
        if cell.cell_type == "code" and place not in blanks.values():
            read = names_in(parse(cell.source)) & blanks.keys()
            assert not read, f"{read} is a blank, and this cell reads the name: {cell.source}"
    for name, place in blanks.items():
        filled = fill(cells[place].source, name, answer_to(chapter, name))
        assert statements_beside(filled, name) == statements_beside(cells[place].source, name)


@pytest.mark.parametrize("chapter, name, body", cases("RIGHT"))
def test_a_blank_is_right_whatever_its_way(chapter, name, body, capsys):
    run_blank(chapter, name, body)
    assert "same output" in capsys.readouterr().out


@pytest.mark.parametrize("chapter, name, body", cases("WRONG"))
def test_a_likely_mistake_in_a_blank_is_heard(chapter, name, body):
    body, says = (body, "") if isinstance(body, str) else body
    with pytest.raises(AssertionError, match=says):
        run_blank(chapter, name, body)
