"""docs/new_task.md: its task works in a program, and in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minalbef
from checkout import python_path
from minalbef.presets import PRESETS
from minalbef.system.checkpoint import read_run
from minalbef.system.metrics import read_metrics
from minalbef.tasks.table import TASKS, load_model

ROOT = Path(__file__).parents[2]
MODULE, PROGRAM, SCENES, READER, SET = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "new_task.md").read_text(encoding="utf-8"), re.S
)
SHORT = ("epoch=32", "epochs=1", "batch=16", "image_size=48", "queue_size=64", "device=cpu")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The names that the page's program defines, and the folder in which it ran."""
    folder = tmp_path_factory.mktemp("program")
    names = {"__name__": "caption"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tasks = dict(TASKS)
        presets = dict(PRESETS)
        for block in (MODULE, PROGRAM):
            exec(compile(block, "docs/new_task.md", "exec"), names)
        yield names, folder / "runs" / "caption"
    for table, before in ((TASKS, tasks), (PRESETS, presets)):
        table.clear()
        table.update(before)


def test_a_task_of_ones_own_is_saved_loaded_and_evaluated(program):
    names, folder = program
    assert read_run(folder)[1] == "caption" and "caption" in read_metrics(folder)[-1]
    words = names["samples"]["words"]
    assert words.shape == (64,) and 0 <= words.min() and words.max() <= 1
    run = minalbef.load(folder)
    assert run.task == "caption"
    assert run.similarity(names["squares"][0], "a cat").shape == (1, 1)
    task = TASKS.pop("caption")
    refusal = "'caption', which this version does not know.*table.TASKS before you load it"
    with pytest.raises(ValueError, match=refusal):
        minalbef.load(folder)
    TASKS["caption"] = task
    with pytest.raises(ValueError, match="tiny is a run of pretrain, not of caption"):
        load_model("caption", ROOT / "data" / "tiny")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package with the page's three files and its lines."""
    code = tmp_path_factory.mktemp("code")
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
    return code


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
    path.write_text(text.replace(old, new), encoding="utf-8")


CALL_ALL = """
import json, sys
from minalbef.cli.main import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["minalbef", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
    print("=" * 9)
"""


def run(package: Path, folder: Path, commands: dict[str, str]) -> dict[str, str]:
    """What each command prints; they share a process, since torch takes long to load."""
    words = [command.split() for command in commands.values()]
    result = subprocess.run(
        [sys.executable, "-c", CALL_ALL, json.dumps(words)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": python_path(package), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return dict(zip(commands, result.stdout.split("=" * 9)))


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


def test_every_command_takes_a_task_of_three_files(package, tmp_path):
    write_captions(tmp_path / "made")
    scenes = "finetune caption --from tiny --baselines all --size 0.08 --processes 1"
    photos = "finetune caption epochs=1 batch=16 --from tiny --data prepared/captions"
    commands = {
        "help": "finetune --help",
        "tune": f"{scenes} {' '.join(SHORT)}",
        "evaluate": "evaluate caption --from tiny --size 0.08 --seed 1",
        "predict": "predict caption --image made/test0.png --text what",
        "prepare": "prepare captions --from made",
        "tune on photos": f"{photos} --run runs/captions",
        "measure": "evaluate runs/captions --data prepared/captions/test",
    }
    printed = run(package, tmp_path, commands)
    assert "caption" in printed["help"]
    for name in ("tune", "evaluate"):
        row = r"\| caption: words guessed \| 0\.\d\d \|.*text alone 0\.\d\d"
        assert re.search(row, printed[name])
    assert "answer.png shows the answer" in printed["predict"]
    assert "prepared/captions is ready" in printed["prepare"]
    assert "minalbef evaluate runs/captions --data" in printed["tune on photos"]
    assert printed["measure"].strip().startswith("caption on captions/test")
    folder = tmp_path / "runs" / "captions" / "captions-test"
    report = json.loads((folder / "report.json").read_text())
    assert report["task"] == "caption"
    assert report["counts"]["test"]["words"] == 8
