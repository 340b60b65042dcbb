"""The project's own rules: what imports what, and what an import loads."""
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "minalbef"
MODULES = {}
for _path in sorted(PACKAGE.rglob("*.py")):
    MODULES[".".join(_path.relative_to(PACKAGE).with_suffix("").parts)] = _path

# imports run down only: a room may import those before it
ROOMS = ("core", "fast", "train", "evaluation", "tasks", "weights", "top", "scenes", "datasets",
         "viz", "recipes", "bench", "cli")
WITHOUT_THE_WORLD = (*ROOMS[:ROOMS.index("scenes")], "datasets")


def room(module: str) -> str:
    """The room that a module stands in; files at the package's top are core, but for the loop."""
    first = module.partition(".")[0]
    if first == "system" or module == "fast.gelu":
        return "core"
    if first in ROOMS:
        return first
    return "top" if first in ("__init__", "__main__", "") else "core"


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full_name = f"{node.module}.{alias.name}"
                is_module = full_name.removeprefix("minalbef.") in MODULES
                names.add(full_name if is_module else node.module)
    package_names = [name for name in names if name.split(".")[0] == "minalbef"]
    return {name.removeprefix("minalbef").removeprefix(".") for name in package_names}


def test_rooms_import_only_what_stands_before_them():
    for module, path in MODULES.items():
        here = room(module)
        if here in WITHOUT_THE_WORLD:
            assert "emojiscenes" not in path.read_text(encoding="utf-8"), module
        if module == "__main__":
            continue                             # `python -m minalbef` has to be called so
        for name in imports(path):
            there = room(name)
            assert ROOMS.index(there) <= ROOMS.index(here), f"{module} may not import {name}"
            assert {here, there} != {"scenes", "datasets"}, f"{module} may not import {name}"


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh Python has loaded after `import minalbef` and some code."""
    code = f"import sys, minalbef; {code}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                         check=True)
    return set(run.stdout.split())


def test_importing_minalbef_loads_what_is_used_and_the_library_alone():
    assert not {"torch", "numpy", "minalbef.tasks.run"} & loaded_by("pass")
    modules = loaded_by("minalbef.load")
    assert {"torch", "einops"} <= modules
    assert not {"emojiscenes", "matplotlib", "tyro", "timm", "jinja2", "IPython"} & modules
    rooms = {name.split(".")[1] for name in modules if name.startswith("minalbef.")}
    assert "tasks" in rooms
    assert not rooms & {"scenes", "datasets", "recipes", "viz", "bench", "cli"}


BINARY = (".webp", ".png", ".npz", ".safetensors", ".zip")


def test_nothing_names_the_machine_it_was_made_on():
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    own_paths = re.compile(r"(?<![\w.])/(work|tmp|root|home|Users)/|\.\./" + "shared")
    list_files = ["git", "ls-files", "-co", "--exclude-standard"]
    files = subprocess.run(list_files, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix not in BINARY:
            match = own_paths.search(path.read_text(encoding="utf-8"))
            assert not match, f"{name} names {match[0]}"
