"""The main job in small: two processes train and evaluate, and a second call goes on."""
import subprocess
import sys

import pytest

from minalbef.cli.main import main

SMALL = ["epoch=512", "warm_steps=6", "batch=32", "queue_size=64", "save_every=8",
         "objects=20"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A finished run folder, and what was printed."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    result = subprocess.run([sys.executable, "-m", "minalbef", "demo", *SMALL, "--run",
                             str(folder), "--size", "0.02"],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, result.stdout


def test_the_demo_leaves_a_whole_run_folder(demo):
    folder, printed = demo
    for name in ("config.json", "tokenizer.json", "model.safetensors", "teacher.safetensors",
                 "state.pt", "metrics.csv", "evaluation/report.json", "evaluation/report.html",
                 "start/model.safetensors"):
        assert (folder / name).stat().st_size > 0, name
    assert "report.html" in printed
    page = (folder / "evaluation/report.html").read_text(encoding="utf-8")
    assert "<img" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_a_finished_run_is_not_trained_again(demo, monkeypatch):
    folder, _ = demo
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr(sys, "argv", ["minalbef", "pretrain", *SMALL, "--run", str(folder)])
    main()
    assert (folder / "model.safetensors").read_bytes() == before
