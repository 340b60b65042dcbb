"""Where it installs and how: the lock file, other systems' encodings and paths."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
