"""A list flag of any command keeps all its values, however often it is named."""
import re

import pytest

from commands import call
from minalbef.cli.limits import join_lists


@pytest.mark.parametrize("words, joined", [
    ("--data=a lr=1 --data=b", "lr=1 --data a b"),
    ("--tuned_on a --run r --tuned-on=b", "--run r --tuned-on a b"),
    ("x --run r y", "x --run r y"), ("--data a -h", "--data a -h")])
def test_a_value_stays_with_its_flag(words, joined):
    assert join_lists(words.split(), {"--data", "--tuned-on"}) == joined.split()


@pytest.mark.parametrize("words",
                         ["pretrain --data nope/a --data nope/b",
                          "bench data --sizes 0 --sizes 48",
                                   "pretrain --data --run x"])
def test_the_command_line_joins_them(words, tmp_path):
    outcome = call(*words.split(), folder=tmp_path)
    assert outcome.failed and re.search("nope.a|sizes 0 must|--data has no value",
                                        outcome.text), outcome.text
    assert not list(tmp_path.iterdir())
