"""The parts of gpu-check on a CPU: what they find, and that each can fail."""
import gc
import time

import pytest
import torch
from safetensors.torch import save_file

from helpers import SMALL_PAPER
from minalbef.gpu_check import correctness, feed, hours, machine, memory, processes, resume, small, speed
from minalbef.gpu_check.parts import FAIL, PASS, SKIPPED, Result, Setting, read_result, tidy, write_result
from minalbef.presets import preset
from minalbef.recipes.cost import step_flops

CPU = torch.device("cpu")


def setting(folder, seconds: float = 600, changes=SMALL_PAPER, price: float = 0) -> Setting:
    return Setting(folder, seconds, CPU, changes, price)


# 1 machine

@pytest.mark.parametrize("shared, outcome", [(25.0, PASS), (0.064, FAIL)])
def test_the_machine_is_measured_and_dockers_default_of_shared_memory_fails(tmp_path, monkeypatch, shared, outcome):
    monkeypatch.setattr(machine, "BLOCK", 2 ** 20)
    monkeypatch.setattr(machine, "LEAST_DISK", 0)
    monkeypatch.setattr(machine, "shared_memory", lambda: shared)
    result = machine.check(setting(tmp_path, changes={}))
    assert result.verdict == outcome and "no GPU" in result.figure
    assert ("--shm-size" in result.figure) == (outcome == FAIL)
    for name in ("cores", "disk_free_gb", "disk_write_gb_per_second", "bf16_product_tflops"):
        assert result.details[name] > 0


# 2 correctness

def test_a_recipe_agrees_with_itself_by_every_attention_backend(tmp_path):
    for variant in correctness.PLAIN + correctness.MORE[:-2]:
        row = correctness.compare_or_explain("paper-4m", variant, setting(tmp_path, changes={}))
        assert row["verdict"] == PASS
        if row["precision"] == "fp32":
            assert row["loss_difference"] < 1e-6 and row["cosine"] > 0.999999
        else:
            assert 0 < row["loss_difference"] < 0.005


@pytest.mark.parametrize("wrong", ["a loss", "a gradient", "nan", "an error"])
def test_what_differs_from_the_cpu_fails_and_does_not_stop_the_others(tmp_path, monkeypatch, wrong):
    plain = correctness.backward
    calls = []

    def backward(recipe, device):
        losses, gradient = plain(recipe, device)
        calls.append(device)
        if len(calls) != 2:
            return losses, gradient
        if wrong == "an error":
            raise RuntimeError("CUDA error: an illegal memory access\nand more")
        if wrong == "a gradient":
            return losses, gradient + 0.02 * gradient.norm() * torch.nn.functional.normalize(gradient.flip(0), dim=0)
        return losses | {"itm": losses["itm"] * (torch.nan if wrong == "nan" else 1.0003)}, gradient
    monkeypatch.setattr(correctness, "backward", backward)
    monkeypatch.setattr(correctness, "recipe_names", lambda: ["paper-4m"])
    monkeypatch.setattr(correctness, "MORE", ())
    result = correctness.check(setting(tmp_path, changes={}))
    first, second = result.details["comparisons"]
    assert (first["verdict"], second["verdict"], result.verdict) == (FAIL, PASS, FAIL)
    assert "1 of 2 agree" in result.figure and "the first that doesn't: paper-4m, plain in fp32" in result.figure
    if wrong == "an error":
        assert first["problem"] == "RuntimeError: CUDA error: an illegal memory access"
    kept = read_result(tmp_path)
    assert kept is not None and len(kept.details["comparisons"]) == 2 and not kept.finished, "kept if it is killed"


def test_what_was_to_be_compiled_and_was_not_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: None)
    row = correctness.compare_or_explain("paper-4m", correctness.MORE[-1], setting(tmp_path, changes={}))
    assert row["verdict"] == FAIL and row["problem"] == "nothing was compiled"


@pytest.mark.slow
def test_every_recipe_agrees_with_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(correctness, "MORE", correctness.MORE[:-2])      # a CPU compiles for minutes
    result = correctness.check(setting(tmp_path, changes={}))
    assert result.verdict == PASS and "21 of 21" in result.figure


# 4 speed, 5 memory

@pytest.fixture
def no_card(monkeypatch):
    """What is asked of torch.cuda about memory does nothing, and garbage isn't collected."""
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(gc, "collect", lambda: None)


def made_up_step(config, device, steps):
    """A card that holds 64 rows in bf16, and half of that in fp32."""
    if config.batch > (64 if config.precision == "bf16" else 32):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
    seconds = max(0.06, config.batch / 640)
    return {"samples_per_second": config.batch / seconds, "seconds_per_step": seconds, "flops_per_step": 1e12,
            "share_of_bf16_peak": 0.3, "share_of_matmul_peak": 0.4, "peak_memory_mb": 1000.0,
            "faults": ["3 compilations after step 20"] if config.compile and config.seed else []}


@pytest.mark.parametrize("seed, outcome", [(0, PASS), (1, FAIL)])
def test_speed_goes_up_to_what_fits_and_late_compilations_fail(tmp_path, monkeypatch, no_card, seed, outcome):
    monkeypatch.setattr(speed, "measure_step", made_up_step)
    result = speed.check(setting(tmp_path, changes={"seed": seed}))
    assert result.verdict == outcome and ("compilations after step 20" in result.figure) == (outcome == FAIL)
    rows = {mode.name: [row["rows"] for row in result.details["steps"] if row["mode"] == mode.name]
            for mode in speed.MODES}
    assert rows == {"bf16": [2, 16, 32, 64, 128], "bf16, compiled": [2, 16, 32, 64, 128],
                    "tf32": [2, 16, 32, 64], "fp32": [2, 16, 32, 64]}
    problems = [row["problem"] for row in result.details["steps"] if "problem" in row]
    assert problems == ["CUDA out of memory. Tried to allocate 2 GiB."] * 4
    best = result.details["best"]
    assert best["rows"] == 64 and best["ms"] == pytest.approx(100)
    assert result.details["host_ms"] == pytest.approx(60), "as long as two rows take"
    assert best["tflops"] == pytest.approx(10) and "640 samples/s in bf16" in result.figure
    kept = read_result(tmp_path)
    assert kept is not None and not kept.finished and kept.details["best"]["rows"] == 64, "kept if compiling is killed"


def test_speed_stops_in_time_and_says_where_nothing_fits(tmp_path, monkeypatch, no_card):
    monkeypatch.setattr(speed, "measure_step", made_up_step)
    late = Setting(tmp_path, 100, CPU, start=time.monotonic() - 90)
    assert speed.check(late).figure == "there was no time for a step"
    monkeypatch.setattr(speed, "ROWS", (128, 256))
    result = speed.check(setting(tmp_path))
    assert result.verdict == FAIL and "no figure in bf16: CUDA out of memory" in result.figure


@pytest.mark.parametrize("ratio, outcome", [(1.08, PASS), (0.93, PASS), (1.12, FAIL)])
def test_memory_is_held_against_the_plan_with_as_many_rows_as_fit(tmp_path, monkeypatch, no_card, ratio, outcome):
    sizes = []

    class Steps:
        def __init__(self, config, device, full_texts):
            sizes.append(config.batch)
            if config.batch > 32:
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.task = torch.nn.Linear(1, 1)

        def __call__(self):
            pass
    monkeypatch.setattr(memory, "Steps", Steps)
    monkeypatch.setattr(memory, "memory_bytes", lambda *sizes: {"all": 1e9})
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: ratio * 1e9)
    result = memory.check(setting(tmp_path))
    assert result.verdict == outcome and f"plain {ratio:.3g} GB, planned 1" in result.figure
    assert sizes == [64, 32, 128, 64, 32, 256, 128, 64, 32]


# 6 feed, 7 resume

def test_workers_make_the_batches_of_one_process_and_a_core_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "measure_loading", lambda *sizes: {"photos_per_second": {"augmented": 250.0}})
    result = feed.check(setting(tmp_path))
    assert result.verdict == PASS and "a core reads and augments 250 photographs" in result.figure
    assert list(tmp_path.iterdir()) == [], "the photographs are removed"
    monkeypatch.setattr(feed, "same_batches", lambda *arguments: False)
    assert feed.check(setting(tmp_path)).verdict == FAIL


def test_batches_that_differ_would_be_seen(tmp_path, monkeypatch):
    plain = feed.RecordBatches

    def loader(records, collate, config, tokenizer, workers):
        shifted = plain(records, collate, config, tokenizer, 0)
        return lambda step: shifted(step + (workers > 0))
    monkeypatch.setattr(feed, "RecordBatches", loader)
    config = preset("paper-4m", **SMALL_PAPER, batch=4)
    tokenizer = feed.Tokenizer.train([" ".join(feed.WORDS)], 256)
    assert not feed.same_batches(feed.Photos(tmp_path), config, tokenizer)


@pytest.mark.parametrize("seconds, share", [(0.0, 0), (0.8, 1)])
def test_steps_that_wait_for_data_are_counted_once_no_batch_is_ready_ahead(tmp_path, monkeypatch, seconds, share):
    config = preset("paper-4m", **SMALL_PAPER, batch=4)
    tokenizer = feed.Tokenizer.train([" ".join(feed.WORDS)], 256)
    plain = feed.RecordBatches
    records = feed.Photos(tmp_path)

    def loader(records, collate, config, tokenizer, workers):
        batch = plain(records, collate, config, tokenizer, 0)(0)
        return lambda step: time.sleep(seconds if step >= 4 * workers else 0) or batch
    monkeypatch.setattr(feed, "RecordBatches", loader)
    monkeypatch.setattr(feed, "WAIT", 0.4)      # a busy machine's process may wait for a core, too
    waits, rate = feed.share_of_waits(records, config, tokenizer, 1, setting(tmp_path))
    assert waits == share and rate > 0


@pytest.mark.slow
def test_a_run_that_is_killed_twice_is_the_undisturbed_one_bit_for_bit(tmp_path):
    result = resume.check(setting(tmp_path))
    assert result.verdict == PASS and result.details["difference"] == 0 and "bit for bit" in result.figure
    first, second = result.details["killed_after_saving_step"]
    assert first % resume.SAVE_EVERY == 0 and 0 < first < second < resume.STEPS


def test_weights_that_differ_would_be_seen(tmp_path):
    for name, value in (("one", 1.0), ("other", 1.01)):
        (tmp_path / name).mkdir()
        save_file({"weight": torch.tensor([3 * value, 4.0])}, tmp_path / name / "model.safetensors")
    assert resume.weights_apart(tmp_path / "one", tmp_path / "one") == 0
    assert resume.weights_apart(tmp_path / "one", tmp_path / "other") == pytest.approx(0.03 / 5)


# 8 processes, 9 small, 10 hours

@pytest.mark.slow
def test_processes_train_as_one(tmp_path):
    result = processes.check(setting(tmp_path, changes={}))
    assert result.verdict == PASS and [row["processes"] for row in result.details["groups"]] == [1, 2]
    assert all(row["difference"] < 1e-5 for row in result.details["groups"])


def test_processes_that_train_otherwise_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "run", lambda world, setting: [1.0, 2.0 + 0.001 * (world == 2)])
    assert processes.check(setting(tmp_path)).verdict == FAIL


TINY = {name: str(value) for name, value in dict(
    image_size=24, patch_size=8, image_width=32, image_depth=1, image_heads=2, text_width=32, text_depth=1,
    text_heads=2, fusion_depth=2, embed_dim=16, queue_size=64, batch=16, epoch=160, warm_steps=6, save_every=4,
    precision="fp32", vocab_size=256, device="cpu").items()}


@pytest.mark.slow
def test_small_goes_on_where_its_time_ended_and_is_held_against_the_forecast(tmp_path, monkeypatch):
    monkeypatch.setattr(small, "SIZE", 0.02)
    first = small.check(setting(tmp_path, 1, TINY))
    assert first.verdict == SKIPPED and not first.finished and "the same command goes on" in first.figure
    result = small.check(setting(tmp_path, 300, TINY))
    assert result.verdict == FAIL and "of 20 figures reach the forecast" in result.figure, "ten steps teach nothing"
    assert len(result.details["figures"]) == 20


def test_a_figure_reaches_its_forecast_if_its_interval_does():
    bounds = {"low": 0.9, "mean": 0.95, "high": 0.99}
    for interval, outcome in (([0.85, 0.91], PASS), ([0.995, 1.0], PASS), ([0.8, 0.89], FAIL)):
        report = {"plain": {"itc_i2t_r1": 0.9}, "intervals": {"plain": {"itc_i2t_r1": interval}}}
        assert small.compare_figure("plain.itc_i2t_r1", bounds, report)["verdict"] == outcome


def test_hours_and_price_follow_from_the_measured_speed_by_hand(tmp_path):
    write_result(tmp_path / "speed", Result(PASS, "", {"best": {"tflops": 200.0}}))
    result = hours.check(setting(tmp_path / "hours", changes={}, price=2.5))
    rows = {row["preset"]: row for row in result.details["presets"]}
    config = preset("paper-4m")
    seconds = config.steps * step_flops(config, 512) / 200e12
    assert rows["paper-4m"]["hours"] == pytest.approx(seconds / 8 / 3600) and rows["paper-4m"]["gpus"] == 8
    assert rows["paper-4m"]["price"] == pytest.approx(2.5 * seconds / 3600)
    assert rows["base"]["gpus"] == 1 and result.verdict == PASS and "base" in result.figure


def test_without_a_measured_speed_hours_are_the_plans(tmp_path):
    result = hours.check(setting(tmp_path / "hours", changes={}))
    assert result.verdict == SKIPPED and "by plan: base" in result.figure and not result.finished


def test_json_has_four_digits_and_no_nan():
    assert tidy({"a": [0.123456, float("nan")], "b": (1, None)}) == {"a": [0.1235, "nan"], "b": [1, None]}
