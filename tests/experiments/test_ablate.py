"""ablate: rows can be trained; a night is run, stopped, and goes on."""
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ablate
from ablate_records import read_records
from ablate_rows import BASES, ROWS
from minalbef.presets import preset
from processes import family


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
