"""Tests that a change can reach run first."""
import subprocess
from pathlib import Path

import pytest

from changes import can_reach, changed_files


@pytest.mark.parametrize("test, changed, reached", [
    ("tests/tasks/test_vqa.py", "minalbef/tasks/vqa.py", True),
    ("tests/tasks/test_nlvr2.py", "minalbef/tasks/vqa.py", True),
    ("tests/test_losses.py", "minalbef/losses.py", True),
    ("tests/test_ema.py", "minalbef/losses.py", False),
    ("tests/golden/test_golden_tasks.py", "minalbef/tasks/vqa.py", False),
    ("notebooks/04_align.ipynb", "notebooks/04_align.ipynb", True),
    ("notebooks/04_align.ipynb", "notebooks/05_teacher.ipynb", False)])
def test_a_change_reaches_tests_of_its_name_and_of_its_folder(test, changed, reached):
    assert can_reach(Path(test), [Path(changed)]) == reached


def test_changed_files_are_those_of_later_commits_and_of_the_working_tree(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)
    git("init", "-q")
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
        git("add", name)
        git("commit", "-qm", name)
    (tmp_path / "first").write_text("other")
    assert changed_files(tmp_path, "HEAD~1") == [Path("first"), Path("second")]
    assert changed_files(tmp_path, "no-such-commit") == [] == changed_files(tmp_path, None)
