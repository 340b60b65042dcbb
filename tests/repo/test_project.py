"""The project's own rules: what imports what, and what an import loads."""
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minalbef

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "minalbef"
MODULES = {}
for _path in sorted(PACKAGE.rglob("*.py")):
    MODULES[".".join(_path.relative_to(PACKAGE).with_suffix("").parts)] = _path

# Imports run down only: a room may import those before it. Within the core, files run from the smallest part up.
ROOMS = ("core", "fast", "train", "evaluation", "tasks", "weights", "top", "scenes", "datasets",
         "viz", "recipes", "bench", "cli")
CORE = """
system.__init__ system.limits config system.settings presets fast.gelu system.modes system.distributed
system.interrupt system.writing system.tokenizer layers vision system.images data system.checkpoint
masking losses ema system.training feature_queue text system.encoders fusion albef pretrain system.metrics
""".split()
TOP = ("__init__", "__main__")
LIBRARY = ROOMS[:ROOMS.index("top")]


def room(module: str) -> str:
    """The room that a module stands in; files at the package's top are core, the loop, or TOP."""
    if module in CORE:
        return "core"
    first, _, rest = module.partition(".")
    if rest or first in ROOMS:
        return first
    return "top" if first in (*TOP, "") else "core"


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively: write the whole name"
            for alias in node.names:
                full_name = f"{node.module}.{alias.name}"
                is_module = full_name.removeprefix("minalbef.") in MODULES
                names.add(full_name if is_module else node.module)
    package_names = [name for name in names if name.split(".")[0] == "minalbef"]
    return {name.removeprefix("minalbef").removeprefix(".") for name in package_names}


def test_rooms_import_only_what_stands_before_them():
    for module, path in MODULES.items():
        if module == "__main__":
            continue                             # `python -m minalbef` has to be called so
        for name in imports(path):
            here = room(module)
            there = room(name)
            assert ROOMS.index(there) <= ROOMS.index(here), f"{module} may not import {name}"
            assert {here, there} != {"scenes", "datasets"}, f"{module} may not import {name}"


def test_the_library_does_not_know_the_embedded_world():
    for module, path in MODULES.items():
        if room(module) in (*LIBRARY, "top", "datasets"):
            assert "emojiscenes" not in path.read_text(encoding="utf-8"), module


def test_the_core_runs_from_the_smallest_part_up():
    for module, path in MODULES.items():
        if room(module) == "core":
            assert module in CORE, f"{path.name} has no place in CORE: give it one, or a room"
            for name in imports(path):
                assert CORE.index(name) < CORE.index(module), f"{module} may not import {name}"


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


def test_rooms_that_are_not_loaded_come_when_they_are_named():
    assert minalbef.scenes.__name__ == "minalbef.scenes"
    assert set(dir(minalbef)) == set(minalbef.__all__)
    for name in minalbef.__all__:
        assert hasattr(minalbef, name)
    for wrong, right in (("scene", "scenes"), ("laod", "load"), ("Recrod", "Record")):
        with pytest.raises(AttributeError, match=f"has no '{wrong}' .did you mean '{right}'"):
            getattr(minalbef, wrong)
    with pytest.raises(AttributeError, match="minalbef has no 'xyzzy'; dir.minalbef. lists"):
        minalbef.xyzzy


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
