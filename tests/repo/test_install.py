"""Where it installs and how: the lock file, the workflows, the development container, other systems' encodings."""
import ast
import json
import ntpath
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from minalbef.datasets import readers

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


def required(project: dict) -> list[Requirement]:
    """What pyproject.toml names, of all extras, but for the project itself."""
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return [one for one in map(Requirement, lines) if one.name != project["name"]]


def unlocked(project: dict, lock: dict) -> list[str]:
    """Requirements that the lock file lacks, or has in a version outside of their range."""
    held: dict[str, list[str]] = {}                          # a package has several versions where systems need them
    for package in lock["package"]:
        held.setdefault(package["name"], []).append(package.get("version", "0"))
    return [str(one) for one in required(project) if not held.get(canonicalize_name(one.name))
            or not all(one.specifier.contains(version) for version in held[canonicalize_name(one.name)])]


def test_the_lock_file_has_what_pyproject_asks_for_in_versions_that_it_allows():
    assert len(required(PROJECT)) > 20 and unlocked(PROJECT, LOCK) == [], "call `uv lock` and commit uv.lock"
    assert LOCK["requires-python"] == PROJECT["requires-python"]


def test_the_lock_file_was_made_from_this_pyproject():
    ours, = [package for package in LOCK["package"] if package["name"] == PROJECT["name"]]
    asked = {(canonicalize_name(one.name), str(one.specifier)) for one in required(PROJECT)}
    locked = {(one["name"], str(Requirement(f"{one['name']}{one.get('specifier', '')}").specifier))
              for one in ours["metadata"]["requires-dist"] if one["name"] != PROJECT["name"]}
    assert locked == asked and set(ours["metadata"]["provides-extras"]) == set(PROJECT["optional-dependencies"]), (
        "call `uv lock` and commit uv.lock")


def test_binder_installs_the_notebooks_extra_on_a_python_that_we_support_and_torch_as_ci_does():
    """By repo2docker's rules: a folder .binder stands for files at the top, and pip runs at the top."""
    folder = ROOT / ".binder"
    assert not (ROOT / "binder").exists(), "repo2docker refuses two"
    assert {path.name for path in folder.iterdir()} == {"requirements.txt", "runtime.txt"}
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    index, package = [line for line in lines if line and not line.startswith("#")]
    assert index.removeprefix("--extra-index-url ") == re.search(r"PIP_EXTRA_INDEX_URL: (\S+)", WORKFLOW)[1]
    assert package.startswith("-e .[") and package[5:-1] in PROJECT["optional-dependencies"]
    version = (folder / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)


def test_a_lock_file_that_lags_behind_would_be_seen():
    project = {"name": "x", "dependencies": ["a>=2,<3", "b", "c_d"],
               "optional-dependencies": {"more": ["e>=1", "x[y]"]}}
    lock = {"package": [{"name": name, "version": version}
                        for name, version in (("a", "1.9"), ("c-d", "1"), ("e", "1"))]}
    assert unlocked(project, lock) == ["a<3,>=2", "b"]


def test_the_workflows_and_the_citation_are_valid():
    pytest.importorskip("check_jsonschema", reason="no check-jsonschema; pip install -e '.[dev]' brings it")
    flows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    for schema, files in (("vendor.github-workflows", flows), ("vendor.citation-file-format", [ROOT / "CITATION.cff"])):
        run = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert files and run.returncode == 0, run.stdout


def test_the_three_jobs_of_ci_check_what_ci_run_does():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    ours = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    jobs = dict(re.findall(r"^  (\w+):\n(.*?)(?=^  \w+:\n|\Z)", WORKFLOW[WORKFLOW.index("\njobs:"):], re.M | re.S))
    assert re.findall(r"^make (\S+)", ours, re.M) == [".venv/stamp", "test", "test-slow"]
    for command in ("python -m minalbef test", "python -m minalbef test --slow"):
        assert f"/{command} --workers" in makefile
    for part in ("lint", "core", "chapters"):
        assert f"run: python -m minalbef test --part {part}\n" in jobs[part] and f"test-{part}" in makefile
        assert part == "lint" or f"run: python -m minalbef test --part {part} --slow\n" in jobs[part]
    for part in re.findall(r"'([^']*minilm[^']*)'", ours) + re.findall(r"'\.\[(.*?)\]'", ours):
        assert part in jobs["chapters"], part
    assert all(system in jobs["core"] for system in ("ubuntu", "macos-latest", "windows"))
    assert "MINALBEF_CI=1" in ours and 'MINALBEF_CI: "1"' in jobs["chapters"]
    assert "needs: [lint, core, chapters]" in jobs["site"]


def test_the_development_container_sets_up_what_make_does():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    target = container["postCreateCommand"].removeprefix("make ")
    assert f"\n{target}: pyproject.toml" in (ROOT / "Makefile").read_text(encoding="utf-8")
    version = re.fullmatch(r"mcr\.microsoft\.com/devcontainers/python:([\d.]+)", container["image"])[1]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)


def unencoded(code: str) -> list[str]:
    """Calls that read or write text in the system's encoding, which on Windows isn't UTF-8."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = ast.unparse(node.func).rpartition(".")[0]
        given, named = [*node.args], {one.arg for one in node.keywords}
        if name == "read_text":
            bare = not given
        elif name == "write_text":
            bare = len(given) < 2
        elif name == "open" and owner not in ("Image", "tarfile", "os", "webbrowser"):
            words = [*given[0 if owner else 1:], *(one.value for one in node.keywords if one.arg == "mode")]
            bare = not any(isinstance(one, ast.Constant) and "b" in str(one.value) for one in words)
        else:
            continue
        if bare and "encoding" not in named:
            found.append(ast.unparse(node))
    return found


def test_the_package_reads_and_writes_text_as_utf8_on_every_system():
    folders = ("minalbef", "notebooks", "docs", "tests/support")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    assert {str(path.relative_to(ROOT)): bare for path in files
            if (bare := unencoded(path.read_text(encoding="utf-8")))} == {}


def test_text_in_the_systems_encoding_would_be_seen():
    code = ("p.read_text()\np.write_text(x)\nopen(p)\np.open('w')\nopen(p, 'rb')\np.open('ab')\nImage.open(p)\n"
            "p.read_text('utf-8')\np.write_text(x, encoding='utf-8')\nopen(p, encoding='utf-8')\n"
            "tarfile.open(p, 'r:')\n")
    assert unencoded(code) == ["p.read_text()", "p.write_text(x)", "open(p)", "p.open('w')"]


@pytest.mark.parametrize("image", [r"C:\other\cat.jpg", r"..\..\cat.jpg", r"\\server\share\cat.jpg", r"sub\cat.jpg",
                                   "D:/cat.jpg", "../cat.jpg"])
def test_on_windows_too_no_name_of_a_picture_leads_out_of_its_folder(image, monkeypatch):
    tried = []
    path = SimpleNamespace(join=ntpath.join, splitdrive=ntpath.splitdrive, isfile=tried.append)       # none is there
    monkeypatch.setattr(readers, "os", SimpleNamespace(path=path, sep="\\"))
    with pytest.raises(readers.Fault):
        readers.Finder(r"C:\sets\coco")(image)
    tried = [one for one in tried if one]
    assert tried and all(ntpath.normpath(one).startswith("C:\\sets\\coco\\") for one in tried), tried
    assert any(ntpath.normpath(one) == r"C:\sets\coco\cat.jpg" for one in tried)
