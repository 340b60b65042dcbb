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
from ablate_records import RunKey, read_records
from ablate_rows import BASES, ROWS, Row
from helpers import Batches, pretrain, small
from minalbef.presets import preset
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


def test_label_smoothing_spreads_the_teachers_share_evenly():
    sim = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]])
    positive = torch.eye(2, 3, dtype=torch.bool)
    target = 0.6 * positive + 0.4 / 3
    by_hand = -(target * sim.log_softmax(1)).sum(1).mean()
    assert_close(ablate_run.smooth_itc_loss(sim, torch.randn(2, 3), 0.4, positive), by_hand)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_preset_that_can_be_trained(name):
    row = ROWS[name]
    config = preset("tiny", **row.changes)
    assert config.objects == 20
    assert row.samples % config.batch == 0
    assert row.about and row.group in BASES


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
