"""Every command and every line of Python in the README runs."""
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import minalbef
from minalbef.bench.seeds import table
from minalbef.evaluation.report import task_table
from minalbef.recipes import search
from minalbef.recipes.plan import plan

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
COMMANDS = [line.split("#")[0].strip() for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()
            if line.split("#")[0].strip()]


def test_the_readmes_figures_are_those_that_were_measured():
    measured = json.loads((ROOT / "notebooks" / "results" / "learn.json").read_text(encoding="utf-8"))
    assert table(measured) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readmes_tasks_are_those_that_were_reported():
    reports = json.loads((ROOT / "notebooks" / "results" / "tasks.json").read_text(encoding="utf-8"))
    assert task_table(reports) in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("preset, gpus, gpu", [("small", 1, "RTX-4090"), ("base", 1, "RTX-4090"), ("paper-4m", 8, "A100-80"),
                                               ("paper-14m", 8, "A100-80")])
def test_the_readmes_ladder_is_what_plan_counts(preset, gpus, gpu):
    counted = plan(preset, gpus=gpus, gpu=gpu)
    row, = re.findall(rf"^\| `{preset}` .*", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M)
    hours, minutes = f"{counted.hours:.0f} hours on", f"{60 * counted.hours:.0f} minutes on"
    assert (hours if counted.hours > 1 else minutes) in row and f", {counted.memory['all'] / 1e9:.0f} GB |" in row


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    code = [text for kind, text in BLOCKS if kind == "python"]
    assert code, "the README has no Python: the test is blind"
    monkeypatch.chdir(ROOT)
    for text in code:
        exec(compile(text, "README.md", "exec"), {})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readmes_commands_run(command, tmp_path):
    words = shlex.split(command)
    if words[0] == "torchrun":
        words = words[words.index("--") + 1:]
    if words[0] == "git":                        # a clone of this checkout, in the place of its address
        if not (ROOT / ".git").exists():
            pytest.skip("no git checkout")
        command = command.replace("REPOSITORY", shlex.quote(str(ROOT)))
        subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
        assert (tmp_path / "minalbef" / "Makefile").exists()
    elif words[0] == "source":                   # where make puts the environment
        folder, _, script = words[1].rpartition("/")
        assert script == "activate" and f"\nBIN := {folder}\n" in (ROOT / "Makefile").read_text()
    elif words[0] == "make":
        result = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    elif words[0] == "minalbef":
        # the demo's smoke test runs most of these for real; convert wants a download, and its own tests run it on small files
        if words[1] in ("demo", "pretrain", "evaluate", "bench", "convert", "finetune", "predict", "prepare", "dry-run", "plan"):
            words = [*words[:2], "--help"]
        (tmp_path / "data").symlink_to(ROOT / "data")                  # what a command writes shall not lie in the checkout
        result = subprocess.run([sys.executable, "-m", "minalbef", *words[1:]], cwd=tmp_path, capture_output=True, text=True,
                                env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert result.returncode == 0, result.stderr
    else:
        pytest.fail(f"a command that no test runs: {command}")


def test_the_readmes_unknown_word_is_unknown_to_the_shipped_model():
    run, (sentence,) = minalbef.load("tiny"), [shlex.split(one)[2] for one in COMMANDS if "zeppelin" in one]
    assert search.unknown_words(run, sentence) == ["zeppelin"]


@pytest.mark.parametrize("page", ["README.md", "data/README.md", "notebooks/assignments/README.md"])
def test_every_page_of_commands_says_to_activate_the_environment(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "source .venv/bin/activate" in text and r".venv\Scripts\activate" in text
