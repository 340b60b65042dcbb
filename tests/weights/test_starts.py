"""starts: sizes come from the weights, what is frozen is computed and saved once."""
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import BertConfig, BertModel

from captions import CAPTIONS, prepare_captions, stop_at
from helpers import disturb, same_state
from minalbef.albef import ALBEF
from minalbef.data import normalise
from minalbef.datasets import tokens
from minalbef.datasets.store import Records
from minalbef.recipes import evaluate, finetune, pretrain
from minalbef.system import checkpoint
from minalbef.system.encoders import WordsTextEncoder, stages
from minalbef.system.images import read_pixels
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.run import load
from minalbef.tasks.table import TASKS, load_model
from minalbef.train import Stopped, parameter_groups
from minalbef.weights import pretrained, starts

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a red cat two dogs green apple lemon big dog cats".split()
FAST = ("image_size=32 embed_dim=8 batch=4 epochs=3 warmup_steps=0 queue_size=8 save_every=1 "
        "text_length=9 device=cpu validate_every=0").split()
# the paper's objectives on both starts, without what preset pictures adds
PAPER = ("image_proj_dropout=0", "text_proj_dropout=0", "class_names=false", "text_encoder=bert")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An image model's file, with its classifier, and a BERT's folder."""
    folder = tmp_path_factory.mktemp("starts")
    torch.manual_seed(0)
    image = disturb(timm.create_model("test_efficientnet")).eval()
    torch.save(image.state_dict(), folder / "image.pth")
    config = BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=4,
                        num_attention_heads=4, intermediate_size=24, max_position_embeddings=12)
    bert = disturb(BertModel(config)).eval()
    (folder / "bert").mkdir()
    save_file(bert.state_dict(), folder / "bert" / "model.safetensors")
    (folder / "bert" / "config.json").write_text(config.to_json_string(), encoding="utf-8")
    (folder / "bert" / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    with torch.no_grad():
        width = stages(image, torch.zeros(1, 3, 32, 32)).shape[2]
    return SimpleNamespace(image=image, bert=bert, width=width, image_file=folder / "image.pth",
                           bert_folder=folder / "bert")


def started(weights, data, *changes: str):
    """Settings that begin from both."""
    return pretrain.settings("pictures", [
        "image_encoder=timm:test_efficientnet", f"image_width={weights.width}", "image_heads=1",
        "text_depth=4", "fusion_depth=2", "match_from=0", *FAST, *changes],
        [data], str(weights.image_file), str(weights.bert_folder))


# sizes and weights


def test_sizes_are_the_weights_and_a_users_change_wins(weights, tmp_path):
    data = prepare_captions(tmp_path, CAPTIONS)
    config = started(weights, data)
    assert (config.text_width, config.text_heads, config.positions) == (16, 4, 12)
    assert (config.vocab_size, config.text_mlp_ratio) == (len(WORDS), 1.5)
    assert (config.text_depth, config.fusion_depth) == (4, 2)        # as it was typed
    halves = pretrain.settings("base", ["text_length=9"], (data,), bert=str(weights.bert_folder))
    assert (halves.text_depth, halves.fusion_depth) == (2, 2)
    whole = starts.fit_sizes(replace(halves, text_encoder="bert-words"))
    assert (whole.text_depth, whole.fusion_depth) == (4, 2)          # a sentence encoder keeps all
    vit = timm.models.VisionTransformer(32, 4, embed_dim=128, depth=3, num_heads=2, mlp_ratio=2)
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    config = pretrain.settings("base", ["text_length=9"], (data,), vit=str(tmp_path / "vit.pth"))
    sizes = config.image_width, config.image_depth, config.image_heads, config.patch_size
    assert sizes == (128, 3, 2, 4) and config.image_mlp_ratio == 2


def test_without_config_json_sizes_come_from_shapes(weights, tmp_path):
    save_file(weights.bert.state_dict(), tmp_path / "model.safetensors")
    config = starts.fit_sizes(replace(started_config(), text_start=str(tmp_path)))
    assert (config.text_width, config.text_heads) == (16, 1)         # heads of 64, at least one
    assert (config.text_depth, config.fusion_depth) == (2, 2)


def started_config():
    from minalbef.presets import preset
    return preset("base", text_length=9)


def test_fusion_begins_from_the_uppermost_layers_where_text_keeps_all(weights, tmp_path):
    config = starts.fit_sizes(replace(started_config(), text_start=str(weights.bert_folder)))
    config = replace(config, text_depth=4, fusion_depth=2, image_width=16, image_heads=1,
                     image_size=16)
    model = ALBEF(config)
    pretrained.load_bert(model, weights.bert_folder)
    for ours, theirs in (("text_encoder.layers.3", 3), ("fusion.layers.0", 2),
                         ("fusion.layers.1", 3)):
        layer = weights.bert.encoder.layer[theirs]
        assert_close(model.get_submodule(ours).attn.q.weight, layer.attention.self.query.weight)
        assert_close(model.get_submodule(ours).mlp.fc2.weight, layer.output.dense.weight)


@torch.no_grad()
def test_a_cnn_computes_what_timms_does_with_timms_normalisation(weights):
    config = replace(started_config(), image_encoder="timm:test_efficientnet", image_size=32,
                     image_width=weights.width, image_heads=1, freeze="image",
                     image_start=str(weights.image_file))
    model = ALBEF(config).eval()
    renamed = {f"other.{i}": value
               for i, value in enumerate(weights.image.state_dict().values())}
    for source in (weights.image_file, renamed):         # by name, and by order
        disturb(model.image_encoder)
        report = pretrained.load_timm(model.image_encoder, source)
        assert len(report.unexpected) == 2               # the classifier
        pixels = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
        cfg = weights.image.pretrained_cfg
        mean, std = [torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std")]
        theirs = weights.image.forward_features((pixels / 255 - mean) / std)
        ours = model.encode_image(normalise(pixels))[..., :weights.image.num_features]
        assert_close(ours[:, 0], theirs.mean((2, 3)), atol=1e-4, rtol=1e-4)
        assert_close(ours[:, 1:], theirs.flatten(2).mT, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="image_encoder"):
        pretrained.load_timm(model.image_encoder, dict(list(renamed.items())[:9]))


def test_a_package_is_a_start(weights, tmp_path, monkeypatch):
    package = tmp_path / "some_start"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('no code is run')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "some_start" not in sys.modules
    with pytest.raises(ValueError, match="0 files"):
        pretrained.read_start("some-start")
    torch.save(weights.image.state_dict(), package / "model" / "a.pth")
    state, _ = pretrained.read_start("some-start")
    assert same_state(state, weights.image.state_dict())
    torch.save(weights.image.state_dict(), package / "model" / "b.pth")
    with pytest.raises(ValueError, match="2 files"):
        pretrained.read_start("some-start")


def test_mean_pooling_is_of_words_that_are_kept():
    x = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    keep = torch.tensor([[True, True, False]])
    pooled = WordsTextEncoder.pool(None, x, keep)         # type: ignore[arg-type]
    assert pooled.tolist() == [[2.0, 4.0]]


# what is frozen


def test_the_lowest_layers_stay_and_all_else_learns(weights, tmp_path):
    data = prepare_captions(tmp_path, CAPTIONS)
    config = started(weights, data, *PAPER, "freeze=image,text:3")
    pretrain.pretrain(config, tmp_path / "run", [data], quiet=True)
    after = load(tmp_path / "run").model.state_dict()
    before = ALBEF(config)
    starts.load(before, config)
    before = before.state_dict()
    for name in before:
        stays = name.startswith(("image_encoder.", "text_encoder.embeddings.", *(
            f"text_encoder.layers.{i}." for i in range(3))))
        if stays:
            assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["text_encoder.layers.3.attn.q.weight"],
                           after["text_encoder.layers.3.attn.q.weight"])
    with pytest.raises(ValueError, match="4 layers"):
        starts.freeze(ALBEF(config), replace(config, freeze="text:5"))


def test_loaded_weights_have_their_own_rate(weights, tmp_path):
    data = prepare_captions(tmp_path, CAPTIONS)
    config = started(weights, data, *PAPER, "freeze=image", "pretrained_lr=0.1", "muon_lr=2")
    task = pretrain.begin(config, [data])[0]
    groups = parameter_groups(task, config)
    scales = {id(p): (group["lr_scale"], group.get("muon", False))
              for group in groups for p in group["params"]}
    layer = task.student.fusion.layers[0]
    assert scales[id(layer.attn.q.weight)] == (0.1, False)           # BERT's
    assert scales[id(layer.cross.q.weight)] == (2.0, True)           # new
    assert scales[id(task.student.image_proj.weight)] == (1.0, False)


def test_a_thin_run_leaves_out_what_it_started_from(weights, tmp_path):
    data = prepare_captions(tmp_path, CAPTIONS)
    config = started(weights, data)
    pretrain.pretrain(config, tmp_path / "run", [data], quiet=True)
    saved = load_file(tmp_path / "run" / "model.safetensors")
    assert not [name for name in saved if name.startswith(("image_encoder.", "text_encoder."))]
    run = load(tmp_path / "run")
    start = ALBEF(config)
    starts.load(start, config)
    for name, value in run.model.state_dict().items():
        if name.partition(".")[0] in run.untrained:
            continue
        expected = saved[name] if name in saved else start.state_dict()[name]
        assert torch.equal(value, expected), name
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    other = tmp_path / "other.pth"
    torch.save(disturb(timm.create_model("test_efficientnet"), seed=5).state_dict(), other)
    for path, problem in ((other, "other weights"), (tmp_path / "gone.pth", "gone.pth")):
        changed = json.dumps(settings | {"image_start": str(path)})
        (tmp_path / "run" / "config.json").write_text(changed)
        with pytest.raises(ValueError, match=problem):
            load(tmp_path / "run")


def test_a_fine_tuned_run_is_thin_too_unless_its_source_trained_the_encoders(weights, tmp_path):
    data = prepare_captions(tmp_path, CAPTIONS)
    for freeze in ("image,text", ""):
        source, run = tmp_path / f"from {freeze}", tmp_path / f"tuned {freeze}"
        config = started(weights, data, *PAPER, f"freeze={freeze}", "epochs=1")
        pretrain.pretrain(config, source, [data], quiet=True)
        tuning = finetune.settings("retrieval", source, [
            "freeze=image,text", "epochs=1", "warmup_steps=0", "validate_every=0"], [data])
        finetune.finetune("retrieval", source, run, tuning, [data], quiet=True)
        for file, part in (("model", "student"), ("teacher", "teacher")):
            saved = load_file(run / f"{file}.safetensors")
            encoders = [name for name in saved if name.startswith(starts.ENCODERS)]
            assert bool(encoders) is not bool(freeze)
            trained = checkpoint.weights_of(checkpoint.read_state(run / "state.pt"), part)
            read = (checkpoint.read_run(run)[3] if file == "model"
                    else checkpoint.read_teacher(run))
            assert same_state(read, trained)


def test_weights_of_a_tasks_model_are_left_out_under_their_own_names(weights, tmp_path):
    data = prepare_captions(tmp_path, CAPTIONS)
    config = started(weights, data, *PAPER)
    task = pretrain.begin(config, [data])[0]
    model = TASKS["vqa"].module(config).student
    model.albef.load_state_dict(task.student.state_dict())
    starts.freeze(model, config)
    model.from_start = starts.still_as_started(model, config)
    checkpoint.save(tmp_path / "run", model, Tokenizer.from_vocab(weights.bert_folder / "vocab.txt"),
                    task="vqa")
    saved = load_file(tmp_path / "run" / "model.safetensors")
    assert not [name for name in saved if name.removeprefix("albef.").startswith(starts.ENCODERS)]
    assert same_state(load_model("vqa", tmp_path / "run")[0].state_dict(), model.state_dict())


# tokens


def test_tokens_are_the_encoders_and_only_new_images_are_computed(weights, tmp_path, monkeypatch):
    data = prepare_captions(tmp_path, CAPTIONS[:5])
    config = started(weights, data)
    model = pretrain.begin(config, [data])[0].student
    records = tokens.with_tokens(Records(data, "train"), model, 32, quiet=True)
    for i in range(len(records)):
        pixels = read_pixels(Records(data, "train")[i].image, 32, records.upright)
        both = torch.stack([pixels, pixels.flip(-1)])
        with torch.no_grad():
            expected = model.eval().encode_image(normalise(both))
        assert_close(torch.tensor(records[i].image).float(), expected, atol=2e-3, rtol=2e-3)
    computed = []
    encode = tokens.encode
    monkeypatch.setattr(tokens, "encode", lambda encoder, images, *rest: (
        computed.append(len(images)), encode(encoder, images, *rest))[1])
    tokens.with_tokens(Records(data, "train"), model, 32, quiet=True)
    assert computed == []
    prepare_captions(tmp_path, CAPTIONS)                 # three images more
    again = tokens.with_tokens(Records(data, "train"), model, 32, quiet=True)
    assert computed == [3]
    assert np.array_equal(again[0].image, records[0].image)
    disturb(model.image_encoder, seed=8)                 # other weights, other tokens
    other = tokens.with_tokens(Records(data, "train"), model, 32, quiet=True)
    assert computed == [3, 8] and not np.array_equal(other[0].image, records[0].image)


def test_evaluation_reads_tokens_of_a_set_that_has_some_and_begins_none(
        weights, tmp_path, monkeypatch):
    data = prepare_captions(tmp_path, CAPTIONS)
    pretrain.pretrain(started(weights, data, "epochs=1"), tmp_path / "run", [data], quiet=True)
    with_tokens = evaluate.measure_set(tmp_path / "run", data, split="train").figures
    for path in (data / tokens.FOLDER).iterdir():
        path.unlink()
    assert evaluate.measure_set(tmp_path / "run", data, split="train").figures == with_tokens
    assert not list((data / tokens.FOLDER).iterdir())
    pretrain.pretrain(started(weights, data, "epochs=1"), tmp_path / "again", [data], quiet=True)
    shapes = []
    encode_image = ALBEF.encode_image
    monkeypatch.setattr(ALBEF, "encode_image", lambda model, image: (
        shapes.append(image.ndim), encode_image(model, image))[1])
    assert evaluate.measure_set(tmp_path / "run", data, split="train").figures == with_tokens
    assert set(shapes) == {3}                            # tokens, not pixels


def test_a_stopped_run_ends_alike_also_without_its_tokens(weights, tmp_path, monkeypatch):
    data = prepare_captions(tmp_path, CAPTIONS)
    config = started(weights, data)
    pretrain.pretrain(config, tmp_path / "whole", [data], quiet=True)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(patch, 3)
        pretrain.pretrain(config, tmp_path / "stopped", [data], quiet=True)
    for path in (data / tokens.FOLDER).iterdir():
        path.unlink()
    pretrain.pretrain(config, tmp_path / "stopped", [data], quiet=True)
    assert same_state(load_file(tmp_path / "whole" / "model.safetensors"),
                      load_file(tmp_path / "stopped" / "model.safetensors"))


def test_the_plain_step_and_the_fast_one_agree_on_tokens(weights, tmp_path):
    data = prepare_captions(tmp_path, CAPTIONS)
    losses = []
    for name in ("true", "false"):
        config = started(weights, data, f"fast={name}", *PAPER, "dropout=0")
        task = pretrain.begin(config, [data])[0].train()
        torch.manual_seed(4)
        losses.append(task(pretrain_batch(task, config), 0.4, task.draws(0))[0])
    assert losses[0].keys() == losses[1].keys() == {"itc", "itm", "mlm"}
    for name in losses[0]:
        assert_close(losses[0][name], losses[1][name], atol=1e-5, rtol=1e-5)


# class names


def test_class_names_pull_vectors_and_names_together(weights, tmp_path):
    data = prepare_captions(tmp_path, CAPTIONS)
    config = started(weights, data)
    task = pretrain.begin(config, [data])[0].train()
    rows = task.vectors[:, :weights.image.num_features]
    assert task.vectors.shape == (1000, weights.width)
    centred = weights.image.classifier.weight - weights.image.classifier.weight.mean(0)
    assert_close(rows, centred / centred.std(0))         # standardised; other depths at the mean
    assert not task.vectors[:, weights.image.num_features:].any()
    assert "vectors" not in task.state_dict()
    batch = pretrain_batch(task, config)
    losses, _ = task(batch, 0.0, task.draws(0))
    assert losses["names"].isfinite()
    losses["names"].backward()
    assert task.student.image_proj.weight.grad.abs().sum() > 0
    assert task.student.text_proj.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="class_names"):
        pretrain.begin(replace(config, image_width=8), [data])


def pretrain_batch(task, config):
    from minalbef.pretrain import PretrainBatch
    words = torch.randint(5, len(WORDS), (4, 6))
    words[:, 0] = 2
    width = config.image_width
    return PretrainBatch(torch.randn(4, 5, width), words, torch.ones(4, 6, dtype=torch.bool),
                         torch.arange(4))
