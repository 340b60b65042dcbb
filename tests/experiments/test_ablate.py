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
from ablate_rows import BASES, ROWS, SPOILT, Row, rows_of
from emojiscenes.language import holds
from emojiscenes.scenes import Scenes
from helpers import Batches, disturb, pretrain, small
from minalbef.presets import preset
from minalbef.pretrain import Pretrain
from minalbef.tokenizer import Tokenizer
from processes import family

CONFIG = small(alpha=0.4)


def variant(row: Row) -> ablate_run.Variant:
    """The row's task, with the weights and the queue of helpers.pretrain."""
    whole = pretrain(CONFIG)
    task = ablate_run.Variant(row, CONFIG, rates=whole.rates)
    task.load_state_dict(whole.state_dict())
    return task


def losses(task: Pretrain, alpha: float, match: bool = True) -> dict[str, torch.Tensor]:
    batch = Batches(CONFIG)(0)
    return task(batch if match else replace(batch, match=None), alpha, task.draws(15))[0]


def test_a_row_whose_teacher_speaks_in_itc_alone_leaves_mlm_as_it_is_without_a_teacher():
    found = losses(variant(Row("", "", teach_words=False, truth=True)), 0.4)
    taught, plain = losses(pretrain(CONFIG), 0.4), losses(pretrain(CONFIG), 0.0)
    assert_close(found["itc"], taught["itc"])
    assert_close(found["mlm"], plain["mlm"])
    assert abs(taught["mlm"] - plain["mlm"]) > 0.01 and abs(taught["itc"] - plain["itc"]) > 0.01
    assert_close(losses(variant(Row("", "", truth=True)), 0.4), taught)


def test_a_row_whose_teacher_speaks_in_mlm_alone_leaves_itc_as_it_is_without_a_teacher():
    found = losses(variant(Row("", "", teach_itc=False, truth=True)), 0.4)
    taught, plain = losses(pretrain(CONFIG), 0.4), losses(pretrain(CONFIG), 0.0)
    assert_close(found["itc"], plain["itc"])
    assert_close(found["mlm"], taught["mlm"])


def test_without_the_truth_a_row_of_the_batch_has_its_own_caption_alone():
    assert_close(losses(variant(Row("", "")), 0.0), losses(pretrain(CONFIG), 0.0, match=False))
    assert abs(losses(variant(Row("", "")), 0.0)["itc"] - losses(pretrain(CONFIG), 0.0)["itc"]) > 0.01


def test_a_loss_that_is_left_out_is_not_there():
    assert losses(variant(Row("", "", itc=False)), 0.0).keys() == {"itm", "mlm"}


def test_a_rows_weight_is_of_itc_and_mlm_alone():
    whole, light = (losses(variant(Row("", "", weight=weight)), 0.0) for weight in (1.0, 0.6))
    assert_close(light, {"itc": 0.6 * whole["itc"], "itm": whole["itm"], "mlm": 0.6 * whole["mlm"]})
    words = losses(variant(Row("", "", weight=0.5, words_weight=0.6)), 0.0)
    assert_close(words, {"itc": 0.5 * whole["itc"], "itm": whole["itm"], "mlm": 0.3 * whole["mlm"]})


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
    assert abs(mlm(False, True) - mlm(False, False)) > 0.001 and abs(mlm(True, False) - mlm(False, False)) > 0.001


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_preset_that_can_be_trained(name):
    row = ROWS[name]
    config = preset("tiny", **row.changes)
    assert config.objects == 20 and row.samples % config.batch == 0 and row.about and row.group in BASES
    words_alone = name.endswith("0-words") or name == "distil-words"
    assert bool(config.alpha) == (words_alone or name.endswith(("distil", "-itc", "smooth")))
    assert row.teach_words != name.endswith("-itc") and row.teach_itc != words_alone
    assert row.smooth == name.endswith("smooth") and (sum(row.noise) > 0) == name.startswith(tuple(SPOILT))
    assert (row.scenes, config.siblings_from) == ((3_840, 1.0) if BASES[row.group] == "hard" else (0, 0.5)) or (
        name == "no-lesson")
    assert row.truth == (row.group in ("ours", "sweeps") or name == "truth")


def test_rows_are_named_alone_or_by_group():
    assert rows_of(["hard", "ours"])[:3] == ["hard", "full", "no-siblings"]
    assert set(rows_of([])) == set(ROWS) and rows_of([]).index("foreign20") < rows_of([]).index("full")
    assert rows_of([])[-1] == "foreign20-lightwords" not in rows_of(["noise"]) and len(rows_of(["noise"])) == 18
    with pytest.raises(ValueError, match=r"no row 'harf' \(did you mean 'hard'\?\); there are the groups paper, noise"):
        rows_of(["harf"])


def record(row: str, seed: int, samples: int, seconds: float | None, equal: bool = False, **more) -> dict:
    return {"row": row, "seed": seed, "samples": samples, "cpu_seconds": seconds, "equal": equal, **more}


def test_what_is_missing_is_listed_seed_by_seed():
    there = [record("hard", 0, 19_200, 100.0)]
    assert ablate.missing_runs(["itc", "hard"], 2, 1.0, False, False, there) == [
        RunKey("itc", 0, 19_200), RunKey("itc", 1, 19_200), RunKey("hard", 1, 19_200)]
    assert ablate.missing_runs(["hard"], 1, 1.0, False, True, there) == [RunKey("hard", 0, 19_200, with_tasks=True)]
    assert ablate.missing_runs(["hard"], 1, 0.5, False, False, there) == [RunKey("hard", 0, 9_600)]
    assert "2.0 CPU hours of training in 2 processes" in ablate.describe_plan(
        [RunKey("hard", seed, 19_200) for seed in range(72)], there, 2)


def test_a_dearer_row_sees_fewer_samples_in_the_same_seconds():
    there = [record("hard", 0, 19_200, 100.0), record("distil", 0, 19_200, 125.0)]
    assert ablate.missing_runs(["distil"], 1, 1.0, True, False, there) == [RunKey("distil", 0, 15_360, equal=True)]
    done = [*there, record("distil", 0, 15_360, 90.0, equal=True)]
    assert ablate.missing_runs(["distil"], 1, 1.0, True, False, done) == [], "what was spent on it moves nothing"
    resumed = [there[0], record("distil", 0, 19_200, None)]
    with pytest.raises(ValueError, match="--equal needs share 1, and CPU seconds of distil and of hard: run both"):
        ablate.missing_runs(["distil"], 1, 1.0, True, False, resumed)
    with pytest.raises(ValueError, match="--equal needs share 1"):
        ablate.missing_runs(["distil"], 1, 0.5, True, False, there)
    quick = [*there, record("distil", 0, 192, 90.0)]
    alone, with_quick_look = (seconds_per_sample(records, "distil") for records in (there, quick))
    assert with_quick_look == alone, "a quick look's start would count"


@torch.no_grad()
def test_what_the_teacher_believes_of_a_spoilt_caption_is_not_counted_as_right(monkeypatch):
    """A teacher that finds all texts alike gives every caption the same probability."""
    class Alike(Scenes):
        def draw(self, index):
            return super().draw(index % 4)
    source = Alike("train", size=24, objects=12, noise=(0.0, 0.0, 0.5))
    drawn = [source.draw(i) for i in range(4)]
    assert {one.noise for one in drawn} == {"", "foreign"}
    from minalbef.recipes import pretrain as recipe
    monkeypatch.setattr(recipe, "CAPTIONS", 300)
    task, tokenizer, _ = recipe.begin(small(objects=12, vocab_size=300, text_length=30, positions=32))
    task.teacher.text_proj.weight.zero_()
    task.teacher.text_proj.bias.zero_()
    monkeypatch.setattr(outcomes, "LOOK", dict(split="validation", seed=3))
    found = outcomes.look(task.eval(), tokenizer, source, 7)
    assert found["step"] == 7 and found["teacher_own_spoilt"] == pytest.approx(1 / 256, abs=1e-4)
    # of 256 texts, four again and again, those are right that are true of the picture: of a spoilt one never its own
    right = [sum(holds(other.form, one.scene) is True for other in drawn) / 4 for one in drawn]
    for name, noise in (("teacher_right", ""), ("teacher_right_spoilt", "foreign")):
        some = [share for share, one in zip(right, drawn) if one.noise == noise]
        assert found[name] == pytest.approx(sum(some) / len(some), abs=1e-4)


def play(key: RunKey, folder: Path) -> None:
    """In place of `work`: breaks off for one row, and notes when it was there."""
    folder.mkdir(parents=True)
    if key.row == "itc":
        raise SystemExit(3)
    begun = time.time()
    time.sleep(0.6)
    (folder / "result.json").write_text(json.dumps(record(*key[:3], 1.0, span=[begun, time.time()])))


def test_runs_are_side_by_side_and_one_that_fails_does_not_stop_the_others(tmp_path, caplog):
    out = tmp_path / "results.jsonl"
    runs = [RunKey(row, 0, 64) for row in ("hard", "itc", "distil", "truth")]
    with pytest.raises(SystemExit):
        ablate.train_runs(runs, tmp_path / "runs", out, 2, quiet=True, work=play)
    found = read_records(out)
    assert {one["row"] for one in found} == {"hard", "distil", "truth"}
    assert "itc, seed 0, broke off with status 3" in caplog.text
    spans = sorted(one["span"] for one in found)
    assert max(sum(a <= begun < b for a, b in spans) for begun, _ in spans) <= 2
    assert not list((tmp_path / "runs").glob("hard*")), "what is done leaves no folder"
    assert ablate.missing_runs(["hard", "itc"], 1, 64 / 19_200, False, False, found) == [RunKey("itc", 0, 64)]


def test_the_papers_rows_see_a_finite_set_whose_order_changes_from_epoch_to_epoch(tmp_path):
    task = variant(ROWS["foreign40"])
    task.config = replace(task.config, objects=12, epoch=48, epochs=2.0, bucket=2, vocab_size=300, siblings_from=1.0)
    batches = ablate_run.LookBatches(ROWS["foreign40"], task, Tokenizer.train(["a cat left of a dog"], 300), tmp_path)
    epochs = [[set(batches(step).ids.tolist()) for step in range(first, first + 6)] for first in (0, 6)]
    assert set.union(*epochs[0]) == set.union(*epochs[1]) == set(range(48))
    assert {batches.batches.before.draw(i).noise for i in range(48)} == {"", "foreign"}
    assert sorted(map(sorted, epochs[0])) != sorted(map(sorted, epochs[1])), "not the same batches again"


def test_a_result_that_was_written_but_not_entered_is_taken_as_it_is(tmp_path):
    one = RunKey("hard", 0, 64)
    (tmp_path / "runs" / one.folder).mkdir(parents=True)
    (tmp_path / "runs" / one.folder / "result.json").write_text(json.dumps(record(*one[:3], 7.0)))
    ablate.train_runs([one], tmp_path / "runs", tmp_path / "results.jsonl", 1, quiet=True)
    assert read_records(tmp_path / "results.jsonl") == [record(*one[:3], 7.0)]
    assert not list((tmp_path / "runs").iterdir())


def test_a_damaged_result_is_named(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"row": "hard"\n')
    with pytest.raises(ValueError, match="results.jsonl is damaged .*; remove the line, and its run is trained again"):
        read_records(tmp_path / "results.jsonl")


@pytest.mark.slow(minutes=1)
@pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc")
def test_a_night_that_is_killed_ends_its_runs_and_goes_on_where_they_were(tmp_path):
    out, command = tmp_path / "results.jsonl", [
        sys.executable, ablate.__file__, "distil", "--seeds", "1", "--share", "0.01", "--run",
        str(tmp_path / "runs"), "--out", str(tmp_path / "results.jsonl"), "--processes", "1", "--quiet"]
    night = subprocess.Popen(command)
    while not list(tmp_path.glob("runs/*/looks.jsonl")) and night.poll() is None:
        time.sleep(0.05)
    family_of = family(night.pid)
    night.send_signal(signal.SIGKILL)
    night.wait()
    deadline = time.time() + 60
    while time.time() < deadline and any(Path(f"/proc/{pid}").exists() for pid in family_of):
        time.sleep(0.2)
    assert not any(Path(f"/proc/{pid}").exists() for pid in family_of), "its processes end with it"
    assert list(tmp_path.glob("runs/*/state.pt")) and not out.exists()
    assert subprocess.run(command).returncode == 0
    found, = read_records(out)
    assert found["row"] == "distil" and found["steps"] == 6 and [look["step"] for look in found["looks"]] == [2, 4, 6]
    assert "".join(found["outcomes"].values()).isdecimal() and found["cpu_seconds"] is None
    assert found["outcomes"] != found["teacher_outcomes"]
