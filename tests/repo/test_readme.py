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

import minalbef
from learn_table import comparison, table
from minalbef.cli.main import main
from minalbef.evaluation import choices
from minalbef.recipes import search
from minalbef.recipes.plan import between, plan
from minalbef.scenes.tables import task_table
from second import SECOND

ROOT = Path(__file__).parents[2]
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
         for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
LINKED = sorted(str(path.relative_to(ROOT)) for pattern in ("*.md", "docs/*.md", "data/**/*.md", "notebooks/**/*.md")
                for path in ROOT.glob(pattern))
# extend and new_task are mostly code, which their tests run; half of results is two tables
LONGER = {"README.md": 120, "docs/extend.md": 160, "docs/new_task.md": 160, "docs/results.md": 120}
RESULTS = ("ablation", "choices", "circuit", "clipart", "curves", "lesson", "minimal_pairs", "relations", "results",
           "stress", "tasks")
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


def test_the_three_recipes_are_compared_as_they_were_measured():
    recipes = {"the paper's objectives alone": "second/learn_paper.json",
               "4,800 minimal pairs, repeated": "second/learn_pairs.json",
               "minimal pairs, never repeated": "second/learn.json"}
    found = {title: measured(name) for title, name in recipes.items()}
    assert comparison(found) in PAGES["docs/minimal_pairs.md"]
    changed = [name for name, value in found["minimal pairs, never repeated"]["config"].items()
               if any(value != one["config"][name] for one in found.values())]
    assert set(changed) == {"siblings", "sibling_pairs"}, "one thing is changed, all else is equal"
    assert {name: found["minimal pairs, never repeated"]["config"].get(name, value)
            for name, value in SECOND.items()} == SECOND, "the page says that it is the second recipe"


def test_the_rule_based_kind_is_as_it_was_measured():
    lessons = measured("relations.json")["lessons"]
    def at(name: str, step: int) -> str:
        return next(f"{row['relation']:.2f}"[1:] for row in lessons[name] if row["step"] == step)
    rule, siblings = "by rule, objects exchanged in the caption", "as it is"
    assert (f"right in {at(rule, 300)} of 500 validation questions after 300 steps and {at(rule, 350)} after 350, with "
            f"siblings in {at(siblings, 300)} and {at(siblings, 350)}.") in " ".join(
                PAGES["docs/minimal_pairs.md"].split())


def test_the_longer_runs_are_as_they_were_measured():
    def figures(curve: str) -> tuple[str, ...]:
        last = measured(curve)["rows"][-1]
        def at(*names: str) -> str:
            return f"{sum(last[name] for name in names) / len(names):.2f}"[1:]
        return (at("plain.rerank_plus_i2t_r1", "plain.rerank_plus_t2i_r1"),
                f"{at('plain.itc_i2t_r1')} / {at('plain.itc_t2i_r1')}",
                *(at(f"itm_one_change_accuracy.{kind}") for kind in ("size", "place", "relation")))
    both, itc, size, place, relation = figures("curve_fresh.json")
    *repeated, last = figures("curve_repeated.json")
    assert (f"by both scores the right one of 500 is found in {both}, by ITC alone in {itc}, and sizes are read in "
            f"{size} of cases; places crawl to {place}, and relations stay at {relation}. Where 179,200 scenes come "
            f"five times each, it's {', '.join(repeated)} and {last}.") in " ".join(
                PAGES["docs/minimal_pairs.md"].split())


def test_desks_figures_are_those_of_its_curve():
    last = measured("curve_desk.json")["rows"][-1]
    def both(name: str) -> str:
        return " / ".join(f"{last[f'plain.{name}_{way}_r1']:.2f}".lstrip("0") for way in ("i2t", "t2i"))
    assert (f"{last['seconds'] / 3600:.1f} hours on one core, measured | measured on validation scenes, one seed, ITC: "
            f"{both('itc')} of 500 scenes; with ITM {both('rerank_plus')} |") in PAGES["docs/scale.md"]
    relation = f"{last['itc_one_change_accuracy.relation']:.2f}"
    assert f"In the larger preset `desk` it reaches {relation[1:]} on" in PAGES["docs/minimal_pairs.md"]
    assert f"In the larger preset `desk` it reaches {relation}" in PAGES["docs/results.md"]


def test_the_figures_of_tasks_are_those_that_were_reported():
    assert task_table(measured("tasks.json")) in PAGES["docs/tasks.md"]


def test_the_figures_of_minimal_pairs_are_those_that_were_reported():
    rows = choices.table(measured("pairs.json")).split("\n\n")[1]
    shown = re.sub(r"^\| (text|image) \w+ \|.*\n", "", rows, flags=re.M)       # of a kind of change, the group's
    assert shown.count("\n| group ") == 7 and shown in PAGES["docs/choices.md"]
    assert "minalbef evaluate tiny --pairs" == measured("pairs.json")["command"]


@pytest.mark.parametrize("preset, gpus, gpu", [("small", 1, "RTX-4090"), ("base", 1, "RTX-4090"),
                                               ("paper-4m", 8, "A100-80"), ("paper-14m", 8, "A100-80")])
def test_the_ladder_is_what_plan_counts(preset, gpus, gpu):
    counted = plan(preset, gpus=gpus, gpu=gpu)
    row, = re.findall(rf"^\| `{preset}` .*", PAGES["docs/scale.md"], flags=re.M)
    low, high = counted.hours_between
    hours, minutes = f"{between(low, high)} hours on", f"{between(60 * low, 60 * high)} minutes on"
    assert (hours if high > 1 else minutes) in row and f", {counted.memory['all'] / 1e9:.0f} GB |" in row


def test_the_hours_of_the_first_day_are_what_plan_counts():
    for name, changes, checkpointing in (("base", ("epoch=567000",), False), ("retrieval-coco", (), True)):
        for gpu in ("RTX-4090", "A100-80", "H100"):
            counted = plan(name, changes, gpu=gpu, checkpointing=checkpointing)
            for page in ("docs/first_gpu.md", "notebooks/16_your_data.ipynb"):
                text = " ".join((ROOT / page).read_text(encoding="utf-8").replace('\\n",\n    "', " ").split())
                assert counted.fits and between(*counted.hours_between) in text, (page, name, gpu)


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
    elif words[0] == "minalbef" and words[1] == "search" and not {"--images", "--texts"} & {*words}:
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


def test_the_unknown_word_is_unknown_to_the_shipped_model():
    sentence, = [shlex.split(one)[2] for one in COMMANDS if "zeppelin" in one]
    assert search.unknown_words(minalbef.load("tiny"), sentence) == ["zeppelin"]


@pytest.mark.parametrize("page", ["README.md", "docs/data.md", "notebooks/assignments/README.md"])
def test_a_page_of_commands_says_to_activate_the_environment(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "source .venv/bin/activate" in text and r".venv\Scripts\activate" in text


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


def test_a_dead_link_would_be_seen():
    text = ("# A title\n[a](README.md) [b](nowhere.md) [c](#a-title) [d](#another) "
            "[e](docs/scale.md#train) [f](docs/scale.md#x)")
    assert dead_links(ROOT / "page.md", text) == ["nowhere.md", "#another", "docs/scale.md#x"]


@pytest.mark.parametrize("name", sorted({name for text in PAGES.values()
                                         for name in re.findall(rf"`(?:minalbef\.)?((?:{ROOMS})(?:\.\w+)+)\b", text)}))
def test_what_a_page_names_exists(name):
    pkgutil.resolve_name(f"minalbef.{name}")


def test_the_architecture_page_names_every_room_and_every_file_beside_them_once():
    table = re.search(r"^\| room \|.*?\n\n", PAGES["docs/architecture.md"], re.M | re.S)[0]
    package = ROOT / "minalbef"
    files = {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(re.findall(r"`(\w+\.py)`", table)) == sorted(files)
    assert set(re.findall(r"^\| (\w+) \|", table, re.M)) == rooms | {"room", "core", "train", "top"}


def test_a_page_is_at_most_two_screens_long():
    lines = {page: len(text.splitlines()) for page, text in PAGES.items()}
    assert {page: n for page, n in lines.items() if n > LONGER.get(page, 90)} == {}


def test_only_pages_of_results_have_more_than_900_words():
    """Bars of tables are no words."""
    words = {page: len(text.replace("|", " ").split()) for page, text in PAGES.items()
             if not page.startswith(tuple(f"docs/{name}" for name in RESULTS))}
    assert len(words) > 15 and {page: n for page, n in words.items() if n > 900} == {}
