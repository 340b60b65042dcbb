"""The scripts' command lines: mistakes are one line and cost no time, and the pages of the ablation rewrite."""
import importlib
import sys
from pathlib import Path

import pytest

import results
from minalbef.cli.main import run_script

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "notebooks" / "experiments"


def call(monkeypatch, script: str, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *words])
    run_script(importlib.import_module(script).main)


@pytest.mark.parametrize("words, message", [
    ("learn --seeds 0", "--seeds 0 must lie between 1 and 256"),
    ("learn --processes 1000", "--processes 1000 must lie between 1 and 256"),
    ("learn objects=100000", "objects=100000 must lie between 0 and 223"),
    ("ablate --seeds 0", "--seeds 0 must lie between 1 and 256"),
    ("ablate --share nan", "--share nan must lie between"),
    ("ablate harf", "no row 'harf' (did you mean 'hard'?); there are the groups paper, noise"),
    ("ablate distil --equal", "--equal needs share 1, and CPU seconds of distil and of hard"),
    ("effects", "runs/ablation.jsonl has no results; `python notebooks/experiments/ablate.py` writes"),
    ("tasks", "runs has no report of a task, such as runs/retrieval/report.json; `minalbef finetune")])
def test_a_mistake_is_one_line_before_anything_is_written(words, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, *words.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert error.replace("\\", "/").startswith(f"minalbef: {message}"), error
    assert not list(tmp_path.iterdir())


def test_the_pages_of_the_ablation_rewrite_byte_for_byte(monkeypatch, tmp_path, capsys):
    pages = [tmp_path / name for name in ("ablation.md", "ablation_rows.md")]
    for page in pages:
        before = (ROOT / "docs" / page.name).read_text(encoding="utf-8")
        emptied = results.MARKS.sub(r"\1\3", before)
        assert emptied != before
        page.write_text(emptied, encoding="utf-8")
    call(monkeypatch, "effects", "--results", str(RESULTS / "ablation.jsonl"), "--pages", *map(str, pages))
    for page in pages:
        assert page.read_bytes() == (ROOT / "docs" / page.name).read_bytes()
    assert "| claim | rows | figure |" in capsys.readouterr().out
