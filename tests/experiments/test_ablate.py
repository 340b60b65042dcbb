"""ablate: a row changes what it says and nothing else; a night is run, stopped, and goes on."""
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import ablate
import ablate_run
from ablate_records import read_records
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


def losses(task, alpha: float) -> dict[str, torch.Tensor]:
    return task(Batches(CONFIG)(0), alpha, task.draws(15))[0]



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


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_preset_that_can_be_trained(name):
    row = ROWS[name]
    config = preset("tiny", **row.changes)
    assert config.objects == 20
    assert row.samples % config.batch == 0
    assert row.about and row.group in BASES


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
