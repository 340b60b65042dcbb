"""The last line of a long command names one that the command line has, with flags that it takes."""
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from minalbef.cli import main as command_line
from minalbef.cli import next_steps
from minalbef.cli.main import main
from minalbef.datasets.catalogue import SETS
from minalbef.gpu_check.parts import FAIL, PASS, SKIPPED, Result
from minalbef.recipes.plan import plan
from minalbef.recipes.rehearse import rehearsals
from minalbef.tasks.table import TASKS

RUN, FOLDER = Path("runs", "a"), Path("prepared", "a")
PRESETS = ("tiny", "desk", "small", *rehearsals())
GPU = {"speed": Result(PASS, ""), "memory": Result(PASS, "")}


def call(monkeypatch, capsys, *words: str) -> list[str]:
    """What `minalbef WORDS` prints, as lines."""
    monkeypatch.setattr(sys, "argv", ["minalbef", *words])
    main()
    return capsys.readouterr().out.splitlines()


def suggestions() -> set[str]:
    """Every command that a function of `next_steps` can name."""
    fitting = [(name, replace(plan(name, gpu=gpu), accumulate=1)) for name in PRESETS for gpu in ("H100", "CPU")]
    found = [next_steps.after_planning(name, costs) for name, costs in fitting]
    found += [next_steps.after_preparing(name, FOLDER) for name in ("pairs", *SETS)]
    found += [next_steps.predict_with(name, RUN) for name in TASKS]
    found += [next_steps.after_finetuning(name, RUN, [FOLDER]) for name in TASKS]
    found += [next_steps.after_gpu_check(GPU)]
    return {command for command in found if command}


@pytest.mark.slow(minutes=1)
def test_every_command_that_comes_next_exists_and_takes_its_flags(monkeypatch, capsys):
    found = suggestions()
    assert len(found) > 15
    for command in found:
        words = shlex.split(command)
        assert words[0] in command_line.COMMANDS, command
        monkeypatch.setattr(sys, "argv", ["minalbef", words[0], "--help"])
        with pytest.raises(SystemExit):
            main()
        shown = capsys.readouterr().out
        assert not [word for word in words if word.startswith("--") and not re.search(rf"{word}\b", shown)], command


@pytest.mark.parametrize("name, command", [
    ("pairs", "pretrain --data prepared/a --run runs/own"),
    ("coco", "pretrain --preset base --data prepared/a --run runs/base"),
    ("flickr30k", "finetune retrieval --data prepared/a --from RUN"),
    ("vqa", "finetune vqa --data prepared/a --from RUN"),
    ("winoground", "evaluate RUN --data prepared/a/test")])
def test_a_prepared_set_is_trained_on_or_only_evaluated(name, command):
    assert next_steps.after_preparing(name, FOLDER) == command.replace("prepared/a", str(FOLDER))


def test_a_task_that_cannot_be_asked_names_no_command_and_one_of_two_images_takes_two(capsys):
    assert next_steps.predict_with("text_assignment", RUN) is next_steps.predict_with("choice", RUN) is None
    assert next_steps.predict_with("nlvr2", RUN) == f'predict nlvr2 --image LEFT RIGHT --text "STATEMENT" --run {RUN}'
    next_steps.announce(None)
    assert capsys.readouterr().out == ""


def test_text_assignment_is_for_nlvr2_and_the_best_weights_are_evaluated(tmp_path):
    assert next_steps.after_finetuning("text_assignment", RUN, [FOLDER]).startswith(f"finetune nlvr2 --from {RUN} ")
    (tmp_path / "best").mkdir()
    command = next_steps.after_finetuning("vqa", tmp_path, [FOLDER])
    assert command == f"evaluate {tmp_path / 'best'} --data {FOLDER}/test"


def test_a_failed_part_and_a_plan_that_does_not_fit_end_in_their_own_advice():
    assert next_steps.after_gpu_check(GPU | {"feed": Result(FAIL, "")}) is None
    assert next_steps.after_gpu_check(GPU | {"feed": Result(SKIPPED, "")}) is None
    assert next_steps.after_planning("paper-14m", plan("paper-14m", gpu="RTX-4090")) is None


def test_a_dry_run_and_a_plan_end_by_naming_the_next_command(monkeypatch, capsys):
    small = "image_size=32 patch_size=16 image_depth=1 text_depth=1 fusion_depth=1 image_width=32 text_width=32 " \
            "image_heads=2 text_heads=2 queue_size=8 vocab_size=400"
    shown = call(monkeypatch, capsys, "dry-run", "paper-4m", *small.split(), "--steps", "1")
    assert shown[-1] == "next: minalbef plan paper-4m (its hours and memory on your GPUs)"
    assert call(monkeypatch, capsys, "plan", "small")[-1] == "next: minalbef gpu-check"
    assert call(monkeypatch, capsys, "plan", "tiny", "--gpu", "CPU")[-1] == "next: minalbef pretrain --preset tiny"


def test_training_that_another_command_started_does_not_say_what_comes_next(monkeypatch):
    assert next_steps.ends_here()
    monkeypatch.setenv("RANK", "1")
    assert not next_steps.ends_here()
    monkeypatch.delenv("RANK")
    monkeypatch.setenv("MINALBEF_LAUNCHED", "followed")
    assert not next_steps.ends_here()
