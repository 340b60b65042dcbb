"""Where it installs and how: the lock file, other systems' encodings and paths."""

import ntpath
import shutil
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


def test_the_lock_file_was_made_from_this_pyproject():
    lines = list(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        lines += extra
    required = set()
    for line in lines:
        requirement = Requirement(line)
        if requirement.name != PROJECT["name"]:
            required.add((canonicalize_name(requirement.name), str(requirement.specifier)))
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    (package,) = [row for row in lock["package"] if row["name"] == PROJECT["name"]]
    locked = set()
    for entry in package["metadata"]["requires-dist"]:
        if entry["name"] != PROJECT["name"]:
            requirement = Requirement(f"{entry['name']}{entry.get('specifier', '')}")
            locked.add((entry["name"], str(requirement.specifier)))
    assert locked == required, "call `uv lock` and commit uv.lock"
    assert set(package["metadata"]["provides-extras"]) == set(PROJECT["optional-dependencies"])


def test_the_package_reads_and_writes_text_as_utf8_on_every_system():
    """Ruff's rule: without an encoding Windows takes its own."""
    ruff = shutil.which("ruff", path=Path(sys.executable).parent)
    if ruff is None:
        pytest.skip("no ruff; pip install -e '.[dev]' brings it")
    rule = ["--isolated", "--preview", "--select", "PLW1514", "--exclude", "*.ipynb"]
    words = [ruff, "check", *rule, "minalbef", "notebooks", "docs", "tests/support"]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


PATHS = (
    r"C:\other\cat.jpg", r"..\..\cat.jpg", r"\\server\share\cat.jpg", r"sub\cat.jpg", "D:/cat.jpg",
    "../cat.jpg",
)


@pytest.mark.parametrize("image", PATHS)
def test_on_windows_too_no_name_of_a_picture_leads_out_of_its_folder(image, monkeypatch):
    looked_for = []

    def isfile(path: str) -> bool:  # none is there
        looked_for.append(path)
        return False

    path = SimpleNamespace(join=ntpath.join, splitdrive=ntpath.splitdrive, isfile=isfile)
    monkeypatch.setattr(readers, "os", SimpleNamespace(path=path, sep="\\"))
    with pytest.raises(readers.Fault):
        readers.Finder(r"C:\sets\coco")(image)
    normal = {ntpath.normpath(path) for path in looked_for if path}
    assert "C:\\sets\\coco\\cat.jpg" in normal
    for path in normal:
        assert path.startswith("C:\\sets\\coco\\")
