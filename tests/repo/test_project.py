"""The project's own rules: what imports what, two ways to install."""
import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from chromium import lack

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "minalbef"
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}

# Imports run down only: a room may import those before it. Within the core, files run from the smallest part up.
ROOMS = ("core", "fast", "train", "evaluation", "tasks", "weights", "top", "scenes", "datasets", "viz", "recipes",
         "bench", "cli")
CORE = """
draws config presets distributed interrupt writing layers tokenizer masking losses ema feature_queue vision text
encoders fusion data albef pretrain decoder gradcam checkpoint metrics
""".split()
TOP = ("run", "checks", "__init__", "__main__")    # what callers use; built from the library's rooms
LIBRARY = ROOMS[:ROOMS.index("top")]


def room(module: str) -> str:
    """The room that a module stands in; files at the top of the package are the core, the loop, or TOP."""
    first, _, rest = module.partition(".")
    if rest or first in ROOMS:
        return first
    return "top" if first in (*TOP, "") else "core"


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively: write the whole name"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name.removeprefix("minalbef.") in MODULES else node.module for name in whole}
    return {name.removeprefix("minalbef").removeprefix(".") for name in found if name.split(".")[0] == "minalbef"}


def test_rooms_import_only_what_stands_before_them():
    for module, path in MODULES.items():
        if module == "__main__":
            continue                             # `python -m minalbef` has to be called so
        for other in imports(path):
            here, there = room(module), room(other)
            assert ROOMS.index(there) <= ROOMS.index(here), f"{module} imports {other}: {here} may not import {there}"
            assert {here, there} != {"scenes", "datasets"}, f"{module} imports {other}: the two worlds never meet"


def test_the_library_does_not_know_the_embedded_world():
    for module, path in MODULES.items():
        if room(module) in (*LIBRARY, "top", "datasets"):
            assert "emojiscenes" not in path.read_text(encoding="utf-8"), module


def test_the_core_runs_from_the_smallest_part_up():
    for module, path in MODULES.items():
        if room(module) == "core":
            assert module in CORE, f"{path.name} has no place in CORE: give it one, or a room"
            for other in imports(path):
                assert CORE.index(other) < CORE.index(module), f"{module} imports {other}, which stands above it"


def paths_of(page: str) -> set[str]:
    """The files and folders that a page names by their whole path."""
    return set(re.findall(r"(?<![\w/.])((?:minalbef|data|notebooks|tests)/[\w/]*(?:\.\w+)?)", page))


def test_every_path_and_name_of_the_architecture_page_exists():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = paths_of(page)
    assert len(paths) > 30 and [path for path in paths if not (ROOT / path).exists()] == []
    answers = re.findall(r"^\| [^|]*\? \| `(\S+\.py)`[^|]* \| `(\w+)` \|$", page, re.M)
    assert len(answers) > 10
    for path, name in answers:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path} has no {name}"


def test_the_architecture_page_has_the_rooms_in_their_order():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = page[page.index("| room |"):page.index("## Where is")]
    assert tuple(re.findall(r"^\| (\w+) \| (?!what)", rooms, re.M)) == ROOMS


def test_every_path_that_contributing_names_exists():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = {path for path in paths_of(page) if "NAME" not in path}
    assert len(paths) > 12 and [path for path in paths if not (ROOT / path).exists()] == []
    for name, path in (("own_losses", "pretrain"), ("FILES", "tasks/table"), ("SETS", "datasets/catalogue")):
        assert f"`{name}`" in page and f"`minalbef/{path}.py`" in page
        assert re.search(rf"\b{name}\b", (PACKAGE / f"{path}.py").read_text(encoding="utf-8"))


def test_a_path_that_is_gone_would_be_seen_on_a_page():
    assert paths_of("`minalbef/gone.py` and data/x/, (notebooks/a1.py); emojiscenes/painting.py") == {
        "minalbef/gone.py", "data/x/", "notebooks/a1.py"}


def test_lines_of_both_packages_end_at_100_columns():
    for path in [*MODULES.values(), *(PACKAGE.parent / "data").rglob("*.py")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert len(line) <= 100, f"{path.name}:{number} has {len(line)} columns"


def test_no_test_imports_another_test():
    modules = {path.stem: path for path in (ROOT / "tests").rglob("*.py")}
    support = {name for name, path in modules.items() if path.parent.name == "support"}
    tests = modules.keys() - support
    for path in modules.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            wrong = {name for name in names if name.split(".")[0] in {*tests, "tests"}}
            assert not wrong, f"{path.name} imports {wrong}: what tests share is in tests/support/"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert [path for path in settings["pythonpath"] if path.startswith("tests")] == ["tests/support"]


def test_the_top_of_the_package_can_be_taken_in_at_a_glance():
    assert len(list(PACKAGE.glob("*.py"))) <= 25
    for folder in PACKAGE.iterdir():
        if folder.is_dir() and folder.name not in ("__pycache__", "_data"):
            init = (folder / "__init__.py").read_text(encoding="utf-8")
            assert folder.name in ROOMS and ast.get_docstring(ast.parse(init))


def test_a_forbidden_import_would_be_seen(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("def f():\n    from minalbef import albef\n    import minalbef.pretrain\n"
                    "    from minalbef.losses import itc_loss\n    from minalbef import ViT\n")
    assert imports(file) == {"albef", "pretrain", "losses", ""}
    assert [room(name) for name in ("albef", "tasks.vqa", "losses", "", "run", "train")] == [
        "core", "tasks", "core", "top", "top", "train"]


def test_importing_minalbef_loads_what_is_used_and_the_library_alone():
    def loaded(code: str) -> set[str]:
        code = f"import sys, minalbef; {code}; print(*sys.modules)"
        found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        return set(found.stdout.split())
    assert not {"torch", "numpy", "minalbef.run"} & loaded("pass")
    found = loaded("minalbef.load")
    assert "emojiscenes" not in found
    rooms = {name.split(".")[1] for name in found if name.startswith("minalbef.")}
    assert "tasks" in rooms and not rooms & {"scenes", "datasets", "recipes", "viz", "bench", "cli"}
    assert {"torch", "einops"} <= found and not {"matplotlib", "tyro", "timm", "jinja2", "IPython"} & found


def test_rooms_that_are_not_loaded_come_when_they_are_named():
    import minalbef
    assert minalbef.scenes.__name__ == "minalbef.scenes" and minalbef.recipes.__doc__
    assert "ALBEF" in minalbef.__all__ and all(hasattr(minalbef, name) for name in minalbef.__all__)
    assert set(dir(minalbef)) == set(minalbef.__all__)
    assert {"Record", "Records", "prepare", "pretrain", "finetune", "evaluate", "load"} <= set(dir(minalbef))
    assert minalbef.finetune is minalbef.recipes.finetune.finetune, "a function here, and its module in its room"
    for wrong, near in (("scene", "scenes"), ("laod", "load"), ("Recrod", "Record")):
        with pytest.raises(AttributeError, match=f"minalbef has no '{wrong}' .did you mean '{near}'"):
            getattr(minalbef, wrong)
    with pytest.raises(AttributeError, match="minalbef has no 'xyzzy'; dir.minalbef. lists"):
        minalbef.xyzzy


def long_functions(paths: list[Path], lines: int = 40) -> list[str]:
    """Functions that don't fit on a screen, as "file:line name, lines"."""
    long = []
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = node.end_lineno - node.lineno + 1
                if length > lines:
                    long.append(f"{path.name}:{node.lineno} {node.name}, {length}")
    return long


def test_functions_longer_than_a_screen_are_named(record_property):
    """A signal and no bound: the list stands in pytest's report (-rP prints it). Files may have any length."""
    long = long_functions([*MODULES.values()])
    record_property("long functions", long)
    print(*long, sep="\n")


def test_a_long_function_would_be_named(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("def short():\n    pass\n\n\ndef long():\n" + "    x = 1\n" * 40)
    assert long_functions([file]) == ["a.py:5 long, 41"]


def test_what_is_cited_and_what_ci_installs_is_what_the_project_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in cited and "arxiv.org/abs/2107.07651" in cited
    flow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    least = re.search(r"torch>=([\d.]+),<3", " ".join(project["dependencies"]))[1]
    assert f'torch: ["torch=={least}.*", "torch<3"]' in flow


def run_ci(folder: Path, **stubs: str) -> tuple[int, str, str]:
    """.ci/run where these commands and no others are on the PATH: return code, and what it wrote."""
    for name, said in {"dirname": "echo .ci", **stubs}.items():
        (folder / name).write_text(f"#!/bin/sh\n{said}\n")
        (folder / name).chmod(0o755)
    run = subprocess.run([shutil.which("bash"), ROOT / ".ci" / "run"], cwd=ROOT, capture_output=True, text=True,
                         env={"PATH": str(folder)})
    return run.returncode, run.stdout, run.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_ci_installs_chromium_or_says_that_it_needs_it(tmp_path):
    make = "echo make $@, MINALBEF_CI=$MINALBEF_CI; exit 3"
    code, out, error = run_ci(tmp_path, id="echo 1000", make=make)
    assert code == 1 and not out and "needs chromium bubblewrap" in error
    assert "apt-get install chromium bubblewrap" in error
    code, out, error = run_ci(tmp_path, id="echo 0", make=make, **{"apt-get": "echo apt-get $@"})
    installs = ["apt-get update -q", "apt-get install -y -q chromium bubblewrap"]
    assert code == 3 and not error and out.splitlines() == [*installs, "make .venv/stamp, MINALBEF_CI=1"]
    code, out, error = run_ci(tmp_path, id="echo 1000", make=make, bwrap="", **{"google-chrome": ""})
    assert code == 3 and "apt-get" not in out + error, "it is there already"
    assert "'.[course,browser," in (ROOT / ".ci" / "run").read_text()


def test_what_a_browser_needs_is_skipped_without_but_fails_in_ci(monkeypatch):
    for value, outcome in (("", pytest.skip.Exception), ("1", pytest.fail.Exception)):
        monkeypatch.setenv("MINALBEF_CI", value)
        with pytest.raises((pytest.skip.Exception, pytest.fail.Exception), match="no Chromium.*; get it") as found:
            lack("Chromium", "get it")           # caught whichever it is: one that escapes would skip this test
        assert found.type is outcome


def test_conda_and_pip_install_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    conda = [line for line in lines if not line.startswith("#")]
    assert f"name: {project['name']}" in conda
    listed = [line.strip().removeprefix("- ") for line in conda[conda.index("dependencies:") + 1:]]
    assert listed == [f"python{project['requires-python']}", "pip", "pip:", "-e .[dev]"]
    assert "dev" in project["optional-dependencies"]


def test_the_command_line_answers():
    run = subprocess.run([sys.executable, "-m", "minalbef", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and "demo" in run.stdout, run.stderr


def test_nothing_names_the_machine_it_was_made_on():
    paths = re.compile(r"(?<![\w.])/(work|tmp|root|home|Users)/|\.\./" + "shared")
    assert paths.search('"/tm' + 'p/x') and not paths.search("https://example.org/home/")
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT,
                           stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in files.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix not in (".webp", ".png", ".npz", ".safetensors", ".zip"):
            found = paths.search(path.read_text(encoding="utf-8"))
            assert not found, f"{name} names {found[0]}"
