"""What --help says is whole: every parameter is described, and no sentence breaks off."""
import re

import pytest

from commands import call
from minalbef.cli import main as command_line

DANGLING = {"is", "which", "a", "an", "the", "of", "or", "and", "by", "to", "for", "with", "from"}
KIND = re.compile(r"STR|PATH|INT|FLOAT|--[a-z-]+|.*[\]}]")    # a flag, or the kind of its values: PATH, {a,b}


@pytest.mark.parametrize("name", [*command_line.COMMANDS, *command_line.BENCHES])
def test_every_parameter_is_described_by_a_whole_sentence(name):
    page = re.sub(r"[\s│]+", " ", call(*name.split(), "--help").text)
    described = re.findall(r"(\S*\w\S*) \((?:default:|required\))", page)
    assert described or name == "bench"
    for last in described:
        assert last not in DANGLING and not KIND.fullmatch(last), f"{last!r} is the last word of a description"


@pytest.mark.parametrize("word, says", [("nope", "no option has 'nope' in its line"),
                                        ("queu_size", "did you mean 'queue_size'"), ("Batch", "did you mean 'batch'")])
def test_an_unknown_option_is_an_error_with_the_nearest_name(word, says):
    outcome = call("options", word)
    assert outcome.status == 2 and says in outcome.text
    assert call("options", "queue").status == 0
