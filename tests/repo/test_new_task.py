"""docs/new_task.md: its task works in a program, and in a copy of the package through every command."""

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
from minalbef import Record
from minalbef.checkpoint import read_run
from minalbef.metrics import read_metrics
from minalbef.presets import PRESETS
from minalbef.recipes import finetune
from minalbef.tasks.table import TASKS, load_model

ROOT = Path(__file__).parents[2]
MODULE, PROGRAM, SCENES, READER, SET = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "new_task.md").read_text(encoding="utf-8"), re.S
)
SHORT = ("epoch=32", "epochs=1", "batch=16", "image_size=48", "queue_size=64", "device=cpu")
SMALL = (
    "image_size=32", "patch_size=16", "image_width=32", "image_depth=1", "image_heads=4",
    "vocab_size=256", "text_width=48", "text_heads=4", "text_depth=1", "fusion_depth=2",
    "embed_dim=16", "queue_size=8",
)


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
    with pytest.raises(
        ValueError,
        match="'caption', which this version does not know.*table.TASKS before you load it",
    ):
        minalbef.load(folder)
    TASKS["caption"] = task
    with pytest.raises(ValueError, match="tiny is a run of pretrain, not of caption"):
        load_model("caption", ROOT / "data" / "tiny")


def test_a_long_caption_is_cut_and_a_task_without_presets_asks_for_one(program, monkeypatch):
    names, folder = program
    run = minalbef.load(folder)
    long = [Record(names["squares"][0], "a small cat on a big apple " * 12, 0)]
    batch = names["collate"](long, run.tokenizer, run.config.image_size, 20).to("cpu")
    assert batch.answers.shape == (1, 20)
    assert names["TASK"].module(run.config)(batch, 0.0)[0]["caption"].isfinite()
    assert finetune.preset_of("caption", "captions") == "caption"
    monkeypatch.setitem(
        TASKS, "caption", names["Task"]("caption", names["Caption"], names["collate"])
    )
    with pytest.raises(
        ValueError, match="task 'caption' has no recipe for prepared sets: name one with --preset"
    ):
        finetune.preset_of("caption", "captions")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package with the page's three files and its lines."""
    code = tmp_path_factory.mktemp("code")
    shutil.copytree(
        ROOT / "minalbef", code / "minalbef", ignore=shutil.ignore_patterns("__pycache__")
    )
    (code / "data").symlink_to(ROOT / "data")
    for name, text in (("tasks", MODULE), ("scenes/tasks", SCENES), ("datasets", READER)):
        (code / "minalbef" / name / "caption.py").write_text(text)
    change(code / "minalbef/tasks/table.py", "import (\n", "import (\n    caption,\n")
    change(code / "minalbef/tasks/table.py", "grounding)\n", "grounding, caption)\n")
    change(code / "minalbef/datasets/catalogue.py", "datasets import ", "datasets import caption, ")
    change(
        code / "minalbef/datasets/catalogue.py", '    "winoground": ', f'{SET}    "winoground": '
    )
    return code


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
    path.write_text(text.replace(old, new), encoding="utf-8")


def run(package: Path, folder: Path, *commands: tuple[str, ...]) -> list[str]:
    """What each command prints; they share a process, since torch takes longer to load than most to run."""
    code = (
        "import json, sys; from minalbef.cli.main import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['minalbef', *words]\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code, (words, end.code)\n"
        "    print('=' * 9)\n"
    )
    environment = os.environ | {"PYTHONPATH": python_path(package), "COLUMNS": "100"}
    result = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)], cwd=folder, env=environment,
        capture_output=True, text=True, encoding="utf-8",
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout.split("=" * 9)


def test_every_command_takes_a_task_of_three_files(package, tmp_path):
    images = tmp_path / "made"
    images.mkdir()
    for split, number in (("train", 32), ("test", 8)):
        entries = []
        for i in range(number):
            name = f"{split}{i}.png"
            Image.fromarray(np.full((40, 50, 3), 7 * i, np.uint8)).save(images / name)
            entries.append(
                {
                    "image": name,
                    "caption": f"{'a big apple' if i % 2 else 'a small cat'} left of a dog",
                }
            )
        (images / f"captions_{split}.json").write_text(json.dumps(entries))
    tuned = ("--from", "tiny")
    first = str(images / "test0.png")
    told = run(
        package,
        tmp_path,
        ("finetune", "--help"),
        ("predict", "--help"),
        ("dry-run", "--help"),
        ("prepare", "--help"),
        ("dry-run", "caption", *SMALL),
        (
            "finetune", "caption", *SHORT, *tuned, "--baselines", "all", "--size", "0.08",
            "--processes", "1",
        ),
        ("evaluate", "caption", *tuned, "--size", "0.08", "--seed", "1"),
        ("predict", "caption", "--image", first, "--text", "what is there?"),
        ("prepare", "captions", "--from", "made"),
        (
            "finetune", "caption", "epochs=1", "batch=16", *tuned, "--data", "prepared/captions",
            "--run", "runs/captions",
        ),
        ("evaluate", "runs/captions", "--data", "prepared/captions/test"),
    )
    helps, (dry, tuned, evaluated, answer, account, trained, measured) = told[:4], told[4:11]
    assert all("caption" in text for text in helps[:3]) and "captions" in helps[3]
    assert "caption: " in dry and "step 1" in dry
    for text in (tuned, evaluated):
        assert re.search(r"\| caption: words guessed \| 0\.\d\d \|.*text alone 0\.\d\d", text), text
    assert "answer.png shows the answer" in answer
    assert "32" in account and "prepared/captions is ready" in account
    assert "next: minalbef evaluate runs/captions --data prepared/captions/test" in trained
    assert measured.strip().startswith("caption on captions/test")
    assert "words" in measured
    report = json.loads((tmp_path / "runs/captions/captions-test/report.json").read_text())
    assert report["task"] == "caption" and report["counts"]["test"]["words"] == 8
