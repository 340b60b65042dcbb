"""The last line of a long command names one that the command line has, with flags that it takes."""
import re
import shlex
import sys
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
    assert len(found) > 15
    for command in found:
        words = shlex.split(command)
        assert words[0] in command_line.COMMANDS, command
        monkeypatch.setattr(sys, "argv", ["minalbef", words[0], "--help"])
        with pytest.raises(SystemExit):
            main()
        shown = capsys.readouterr().out
        assert not [word for word in words if word.startswith("--") and not re.search(rf"{word}\b", shown)], command
