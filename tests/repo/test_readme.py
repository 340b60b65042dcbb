"""README, docs/ and the reports: every command, line of Python, link, name and table is checked."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import learn_table
from commands import call

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "notebooks" / "experiments" / "reports"
PAGES = {}
for _path in (
    ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(REPORTS.glob("*.md")),
):
    PAGES[str(_path.relative_to(ROOT))] = _path.read_text(encoding="utf-8")
LINKED = []
for _pattern in ("*.md", "docs/*.md", "data/**/*.md", "notebooks/**/*.md"):
    LINKED += sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(_pattern))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TESTED_ELSEWHERE = (
    "docs/extend.md", "docs/new_task.md", "docs/use.md",
)  # their own tests run their Python


def blocks(kind: str, text: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", text, re.S)


def test_the_readmes_figures_are_those_that_were_measured():
    measured = ROOT / "notebooks" / "experiments" / "learn.json"
    table = learn_table.table(json.loads(measured.read_text(encoding="utf-8")))
    section = re.search(r"## What it learns.*?\n\n(.*?)\n\n", PAGES["README.md"], re.S)
    rows = section[1].splitlines()
    assert len(rows) > 5 and set(rows) <= set(table.splitlines())


# Python and commands

WITH_PYTHON = []
COMMANDS = set()
for _page, _text in PAGES.items():
    if blocks("python", _text) and _page not in TESTED_ELSEWHERE:
        WITH_PYTHON.append(_page)
    for _line in "".join(blocks("bash", _text)).splitlines():
        COMMANDS.add(_line.split("#")[0].strip())
COMMANDS.discard("")


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(ROOT / "data")  # nothing is written into the checkout
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in blocks("python", PAGES[page]):
        exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_of_a_page_runs(command, tmp_path):
    """Or has the flags that its help shows: most take too long; other tests run them on less."""
    words = shlex.split(command)
    if words[0] == "torchrun":
        words = words[words.index("--") + 1 :]
    program = words[0]
    flags = [word for word in words if word.startswith("--")]
    if program == "git":
        address = (ROOT / "docs" / "site" / "address.txt").read_text(encoding="utf-8").strip()
        assert words[:3] == ["git", "clone", address]
    elif program == "source":
        assert f"\nBIN := {words[1].removesuffix('/activate')}\n" in MAKEFILE
    elif program == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, check=True)
    elif words[:2] == ["minalbef", "--tyro-print-completion"]:
        assert not call(*words[1:]).failed
    elif program == "minalbef" and words[1] == "search" and not {"--images", "--texts"} & {*flags}:
        (tmp_path / "data").symlink_to(ROOT / "data")
        assert not call(*words[1:], folder=tmp_path).failed
    elif program == "minalbef":
        command_words = words[1:3] if words[1] == "bench" else words[1:2]
        text = call(*command_words, "--help").text
        assert [flag for flag in flags if flag not in text] == []
    elif program == "python":  # a script of notebooks/experiments
        show_help = [sys.executable, words[1], "--help"]
        text = subprocess.run(show_help, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert [flag for flag in flags if flag not in text] == []
    else:
        pytest.fail(f"a command that no test runs: {command}")


def headings(text: str) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    anchors = set()
    for heading in re.findall(r"^#+ (.*)", text, re.M):
        anchors.add(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-"))
    return anchors


@pytest.mark.parametrize("page", LINKED)
def test_every_link_leads_somewhere(page):
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    relative = r"\]\((?!https?:|\.\./\.\./actions/)([^)\s]+)\)"
    for link in re.findall(relative, re.sub(r"`[^`\n]*`", "", text)):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in headings(target.read_text(encoding="utf-8")), link
