"""The project's own rules: what imports what, how long files are, two ways to install."""
import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "minalbef"
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))
           if path.name != "__init__.py"}

# Imports run down only: a module may import those that stand before it, in its own row too.
LEVELS = """
limits config names distributed layers tokenizer masking losses ema feature_queue language grammar answers intervals
vision text fusion data painting placing scenes phrasing staging problems
albef
gradcam writing ranking checkpoint questions words
tasks.warm_start tasks.pretrain tasks.retrieval tasks.entailment tasks.vqa tasks.nlvr2 tasks.text_assignment tasks.grounding
original convert foreign readers public shards sets records prepare photos loading
lean logs signals launch train errors
cost plan forecast
checks report plots overview examples page search exam task_exam public_exam pipeline finetune study public_pretrain
study_cli predict
rehearse bench_step bench_load bench bench_cli __main__
"""
ORDER = LEVELS.split()
TAUGHT = "layers vision text fusion albef losses masking ema feature_queue gradcam tokenizer train".split()


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively: write the whole name"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name.removeprefix("minalbef.") in ORDER else node.module for name in whole}
    return {name.removeprefix("minalbef.") for name in found if name.split(".")[0] == "minalbef"}


def test_imports_run_down_only():
    for module, path in MODULES.items():
        assert module in ORDER, f"{path.name} has no place in LEVELS: give it one"
        for other in imports(path):
            assert other in ORDER, f"{module} imports {other}, which has no place in LEVELS"
            assert ORDER.index(other) < ORDER.index(module), f"{module} imports {other}, which stands above it"


def test_the_loop_knows_no_task():
    assert not {name for name in imports(PACKAGE / "train.py") if name.startswith("tasks")}


def test_a_forbidden_import_would_be_seen(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("def f():\n    from minalbef import albef\n    import minalbef.tasks.pretrain\n"
                    "    from minalbef.losses import itc_loss\n    from minalbef import ViT\n")
    assert imports(file) == {"albef", "tasks.pretrain", "losses", "minalbef"}


def test_files_stay_short():
    lines = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: n for module, n in lines.items() if n > 280} == {}
    core = sum(lines[name] for name in (*TAUGHT, "distributed", "tasks.pretrain"))
    assert core < 1400, "what a learner reads to know ALBEF"
    assert sum(lines.values()) < 11_700


def test_conda_and_pip_install_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = [line for line in (ROOT / "environment.yml").read_text().splitlines() if not line.startswith("#")]
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
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                           check=True).stdout
    for name in files.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix not in (".webp", ".png", ".npz", ".safetensors"):
            found = paths.search(path.read_text(encoding="utf-8"))
            assert not found, f"{name} names {found[0]}"
