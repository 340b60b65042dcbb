"""ablate: a row changes what it says and nothing else; a night is run, stopped, and goes on."""
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import ablate
import ablate_run
import outcomes
from ablate_records import RunKey, read_records, seconds_per_sample
from ablate_rows import BASES, ROWS, Row, rows_of
from emojiscenes.language import holds
from emojiscenes.scenes import Scenes
from helpers import Batches, disturb, pretrain, small
from minalbef.presets import preset
from minalbef.recipes import pretrain as recipe
from minalbef.system.tokenizer import Tokenizer
from processes import family

CONFIG = small(alpha=0.4)


def variant(row: Row) -> ablate_run.Variant:
    """The row's task, with the weights and the queue of helpers.pretrain."""
    task = pretrain(CONFIG)
    changed = ablate_run.Variant(row, CONFIG, rates=task.rates)
    changed.load_state_dict(task.state_dict())
    return changed


def losses(task, alpha: float, match: bool = True) -> dict[str, torch.Tensor]:
    batch = Batches(CONFIG)(0)
    if not match:
        batch = replace(batch, match=None)
    return task(batch, alpha, task.draws(15))[0]


# rows

@pytest.mark.parametrize("option, taught_loss, plain_loss", [
    ("teach_words", "itc", "mlm"), ("teach_itc", "mlm", "itc")])
def test_a_row_whose_teacher_speaks_in_one_loss_leaves_the_other_as_it_is_without_a_teacher(
        option, taught_loss, plain_loss):
    row = losses(variant(Row("", "", truth=True, **{option: False})), 0.4)
    taught = losses(pretrain(CONFIG), 0.4)
    plain = losses(pretrain(CONFIG), 0.0)
    assert_close(row[taught_loss], taught[taught_loss])
    assert_close(row[plain_loss], plain[plain_loss])
    assert abs(taught["mlm"] - plain["mlm"]) > 0.01
    assert abs(taught["itc"] - plain["itc"]) > 0.01


def test_without_the_truth_a_row_of_the_batch_has_its_own_caption_alone():
    row = losses(variant(Row("", "")), 0.0)
    assert_close(row, losses(pretrain(CONFIG), 0.0, match=False))
    assert abs(row["itc"] - losses(pretrain(CONFIG), 0.0)["itc"]) > 0.01


def test_a_loss_that_is_left_out_is_not_there():
    assert losses(variant(Row("", "", itc=False)), 0.0).keys() == {"itm", "mlm"}


def test_a_rows_weight_is_of_itc_and_mlm_alone():
    full = losses(variant(Row("", "")), 0.0)
    light = losses(variant(Row("", "", weight=0.5, words_weight=0.6)), 0.0)
    expected = {"itc": 0.5 * full["itc"], "itm": full["itm"], "mlm": 0.3 * full["mlm"]}
    assert_close(light, expected)


def test_label_smoothing_spreads_the_teachers_share_evenly():
    sim = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]])
    positive = torch.eye(2, 3, dtype=torch.bool)
    target = 0.6 * positive + 0.4 / 3
    by_hand = -(target * sim.log_softmax(1)).sum(1).mean()
    assert_close(ablate_run.smooth_itc_loss(sim, torch.randn(2, 3), 0.4, positive), by_hand)


def test_label_smoothing_of_masked_words_asks_no_teacher():
    def mlm(smooth: bool, disturbed: bool) -> torch.Tensor:
        task = variant(Row("", "", truth=True))
        if disturbed:
            disturb(task.teacher, seed=9)
        if smooth:
            ablate_run.smooth_words(task)
        return losses(task, 0.4)["mlm"]

    assert_close(mlm(True, True), mlm(True, False))
    assert abs(mlm(False, True) - mlm(False, False)) > 0.001
    assert abs(mlm(True, False) - mlm(False, False)) > 0.001


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_preset_that_can_be_trained(name):
    row = ROWS[name]
    config = preset("tiny", **row.changes)
    assert config.objects == 20
    assert row.samples % config.batch == 0
    assert row.about and row.group in BASES


def test_rows_are_named_alone_or_by_group():
    assert rows_of(["hard", "ours"])[:3] == ["hard", "full", "no-siblings"]
    assert set(rows_of([])) == set(ROWS)
    assert len(rows_of(["noise"])) == 18


def test_the_papers_rows_see_a_finite_set_whose_order_changes_from_epoch_to_epoch(tmp_path):
    task = variant(ROWS["foreign40"])
    task.config = replace(task.config, objects=12, epoch=48, epochs=2.0, bucket=2, vocab_size=300,
                          siblings_from=1.0)
    tokenizer = Tokenizer.train(["a cat left of a dog"], 300)
    batches = ablate_run.LookBatches(ROWS["foreign40"], task, tokenizer, tmp_path)
    epochs = []
    for first in (0, 6):
        epochs.append([sorted(batches(first + i).ids.tolist()) for i in range(6)])
    for epoch in epochs:
        assert sorted(sum(epoch, [])) == list(range(48))
    assert sorted(epochs[0]) != sorted(epochs[1]), "not the same batches again"
    noise = {batches.batches.before.draw(i).noise for i in range(48)}
    assert noise == {"", "foreign"}


@torch.no_grad()
def test_what_the_teacher_believes_of_a_spoilt_caption_is_not_counted_as_right(monkeypatch):
    """A teacher that finds all texts alike gives every caption the same probability."""
    class Alike(Scenes):
        def draw(self, index):
            return super().draw(index % 4)

    source = Alike("train", size=24, objects=12, noise=(0.0, 0.0, 0.5))
    scenes = [source.draw(i) for i in range(4)]
    monkeypatch.setattr(recipe, "CAPTIONS", 300)
    config = small(objects=12, vocab_size=300, text_length=30, positions=32)
    task, tokenizer, _ = recipe.begin(config)
    task.teacher.text_proj.weight.zero_()
    task.teacher.text_proj.bias.zero_()
    monkeypatch.setattr(outcomes, "LOOK", dict(split="validation", seed=3))
    look = outcomes.look(task.eval(), tokenizer, source, 7)
    assert look["step"] == 7
    assert look["teacher_own_spoilt"] == pytest.approx(1 / 256, abs=1e-4)

    # of 256 texts, four again and again, those are right that are true of the image
    def share_of_true(scene) -> float:
        return sum(holds(text.form, scene.scene) is True for text in scenes) / 4

    for name, noise in (("teacher_right", ""), ("teacher_right_spoilt", "foreign")):
        shares = [share_of_true(scene) for scene in scenes if scene.noise == noise]
        assert look[name] == pytest.approx(sum(shares) / len(shares), abs=1e-4)


# what is missing

def record(row: str, seed: int, samples: int, seconds: float | None, equal: bool = False,
           **more) -> dict:
    return {"row": row, "seed": seed, "samples": samples, "cpu_seconds": seconds,
            "equal": equal} | more


def missing(rows: list[str], records: list[dict], seeds: int = 1, share: float = 1.0,
            equal: bool = False, tasks: bool = False) -> list[RunKey]:
    return ablate.missing_runs(rows, seeds, share, equal, tasks, records)


def test_what_is_missing_is_listed_seed_by_seed():
    records = [record("hard", 0, 19_200, 100.0)]
    assert missing(["itc", "hard"], records, seeds=2) == [
        RunKey("itc", 0, 19_200), RunKey("itc", 1, 19_200), RunKey("hard", 1, 19_200)]
    assert missing(["hard"], records, tasks=True) == [RunKey("hard", 0, 19_200, with_tasks=True)]
    assert missing(["hard"], records, share=0.5) == [RunKey("hard", 0, 9_600)]
    runs = [RunKey("hard", seed, 19_200) for seed in range(72)]
    plan = ablate.describe_plan(runs, records, 2)
    assert "2.0 CPU hours of training in 2 processes" in plan


def test_a_dearer_row_sees_fewer_samples_in_the_same_seconds():
    records = [record("hard", 0, 19_200, 100.0), record("distil", 0, 19_200, 125.0)]
    assert missing(["distil"], records, equal=True) == [RunKey("distil", 0, 15_360, equal=True)]
    equal_run = record("distil", 0, 15_360, 90.0, equal=True)
    assert missing(["distil"], [*records, equal_run], equal=True) == []
    resumed = [records[0], record("distil", 0, 19_200, None)]
    with pytest.raises(ValueError, match="--equal needs share 1, and CPU seconds of distil"):
        missing(["distil"], resumed, equal=True)
    with pytest.raises(ValueError, match="--equal needs share 1"):
        missing(["distil"], records, share=0.5, equal=True)
    quick_look = [*records, record("distil", 0, 192, 90.0)]
    seconds = seconds_per_sample(records, "distil")
    assert seconds_per_sample(quick_look, "distil") == seconds, "a quick look's start would count"


# a night

def play(key: RunKey, folder: Path) -> None:
    """In place of `work`: breaks off for one row, and notes when it was there."""
    folder.mkdir(parents=True)
    if key.row == "itc":
        raise SystemExit(3)
    begin = time.time()
    time.sleep(0.6)
    result = record(*key[:3], 1.0, span=[begin, time.time()])
    (folder / "result.json").write_text(json.dumps(result))


def test_runs_are_side_by_side_and_a_failure_does_not_stop_the_others(tmp_path, caplog):
    out = tmp_path / "results.jsonl"
    runs = [RunKey(row, 0, 64) for row in ("hard", "itc", "distil", "truth")]
    with pytest.raises(SystemExit):
        ablate.train_runs(runs, tmp_path / "runs", out, 2, quiet=True, work=play)
    records = read_records(out)
    assert {each["row"] for each in records} == {"hard", "distil", "truth"}
    assert "itc, seed 0, broke off with status 3" in caplog.text
    for each in records:
        begin = each["span"][0]
        at_once = sum(other["span"][0] <= begin < other["span"][1] for other in records)
        assert at_once <= 2
    assert not list((tmp_path / "runs").glob("hard*")), "a complete run leaves no folder"
    assert missing(["hard", "itc"], records, share=64 / 19_200) == [RunKey("itc", 0, 64)]


def test_a_result_that_was_written_but_not_entered_is_taken_as_it_is(tmp_path):
    key = RunKey("hard", 0, 64)
    result = record(*key[:3], 7.0)
    folder = tmp_path / "runs" / key.folder
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    ablate.train_runs([key], tmp_path / "runs", tmp_path / "results.jsonl", 1, quiet=True)
    assert read_records(tmp_path / "results.jsonl") == [result]
    assert not list((tmp_path / "runs").iterdir())


def test_a_damaged_result_is_named(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"row": "hard"\n')
    with pytest.raises(ValueError, match="results.jsonl is damaged .*; remove the line, and its "):
        read_records(tmp_path / "results.jsonl")


@pytest.mark.slow(minutes=1)
@pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc")
def test_a_night_that_is_killed_ends_its_runs_and_goes_on_where_they_were(tmp_path):
    out = tmp_path / "results.jsonl"
    options = f"distil --seeds 1 --share 0.01 --processes 1 --quiet --run {tmp_path}/runs --out {out}"
    command = [sys.executable, ablate.__file__, *options.split()]
    night = subprocess.Popen(command)
    while not list(tmp_path.glob("runs/*/looks.jsonl")) and night.poll() is None:
        time.sleep(0.05)
    processes = [Path(f"/proc/{pid}") for pid in family(night.pid)]
    night.send_signal(signal.SIGKILL)
    night.wait()
    deadline = time.time() + 60
    while time.time() < deadline and any(path.exists() for path in processes):
        time.sleep(0.2)
    assert not any(path.exists() for path in processes), "its processes end with it"
    assert list(tmp_path.glob("runs/*/state.pt")) and not out.exists()
    assert subprocess.run(command).returncode == 0
    result, = read_records(out)
    assert result["row"] == "distil" and result["steps"] == 6
    assert [look["step"] for look in result["looks"]] == [2, 4, 6]
    assert "".join(result["outcomes"].values()).isdecimal()
    assert result["cpu_seconds"] is None
    assert result["outcomes"] != result["teacher_outcomes"]
