"""convert: to run folders and back, every key and value the same, teacher and queue included."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from checkout import python_path
from helpers import pretrain, same_state, small
from minalbef import load, load_original
from minalbef.recipes.convert import pretrain_from_original, to_original, to_run
from minalbef.system import checkpoint
from minalbef.system.tokenizer import SPECIALS, Tokenizer
from minalbef.tasks.entailment import EntailmentModel
from minalbef.tasks.table import TASKS as TABLE
from minalbef.tasks.vqa import VQAModel
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


@pytest.mark.parametrize("file", ["encoders", "ve", "nlvr_small"])
def test_weights_alone_go_back_without_their_folder(file, vocab, tmp_path):
    state = small_state(file)
    to_run(saved(state, tmp_path / "in.pth"), tmp_path / "run", vocab, **HEADS)
    to_original(tmp_path / "run" / "model.safetensors", tmp_path / "out.pth")
    alone = {key: value for key, value in state.items() if "_m." not in key and "queue" not in key}
    assert same_state(read_file(tmp_path / "out.pth"), alone)


def test_a_converted_folder_is_a_run_folder(vocab, tmp_path):
    state = small_state("encoders")
    to_run(saved(state, tmp_path / "in.pth"), tmp_path / "run", vocab, image_size=48, **HEADS)
    run = load(tmp_path / "run")
    assert same_state(run.model.state_dict(), load_original(state, image_size=48, **HEADS).state_dict())
    assert run.config.image_size == 48 and run.task == "pretrain" and run.absent == ()
    assert run.similarity(torch.zeros(30, 40, 3).byte().numpy(), ["word3 word5"]).shape == (1, 1)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "tokenizer.json", "model.safetensors", "teacher.safetensors", "queue.safetensors"}


def test_a_tasks_folder_gives_its_albef_and_says_what_that_cannot_do(vocab, tmp_path):
    picture = torch.zeros(30, 40, 3).byte().numpy()
    for file in ("retrieval", "vqa_small"):
        state = {key: value for key, value in small_state(file).items() if "_m." not in key and "queue" not in key}
        to_run(saved(state, tmp_path / "in.pth"), tmp_path / file, vocab, **HEADS)
        assert {path.name for path in (tmp_path / file).iterdir()} == {"config.json", "tokenizer.json",
                                                                       "model.safetensors"}, (
            "the released checkpoints of tasks have neither teacher nor queue")
    run = load(tmp_path / "retrieval")
    assert run.absent == ("word_head",) and "has no word_head, as is right for retrieval" in str(run)
    assert run.similarity(picture, "word1").shape == run.match_probability(picture, "word1").shape == (1, 1)
    run = load(tmp_path / "vqa_small")
    assert run.task == "vqa" and run.model.fusion.layers[1].cross.k.weight.equal(
        small_state("vqa_small")["text_encoder.encoder.layer.3.crossattention.self.key.weight"])
    with pytest.raises(ValueError, match="has no image_proj and no text_proj: it came from a checkpoint of vqa"):
        run.similarity(picture, "word1")
    with pytest.raises(ValueError, match="has no match_head"):
        run.match_probability(picture, "word1")


@pytest.mark.parametrize("file, make", [("vqa_small", VQAModel), ("ve", EntailmentModel)])
def test_a_tasks_folder_fills_the_tasks_model(file, make, vocab, tmp_path):
    to_run(small_state(file), tmp_path / "run", vocab, **HEADS)
    config, task, _, weights = checkpoint.read_run(tmp_path / "run")
    model = make(config)
    absent = checkpoint.fit_weights(model, weights, "the folder", TABLE[task].lacks)
    assert {name.split(".")[1] for name in absent} == set(TABLE[task].lacks)
    assert all(model.state_dict()[name].equal(value) for name, value in weights.items())


def test_a_folder_of_pairs_is_sent_to_its_own_model(vocab, tmp_path):
    to_run(saved(small_state("nlvr_ta_small"), tmp_path / "in.pth"), tmp_path / "run", vocab, **HEADS)
    with pytest.raises(ValueError, match="pairs of images .text_assignment."):
        load(tmp_path / "run")
    config, _, _, weights = checkpoint.read_run(tmp_path / "run")
    assert config.fusion_depth == 2 and "albef.fusion.layers.3.cross.q.weight" in weights
    assert "albef.fusion.layers.3.cross.k.weight" not in weights, "the pair has one"


@pytest.mark.parametrize("full", [True, False])
def test_a_run_of_ours_goes_to_the_original_and_on_from_there(tmp_path, full):
    task = pretrain(small(**UNEQUAL))                            # 16 of its queue's 20 slots are filled
    more = 7 if full else 3
    task.queue.push(torch.ones(more, 24), torch.ones(more, 24), torch.arange(more))
    tokenizer = Tokenizer.train(["a red apple"], 64)
    checkpoint.save(tmp_path / "run", task.student, tokenizer, task.teacher)
    checkpoint.save_state(tmp_path / "run", task, torch.optim.AdamW(task.student.parameters()), 3, task.config)
    to_original(tmp_path / "run", tmp_path / "out.pth")
    state = read_file(tmp_path / "out.pth")
    assert same_state(state, {key: value for key, value in as_file(task).items() if full or "queue" not in key}), (
        "the original would take empty slots for pictures")
    again = pretrain_from_original(tmp_path / "out.pth", **HEADS)
    assert same_state(again.student.state_dict(), task.student.state_dict())
    for name, value in task.teacher.state_dict().items():
        if name.partition(".")[0] not in key_table.UNTAUGHT:
            assert again.teacher.state_dict()[name].equal(value), name
    assert (again.queue.filled, again.queue.pointer) == ((20, 3) if full else (0, 0))


def test_a_fine_tuned_run_that_keeps_its_state_of_training_goes_to_the_original(tmp_path):
    task = TABLE["entailment"].module(small(**UNEQUAL))            # has no queue, so its state has none
    checkpoint.save(tmp_path / "run", task.student, Tokenizer.train(["a"], 64), task="entailment")
    checkpoint.save_state(tmp_path / "run", task, torch.optim.AdamW(task.student.parameters()), 3, task.config)
    keys, _ = to_original(tmp_path / "run", tmp_path / "out.pth")
    assert keys == len(read_file(tmp_path / "out.pth")) > 0


def test_parts_that_the_original_has_no_place_for_are_left_and_named(tmp_path):
    model = pretrain(small(**UNEQUAL)).student
    checkpoint.save(tmp_path / "run", model, Tokenizer.train(["a"], 64), task="retrieval")
    keys, dropped = to_original(tmp_path / "run", tmp_path / "out.pth")
    state = read_file(tmp_path / "out.pth")
    assert dropped == ["word_head"] and len(state) == keys and not [key for key in state if "predictions" in key]
    with pytest.warns(UserWarning, match="has no word_head"):
        again = load_original(tmp_path / "out.pth", **HEADS)
    for name, value in again.state_dict().items():
        if not name.startswith("word_head"):
            assert_close(value, model.state_dict()[name], atol=0, rtol=0)


@pytest.mark.parametrize("changes, says", [
    ({}, "patch_embed.down.* the original has no such weight"),
    ({**UNEQUAL, "fuse_cls": False}, "fuse_cls=False.; the original always reads it")])
def test_a_model_that_the_original_cannot_build_is_refused(tmp_path, changes, says):
    checkpoint.save(tmp_path / "run", pretrain(small(**changes)).student, Tokenizer.train(["a"], 64))
    with pytest.raises(ValueError, match=says):
        to_original(tmp_path / "run", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_a_vocabulary_of_another_size_is_refused(vocab, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("\n".join(vocab.read_text().split("\n")[:50]))
    with pytest.raises(ValueError, match="short.txt has 50 pieces and the model 64 words"):
        to_run(small_state("encoders"), tmp_path / "run", short, **HEADS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["visual_encoder.norm.bias", "visual_encoder_m.norm.bias"])
def test_a_folder_is_written_only_from_whole_weights(vocab, tmp_path, name):
    state = small_state("encoders")
    del state[name]
    with pytest.raises(ValueError, match="missing image_encoder.norm.bias"):
        to_run(state, tmp_path / "run", vocab, **HEADS)
    assert not (tmp_path / "run").exists()


def command(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "minalbef", "convert", *words], cwd=folder,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": python_path(ROOT)})


def test_the_command_converts_both_ways_and_says_what_it_did(vocab, tmp_path):
    state = small_state("encoders")
    saved(state, tmp_path / "in.pth")
    there = command(tmp_path, "in.pth", "run", "--vocab", str(vocab), "--image-heads", "4", "--text-heads", "4")
    assert there.returncode == 0 and f"loaded      {len(state)} (temp 1, image_queue 1" in there.stdout, there.stderr
    back = command(tmp_path, "run", "out.pth", "--to", "original")
    assert back.returncode == 0 and back.stdout == f"out.pth: {len(state)} keys\n", back.stderr
    assert same_state(read_file(tmp_path / "out.pth"), state)
    assert load_file(tmp_path / "run" / "queue.safetensors")["image"].equal(state["image_queue"].T)


def test_the_command_says_what_it_needs(tmp_path):
    saved(small_state("encoders"), tmp_path / "in.pth")
    refused = command(tmp_path, "in.pth", "run", "--image-heads", "4", "--text-heads", "4")
    assert refused.returncode == 2
    assert "bert-base-uncased/resolve/main/vocab.txt" in refused.stderr and "--vocab" in refused.stderr
