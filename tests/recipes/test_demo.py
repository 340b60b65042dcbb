"""The main job in a minute's size: two processes train, evaluation and page are made, and a second call goes on."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import minalbef
from minalbef import distributed
from minalbef.cli.main import main
from minalbef.recipes import pretrain
from minalbef.recipes.evaluate import evaluate_run
from minalbef.recipes.report import output_folder
from minalbef.scenes import evaluation

SMALL = ["epoch=512", "warm_steps=6", "batch=32", "queue_size=64", "save_every=8", "objects=20"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A finished run folder, and what was printed."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    result = subprocess.run([sys.executable, "-m", "minalbef", "demo", *SMALL, "--run", str(folder), "--size", "0.02"],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, result.stdout


def test_the_demo_leaves_a_whole_run_folder(demo):
    folder, printed = demo
    for name in ("config.json", "tokenizer.json", "model.safetensors", "teacher.safetensors", "state.pt", "metrics.csv",
                 "evaluation/report.json", "evaluation/report.html", "start/model.safetensors"):
        assert (folder / name).stat().st_size > 0, name
    assert "report.html" in printed
    page = (folder / "evaluation/report.html").read_text(encoding="utf-8")
    assert "<img" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_its_report_names_every_figure_of_the_schema(demo):
    report = json.loads((demo[0] / "evaluation/report.json").read_text(encoding="utf-8"))
    for section in ("plain", "families", "unseen_style", "unseen_pairs"):
        for name in ("itc_i2t_r1", "itc_t2i_r1", "rerank_i2t_r1", "rerank_t2i_r1", "oracle_r1", "chance_r1"):
            assert 0 <= report[section][name] <= 1
            assert len(report["intervals"][section][name]) == 2
    for name in ("command", "config", "seed", "commit", "date", "device", "seconds", "itm_balanced_accuracy",
                 "itm_one_change_accuracy", "mlm_accuracy", "mlm_accuracy_without_image", "pointing_itm",
                 "pointing_mlm", "pointing_chance", "start"):
        assert name in report, name


@pytest.mark.parametrize("trained, asked", [("cuda", "auto"), ("auto", "auto"), ("cpu", "cpu")])
def test_a_run_is_evaluated_on_a_gpu_where_there_is_one_and_elsewhere_without(trained, asked, demo, tmp_path,
                                                                             monkeypatch):
    folder, places, seen = shutil.copytree(demo[0], tmp_path / "run"), [], []
    for part in (folder, folder / "start"):
        config = json.loads((part / "config.json").read_text()) | {"device": trained}
        (part / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(distributed, "device_of", lambda name: places.append(name) or torch.device("meta"))
    for name in ("evaluate_scenes", "evaluate_start"):
        monkeypatch.setattr(evaluation, name, lambda run, *rest, **more: seen.append(run.device.type) or {})
    evaluate_run(folder, "a command", size=0.02)
    assert places == [asked] * 2 and seen == ["meta"] * 2


def test_only_a_runs_own_whole_evaluation_takes_the_place_of_its_report(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr("minalbef.recipes.evaluate.evaluate_run",
                        lambda *given: asked.append(given[-1]) or {"task": "pretrain"})
    monkeypatch.setattr("minalbef.viz.page.write_page", lambda run, figures, out: asked.append(out))
    for words, out in (("", "runs/tiny"), ("--size 0.05", "runs/tiny/evaluation"), ("--seed 1", "runs/tiny/evaluation"),
                       ("--among 50", "runs/tiny/evaluation"), ("--split validation", "runs/tiny/evaluation"),
                       ("--out here --size 0.05", "here")):
        monkeypatch.setattr(sys, "argv", ["minalbef", "evaluate", "tiny", *words.split()])
        main()
        assert asked[-2:] == [Path(out)] * 2
    assert output_folder(tmp_path) == tmp_path, "another run's own folder"


def test_a_finished_run_is_not_trained_again(demo, monkeypatch):
    folder, _ = demo
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr(sys, "argv", ["minalbef", "pretrain", *SMALL, "--run", str(folder)])
    main()
    assert (folder / "model.safetensors").read_bytes() == before


def test_search_draws_what_it_found(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["minalbef", "search", "an apple left of a banana", "--run", str(demo[0]),
                                      "--scenes", "40", "--out", str(tmp_path / "found.png")])
    main()
    assert (tmp_path / "found.png").stat().st_size > 1000


def test_a_run_answers_about_pictures_and_sentences(demo, tmp_path):
    from emojiscenes.scenes import Scenes, paint
    run = minalbef.load(demo[0])
    pictures = [paint(Scenes("test").place(i), 48) for i in range(2)]
    assert run.similarity(pictures, ["an apple", "a cat", "a dog"]).shape == (2, 3)
    assert 0 <= run.match_probability(pictures[0], "an apple").item() <= 1
    assert "parameters" in str(run)
    with pytest.raises(ValueError, match="no words"):
        run.similarity(pictures[0], "")


@pytest.mark.parametrize("arguments, says", [
    (["pretrain", "bath=3"], "did you mean 'batch'"),
    (["pretrain", "batch"], "name=value"),
    (["pretrain", "--preset", "tinny"], "did you mean 'tiny'"),
    (["demo", "image_size=50"], "not a multiple"),
    (["doctor", "nowhere"], "not a run folder"),
    (["search", "an apple", "--run", "nowhere"], "not a run folder"),
])
def test_a_users_mistake_is_answered_in_a_line(arguments, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["minalbef", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr().err
    assert end.value.code == 2 and says in told and "Traceback" not in told


@pytest.mark.parametrize("warm_steps", [0, 6])
@pytest.mark.parametrize("device, words, workers",
                         [("cpu", "", 0), ("cpu", "--workers 3", 3), ("cuda", "", 4), ("cuda", "--workers 3", 3)])
def test_scenes_are_painted_ahead_by_as_many_as_you_say_or_by_four_beside_a_gpu(device, words, workers, warm_steps,
                                                                                tmp_path, monkeypatch):
    class Stop(Exception):
        """What no command catches."""
    def ahead(source, config, workers):
        raise Stop(workers)
    monkeypatch.setattr(pretrain, "Ahead", ahead)
    monkeypatch.setattr(pretrain, "CAPTIONS", 100)
    monkeypatch.setattr(distributed, "join", lambda name: torch.device(device))
    monkeypatch.setattr(sys, "argv",
                        ["minalbef", "pretrain", f"warm_steps={warm_steps}", "--run", str(tmp_path), *words.split()])
    with pytest.raises(Stop, match=f"^{workers}$"):
        main()
