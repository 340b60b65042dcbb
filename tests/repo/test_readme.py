"""README and docs/: every command, line of Python, link, name and table is checked."""
import contextlib
import functools
import io
import json
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from learn_table import table
from minalbef.cli.main import main
from minalbef.evaluation import choices
from minalbef.scenes.tables import task_table

ROOT = Path(__file__).parents[2]
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
         for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
LINKED = sorted(str(path.relative_to(ROOT)) for pattern in ("*.md", "docs/*.md", "data/**/*.md", "notebooks/**/*.md")
                for path in ROOT.glob(pattern))
# extend and new_task are mostly code, which their tests run; half of results is two tables


TESTED_ELSEWHERE = ("docs/extend.md", "docs/new_task.md", "docs/use.md")     # their own tests run their Python
ROOMS = "tasks|weights|evaluation|scenes|datasets|viz|recipes|bench|gpu_check|cli"


def blocks(kind: str, text: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", text, re.S)


COMMANDS = sorted({line.split("#")[0].strip() for text in PAGES.values() for block in blocks("bash", text)
                   for line in block.splitlines()} - {""})


def measured(name: str):
    return json.loads((ROOT / "notebooks" / "experiments" / name).read_text(encoding="utf-8"))


# tables

def test_the_figures_of_pretraining_are_those_that_were_measured():
    found = table(measured("learn.json"))
    assert found in PAGES["docs/results.md"]
    rows = re.search(r"## What it learns.*?\n\n(.*?)\n\n", PAGES["README.md"], re.S)[1].splitlines()
    assert len(rows) > 5 and set(rows) <= set(found.splitlines())


def test_the_figures_of_tasks_are_those_that_were_reported():
    assert task_table(measured("tasks.json")) in PAGES["docs/tasks.md"]


def test_the_figures_of_minimal_pairs_are_those_that_were_reported():
    rows = choices.table(measured("pairs.json")).split("\n\n")[1]
    shown = re.sub(r"^\| (text|image) \w+ \|.*\n", "", rows, flags=re.M)       # of a kind of change, the group's
    assert shown.count("\n| group ") == 7 and shown in PAGES["docs/choices.md"]
    assert "minalbef evaluate tiny --pairs" == measured("pairs.json")["command"]


# Python and commands

@pytest.mark.parametrize("page", [page for page, text in PAGES.items()
                                  if blocks("python", text) and page not in TESTED_ELSEWHERE])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(ROOT / "data")                      # nothing is written into the checkout
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in blocks("python", PAGES[page]):
        exec(compile(code, page, "exec"), names)


@functools.cache
def flags(*words: str) -> str:
    """What `minalbef WORDS --help` shows."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as shown:
        patch.setattr(sys, "argv", ["minalbef", *words, "--help"])
        with pytest.raises(SystemExit) as end:
            main()
    assert not end.value.code
    return shown.getvalue()


@functools.cache
def script_flags(path: str) -> str:
    """What `python PATH --help` shows."""
    run = subprocess.run([sys.executable, path, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_a_page_runs(command, tmp_path, monkeypatch):
    words = shlex.split(command)
    if words[0] == "torchrun":
        words = words[words.index("--") + 1:]
    if words[0] == "git":                        # a clone of this checkout, in place of its address
        if not (ROOT / ".git").exists():
            pytest.skip("no git checkout")
        known = (ROOT / "docs" / "site" / "address.txt").read_text(encoding="utf-8").strip()
        command = command.replace(known, shlex.quote(str(ROOT)))
        subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
        assert (tmp_path / "minalbef" / "Makefile").exists()
    elif words[0] == "source":                   # where make puts the environment
        folder, _, script = words[1].rpartition("/")
        assert script == "activate" and f"\nBIN := {folder}\n" in (ROOT / "Makefile").read_text()
    elif words[0] == "make":
        result = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    elif words[:2] == ["minalbef", "--tyro-print-completion"]:
        script = subprocess.run([sys.executable, "-m", *words[:3]], capture_output=True, text=True, check=True)
        subprocess.run(["bash", "-n"], input=script.stdout, text=True, check=True)
        assert "--baselines" in script.stdout
    elif words[0] == "minalbef" and words[1] in ("search", "summary") and not {"--index", "--texts"} & {*words}:
        (tmp_path / "data").symlink_to(ROOT / "data")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", words)
        main()
    elif words[0] == "python":                   # a script of notebooks/experiments
        shown = script_flags(words[1])
        assert not [word for word in words if word.startswith("--") and word not in shown]
    elif words[0] == "minalbef":                 # takes too long or needs files; other tests run these on small ones
        shown = flags(*words[1:3 if words[1] == "bench" else 2])
        assert not [word for word in words if word.startswith("--") and word not in shown]
    else:
        pytest.fail(f"a command that no test runs: {command}")


# links, names, sizes

def dead_links(page: Path, text: str) -> list[str]:
    """Relative links of a page to a file or a heading that does not exist."""
    dead = []
    for link in re.findall(r"\]\((?!https?:|\.\./\.\./actions/)([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve()
        there = text if not name else target.read_text(encoding="utf-8") if anchor and target.exists() else ""
        headings = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
                    for heading in re.findall(r"^#+ (.*)", there, re.M)}
        if not target.exists() or anchor and anchor not in headings:
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", LINKED)
def test_every_link_leads_somewhere(page):
    assert not dead_links(ROOT / page, (ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted({name for text in PAGES.values()
                                         for name in re.findall(rf"`(?:minalbef\.)?((?:{ROOMS})(?:\.\w+)+)\b", text)}))
def test_what_a_page_names_exists(name):
    pkgutil.resolve_name(f"minalbef.{name}")
