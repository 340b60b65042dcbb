"""An image built from a checkout holds its code, and neither runs nor a course's secrets and grades."""
import subprocess
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
PATTERNS = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] not in "#"]


def is_left_out(path: str) -> bool:
    """By Docker's rules: a pattern holds for a path below the top, and all that is in it; ** is any folder or none."""
    for part in [PurePosixPath(path), *PurePosixPath(path).parents][:-1]:
        for pattern in PATTERNS:
            if fnmatch(part.name, pattern[3:]) if pattern.startswith("**/") else str(part) == pattern:
                return True
    return False


@pytest.mark.parametrize("path", [".git/config", "runs/course/package/secret.txt", "course/package/secret.txt",
                                  "course/nbgrader_config.py", "course/gradebook.db"])
def test_secrets_and_grades_are_left_out(path):
    assert is_left_out(path)


def test_no_file_of_the_project_is_left_out():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert len(files) > 300 and [path for path in files if is_left_out(path)] == []
