"""bench step, data, retrieval: what they print, FLOPs by hand, and that the measured step is the training's own."""
import copy
import json
import math
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from card import card
from minalbef import layers, train
from minalbef.bench import step
from minalbef.bench.step import Phases, Steps, measure_step
from minalbef.cli import bench
from minalbef.cli import main as command_line
from minalbef.presets import preset
from minalbef.recipes.cost import step_flops
from minalbef.recipes.machine import matmul_peak

SIZES = dict(image_size=32, patch_size=8, image_width=24, image_depth=2, image_heads=2, text_width=24, text_depth=1,
             text_heads=2, fusion_depth=2, vocab_size=50, batch=4, queue_size=8, text_length=9, embed_dim=8)
CONFIG = preset("paper-4m", **SIZES)
FLAGS = ("--image 32 --patch 8 --width 24 --depth 2 --text-layers 1 --fusion-layers 2 --heads 2 --vocab 50 --batch 4 "
         "--queue 8 "
         "--text-length 9 --embed-dim 8 --threads 1 --steps 5").split()
PHASES = {"teacher", "image", "text", "itc", "negatives", "fusion", "mlm_head", "backward", "optimiser",
          "after_step", "other"}
KEYS = ("samples_per_second cpu_seconds_per_step peak_memory_mb flops_per_step matmul_peak_gflops "
        "share_of_matmul_peak").split()


@pytest.fixture(scope="module")
def measured():
    return measure_step(CONFIG, steps=5, peak_size=64)


def run(monkeypatch, *words: str):
    monkeypatch.setattr(sys, "argv", ["minalbef", *words])
    command_line.main()


def test_the_command_prints_every_figure(monkeypatch, capsys):
    peak, sizes = step.matmul_peak, []
    monkeypatch.setattr(step, "matmul_peak", lambda device, size, half: sizes.append(size) or peak(device, 64))
    run(monkeypatch, "bench", "step", *FLAGS)
    printed = json.loads(capsys.readouterr().out)
    assert all(printed[key] > 0 and math.isfinite(printed[key]) for key in KEYS) and "1 threads" in printed["device"]
    assert printed["command"] == " ".join(("minalbef bench step", *FLAGS)) and printed["date"] and printed["commit"]
    assert sizes == [2048], "what the step is held against"
    assert printed["flops_per_step"] == pytest.approx(step_flops(CONFIG, 4),
                                                      rel=0.15), "the flags do not reach the model"


def test_a_gpu_is_measured_by_its_own_clock_and_memory(monkeypatch, capsys):
    waited, peak, products = [], step.matmul_peak, []
    monkeypatch.setattr(step, "matmul_peak",
                        lambda device, size, half: products.append((size, half)) or peak(device, 64, half=half))
    with card():
        monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
        run(monkeypatch, "bench", "step", "--dtype", "bfloat16", *FLAGS, "--device", "cuda")
    printed = json.loads(capsys.readouterr().out)
    assert waited and "a card that is not there" in printed["device"]
    assert printed["peak_memory_mb"] == 1000 and printed["samples_per_second"] > 0
    assert printed["matmul_peak_gflops_by_cpu"] is None
    assert products == [(8192, True)], "large enough to hide a launch, in the precision of the run"


def asked(monkeypatch, *words: str) -> tuple:
    """What `bench step` hands to measure_step: config, device, steps; and the threads it sets."""
    seen, threads = [], []
    monkeypatch.setattr(step, "measure_step", lambda *given: seen.append(given) or {})
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    run(monkeypatch, "bench", "step", *words)
    return *seen[0], *threads


@pytest.mark.parametrize(("flag", "changes"), [
    ("--image 64", dict(image_size=64)), ("--patch 8", dict(patch_size=8)),
    ("--width 96", dict(image_width=96, text_width=96)),
    ("--depth 5", dict(image_depth=5)), ("--text-layers 2", dict(text_depth=2)),
    ("--fusion-layers 4", dict(fusion_depth=4)), ("--heads 6", dict(image_heads=6, text_heads=6)),
    ("--vocab 100", dict(vocab_size=100)), ("--batch 7", dict(batch=7)),
    ("--queue 70", dict(queue_size=70)), ("--text-length 11", dict(text_length=11)),
    ("--embed-dim 20", dict(embed_dim=20)), ("--compile", dict(compile=True)),
    ("--checkpointing", dict(checkpointing=True)),
    ("--dtype bfloat16", dict(precision="bf16")), ("--device cuda", "cuda"), ("--steps 35", 35), ("--threads 3", 3),
    ("--full-texts", True)])
def test_every_flag_reaches_what_is_measured_and_changes_nothing_else(monkeypatch, capsys, flag, changes):
    plain, found = asked(monkeypatch), asked(monkeypatch, *flag.split())
    assert plain[1:] == ("cpu", 20, False, 2)
    if isinstance(changes, dict):
        assert found == (replace(plain[0], **changes), *plain[1:]) and found != plain
    else:
        place = ("cuda", 35, True, 3).index(changes) + 1
        assert found == (*plain[:place], changes, *plain[place + 1:])


def test_it_measures_what_it_says_dropout_full_texts_and_the_share_of_masked_words(monkeypatch, capsys):
    config, *_ = asked(monkeypatch)
    assert (config.dropout, config.mask_rate) == (0.1, 0.15)
    work = Steps(replace(config, image_size=16, batch=64, queue_size=8))
    student = work.task.student                                  # the image encoder has none, as in the original
    dropouts = [layer for part in (student.text_encoder, student.fusion) for layer in part.modules()
                if isinstance(layer, torch.nn.Dropout)]
    assert student.training and all(layer.p == 0.1 and layer.training for layer in dropouts) and len(dropouts) > 3 + 3
    batch = step.make_batch(replace(config, batch=64))
    assert batch.keep.all() and batch.tokens.shape == (64, 25) and batch.tokens[:, 1:].min() >= step.FIRST_WORD
    hidden = []
    for i in range(20):
        (_, draws), = work.task.prepare([(batch, work.task.draws(i))])
        hidden.append(len(draws.places) / (64 * 24))             # [CLS] is never masked
    assert sum(hidden) / 20 == pytest.approx(0.15, abs=0.008), "four standard deviations of 30,720 words"


def test_texts_have_the_lengths_of_captions_and_differ_from_step_to_step(monkeypatch):
    work = Steps(replace(CONFIG, text_length=25, batch=64), full_texts=False)
    batches = []
    monkeypatch.setattr(train, "train_step", lambda *given: batches.append(given[3]))
    for _ in range(30):
        work()
    lengths = torch.cat([batch.keep.sum(1) for batch in batches])
    assert (lengths.min(), lengths.max()) == (9, 25) and lengths.float().mean() == pytest.approx(12, abs=0.3)
    assert all(batch.keep[:, -1].any() and (batch.tokens == 0).equal(~batch.keep) for batch in batches)
    longest = [batch.tokens.shape[1] for batch in batches]
    assert len(set(longest)) > 5 and longest[:4] != longest[4:8]
    monkeypatch.setattr(work, "count", 0)
    work()
    assert batches[-1].tokens.equal(batches[0].tokens), "a step's lengths follow from its number"


def test_a_product_is_measured_in_the_precision_of_the_run(monkeypatch):
    halves = []
    monkeypatch.setattr(step, "matmul_peak", lambda device, size, half: halves.append(half) or (1.0, 1.0))
    for precision in ("fp32", "bf16"):
        measure_step(replace(CONFIG, precision=precision), steps=5)
    assert halves == [False, True]
    types, matmul = [], torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: types.append(a.dtype) or matmul(a, b))
    for half in halves:
        matmul_peak(size=16, repeats=1, half=half)
    assert types == [torch.float32, torch.bfloat16]


class Recompiling(nn.Module):
    """A layer that is compiled again for each shape that it has not met."""

    def forward(self, x):
        return x + x.ndim


def test_a_compilation_after_step_20_is_a_fault_that_is_reported(monkeypatch, capsys, caplog):
    layer, ranks = Recompiling(), iter([1] * 20 + [1, 2, 2, 2, 2] + [2] * 99)
    layer.compile(backend="eager")
    monkeypatch.setattr(train, "train_step", lambda *given: layer(torch.ones([2] * next(ranks))))
    monkeypatch.setattr(train, "recompute_and_compile", lambda *given: nullcontext())
    monkeypatch.setattr(Steps, "by_phase", lambda self, clock, steps: {"other": 1.0})
    with caplog.at_level("WARNING"):
        figures = measure_step(replace(CONFIG, compile=True), steps=5, peak_size=64)
    assert len(figures["faults"]) == 1 and figures["faults"][0].startswith("1 compilations after step 20")
    assert figures["faults"][0] in caplog.text
    ranks = iter([1 + i % 3 for i in range(200)])
    assert measure_step(replace(CONFIG, compile=True), steps=5, peak_size=64)["faults"] == []


def test_a_layer_that_fell_back_to_eager_is_a_fault():
    settled = step.Compiled(attempts=9, graphs=8)
    assert "1 layers fell back to eager" in settled.faults(settled)[0]


def test_bfloat16_is_the_type_of_the_products_and_is_measured():
    seen = {}
    for precision in ("fp32", "bf16"):
        work = Steps(replace(CONFIG, precision=precision))
        mlp = work.task.student.fusion.layers[0].mlp
        mlp.register_forward_hook(lambda module, given, x: seen.update({precision: x.dtype}))
        work()
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p in work.task.student.parameters())
    assert seen == {"fp32": torch.float32, "bf16": torch.bfloat16}
    figures = measure_step(replace(CONFIG, precision="bf16"), steps=5, peak_size=64)
    assert all(figures[key] > 0 and math.isfinite(figures[key]) for key in KEYS)


def test_layers_computed_again_or_compiled_are_timed_and_their_work_is_counted_once(monkeypatch, measured):
    compiled, again, timed = [], [], []
    plain, count, recompute = step.Steps.__call__, step.count_flops, layers.checkpoint
    monkeypatch.setattr(torch, "compile", lambda f: compiled.append(f.__self__) or f)
    monkeypatch.setattr(layers, "checkpoint", lambda *args, **options: again.append(1) or recompute(*args, **options))
    monkeypatch.setattr(step, "count_flops", lambda: timed.append(len(again)) or count())
    monkeypatch.setattr(step.Steps, "__call__",
                        lambda self: again.clear() or plain(self) or timed.append(len(again)))
    figures = measure_step(replace(CONFIG, compile=True, checkpointing=True), steps=5, peak_size=64)
    steps = 20 + 5 + 2                                           # to compile, by the clock, by phase
    assert timed[:steps + 1] == [7] * (steps + 1), "2 + 1 + 2 layers, fusion's for two kinds of rows"
    assert timed[steps + 1:] == [0] * 5, "plain ones are counted"
    assert len(compiled) == 2 * 5, "of student and teacher"
    assert figures["flops_per_step"] == pytest.approx(measured["flops_per_step"], rel=0.01), "other words are masked"


def test_figures_fit_together(measured):
    assert measured["samples_per_second"] == pytest.approx(4 / measured["seconds_per_step"])
    assert measured["best_samples_per_second"] >= measured["samples_per_second"]
    done = measured["flops_per_step"] / measured["seconds_per_step"] / 1e9
    assert measured["share_of_matmul_peak"] == pytest.approx(done / measured["matmul_peak_gflops"])
    assert measured["peak_memory_mb"] >= measured["base_memory_mb"] > 50


def test_phases_add_up_to_the_step(measured):
    parts = measured["breakdown"]
    assert parts.keys() == PHASES
    assert sum(part["share"] for part in parts.values()) == pytest.approx(1)
    assert sum(part["gflop"] for part in parts.values()) * 1e9 == pytest.approx(measured["flops_per_step"])
    assert all(part["seconds"] > 0 for part in parts.values())


def test_flops_of_a_step_are_those_of_the_plan(measured):
    assert measured["flops_per_step"] == pytest.approx(step_flops(CONFIG, 4), rel=0.15)
    assert measured["flops_per_step"] < 0.85 * step_flops(replace(CONFIG, image_depth=4), 4), "the check is blind"


def test_flops_of_the_image_encoder_are_those_counted_by_hand(measured):
    stem = 2 * 4 * 16 * (3 * 8 * 8) * 24                         # 4 pictures of 16 patches
    layer = 4 * 2 * 68 * 24 * 24 + 2 * 2 * 4 * 17 * 17 * 24 + 2 * 2 * 68 * 24 * 96      # 68 tokens: 4 x (16 + [CLS])
    assert measured["breakdown"]["image"]["gflop"] * 1e9 == stem + 2 * layer


@pytest.mark.parametrize("rate, hidden", [(0.0, 1), (1.0, 8)])          # no word hidden: still one is computed
def test_flops_of_fusion_show_every_saving(rate, hidden):
    """By hand. 4 texts of 9 words, 4 pictures of 17 tokens, 2 layers; 12 pairs for ITM, 4 for MLM."""
    work = Steps(preset("paper-4m", **SIZES | {"mask_rate": rate}))
    with step.count_flops() as counter:
        counted = work.by_phase(counter.get_total_flops, 1)["fusion"]
    offered = 2 * 2 * (2 * 68 * 24 * 24)                         # keys and values: once a picture and layer
    def read(rows, asking):                              # self-attention: keys and values; queries and output; weights
        return rows * (2 * 2 * 9 * 24 * 24 + 2 * 2 * asking * 24 * 24 + 2 * 2 * asking * 9 * 24)
    def look(rows, asking):                                      # cross-attention without keys and values; MLP
        return rows * asking * (2 * 2 * 24 * 24 + 2 * 2 * 17 * 24 + 2 * 2 * 24 * 96)
    match = read(4, 9) + look(12, 9) + read(12, 1) + look(12, 1)         # first once a text, last for [CLS] alone
    words = read(4, 9) + look(4, 9) + read(4, hidden) + look(4, hidden)          # last for hidden words alone
    assert counted == offered + match + words


def test_flops_of_the_word_head_are_those_of_masked_words_alone():
    flops = {}
    for rate in (0.0, 1.0):
        work = Steps(preset("paper-4m", **SIZES | {"mask_rate": rate}))
        with step.count_flops() as counter:
            flops[rate] = work.by_phase(counter.get_total_flops, 1)["mlm_head"]
    assert flops == {0.0: 0, 1.0: 4 * 8 * (2 * 24 * 24 + 2 * 24 * 50)}


def test_a_step_is_that_of_the_training_loop(tmp_path):
    still = dict(dropout=0.0, alpha=0.0, warmup_steps=0, lr_end=1e-4, lr=1e-4, epoch=4, epochs=1.0)
    work = Steps(preset("paper-4m", **SIZES | still))
    start, other = copy.deepcopy(work.task.state_dict()), copy.deepcopy(work.task)
    work()
    train.fit(other, lambda step: work.batch, work.config, tmp_path, quiet=True)
    ours, theirs = ({name: value for name, value in task.state_dict().items() if torch.is_tensor(value)}
                    for task in (work.task, other))
    assert_close(ours, theirs)
    assert not all(value.equal(start[name]) for name, value in ours.items()), "nothing was trained"


def test_watching_changes_no_loss_and_is_over_afterwards():
    work = Steps(preset("paper-4m", **SIZES | {"dropout": 0.0}))
    task, draws = work.task, work.task.draws(0)
    plain, _ = task(work.batch, 0.4, draws)
    with Phases(float).watch("image", task.student, "encode_image"), Phases(float).watch("itc", task, "align"):
        watched, _ = task(work.batch, 0.4, draws)
    assert_close(watched, plain)
    assert "encode_image" not in vars(task.student) and "align" not in vars(task)


def test_a_phase_within_a_phase_is_the_outers():
    ticks = iter((1.0, 4.0))
    phases = Phases(lambda: next(ticks))
    with phases("outer"), phases("inner"):
        pass
    assert phases.spent == {"outer": 3.0}


@pytest.mark.parametrize(("flags", "words"), [
    ("--device cuda:99", "device='cuda:99' is not there; this machine has cpu"),
    ("--device tpu", "device='tpu' is not there"),
    ("--heads 5", "image_width=24 is not a multiple of image_heads=5"),
    ("--patch 7", "image_size=32 is not a multiple of patch_size=7"), ("--threads 0", "--threads 0 must lie between"),
    ("--vocab 5", "vocab_size=5 leaves no words"), ("--batch 0", "--batch 0 must"), ("--dtype float16", "float16")])
def test_what_cannot_be_measured_is_said(monkeypatch, capsys, flags, words):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "bench", "step", *FLAGS, *flags.split())
    assert stop.value.code == 2 and words in capsys.readouterr().err


def test_loading_is_measured(monkeypatch, capsys):
    run(monkeypatch, "bench", "data", "--sizes", "32", "--photo", "64", "--number", "20")
    printed = json.loads(capsys.readouterr().out)
    scenes = printed["scenes_per_second"]["32"]
    assert 1 / scenes["both"] == pytest.approx(1 / scenes["draw"] + 1 / scenes["paint"], rel=0.01)
    assert printed["photos_per_second"].keys() == {"resized",
                                                   "augmented"} and min(printed["photos_per_second"].values()) > 0


@pytest.mark.parametrize("wrong", [dict(number=0), dict(photo=0), dict(sizes=(48, 0))])
def test_loading_that_cannot_be_measured_is_said(wrong):
    with pytest.raises(ValueError, match="must lie between"):
        bench.data(**wrong)
