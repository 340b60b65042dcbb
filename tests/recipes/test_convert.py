"""convert: to run folders and back, every key and value the same, teacher and queue included."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from checkout import python_path
from helpers import pretrain, same_state, small
from minalbef.recipes.convert import pretrain_from_original, to_original, to_run
from minalbef.system import checkpoint
from minalbef.system.tokenizer import SPECIALS, Tokenizer
from minalbef.weights import key_table
from minalbef.weights.original import read_file
from original_files import HEADS, TASKS, UNEQUAL, as_file, small_state

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def vocab(tmp_path_factory) -> Path:
    """A vocabulary of 64 pieces, as BERT's files list them."""
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join([*SPECIALS, *(f"word{i}" for i in range(59))]) + "\n")
    return path


def saved(state: dict, path: Path) -> Path:
    torch.save({"model": state, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("file", TASKS)
def test_there_and_back_is_exact(file, vocab, tmp_path):
    state = small_state(file)
    report = to_run(saved(state, tmp_path / "in.pth"), tmp_path / "run", vocab, **HEADS)
    assert set(report.loaded) == set(state) and not report.unexpected
    assert checkpoint.read_run(tmp_path / "run")[1] == TASKS[file]
    keys, dropped = to_original(tmp_path / "run", tmp_path / "out.pth")
    assert keys == len(state) and not dropped
    assert same_state(read_file(tmp_path / "out.pth"), state)


@pytest.mark.parametrize("full", [True, False])
def test_a_run_of_ours_goes_to_the_original_and_on_from_there(tmp_path, full):
    # 16 of its queue's 20 slots are filled
    task = pretrain(small(**UNEQUAL))
    more = 7 if full else 3
    task.queue.push(torch.ones(more, 24), torch.ones(more, 24), torch.arange(more))
    tokenizer = Tokenizer.train(["a red apple"], 64)
    checkpoint.save(tmp_path / "run", task.student, tokenizer, task.teacher)
    checkpoint.save_state(tmp_path / "run", task, torch.optim.AdamW(task.student.parameters()),
                          3, task.config)
    to_original(tmp_path / "run", tmp_path / "out.pth")
    state = read_file(tmp_path / "out.pth")
    expected = as_file(task)
    if not full:                                 # the original would take empty slots for pictures
        expected = {key: value for key, value in expected.items() if "queue" not in key}
    assert same_state(state, expected)
    again = pretrain_from_original(tmp_path / "out.pth", **HEADS)
    assert same_state(again.student.state_dict(), task.student.state_dict())
    for name, value in task.teacher.state_dict().items():
        if name.partition(".")[0] not in key_table.UNTAUGHT:
            assert again.teacher.state_dict()[name].equal(value), name
    assert (again.queue.filled, again.queue.pointer) == ((20, 3) if full else (0, 0))


@pytest.mark.parametrize("changes, says", [
    ({}, "patch_embed.down.* the original has no such weight"),
    ({**UNEQUAL, "fuse_cls": False}, "fuse_cls=False.; the original always reads it")])
def test_a_model_that_the_original_cannot_build_is_refused(tmp_path, changes, says):
    checkpoint.save(tmp_path / "run", pretrain(small(**changes)).student,
                    Tokenizer.train(["a"], 64))
    with pytest.raises(ValueError, match=says):
        to_original(tmp_path / "run", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_a_vocabulary_of_another_size_is_refused(vocab, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("\n".join(vocab.read_text().split("\n")[:50]))
    with pytest.raises(ValueError, match="short.txt has 50 pieces and the model 64 words"):
        to_run(small_state("encoders"), tmp_path / "run", short, **HEADS)
    assert not (tmp_path / "run").exists()


def command(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "minalbef", "convert", *words], cwd=folder,
                          capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": python_path(ROOT)})


def test_the_command_converts_both_ways_and_says_what_it_did(vocab, tmp_path):
    state = small_state("encoders")
    saved(state, tmp_path / "in.pth")
    there = command(tmp_path, "in.pth", "run", "--vocab", str(vocab), "--image-heads", "4",
                    "--text-heads", "4")
    assert there.returncode == 0 and f"loaded      {len(state)} (temp 1, image_queue 1" in there.stdout, there.stderr
    back = command(tmp_path, "run", "out.pth", "--to", "original")
    assert back.returncode == 0 and back.stdout == f"out.pth: {len(state)} keys\n", back.stderr
    assert same_state(read_file(tmp_path / "out.pth"), state)
    assert load_file(tmp_path / "run" / "queue.safetensors")["image"].equal(state["image_queue"].T)
