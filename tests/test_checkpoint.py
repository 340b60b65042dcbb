"""checkpoint: what is saved comes back, what is damaged is refused,
and nothing is half-written or executed."""
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close

from helpers import disturb, same_state, small
from minalbef.albef import ALBEF
from minalbef.data import data_folder, transform
from minalbef.ema import make_teacher
from minalbef.layers import record_weights
from minalbef.pretrain import Pretrain
from minalbef.recipes.predict import predict
from minalbef.system.checkpoint import fit_weights, load_state, save, save_state
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import run as run_module
from minalbef.tasks.run import Run, load
from runs import write_weights

TEXTS = ["a red apple", "two cats above a small lemon on a blue background", "a big dog"]


@pytest.fixture(scope="module")
def parts():
    """(model, tokenizer, three pictures of other sizes than the model's)."""
    tokenizer = Tokenizer.train(TEXTS, 128)
    torch.manual_seed(0)
    model = disturb(ALBEF(small(vocab_size=len(tokenizer), text_length=12))).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), dtype=np.uint8)
    return model, tokenizer, list(pictures)


@pytest.fixture
def folder(parts, tmp_path):
    model, tokenizer, _ = parts
    save(tmp_path / "run", model, tokenizer, make_teacher(model))
    return tmp_path / "run"


def test_a_saved_model_comes_back_the_same(parts, folder):
    model, tokenizer, _ = parts
    run = load(folder)
    assert same_state(run.model.state_dict(), model.state_dict())
    assert run.config == model.config
    assert run.path == folder
    assert not run.model.training
    assert run.tokenizer.encode(TEXTS)[0].equal(tokenizer.encode(TEXTS)[0])
    assert same_state(load_file(folder / "teacher.safetensors"), dict(model.state_dict()))
    assert {path.name for path in folder.iterdir()} == {"config.json", "tokenizer.json",
                                                        "model.safetensors",
                                                        "teacher.safetensors"}


def test_similarity_and_match_probability_equal_the_plain_way(parts, folder, tmp_path):
    model, tokenizer, pictures = parts
    run = load(folder)
    similarity = run.similarity(pictures, TEXTS[:2])
    probability = run.match_probability(pictures, TEXTS[:2])
    assert similarity.shape == probability.shape == (3, 2)
    for i, picture in enumerate(pictures):
        # one by one: no padding, no pairs
        for j, text in enumerate(TEXTS[:2]):
            tokens, keep = tokenizer.encode([text])
            image_tokens = model.encode_image(transform(picture, 24)[None])
            text_tokens = model.encode_text(tokens, keep)
            match = model.match_logits(model.fuse(text_tokens, keep,
                                                  image_tokens)).softmax(-1)[0, 1]
            cosine = (model.image_feature(image_tokens) * model.text_feature(text_tokens)).sum()
            assert_close(similarity[i, j], cosine.detach(), atol=1e-5, rtol=1e-5)
            assert_close(probability[i, j], match.detach(), atol=1e-5, rtol=1e-5)
    Image.fromarray(pictures[1]).save(tmp_path / "picture.png")
    for source in (tmp_path / "picture.png", str(tmp_path / "picture.png"),
                   pictures[1], Image.fromarray(pictures[1])):
        assert_close(run.similarity(source, TEXTS[1]),
                     similarity[1:2, 1:2], atol=1e-5, rtol=1e-5)


def test_of_a_pictures_texts_only_the_most_similar_are_read_where_top_says_so(
        parts, folder, monkeypatch):
    # so that several parts are put together
    monkeypatch.setattr(run_module, "TEXT_CHUNK", 3)
    run = load(folder)
    texts = [*TEXTS, "two dogs", "a lemon above a cat"]
    rows = []
    full = run.match_probability(parts[2], texts)
    sim = run.similarity(parts[2], texts)
    run.model.match_head.register_forward_hook(
        lambda _, inputs, __: rows.append(len(inputs[0])))
    best = run.match_probability(parts[2], texts, top=2)
    mask = best > 0
    assert sum(rows) == 6 and mask.sum(1).tolist() == [2, 2, 2]
    assert sim.masked_fill(~mask, 2).amin(1).ge(sim.masked_fill(mask, -2).amax(1)).all(), (
        "the best by similarity")
    assert_close(best[mask], full[mask], atol=1e-5, rtol=0)
    assert_close(run.match_probability(parts[2], texts, top=9), full, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="top=0 must be a whole number of at least 1"):
        run.match_probability(parts[2], texts, top=0)


def test_tiny_is_the_shipped_model_where_no_folder_has_that_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load("tiny").path == data_folder() / "tiny"
    shutil.copytree(folder, "tiny")
    assert same_state(load("tiny").model.state_dict(), load(folder).model.state_dict())


def test_a_folder_is_read_in_the_order_of_its_names(parts, folder, tmp_path):
    run = load(folder)
    for name, picture in zip(("b.png", "a.png", "c.PNG"), parts[2]):
        Image.fromarray(picture).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    assert_close(run.embed_images(tmp_path), run.embed_images([parts[2][i] for i in (1, 0, 2)]))
    with pytest.raises(ValueError,
                       match="no image is in .*run or its subfolders: no file there"):
        run.embed_images(folder)


def test_attention_is_each_words_share_of_the_picture_and_explain_is_predicts_map(
        parts, folder):
    run = load(folder)
    tokens = len(parts[1].tokens(TEXTS[0])) + 1
    c = run.config
    maps = run.attention(parts[2][0], TEXTS[0])
    assert maps.shape == (c.fusion_depth, c.text_heads, tokens, c.grid, c.grid)
    assert not maps.requires_grad
    assert (maps >= 0).all() and (maps.sum((-2, -1)) <= 1 + 1e-5).all()
    full = Run(disturb(ALBEF(replace(c, fuse_cls=True))).eval(),
               parts[1], replace(c, fuse_cls=True), folder)
    tokens, keep = parts[1].encode(TEXTS[:1])
    with torch.no_grad(), record_weights(full.model.fusion, "cross") as weights:
        full.model.fuse(full.model.encode_text(tokens, keep), keep,
                        full.model.encode_image(full.transform(parts[2][0])[None]))
    words = full.attention(parts[2][0], TEXTS[0])[0].flatten(2)
    assert_close(words, weights[0][0, :, :, 1:])                 # without the picture's [CLS]
    result = predict("retrieval", run.model, run.tokenizer, parts[2][0], TEXTS[0])
    assert_close(run.explain(parts[2][0], TEXTS[0]), result.maps[0])


def test_a_folder_that_is_no_run_is_told_what_it_lacks(folder, tmp_path):
    with pytest.raises(ValueError,
                       match="nowhere is not a run folder: it lacks config.json, tokenizer.*, model.*demo"):
        load(tmp_path / "nowhere")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="it lacks tokenizer.json"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_file_is_refused(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"{folder}.*damaged"):
        load(folder)


def test_weights_that_are_no_numbers_are_found_on_loading(folder):
    weights = load_file(folder / "model.safetensors")
    weights["image_proj.bias"][1] = torch.nan
    write_weights(folder / "model.safetensors", weights)
    with pytest.raises(ValueError,
                       match="cannot be used: its weight .* is not finite.*train it again"):
        load(folder)


def test_weights_that_do_not_fit_are_listed(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["temperature"]
    weights |= {"extra": torch.zeros(1), "image_proj.bias": torch.zeros(5)}
    write_weights(folder / "model.safetensors", weights)
    with pytest.raises(ValueError,
                       match=r"missing temperature; unexpected extra; image_proj.bias is \(5,\), wanted"):
        load(folder)
    with pytest.raises(ValueError, match="and [0-9]+ more"):
        fit_weights(ALBEF(small()), {}, "nothing")


# writing

# resuming

def training(config=small(image_size=16), seed=0):
    torch.manual_seed(seed)
    task = Pretrain(config)
    optimiser = torch.optim.AdamW(task.student.parameters(), lr=1e-3)
    sum(p.sum() for p in task.student.parameters()).backward()
    optimiser.step()
    task.queue.push(torch.ones(3, 24), torch.ones(3, 24), torch.arange(3))
    return task, optimiser, config


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_that_executes_is_refused(tmp_path):
    evil = tmp_path / "executed"
    path = tmp_path / "state.pt"
    torch.save({"step": Evil(evil)}, path)
    with pytest.raises(ValueError, match="state.pt cannot be read"):
        load_state(tmp_path, *training())
    assert not evil.exists()
    torch.load(path, weights_only=False)["step"].close()
    assert evil.exists(), "the check is blind"


@pytest.mark.parametrize("damage", ["cut", "no config", "other shapes", "other moments"])
def test_a_damaged_state_is_refused(tmp_path, damage):
    task, optimiser, config = training()
    save_state(tmp_path, task, optimiser, 7, config)
    path = tmp_path / "state.pt"
    state = torch.load(path, weights_only=True)
    if damage == "no config":
        state["config"] = None
    elif damage == "other shapes":
        state["task"][next(iter(state["task"]))] = torch.ones(7)
    elif damage == "other moments":
        state["optimiser"]["state"][0]["exp_avg"] = torch.ones(7)
    torch.save(state, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="state.pt cannot be read.*remove it to begin again"):
        load_state(tmp_path, task, optimiser, config)


@pytest.mark.parametrize("now, says", [
    ({"tokenizer": "b", "coco/train": "c", "vg/train": "d"}, "tokenizer: a there, b here"),
    ({"tokenizer": "a", "coco/train": "e", "vg/train": "d"}, "coco/train: c there, e here"),
    ({"tokenizer": "a", "coco/train": "c"}, "vg/train: d there, none here"),
    ({"tokenizer": "a", "vg/train": "d", "coco/train": "c"},
     "order: .'tokenizer', 'coco/train', 'vg/train'. there")])
def test_a_run_does_not_go_on_with_what_it_did_not_begin_from(tmp_path, now, says):
    task, optimiser, config = training()
    origin = {"tokenizer": "a", "coco/train": "c", "vg/train": "d"}
    save_state(tmp_path, task, optimiser, 7, config, origin)
    message = f"{tmp_path} holds a run that began from something else .{says}.*--run"
    with pytest.raises(ValueError, match=message):
        load_state(tmp_path, task, optimiser, config, now)
    assert load_state(tmp_path, task, optimiser, config, dict(origin)) == 7
    assert load_state(tmp_path, task, optimiser, config) == 7, "a loop of your own need not say"
