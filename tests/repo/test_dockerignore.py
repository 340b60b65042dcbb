"""An image built from a checkout holds its code, and neither runs nor a course's secrets and grades."""

import subprocess
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
LINES = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
PATTERNS = [line for line in LINES if line and not line.startswith("#")]


def is_left_out(path: str) -> bool:
    """By Docker's rules: a pattern holds for a path below the top and all that is in it; ** is any folder."""
    parts = [PurePosixPath(path), *PurePosixPath(path).parents][:-1]
    for pattern in PATTERNS:
        if pattern.startswith("**/"):
            if any(fnmatch(part.name, pattern[3:]) for part in parts):
                return True
        elif PurePosixPath(pattern.rstrip("/")) in parts:
            return True
    return False


SECRETS = (
    ".git/config", "runs/course/package/secret.txt", "course/package/secret.txt",
    "course/nbgrader_config.py", "course/gradebook.db",
)


@pytest.mark.parametrize("path", SECRETS)
def test_secrets_and_grades_are_left_out(path):
    assert is_left_out(path)


def test_no_file_of_the_project_is_left_out():
    list_files = ["git", "ls-files"]
    files = subprocess.run(list_files, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [path for path in files.splitlines() if is_left_out(path)] == []
