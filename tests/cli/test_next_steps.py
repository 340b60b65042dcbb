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
from minalbef.recipes.doctor import examine
from minalbef.tasks.table import TASKS

RUN, FOLDER = Path("runs", "a"), Path("prepared", "a")


def suggestions() -> set[str]:
    """Every command that a function of `next_steps` can name."""
    found = [next_steps.after_preparing(name, FOLDER) for name in ("pairs", *SETS)]
    found += [next_steps.predict_with(name, RUN) for name in TASKS]
    found += [next_steps.after_doctor(examine("tiny"), ())]
    found += [next_steps.after_finetuning(name, RUN, [FOLDER]) for name in TASKS]
    return {command for command in found if command}


@pytest.mark.slow(minutes=1)
def test_every_command_that_comes_next_exists_and_takes_its_flags(monkeypatch, capsys):
    found = suggestions()
    assert len(found) >= 15
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


def test_a_finding_ends_in_its_own_advice(tmp_path):
    diagnosis = examine("tiny")
    assert next_steps.after_doctor(diagnosis, ()) == f"evaluate {diagnosis.folder}"
    assert next_steps.after_doctor(replace(diagnosis, step=9), ()) is None, "training hasn't ended"
    assert next_steps.after_doctor(replace(diagnosis, findings=["it is ill"]), ()) is None
    sets = replace(diagnosis, config=replace(diagnosis.config, objects=0))
    (tmp_path / "about.json").write_text("{}", encoding="utf-8")
    assert next_steps.after_doctor(sets, (tmp_path / "train",)).endswith(f"--data {tmp_path}/test")
    assert next_steps.after_doctor(sets, ()).endswith(f"--data {Path('prepared', 'SET')}/test")


def test_text_assignment_is_for_nlvr2_and_the_best_weights_are_evaluated(tmp_path):
    following = next_steps.after_finetuning("text_assignment", RUN, [FOLDER])
    assert following.startswith(f"finetune nlvr2 --from {RUN} ")
    (tmp_path / "best").mkdir()
    following = next_steps.after_finetuning("vqa", tmp_path, [FOLDER])
    assert following == f"evaluate {tmp_path / 'best'} --data {FOLDER}/test"


def test_training_that_another_command_started_does_not_say_what_comes_next(monkeypatch):
    assert next_steps.ends_here()
    monkeypatch.setenv("RANK", "1")
    assert not next_steps.ends_here()
    monkeypatch.delenv("RANK")
    monkeypatch.setenv("MINALBEF_LAUNCHED", "followed")
    assert not next_steps.ends_here()
