"""Which files of tests a change can reach, by their names: tests/tasks/test_vqa.py tests minalbef/tasks/vqa.py."""

import subprocess
from pathlib import Path


def changed_files(root: Path, since: str | None) -> list[Path]:
    """What differs from a commit, in the working tree too; nothing without a commit or git."""
    if not since:
        return []
    git = subprocess.run(
        ["git", "diff", "--name-only", since], cwd=root, capture_output=True, text=True
    )
    return [Path(line) for line in git.stdout.splitlines()]


def can_reach(test: Path, changed: list[Path]) -> bool:
    """Whether a file of tests, or a notebook, is changed, or has the name or the folder of a changed file.

    Both are relative to the root. What imports a changed file elsewhere is tested after these.
    """
    for path in changed:
        if path == test or test.stem == f"test_{path.stem}":
            return True
        if path.suffix == ".py" and len(path.parts) > 2 and path.parts[1:-1] == test.parts[1:-1]:
            return True
    return False
