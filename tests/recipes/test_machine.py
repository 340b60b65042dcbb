"""The machine's speed is told, however coarse its clocks."""
import time

import pytest
import torch

from helpers import small
from minalbef.metrics import Log, read_metrics
from minalbef.recipes.machine import matmul_peak


@pytest.mark.parametrize("stopped", [("process_time",), ("perf_counter", "process_time")])
def test_a_clock_that_stands_still_divides_nothing_by_zero(stopped, monkeypatch):
    for name in stopped:
        monkeypatch.setattr(time, name, lambda: 7.0)
    by_wall, by_cpu = matmul_peak(size=8, repeats=3)
    assert 0 < by_wall < float("inf") and by_cpu == by_wall, "the CPU's is by wall clock"


def test_of_a_clock_that_moves_now_and_then_the_moves_are_taken(monkeypatch):
    seconds = iter([0.0, 0.0, 0.0, 0.5, 0.5, 0.5])
    monkeypatch.setattr(time, "process_time", lambda: next(seconds))
    _, by_cpu = matmul_peak(size=8, repeats=3)
    assert by_cpu == pytest.approx(2 * 8 ** 3 / 1e9 / 0.5)


def test_a_step_in_no_time_is_logged(monkeypatch, tmp_path):
    monkeypatch.setattr(time, "perf_counter", lambda: 7.0)
    log = Log(tmp_path, 0, 1, small(), quiet=True, title="test")
    log.step(0, {"itc": torch.tensor(1.0)}, torch.tensor(1.0), lr=1e-3, alpha=0.4)
    log.close()
    assert len(read_metrics(tmp_path)) == 1
