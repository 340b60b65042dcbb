"""What --help says is whole: every parameter is described, and no sentence breaks off."""
import re
from dataclasses import fields

import pytest

from commands import call
from minalbef.cli import main as command_line
from minalbef.config import Config

DANGLING = {"is", "which", "a", "an", "the", "of", "or", "and", "by", "to", "for", "with", "from"}
KIND = re.compile(r"STR|PATH|INT|FLOAT|--[a-z-]+|.*[\]}]")    # a flag, or the kind of its values: PATH, {a,b}


@pytest.mark.parametrize("name", [*command_line.COMMANDS, *command_line.BENCHES])
def test_every_parameter_is_described_by_a_whole_sentence(name):
    page = re.sub(r"[\s│]+", " ", call(*name.split(), "--help").text)
    described = re.findall(r"(\S*\w\S*) \((?:default:|required\))", page)
    assert described or name == "bench"
    for last in described:
        assert last not in DANGLING and not KIND.fullmatch(last), f"{last!r} is the last word of a description"


@pytest.mark.parametrize("words", [["--help"], []])
def test_the_command_line_shows_every_command_in_its_group_on_a_line(words):
    lines = call(*words).text.splitlines()
    groups: dict[str, list[str]] = {}
    title = ""
    for line in lines[lines.index("begin"):]:
        if line.startswith("  "):
            groups[title].append(line.split()[0])
        elif line:
            title = line
            groups[title] = []
    assert groups == {title: [*commands] for title, commands in command_line.GROUPS.items()}
    assert list(groups) == ["begin", "data", "train", "use", "measure"]


@pytest.mark.parametrize("name", ["pretrain", "finetune", "demo"])
def test_help_lists_every_option_with_its_default_and_range(name):
    _, _, page = call(name, "--help").text.partition("\noptions: name=value")
    for item in fields(Config):
        assert len(re.findall(rf"^  {item.name}=\S+", page, re.M)) == 1, item.name
    assert re.search("^  batch=512 +1 to .*; of all processes together$", page, re.M)
    assert re.search("^  stem=patch +patch or conv;", page, re.M)
    assert re.search("^  compile=false +true or false;", page, re.M)


def test_a_command_without_options_of_a_run_lists_none():
    assert "options: name=value" not in call("search", "--help").text
