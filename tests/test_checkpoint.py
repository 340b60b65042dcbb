"""checkpoint: what is saved comes back, what is damaged is refused, and nothing is half-written or executed."""
import copy
import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close

from full_disk import files_end_at
from helpers import disturb, same_state, small
from minalbef.albef import ALBEF
from minalbef.data import data_folder, transform
from minalbef.ema import make_teacher
from minalbef.layers import record_weights
from minalbef.pretrain import Pretrain
from minalbef.recipes.predict import predict
from minalbef.system import checkpoint
from minalbef.system.checkpoint import fit_weights, load_state, save, save_state, write_atomically
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import run as run_module
from minalbef.tasks.run import Run, load
from runs import change_settings, write_weights

TEXTS = ["a red apple", "two cats above a small lemon on a blue background", "a big dog"]


@pytest.fixture(scope="module")
def made():
    """(model, tokenizer, three pictures of other sizes than the model's)."""
    tokenizer = Tokenizer.train(TEXTS, 128)
    torch.manual_seed(0)
    model = disturb(ALBEF(small(vocab_size=len(tokenizer), text_length=12))).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), dtype=np.uint8)
    return model, tokenizer, list(pictures)


@pytest.fixture
def folder(made, tmp_path):
    model, tokenizer, _ = made
    save(tmp_path / "run", model, tokenizer, make_teacher(model))
    return tmp_path / "run"


def test_a_saved_model_comes_back_the_same(made, folder):
    model, tokenizer, _ = made
    run = load(folder)
    assert same_state(run.model.state_dict(), model.state_dict())
    assert run.config == model.config and run.path == folder and not run.model.training
    assert run.tokenizer.encode(TEXTS)[0].equal(tokenizer.encode(TEXTS)[0])
    assert same_state(load_file(folder / "teacher.safetensors"), dict(model.state_dict()))
    assert {path.name for path in folder.iterdir()} == {"config.json", "tokenizer.json", "model.safetensors",
                                                        "teacher.safetensors"}


def test_tied_weights_are_saved_under_both_names_and_come_back(tmp_path, made):
    """As where a user's model shares a projection between both sides; on a CPU they share memory, too."""
    _, tokenizer, _ = made
    torch.manual_seed(0)
    model = ALBEF(small(vocab_size=len(tokenizer), image_width=48))
    model.text_proj.weight = model.image_proj.weight
    save(tmp_path / "run", model, tokenizer, make_teacher(model))
    assert same_state(load(tmp_path / "run").model.state_dict(), dict(model.state_dict()))
    assert same_state(load_file(tmp_path / "run" / "teacher.safetensors"), dict(model.state_dict()))


def test_similarity_and_match_probability_equal_the_plain_way(made, folder, tmp_path):
    model, tokenizer, pictures = made
    run = load(folder)
    similarity, probability = run.similarity(pictures, TEXTS[:2]), run.match_probability(pictures, TEXTS[:2])
    assert similarity.shape == probability.shape == (3, 2)
    for i, picture in enumerate(pictures):
        for j, text in enumerate(TEXTS[:2]):                     # one by one: no padding, no pairs
            tokens, keep = tokenizer.encode([text])
            image_tokens = model.encode_image(transform(picture, 24)[None])
            text_tokens = model.encode_text(tokens, keep)
            match = model.match_logits(model.fuse(text_tokens, keep, image_tokens)).softmax(-1)[0, 1]
            cosine = (model.image_feature(image_tokens) * model.text_feature(text_tokens)).sum()
            assert_close(similarity[i, j], cosine.detach(), atol=1e-5, rtol=1e-5)
            assert_close(probability[i, j], match.detach(), atol=1e-5, rtol=1e-5)
    Image.fromarray(pictures[1]).save(tmp_path / "picture.png")
    for source in (tmp_path / "picture.png", str(tmp_path / "picture.png"), pictures[1], Image.fromarray(pictures[1])):
        assert_close(run.similarity(source, TEXTS[1]), similarity[1:2, 1:2], atol=1e-5, rtol=1e-5)


def test_many_pairs_are_encoded_and_fused_in_parts(made, folder, monkeypatch):
    run, pictures, rows = load(folder), [made[2][i % 3] for i in range(150)], []
    head = run.model.match_head.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    monkeypatch.setattr(run.model, "encode_image",
                        lambda x, real=run.model.encode_image: rows.append(len(x)) or real(x))
    probability = run.match_probability(pictures, [*TEXTS[:2]] * 4)
    assert max(rows) <= 256 and sum(rows) == 150 + 150 * 8
    head.remove()
    assert_close(probability, run.match_probability(made[2], TEXTS[:2]).repeat(50, 4), atol=1e-6, rtol=0)


def test_of_a_pictures_texts_only_the_most_similar_are_read_where_top_says_so(made, folder, monkeypatch):
    monkeypatch.setattr(run_module, "PAIR_CHUNK", 3)                  # so that several parts are put together
    run, texts, rows = load(folder), [*TEXTS, "two dogs", "a lemon above a cat"], []
    whole, sim = run.match_probability(made[2], texts), run.similarity(made[2], texts)
    run.model.match_head.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    some = run.match_probability(made[2], texts, top=2)
    read = some > 0
    assert sum(rows) == 6 and read.sum(1).tolist() == [2, 2, 2]
    assert sim.masked_fill(~read, 2).amin(1).ge(sim.masked_fill(read, -2).amax(1)).all(), "the best by similarity"
    assert_close(some[read], whole[read], atol=1e-5, rtol=0)
    assert_close(run.match_probability(made[2], texts, top=9), whole, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="top=0 must be a whole number of at least 1"):
        run.match_probability(made[2], texts, top=0)


def test_given_pairs_are_those_of_the_whole_table(made, folder):
    run, pictures, texts = load(folder), [made[2][i % 3] for i in range(40)], [TEXTS[i % 2] for i in range(40)]
    found = run.match_pairs(pictures, texts)
    assert_close(found, run.match_probability(made[2], TEXTS[:2])[torch.arange(40) % 3, torch.arange(40) % 2],
                 atol=1e-5, rtol=0)
    assert_close(found, torch.stack([run.match_pairs(*pair)[0] for pair in zip(pictures, texts)]), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="40 images and 3 texts don.t make pairs"):
        run.match_pairs(pictures, TEXTS)


def test_a_batch_is_an_array_or_a_tensor_and_the_answer_becomes_an_array(made, folder):
    run, batch = load(folder), np.stack(made[2])
    similarity = run.similarity(made[2], TEXTS)
    tensor = torch.from_numpy(batch).movedim(-1, 1)              # (b, 3, h, w), as torchvision opens them
    for same in (batch, tensor, list(tensor)):
        assert run.similarity(same, TEXTS).equal(similarity)
    assert run.similarity(tensor[1], TEXTS).shape == (1, 3)
    assert isinstance(run.match_probability(batch, TEXTS).numpy(), np.ndarray)
    with pytest.raises(ValueError, match=r"shape \(30, 40, 3\) and type float32 .* must be uint8"):
        run.similarity(tensor[0].float(), TEXTS)


def test_memory_does_not_grow_with_pictures_and_texts():
    code = """
import resource, sys, numpy as np, minalbef
run = minalbef.load("tiny")
pictures = np.zeros((500, 48, 48, 3), np.uint8)
run.match_probability(pictures[:2], "a cat")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run.match_probability(pictures[:64], ["a cat"] * 100), run.match_pairs(pictures, ["a cat"] * 500)
run.similarity(pictures, ["a cat left of a dog"] * 20_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kilobytes = int(done.stdout) // (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 150_000                   # 40,000 of them are the similarities; keys and values of all: 1 GB


def test_what_to_rank_by_is_said_with_the_figures_that_were_measured():
    figures = json.loads((data_folder().parent / "notebooks" / "experiments" / "learn.json").read_text())["figures"]
    for line, name in zip(re.findall("    - (.*)", Run.__doc__), ("itc", "rerank", "rerank_plus"), strict=True):
        means = [figures[f"{among}.{name}_{query}_r1"]["mean"]
                 for among in ("plain", "families") for query in ("i2t", "t2i")]
        assert [f"{mean:.2f}" for mean in means] == re.findall(r"0\.\d\d", line), line


def test_tiny_is_the_shipped_model_where_no_folder_has_that_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load("tiny").path == data_folder() / "tiny"
    shutil.copytree(folder, "tiny")
    assert same_state(load("tiny").model.state_dict(), load(folder).model.state_dict())


@pytest.mark.parametrize("text, says", [("", "has no words"), ("!?", "has no words"),
                                        ("a red apple " * 9, "the limit is 12")])
def test_an_empty_or_too_long_sentence_is_refused(made, folder, text, says):
    for ask in (load(folder).similarity, load(folder).match_probability):
        with pytest.raises(ValueError, match=says):
            ask(made[2][0], text)


def test_a_too_long_sentence_is_not_shown_to_its_end(made, folder):
    with pytest.raises(ValueError, match=r"'a red apple .{48}'\.\.\. \(12,000 letters\) has 31 tokens") as error:
        load(folder).similarity(made[2][0], "a red apple " * 1000)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("count", [(1, 0), (0, 1), (0, 0)])
def test_no_pictures_or_no_texts_are_refused(made, folder, count):
    for ask in (load(folder).similarity, load(folder).match_probability):
        with pytest.raises(ValueError, match="no (image|text); give at least one"):
            ask(made[2][:count[0]], TEXTS[:count[1]])


def test_features_of_many_are_those_of_each_and_give_the_similarity(made, folder):
    run, pictures = load(folder), [made[2][i % 3] for i in range(70)]
    images, texts = run.embed_images(pictures), run.embed_texts(TEXTS[:2])
    assert images.shape == (70, run.config.embed_dim) and not images.requires_grad
    assert_close(images.norm(dim=1), torch.ones(70))
    assert_close(images[:3], torch.cat([run.embed_images(one) for one in made[2]]), atol=1e-5, rtol=0)
    assert_close(images @ texts.T, run.similarity(pictures, TEXTS[:2]))


def test_a_folder_is_read_in_the_order_of_its_names(made, folder, tmp_path):
    run = load(folder)
    for name, picture in zip(("b.png", "a.png", "c.PNG"), made[2]):
        Image.fromarray(picture).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    assert_close(run.embed_images(tmp_path), run.embed_images([made[2][i] for i in (1, 0, 2)]))
    with pytest.raises(ValueError, match="no image is in .*run or its subfolders: no file there"):
        run.embed_images(folder)


def test_attention_is_each_words_share_of_the_picture_and_explain_is_predicts_map(made, folder):
    run, tokens = load(folder), len(made[1].tokens(TEXTS[0])) + 1
    c, seen = run.config, run.attention(made[2][0], TEXTS[0])
    assert seen.shape == (c.fusion_depth, c.text_heads, tokens, c.grid, c.grid) and not seen.requires_grad
    assert (seen >= 0).all() and (seen.sum((-2, -1)) <= 1 + 1e-5).all()
    whole = Run(disturb(ALBEF(replace(c, fuse_cls=True))).eval(), made[1], replace(c, fuse_cls=True), folder)
    tokens, keep = made[1].encode(TEXTS[:1])
    with torch.no_grad(), record_weights(whole.model.fusion, "cross") as weights:
        whole.model.fuse(whole.model.encode_text(tokens, keep), keep,
                         whole.model.encode_image(whole.transform(made[2][0])[None]))
    shown = whole.attention(made[2][0], TEXTS[0])[0].flatten(2)
    assert_close(shown, weights[0][0, :, :, 1:])                 # without the picture's [CLS]
    found = predict("retrieval", run.model, run.tokenizer, made[2][0], TEXTS[0])
    assert_close(run.explain(made[2][0], TEXTS[0]), found.maps[0])


def test_summary_counts_the_parameters(made, folder):
    total = sum(p.numel() for p in made[0].parameters())
    text = str(load(folder))
    assert f"{total / 1e6:.2f}M parameters" in text and str(folder) in text and "9 patches" in text


def test_what_python_prints_of_a_run_fits_on_a_line(made, folder):
    assert repr(load(folder)) == f"Run({str(folder)!r}, task='pretrain', preset={small().name!r})"


def test_a_folder_that_is_no_run_is_told_what_it_lacks(folder, tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a run folder: it lacks config.json, tokenizer.*, model.*demo"):
        load(tmp_path / "nowhere")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="it lacks tokenizer.json"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("damage", [lambda data: data[:len(data) // 2], lambda data: b"",
                                    lambda data: b"\x80\x04" + data])
def test_a_damaged_file_is_refused(folder, name, damage):
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{folder}.*damaged"):
        load(folder)


@pytest.mark.parametrize("task", ["vqa2", ["vqa"], None])
def test_a_task_that_is_unknown_is_not_called_damaged(folder, task):
    change_settings(folder, task=task)
    with pytest.raises(ValueError, match="is a run of task .*version does not know.*there are pretrain, ") as told:
        load(folder)
    assert "damaged" not in str(told.value)


def test_a_config_with_an_unknown_option_is_of_a_later_version(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rotary": True}))
    with pytest.raises(ValueError,
                       match="config.json was made by a later version of minalbef, or changed: it has rotary") as error:
        load(folder)
    assert "damaged" not in str(error.value)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="config.json is damaged .it holds no values by name"):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_found_on_loading(folder, value):
    weights = load_file(folder / "model.safetensors")
    weights["image_proj.bias"][1] = value
    write_weights(folder / "model.safetensors", weights)
    with pytest.raises(ValueError, match="model.safetensors cannot be used: .* is not finite.*train it again"):
        load(folder)


def test_a_mistake_of_ours_is_not_called_a_damaged_file(folder, tmp_path, monkeypatch):
    def wrong(*_):
        raise ZeroDivisionError
    task, optimiser, config = training()
    save_state(tmp_path, task, optimiser, 7, config)
    monkeypatch.setattr(optimiser, "load_state_dict", wrong)
    monkeypatch.setattr(checkpoint, "load_file", wrong)
    for read in (lambda: load(folder), lambda: load_state(tmp_path, task, optimiser, config)):
        with pytest.raises(ZeroDivisionError):
            read()


def test_weights_that_do_not_fit_are_listed(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["temperature"]
    weights |= {"extra": torch.zeros(1), "image_proj.bias": torch.zeros(5)}
    write_weights(folder / "model.safetensors", weights)
    with pytest.raises(ValueError, match=r"missing temperature; unexpected extra; image_proj.bias is \(5,\), wanted"):
        load(folder)
    with pytest.raises(ValueError, match="and [0-9]+ more"):
        fit_weights(ALBEF(small()), {}, "nothing")


# writing

@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"),
                                   RuntimeError("unexpected pos 64 vs 0")])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    def half(temporary):
        temporary.write_text("ne")
        raise error
    path.write_text("old")
    with pytest.raises(OSError, match=f"could not write {path}.*free some space.*untouched"):
        write_atomically(path, half)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    def interrupted(temporary):
        temporary.write_text("ne")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_file_is_on_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    order, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    write_atomically(tmp_path / "file", lambda temporary: temporary.write_text("new"))
    assert order == ["fsync", "replace"]


def test_a_full_disk_leaves_the_old_model(made, folder):
    model, tokenizer, _ = made
    before = (folder / "model.safetensors").read_bytes()
    with files_end_at(20_000), pytest.raises(OSError, match="could not write .*model.safetensors"):
        save(folder, disturb(ALBEF(model.config)), tokenizer)
    assert (folder / "model.safetensors").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_an_unwritable_folder_is_named(made, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=f"{tmp_path}/file"):
        save(tmp_path / "file" / "run", made[0], made[1])


# resuming

def training(config=small(image_size=16), seed=0):
    torch.manual_seed(seed)
    task = Pretrain(config)
    optimiser = torch.optim.AdamW(task.student.parameters(), lr=1e-3)
    sum(p.sum() for p in task.student.parameters()).backward()
    optimiser.step()
    task.queue.push(torch.ones(3, 24), torch.ones(3, 24), torch.arange(3))
    return task, optimiser, config


def test_the_state_of_training_comes_back(tmp_path):
    task, optimiser, config = training()
    assert load_state(tmp_path, task, optimiser, config) == 0, "an empty folder begins at 0"
    save_state(tmp_path, task, optimiser, 7, config)
    other, other_optimiser, _ = training(seed=1)
    assert load_state(tmp_path, other, other_optimiser, config) == 7
    assert same_state(task.state_dict(), other.state_dict()) and other.queue.filled == 3
    assert same_state(optimiser.state_dict(), other_optimiser.state_dict())


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("write, read", [
    (torch.save, lambda path: torch.load(path, weights_only=False)),
    (lambda state, path: path.write_bytes(pickle.dumps(state, protocol=2)),
     lambda path: pickle.loads(path.read_bytes()))])
def test_a_pickle_that_executes_is_refused(tmp_path, write, read):
    evil, path = tmp_path / "executed", tmp_path / "state.pt"
    write({"step": Evil(evil)}, path)
    with pytest.raises(ValueError, match="state.pt cannot be read"):
        load_state(tmp_path, *training())
    assert not evil.exists()
    read(path)["step"].close()
    assert evil.exists(), "the check is blind"


@pytest.mark.parametrize("damage",
                         ["cut", "empty", "another file", "another task", "a list", "no config", "other shapes",
                          "other moments", "no groups", "code"])
def test_a_damaged_state_is_refused(tmp_path, damage):
    task, optimiser, config = training()
    save_state(tmp_path, task, optimiser, 7, config)
    path = tmp_path / "state.pt"
    state = torch.load(path, weights_only=True)
    name, number = next(iter(state["task"])), next(iter(state["optimiser"]["state"]))
    changed = {"a list": [1], "no config": {**state, "config": None},
               "code": {**state, "step": Evil(tmp_path / "executed")},
               "other shapes": {**state, "task": state["task"] | {name: torch.ones(7)}},
               "no groups": {**state, "optimiser": {"state": {}}}}
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "another file":
        torch.save({"weights": torch.ones(3)}, path)
    elif damage == "another task":
        save_state(tmp_path, task.student, optimiser, 7, config)
    elif damage == "other moments":
        state["optimiser"]["state"][number]["exp_avg"] = torch.ones(7)
        torch.save(state, path)
    else:
        torch.save(changed[damage], path)
    with pytest.raises(ValueError, match="state.pt cannot be read.*remove it to begin again") as error:
        load_state(tmp_path, task, optimiser, config)
    assert "weights_only" not in str(error.value), "torch's advice to run the file's code"


def test_a_flipped_byte_of_the_state_is_found(tmp_path):
    task, optimiser, config = training()
    save_state(tmp_path, task, optimiser, 7, config)
    path = tmp_path / "state.pt"
    good, found, before = path.read_bytes(), 0, copy.deepcopy(task.state_dict())
    places = [*range(0, len(good), len(good) // 60), *range(len(good) - 60, len(good), 6)]
    for place in places:
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1:])
        try:
            assert load_state(tmp_path, task, optimiser, config) == 7
        except ValueError as error:
            found += "state.pt cannot be read" in str(error)
        assert same_state(task.state_dict(), before), f"byte {place} changed the weights"
    assert found > len(places) // 2                    # the others are padding


def test_a_state_of_a_later_version_says_so(tmp_path):
    task, optimiser, config = training()
    save_state(tmp_path, task, optimiser, 7, config)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save(state | {"config": state["config"] | {"rotary": True}}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="state.pt was made by a later version .* it has rotary"):
        load_state(tmp_path, task, optimiser, config)


@pytest.mark.parametrize("step", [-5, 21, 1_000_000])
def test_a_step_that_the_run_does_not_have_is_refused(tmp_path, step):
    task, optimiser, config = training()
    save_state(tmp_path, task, optimiser, 20, config)
    assert load_state(tmp_path, task, optimiser, config) == 20 == config.steps
    save_state(tmp_path, task, optimiser, step, config)
    says = f"state.pt cannot be read .step {step} is not one of its 20.; remove it"
    with pytest.raises(ValueError, match=says):
        load_state(tmp_path, task, optimiser, config)


@pytest.mark.parametrize("now, says", [
    ({"tokenizer": "b", "coco/train": "c", "vg/train": "d"}, "its tokenizer differs"),
    ({"tokenizer": "a", "coco/train": "e", "vg/train": "d"}, "its coco/train differs"),
    ({"tokenizer": "a", "coco/train": "c"}, "it had vg/train, which is missing here"),
    ({"tokenizer": "a", "coco/train": "c", "vg/train": "d", "sbu/train": "f"},
     "it did not have sbu/train"),
    ({"tokenizer": "a", "vg/train": "d", "coco/train": "c"},
     "its order was tokenizer, coco/train, vg/train")])
def test_a_run_does_not_go_on_with_what_it_did_not_begin_from(tmp_path, now, says):
    task, optimiser, config = training()
    origin = {"tokenizer": "a", "coco/train": "c", "vg/train": "d"}
    save_state(tmp_path, task, optimiser, 7, config, origin)
    message = f"{tmp_path} holds a run that began from something else: {says}.*--run"
    with pytest.raises(ValueError, match=message):
        load_state(tmp_path, task, optimiser, config, now)
    assert load_state(tmp_path, task, optimiser, config, dict(origin)) == 7
    assert load_state(tmp_path, task, optimiser, config) == 7, "a loop of your own need not say"


def test_a_state_of_a_version_without_origins_goes_on_and_a_damaged_origin_does_not(tmp_path):
    task, optimiser, config = training()
    save_state(tmp_path, task, optimiser, 7, config, {"tokenizer": "a"})
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["origin"]
    torch.save(state, tmp_path / "state.pt")
    assert load_state(tmp_path, task, optimiser, config, {"tokenizer": "b"}) == 7
    torch.save(state | {"origin": {"tokenizer": 3}}, tmp_path / "state.pt")
    message = "state.pt cannot be read .its origin must be strings by name.; remove it"
    with pytest.raises(ValueError, match=message):
        load_state(tmp_path, task, optimiser, config, {"tokenizer": "b"})


def test_other_settings_are_refused_and_named(tmp_path):
    task, optimiser, config = training()
    save_state(tmp_path, task, optimiser, 7, config)
    for changes, says in (({"seed": 3}, "seed: 0 there, 3 here"), ({"betas": (0.8, 0.9)}, "betas")):
        with pytest.raises(ValueError, match=f"other settings .*{says}"):
            load_state(tmp_path, task, optimiser, small(image_size=16, **changes))


def test_a_part_that_may_be_absent_is_read_where_it_is_there_and_must_then_be_whole():
    trained, model = disturb(ALBEF(small())), ALBEF(small())
    weights = trained.state_dict()
    assert fit_weights(model, weights, "a file", ("word_head",)) == ()
    assert same_state(model.state_dict(), weights)
    del weights["word_head.bias"]
    with pytest.raises(ValueError, match="a file does not fit the model: missing word_head.bias"):
        fit_weights(model, weights, "a file", ("word_head",))
