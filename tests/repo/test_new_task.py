"""docs/new_task.md: its task works in a program, and in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import minalbef
from checkout import python_path
from minalbef.presets import PRESETS
from minalbef.system.checkpoint import read_run
from minalbef.system.metrics import read_metrics
from minalbef.tasks.table import TASKS

ROOT = Path(__file__).parents[2]
MODULE, PROGRAM, SCENES, READER, SET = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "new_task.md").read_text(encoding="utf-8"), re.S
)
SHORT = ("epoch=32", "epochs=1", "batch=16", "image_size=48", "queue_size=64", "device=cpu")


@mock.patch.dict(TASKS)
@mock.patch.dict(PRESETS)
def test_a_task_of_ones_own_is_saved_loaded_and_evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "caption"}
    for block in (MODULE, PROGRAM):
        exec(compile(block, "docs/new_task.md", "exec"), names)
    folder = tmp_path / "runs" / "caption"
    assert read_run(folder)[1] == "caption" and "caption" in read_metrics(folder)[-1]
    words = names["samples"]["words"]
    assert words.shape == (64,) and 0 <= words.min() and words.max() <= 1
    run = minalbef.load(folder)
    assert run.similarity(names["squares"][0], "a cat").shape == (1, 1)
    del TASKS["caption"]
    refusal = "'caption', which this version does not know.*table.TASKS before you load it"
    with pytest.raises(ValueError, match=refusal):
        minalbef.load(folder)


def copy_package(code: Path) -> None:
    """A copy of the package with the page's three files and its lines."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "minalbef", code / "minalbef", ignore=ignored)
    (code / "data").symlink_to(ROOT / "data")
    for name, text in {"tasks": MODULE, "scenes/tasks": SCENES, "datasets": READER}.items():
        (code / "minalbef" / name / "caption.py").write_text(text)
    table = code / "minalbef" / "tasks" / "table.py"
    change(table, "import (\n", "import (\n    caption,\n")
    change(table, "grounding)\n", "grounding, caption)\n")
    catalogue = code / "minalbef" / "datasets" / "catalogue.py"
    change(catalogue, "datasets import ", "datasets import caption, ")
    change(catalogue, '    "winoground": ', f'{SET}    "winoground": ')


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
    path.write_text(text.replace(old, new), encoding="utf-8")


CALL_ALL = """
import json, sys
from minalbef.cli.main import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["minalbef", *words.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""


def write_captions(folder: Path) -> None:
    """Grey images with captions of two kinds, in COCO's lists."""
    folder.mkdir()
    for split, count in {"train": 32, "test": 8}.items():
        entries = []
        for i in range(count):
            name = f"{split}{i}.png"
            Image.fromarray(np.full((40, 50, 3), 7 * i, np.uint8)).save(folder / name)
            subject = "a big apple" if i % 2 else "a small cat"
            entries.append({"image": name, "caption": f"{subject} left of a dog"})
        (folder / f"captions_{split}.json").write_text(json.dumps(entries))


def test_every_command_takes_a_task_of_three_files(tmp_path):
    """All in one process, since torch takes long to load."""
    copy_package(tmp_path / "code")
    write_captions(tmp_path / "made")
    commands = [
        "finetune --help",
        f"finetune caption --from tiny --baselines all --size 0.08 --processes 1 {' '.join(SHORT)}",
        "evaluate caption --from tiny --size 0.08 --seed 1",
        "predict caption --image made/test0.png --text what",
        "prepare captions --from made",
        "finetune caption epochs=1 batch=16 --from tiny --data prepared/captions --run runs/captions",
        "evaluate runs/captions --data prepared/captions/test",
    ]
    result = subprocess.run(
        [sys.executable, "-c", CALL_ALL, json.dumps(commands)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": python_path(tmp_path / "code"), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    row = r"\| caption: words guessed \| 0\.\d\d \|.*text alone 0\.\d\d"
    assert len(re.findall(row, result.stdout)) >= 2
    for part in ("answer.png shows the answer", "prepared/captions is ready",
                 "minalbef evaluate runs/captions --data", "caption on captions/test"):
        assert part in result.stdout
    report = tmp_path / "runs" / "captions" / "captions-test" / "report.json"
    assert json.loads(report.read_text())["counts"]["test"]["words"] == 8
