"""plan and cost: what they count is what torch counts and allocates; and what they say to do about it."""
import gc
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from minalbef.bench.step import Steps, count_flops
from minalbef.cli import main as command_line
from minalbef.config import Config
from minalbef.presets import preset
from minalbef.pretrain import Pretrain
from minalbef.recipes import counting, forecast
from minalbef.recipes import plan as planner
from minalbef.recipes.cards import GPUS, card_name, gpu_named
from minalbef.recipes.cost import count_parameters, forward_flops, memory_bytes, step_flops
from minalbef.recipes.counting import count_work
from minalbef.recipes.plan import describe, plan
from minalbef.recipes.step_time import BEST, Terms, estimate, image_seconds
from minalbef.tasks.base import Task
from minalbef.tasks.table import TASKS, find_task_of_preset

NEAR = 0.05
SIZES = dict(image_size=96, image_width=192, image_depth=4, image_heads=3, text_width=192, text_depth=2, text_heads=3,
             fusion_depth=3, vocab_size=2000, batch=16, queue_size=1024)
# name, preset, changes: each is ruled by something else
RUNS = [("pictures", "paper-4m", SIZES | dict(image_size=128, batch=8)),
        ("weights", "paper-4m", SIZES
         | dict(image_width=384, text_width=384, image_heads=6, text_heads=6, image_depth=2,
                text_depth=1, fusion_depth=2, vocab_size=20_000, image_size=64, batch=2)),
        ("words and queue", "paper-4m",
         SIZES | dict(text_length=60, queue_size=30_000, image_depth=2, batch=8, mask_rate=0.4)),
        ("two widths, no dropout, no teacher for words", "paper-4m",
         SIZES | dict(image_width=96, text_width=256, text_heads=4, image_depth=3, dropout=0.0, alpha=0.0,
                      fuse_cls=False))]
SLOW = [("tiny", "tiny", dict(batch=128, match_from=0, queue_from=0, text_length=30)),
        ("as bench step has it", "paper-4m", SIZES | dict(image_size=128, image_depth=6, text_depth=3))]


def measure_memory(work: Callable) -> int:
    """The most bytes that torch's CPU allocator holds at one time while `work` runs, of those given out since it began.

    A process's resident memory has what MKL and the C library keep besides, which differs from machine to machine.
    """
    gc.collect()                                  # or what earlier tests held is freed in the middle
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert events, "this torch doesn't record what it allocates"
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def changes_of(settings: dict) -> tuple[str, ...]:
    """As the command line takes them."""
    return tuple(f"{name}={value}" for name, value in settings.items())


def check(name: str, changes: dict):
    config = preset(name, **changes)
    steps = []

    def train():
        steps.append(Steps(config))
        steps[0]()
        steps[0]()

    held = measure_memory(train)
    with count_flops() as counter:
        steps[0]()
    counted = counter.get_total_flops()
    assert step_flops(config, config.batch) == pytest.approx(counted, rel=0.03)
    assert step_flops(replace(config, text_depth=config.text_depth + 1),
                      config.batch) > 1.03 * counted, "the check is blind"
    assert memory_of(config) == pytest.approx(held, rel=0.02)
    assert memory_of(replace(config, text_depth=config.text_depth + 1)) > 1.02 * held, "the check is blind"


def memory_of(config: Config) -> float:
    """As counted for a step on a CPU, in bytes."""
    return memory_bytes(config, config.batch, half=False, plain=True)["all"]


@pytest.mark.parametrize(("name", "changes"), [run[1:] for run in RUNS], ids=[run[0] for run in RUNS])
def test_flops_and_memory_are_those_of_a_step(name, changes):
    check(name, changes)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes"), [run[1:] for run in SLOW], ids=[run[0] for run in SLOW])
def test_flops_and_memory_are_those_of_a_longer_step(name, changes):
    check(name, changes)


def test_parameters_are_the_students():
    config = preset("tiny")
    model = Pretrain(config).student
    assert count_parameters(config) == tuple(sum(p.numel() for p in part.parameters())
                                             for part in (model, model.image_encoder))
    assert 209e6 < count_parameters(preset("paper-4m"))[0] < 211e6


# tests/nullgpu/count.py PRESET CHANGES, GB (2026-11-29): the caching allocator's own peak
PEAKS = [
    ("paper-4m", "batch=64 precision=bf16", 11.48), ("paper-4m", "batch=64 precision=fp32", 20.02),
    ("paper-4m", "batch=64 precision=bf16 checkpointing=true", 6.38),
    ("paper-4m", "batch=256 precision=bf16 checkpointing=true", 11.25),
    ("paper-4m", "batch=256 precision=bf16 accumulate=4", 12.35),
    ("paper-4m", "batch=64 precision=bf16 checkpointing=true accumulate=4", 6.05),
    ("paper-4m", "batch=8 precision=bf16", 5.61), ("base", "precision=bf16", 10.92),
    ("small", "precision=bf16 match_from=0 queue_from=0 hard_from=0", 3.81),
    ("vqa", "batch=32 precision=bf16 text_length=30", 11.20),
    ("nlvr2", "batch=16 precision=bf16 text_length=30", 10.43)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes", "peak"), PEAKS)
def test_memory_is_what_cuda_allocates_on_the_null_gpu(name, changes, peak):
    config = preset(name, **dict(change.split("=") for change in changes.split()))
    task = find_task_of_preset(name) or TASKS["pretrain"]
    counted = memory_bytes(config, config.batch // config.accumulate, config.precision == "bf16", False, 1,
                           config.accumulate, config.checkpointing, task.name)
    assert counted["all"] / 1e9 == pytest.approx(peak, rel=NEAR)
    assert sum(counted.values()) == pytest.approx(2 * counted["all"]), "the parts add up to it"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_by_hand_has_the_shapes_and_types_of_torchs(dtype):
    x, weight, bias = (torch.empty(shape, dtype=dtype, device="meta") for shape in ((4, 7, 6), (6,), (6,)))
    forward, backward = torch.ops.aten.native_layer_norm.default, torch.ops.aten.native_layer_norm_backward.default
    outputs = forward(x, [6], weight, bias, 1e-6)
    arguments = x, x, [6], *outputs[1:], weight, bias
    for wanted in ([True, True, True], [True, False, False]):
        by_torch = *outputs, *backward(*arguments, wanted)
        by_hand = (*counting.BY_HAND[forward](x, [6], weight, bias, 1e-6),
                   *counting.BY_HAND[backward](*arguments, wanted))
        assert [y if y is None else (y.shape, y.dtype) for y in by_hand] \
            == [y if y is None else (y.shape, y.dtype) for y in by_torch]


@pytest.mark.parametrize("name", ["paper-4m", "vqa"])
def test_one_pass_counts_what_two_say_of_its_rows(name):
    config = preset(name, **{field: value for field, value in SIZES.items() if field != "queue_size"})
    task = (find_task_of_preset(name) or TASKS["pretrain"]).name
    once, line = counting.count_work_once(config, 24, task), count_work(config, 24, task)
    assert once.kernels == line.kernels and once.products == line.products
    for figure in ("flops", "moved", "activations"):                 # masked words are whole numbers
        assert getattr(once, figure) == pytest.approx(getattr(line, figure), rel=0.01), figure
    assert counting.count_work_once(config, 48, task).flops > 1.9 * once.flops


def test_checkpointing_saves_memory_and_costs_a_forward():
    config = preset("paper-4m", **SIZES | dict(image_depth=8))
    plain, again = [count_work(config, 64, checkpointing=checkpointing) for checkpointing in (False, True)]
    assert again.activations < 0.45 * plain.activations
    assert 1.15 < again.flops / plain.flops < 1.33
    assert 1.15 < step_flops(preset("paper-4m"), 64, checkpointing=True) / step_flops(preset("paper-4m"), 64) < 1.33


def test_a_pass_is_counted_for_any_number_of_rows():
    config = preset("paper-4m", **SIZES | dict(mask_rate=0.0))
    few, many = count_work(config, 8), count_work(config, 100)
    assert few.kernels == many.kernels and many.flops / few.flops == pytest.approx(100 / 8, rel=0.01)
    assert count_work(config, 16).flops == pytest.approx((few.flops + count_work(config, 24).flops) / 2)
    half = count_work(config, 100, precision="bf16")
    assert half.flops == many.flops and half.moved < 0.7 * many.moved and half.activations < 0.7 * many.activations
    assert count_work(config, 100, accumulates=True).gradients == 4 * count_parameters(config)[0]


def test_negatives_of_other_processes_cost_keys_and_values_of_their_pictures():
    config = preset("paper-4m", **SIZES, hard_negatives="global")
    local = replace(config, hard_negatives="local")
    assert step_flops(config, 64, gpus=1) == step_flops(local, 64, gpus=1)
    assert step_flops(config, 64, gpus=8) > 1.03 * step_flops(local, 64, gpus=8)
    assert memory_bytes(config, 64, gpus=8)["all"] > 1.03 * memory_bytes(local, 64, gpus=8)["all"]


def test_the_last_layer_of_a_match_asks_once():
    """Of its 25 words' queries it needs one; keys and values of all words stay."""
    row = forward_flops(preset("paper-4m", fusion_depth=1))
    assert row.match < 0.1 * 3 * row.predict
    row = forward_flops(preset("paper-4m", fusion_depth=6))
    assert row.match > 0.7 * 3 * row.predict, "the other layers need all queries"


def test_a_plan_that_fits_says_how_many_rows_would():
    made = plan("paper-4m", gpus=8, gpu="A100-80")
    assert made.fits and made.rows == 64 and made.most_rows() > 64
    assert memory_bytes(made.config, made.most_rows(), gpus=8)["all"] <= made.room
    assert memory_bytes(made.config, made.most_rows() + 1, gpus=8)["all"] > made.room
    text = describe(made)
    assert "209.9M" in text and "298,828 steps in 11 to 15 hours" in text and "It fits" in text
    low, high = made.hours_between
    assert made.hours == (low + high) / 2 and made.samples_per_second * made.hours * 3600 == pytest.approx(
        made.config.steps * made.config.batch)


@pytest.mark.parametrize(("gpu", "least", "most"), [("H100", 0.17, 0.28), ("A100-80", 0.29, 0.42)])
def test_the_share_of_the_peak_is_an_estimate_by_operation(gpu, least, most):
    """By hand, for an H100 and 64 rows: products 16.7 TFLOP at 60 to 80% of 989; 2,400 kernels."""
    made = plan("paper-4m", gpus=8, gpu=gpu)
    low, high = made.share_of_peak
    assert least < low < high < most
    best, worst = made.terms
    assert best.products == pytest.approx(16.7e12 / (GPUS[gpu].bf16 * 1e12) / 0.8, rel=0.02)
    assert worst.products == pytest.approx(best.products * 0.8 / 0.6)
    assert best.step == pytest.approx(best.products + best.memory + best.network + best.saves), "the GPU is the slowest"


TERMS = Terms(products=10, memory=5, host=8, network=1, feed=3, saves=0.5)


@pytest.mark.parametrize(("changes", "step", "limit"), [
    ({}, 16.5, "products"), (dict(memory=20), 31.5, "memory"), (dict(host=40), 40.5, "the host"),
    (dict(feed=50), 50.5, "the feed"), (dict(network=30), 45.5, "the network")])
def test_the_slowest_sets_the_pace(changes, step, limit):
    terms = TERMS._replace(**changes)
    assert terms.step == step and terms.limit == limit


def test_what_travels_within_a_machine_and_between_machines():
    """An all-reduce of 4 bytes a weight sends and fetches each, but what a GPU has itself: 7/8 of it, by hand."""
    made = plan("paper-4m", ("hard_negatives=local",), gpus=8)
    gradients, rows = 8 * made.parameters, 8 * 64 * 256 * 2 * 4
    assert made.load.gradients == gradients and made.load.rows == rows
    card, work = GPUS["H100"], replace(made.load, flops=0.0, moved=0.0, kernels=0)
    reach = BEST._replace(network=1.0)
    assert estimate(work, card, "bf16", reach).network == pytest.approx((gradients + rows) * 7 / 8 / 450e9)
    wide = estimate(replace(work, gpus=16), card, "bf16", reach, network=80).network
    assert wide == pytest.approx((gradients + rows) * (7 / 8 / 450e9 + 1 / 2 / 10e9))
    assert plan("paper-4m", gpus=8).load.rows > 10 * rows, "hard negatives' tokens are sent, too"


def test_few_cores_limit_a_step_and_many_do_not():
    card, work = GPUS["H100"], plan("paper-4m", gpus=8).load
    assert estimate(work, card, "bf16", BEST, cores=2).feed == pytest.approx(64 * image_seconds(256) / 2)
    assert "limited by the feed" in describe(plan("paper-4m", gpus=8, cores=1))
    assert "limited by the feed" not in describe(plan("paper-4m", gpus=8, cores=16))


def test_a_price_is_hours_times_gpus():
    made = plan("paper-4m", gpus=8, gpu="A100-80", price=1.5)
    low, high = made.hours_between
    assert f"price       8 x 1.5 an hour: {planner.between(12 * low, 12 * high)}" in describe(made)
    assert "price" not in describe(replace(made, price=0))


def test_a_card_without_bf16_is_planned_in_fp32():
    made = plan("small", gpu="T4")
    assert made.precision == "fp32" and "8.1 TFLOP/s in fp32, as it has no bf16" in describe(made)
    assert made.hours > plan("small", gpu="L4").hours
    assert plan("small", ("precision=fp32",), gpu="L4").precision == "fp32"


def test_tiny_on_a_cpu_takes_what_it_was_measured_to_take():
    low, high = plan("tiny", gpu="CPU").hours_between
    assert low < 5 * 93.5 / 3600 < high, "a fifth took 93.5 s: docs/scale.md"


@pytest.mark.parametrize("name", ["retrieval-coco", "entailment", "vqa", "nlvr2-assign", "nlvr2", "grounding"])
def test_fine_tuning_is_planned_too(name):
    small = dict(image_size=32, image_width=48, image_depth=1, image_heads=3, text_width=48, text_depth=1,
                 text_heads=3, fusion_depth=1, vocab_size=600, queue_size=64)
    made = plan(name, changes_of(small), gpu="A100-80")
    assert made.task == find_task_of_preset(name).name and made.hours > 0 and made.fits
    module = TASKS[made.task].module(made.config)
    assert made.parameters == sum(p.numel() for p in module.student.parameters())
    assert "limited by" in describe(made)


def test_a_set_of_few_words_is_planned_too():
    """A folder of captions that all say "a cat" has 13 pieces, fewer than the letters of others."""
    small = dict(image_size=32, image_width=48, image_depth=1, image_heads=3, text_width=48, text_depth=1,
                 text_heads=3, fusion_depth=1, vocab_size=13, queue_size=64)
    assert plan("paper-4m", changes_of(small), gpu="A100-80").hours > 0


def test_another_batch_says_what_would_go_with_it():
    sizes = [change for change in changes_of(SIZES) if not change.startswith(("batch", "queue_size"))]
    text = describe(plan("paper-4m", (*sizes, "batch=5120"), gpus=80))
    assert "lr=0.00032 warmup_steps=200 queue_size=655360 teacher_momentum=0.951" in text and "untested" in text
    scaled = ("batch=5120", "lr=3.2e-4", "warmup_steps=200", "queue_size=655360", "teacher_momentum=0.951")
    assert "untested" not in describe(plan("paper-4m", (*sizes, *scaled), gpus=80))
    assert "untested" not in describe(plan("paper-4m", tuple(sizes), gpus=8))


class NeedsNumbers(Pretrain):
    """A task that can't run on tensors without data."""

    def forward(self, batch, alpha, draws):
        batch.tokens.nonzero()
        return super().forward(batch, alpha, draws)


def test_a_task_that_needs_its_numbers_is_forecast_as_if_it_pretrained(monkeypatch):
    monkeypatch.setitem(TASKS, "mine", Task("mine", NeedsNumbers, TASKS["pretrain"].collate))
    config = preset("paper-4m", **SIZES, device="cpu")
    with pytest.raises(NotImplementedError):
        count_work(config, 8, "mine")
    said = forecast.forecast(config, "mine").replace("mine", "pretraining")
    assert said.split(" GB")[0] == forecast.forecast(config, "pretraining").split(" GB")[0]


def test_counting_draws_no_random_numbers_and_computes_nothing():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    count_work(preset("paper-4m", **SIZES | dict(batch=3, vocab_size=501)), 8)
    assert torch.get_rng_state().equal(state)


def test_time_follows_from_work_peak_and_utilisation():
    made = plan("paper-4m", gpus=8, gpu="A100-80", utilisation=0.4)
    assert made.hours == pytest.approx(made.config.steps * made.flops / (8 * 312e12 * 0.4) / 3600, rel=0.01)
    assert plan("paper-4m", gpus=8, gpu="A100-80", utilisation=0.2).hours == pytest.approx(2 * made.hours)
    slower = plan("paper-4m", gpus=8, gpu="A100-80", utilisation=0.4, checkpointing=True)
    assert slower.flops == made.flops and 1.15 < slower.hours / made.hours < 1.33
    assert "samples/s at 40% of the peak" in describe(made) and "limited by" not in describe(made)


def test_each_way_out_of_too_little_memory_works():
    made = plan("paper-4m", gpus=1, gpu="RTX-4090")
    assert not made.fits
    ways = made.ways_out()
    text = describe(made)
    assert "It does not fit" in text and all(way in text for way in ways) and len(ways) > 2
    passes = int(next(way for way in ways if "--accumulate" in way).split("--accumulate ")[1].split()[0])
    assert plan("paper-4m", gpu="RTX-4090", accumulate=passes).fits
    assert not plan("paper-4m", gpu="RTX-4090", accumulate=passes // 2).fits
    cards = int(next(way for way in ways if "--gpus" in way).split("--gpus ")[1])
    assert plan("paper-4m", gpus=cards, gpu="RTX-4090").fits
    assert not plan("paper-4m", gpus=cards // 2, gpu="RTX-4090").fits
    larger = next(way for way in ways if "larger" in way).split(": ")[1].split(", ")
    assert larger and all(plan("paper-4m", gpu=name).fits for name in larger)


def test_what_no_card_holds_is_said(monkeypatch):
    monkeypatch.setattr(planner, "GPUS", {"RTX-3090": replace(GPUS["RTX-3090"], memory=0.01)})
    made = plan("paper-4m", (*changes_of(SIZES), "batch=1"), gpu="RTX-3090")
    assert made.most_rows() == 0 and "no card of the table" in describe(made)


@pytest.mark.parametrize(("wrong", "words"), [
    (dict(gpu="H100-SXM"), "did you mean 'H100"), (dict(gpu="A100"), "did you mean 'A100-80'"),
    (dict(gpus=7), "batch=512 is not a multiple of gpus=7"),
    (dict(utilisation=40), "is a share"), (dict(gpu="T4", changes=("precision=bf16",)), "T4 has no bf16"),
    (dict(cores=-1), "cores=-1 must"), (dict(network=0), "network=0 must"),
    (dict(accumulate=0), "accumulate=0"), (dict(preset_name="paper"), "did you mean 'paper-"),
    (dict(changes=("batch",)), "batch=32")])
def test_wrong_wishes_name_the_way_out(wrong, words):
    with pytest.raises(ValueError, match=words):
        plan(**{"preset_name": "paper-4m"} | wrong)


def test_the_command_prints_the_plan(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv",
                        "minalbef plan paper-4m batch=256 --gpus 2 --gpu A100-80 --utilisation 0.3".split())
    command_line.main()
    text = describe(plan("paper-4m", ("batch=256",), 2, "A100-80", 0.3))
    assert capsys.readouterr().out == f"{text}\nnext: minalbef gpu-check\n"
    monkeypatch.setattr(sys, "argv", "minalbef plan paper-4m --gpus 7".split())
    with pytest.raises(SystemExit):
        command_line.main()
    assert "batch=512 is not a multiple of gpus=7" in capsys.readouterr().err


def test_cards_are_known_by_the_names_that_torch_gives():
    names = {"NVIDIA H100 80GB HBM3": "H100", "NVIDIA H100 PCIe": "H100-PCIe", "NVIDIA A100-SXM4-40GB": "A100-40",
             "NVIDIA A100-SXM4-80GB": "A100-80", "NVIDIA H200": "H200", "NVIDIA GeForce RTX 4090": "RTX-4090",
             "NVIDIA L4": "L4", "NVIDIA RTX A6000": "A6000", "Tesla T4": "T4", "Tesla V100-SXM2-16GB": "V100-16"}
    assert all(gpu_named(name) == GPUS[card] and card_name(name) == card for name, card in names.items())
    assert gpu_named("GeForce GTX 1080") is None is card_name("GeForce GTX 1080")


@pytest.mark.parametrize("seconds, said", [
    (0.1304, "0.13 seconds"), (59, "59 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7199, "120 minutes"),
    (7200, "2 hours"), (3600 * 160.2, "160 hours"), (3600 * 12345, "12,345 hours")])
def test_a_time_is_said_in_the_unit_that_suits_it(seconds, said):
    assert planner.duration(seconds) == said


def test_the_smallest_preset_takes_no_fraction_of_an_hour():
    assert re.search(r"1,900 steps in \d+ to \d+ seconds", describe(plan("tiny")))
    assert plan("tiny").terms[0].limit == "the host", "a step takes a GPU less than launching it"


@pytest.mark.parametrize("low, high, said", [
    (1234, 1789, "1,200 to 1,800"), (0.0123, 0.0456, "0.012 to 0.046"), (5.04, 5.01, "5"), (0, 0, "0"),
    (9.96, 99.6, "10 to 100")])
def test_ranges_have_two_digits(low, high, said):
    assert planner.between(low, high) == said
