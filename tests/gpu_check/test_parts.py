"""The parts of gpu-check that need no GPU, and what they find."""
import pytest
import torch

from minalbef.gpu_check import machine, resume
from minalbef.gpu_check.parts import FAIL, PASS, Setting

CPU = torch.device("cpu")


def test_the_machine_is_described_and_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "BLOCK", 2 ** 20)
    monkeypatch.setattr(machine, "shared_memory", lambda: 25.0)
    monkeypatch.setattr(machine, "LEAST_DISK", 0)
    result = machine.check(Setting(tmp_path, 60, CPU))
    assert result.verdict == PASS and "no GPU" in result.figure and "25 GB of shared memory" in result.figure
    for name in ("cores", "disk_free_gb", "disk_write_gb_per_second", "bf16_product_tflops"):
        assert result.details[name] > 0


def test_dockers_default_of_shared_memory_fails_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "BLOCK", 2 ** 20)
    monkeypatch.setattr(machine, "shared_memory", lambda: 0.064)
    result = machine.check(Setting(tmp_path, 60, CPU))
    assert result.verdict == FAIL and "--shm-size" in result.figure


@pytest.mark.slow
def test_a_run_that_is_killed_twice_is_the_undisturbed_one_bit_for_bit(tmp_path):
    result = resume.check(Setting(tmp_path, 600, CPU))
    assert result.verdict == PASS and result.details["difference"] == 0 and "bit for bit" in result.figure
    first, second = result.details["killed_after_saving_step"]
    assert first % resume.SAVE_EVERY == 0 and 0 < first < second < resume.STEPS


def test_weights_that_differ_would_be_seen(tmp_path):
    from safetensors.torch import save_file
    for name, value in (("one", 1.0), ("other", 1.01)):
        (tmp_path / name).mkdir()
        save_file({"weight": torch.tensor([3 * value, 4.0])}, tmp_path / name / "model.safetensors")
    assert resume.compare(tmp_path / "one", tmp_path / "one") == 0
    assert resume.compare(tmp_path / "one", tmp_path / "other") == pytest.approx(0.03 / 5)
