"""Where it installs and how: the lock file, the workflows, the development container, other systems' encodings."""
import ntpath
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


def required(project: dict) -> list[Requirement]:
    """What pyproject.toml names, of all extras, but for the project itself."""
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return [one for one in map(Requirement, lines) if one.name != project["name"]]


def test_the_lock_file_was_made_from_this_pyproject():
    ours, = [package for package in LOCK["package"] if package["name"] == PROJECT["name"]]
    asked = {(canonicalize_name(one.name), str(one.specifier)) for one in required(PROJECT)}
    locked = {(one["name"], str(Requirement(f"{one['name']}{one.get('specifier', '')}").specifier))
              for one in ours["metadata"]["requires-dist"] if one["name"] != PROJECT["name"]}
    assert locked == asked and set(ours["metadata"]["provides-extras"]) == set(PROJECT["optional-dependencies"]), (
        "call `uv lock` and commit uv.lock")


def test_the_workflows_and_the_citation_are_valid():
    pytest.importorskip("check_jsonschema", reason="no check-jsonschema; pip install -e '.[dev]' brings it")
    flows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    for schema, files in (("vendor.github-workflows", flows), ("vendor.citation-file-format", [ROOT / "CITATION.cff"])):
        run = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert files and run.returncode == 0, run.stdout


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
