"""--help lists every option of a run."""
import re
from dataclasses import fields

import pytest

from commands import call
from minalbef.config import Config


@pytest.mark.parametrize("name", ["pretrain", "finetune", "demo"])
def test_help_lists_every_option_with_its_default_and_range(name):
    _, _, page = call(name, "--help").text.partition("\noptions: name=value")
    for item in fields(Config):
        assert len(re.findall(rf"^  {item.name}=\S+", page, re.M)) == 1, item.name
    assert re.search("^  batch=512 +1 to .*; of all processes together$", page, re.M)
    assert re.search("^  stem=patch +patch or conv;", page, re.M)
    assert re.search("^  compile=false +true or false;", page, re.M)
