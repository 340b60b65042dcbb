"""`make parity` compares two commits: it must find nothing where nothing was changed, and what was planted."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]


PLANTED = {                           # file, what stands there, what shall stand there instead, what is found
    "a loss is summed": ("losses.py", "teacher_sim, alpha)).mean()", "teacher_sim, alpha)).sum()",
                         "pretrain-1: pretrain-1 itc step 0000"),
    "biases decay": ("train.py", "if decays else 0.0", "if decays else 0.5", "pretrain-1: warm patch step 0002")}


@pytest.mark.slow
@pytest.mark.parametrize("mistakes", [PLANTED, {}], ids=["two mistakes are planted", "nothing is planted"])
def test_planted_mistakes_are_found_at_their_first_step(tmp_path, mistakes):
    code = tmp_path / "code"
    subprocess.run(["git", "clone", "--quiet", str(HERE), str(code)], check=True)
    shutil.copy(HERE / "tests" / "support" / "parity.py", code / "tests" / "support" / "parity.py")
    for file, right, wrong, _ in mistakes.values():
        path = code / "minalbef" / file
        assert right in path.read_text()
        path.write_text(path.read_text().replace(right, wrong))
    done = subprocess.run([sys.executable, "tests/support/parity.py", "HEAD", "--steps", "4", "--only", "pretrain-1"],
                          cwd=code, capture_output=True, text=True)
    assert done.returncode == bool(mistakes), done.stderr
    for *_, found in mistakes.values():
        assert found in done.stdout
