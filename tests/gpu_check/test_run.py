"""gpu-check: each part in its own process, with a verdict whatever happens to it; what is finished isn't repeated."""
import json
import os
import sys
import time

import pytest

from minalbef.cli import main as command_line
from minalbef.gpu_check import parts, run
from minalbef.gpu_check.parts import FAIL, PASS, SKIPPED, Part, Result

FINISHES = ("from minalbef.gpu_check.parts import Result, write_result; from pathlib import Path; import sys; "
            "write_result(Path(sys.argv[1]), Result('PASS', 'all is well', {'rows': [{'a': 1}, {'b': 2}]}))")
TABLE = tuple(Part(name, f"part {name}", 5, name == "card")
              for name in ("fine", "raises", "killed", "hangs", "card", "last"))
CODES = {
    "fine": FINISHES, "last": FINISHES,
    "raises": "print('half way'); raise RuntimeError('CUDA out of memory')",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "hangs": "import subprocess, sys, time; print('stuck', flush=True); "
             "subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)', *sys.argv[1:]])",
}


@pytest.fixture
def started(monkeypatch):
    """Parts of one line of code each take the place of the ten: -> the names of those that were started."""
    names = []

    def worker_command(folder, job):
        names.append(job["name"])
        return [sys.executable, "-c", CODES[job["name"]], str(folder)]
    for module in (parts, run):
        monkeypatch.setattr(module, "PARTS", TABLE)
    monkeypatch.setattr("minalbef.gpu_check.page.PARTS", TABLE)
    monkeypatch.setattr(run, "worker_command", worker_command)
    monkeypatch.setattr(run, "MINUTES", 30.0)
    return names


def test_every_part_ends_with_a_verdict_and_none_stops_the_others(started, tmp_path):
    results = run.gpu_check(tmp_path, 1.5)
    assert {name: result.verdict for name, result in results.items()} == {
        "fine": PASS, "raises": FAIL, "killed": FAIL, "hangs": FAIL, "card": SKIPPED, "last": PASS}
    assert "RuntimeError: CUDA out of memory" in results["raises"].figure
    assert "killed by SIGKILL, perhaps for want of memory" in results["killed"].figure
    assert "killed after 15 s" in results["hangs"].figure and "stuck" in results["hangs"].figure
    assert results["card"].figure == "needs a GPU"
    written = json.loads((tmp_path / "gpu_check.json").read_text())
    assert {name: part["verdict"] for name, part in written["parts"].items()} == {
        name: result.verdict for name, result in results.items()}
    assert written["parts"]["fine"]["details"] == {"rows": [{"a": 1}, {"b": 2}]}
    assert written["device"] and written["commit"]
    page = (tmp_path / "gpu_check.html").read_text(encoding="utf-8")
    assert page.count('class="verdict') == 6 and "<th>a</th><th>b</th>" in page and "all is well" in page
    assert "http" not in page.replace("https://", "http") or "src=" not in page, "it needs no network"


def test_what_is_finished_is_not_repeated_and_what_is_not_is(started, tmp_path):
    run.gpu_check(tmp_path, 1.5, ("fine", "raises", "card"))
    assert started == ["fine", "raises"]
    run.gpu_check(tmp_path, 1.5, ("fine", "raises", "last"))
    assert started == ["fine", "raises", "raises", "last"]
    assert run.read_results(tmp_path).keys() == {"fine", "raises", "card", "last"}


def test_a_part_that_hangs_is_killed_with_all_that_it_started(started, tmp_path):
    result = run.run_part(TABLE[3], tmp_path, 2, (), 0)
    assert result.verdict == FAIL and not result.finished
    if os.path.exists("/proc"):
        patience = time.monotonic() + 10        # the system ends a killed process when it comes to it
        while left(tmp_path) and time.monotonic() < patience:
            time.sleep(0.05)
        assert left(tmp_path) == []


def left(folder) -> list[str]:
    """The processes that the part that hangs started for a folder, and that still run."""
    return [name for name in os.listdir("/proc") if name.isdigit() and sleeps(name, folder)]


def sleeps(process: str, folder) -> bool:
    """Whether a process is what the part that hangs started for a folder; other tests start such a part, too."""
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    return b"import time; time.sleep(600)" in words and os.fsencode(folder) in words


def test_the_command_says_which_parts_there_are_and_fails_if_one_does(started, tmp_path, monkeypatch, capsys):
    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["minalbef", "gpu-check", *words, "--out", str(tmp_path), "--quiet"])
        with pytest.raises(SystemExit) as end:
            command_line.main()
        return end.value.code
    assert call("--parts", "fin") == 2
    assert "no part 'fin' (did you mean 'fine'?); there are fine, raises" in capsys.readouterr().err
    assert call("--parts", "raises", "last") == 1
    printed = capsys.readouterr().out
    assert "There is no GPU here" in printed and "2/6 FAIL    part raises" in printed
    assert "6/6 PASS    part last: all is well" in printed and "gpu_check.html" in printed


def test_a_result_is_read_as_it_was_written(tmp_path):
    parts.write_result(tmp_path, Result(PASS, "12 samples/s", {"a": [1.5, None]}))
    result = parts.read_result(tmp_path)
    assert result[:4] == (PASS, "12 samples/s", {"a": [1.5, None]}, True) and result.date and result.commit
