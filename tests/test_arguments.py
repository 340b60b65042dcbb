"""From Python, too, a wrong argument is answered by its value, the rule and the way out."""
import re

import numpy as np
import pytest
import torch

import minalbef
from untrained import untrained

IMAGE = np.zeros((9, 9, 3), np.uint8)


@pytest.mark.parametrize("ask, says", [
    (lambda run: run.similarity(IMAGE, [5]), "text 5 is of type int and must be a str"),
    (lambda run: run.similarity(IMAGE, ["a cat", None]), "text None is of type NoneType"),
    (lambda run: run.tokenizer.encode("a cat"),
     "'a cat' is a text, and must be a list of texts"),
    (lambda run: run.match_probability(IMAGE, ["a cat", "a dog"], top=1.5),
     "top=1.5 must be a whole number"),
    (lambda run: run.match_probability(IMAGE, "a cat", top=0),
     "top=0 must be a whole number of at least 1"),
    (lambda run: run.attention([IMAGE, IMAGE], "a cat"),
     "2 images and 1 texts: a map needs one image and one"),
    (lambda run: run.explain(IMAGE, ["a cat", "a dog"]),
     "1 images and 2 texts: a map needs one"),
    (lambda run: run.model.fusion.keys_values(torch.zeros(2, 5, 40)),
     "image tokens have shape (2, 5, 40); fusion reads (b, 1 + n, 96), as config.image_width says"),
    (lambda run: minalbef.ALBEF("tiny"),
     "config='tiny' must be a Config; make one with minalbef.preset(name)"),
    (lambda run: minalbef.pretrain("tiny", "runs/x"), "config='tiny' must be a Config"),
    (lambda run: minalbef.finetune("vqa", "tiny", "runs/x", "tiny"),
     "config='tiny' must be a Config"),
    (lambda run: minalbef.evaluate("tiny", size=0), "size=0 must lie between 0.001 and 1")])
def test_a_wrong_argument_is_named_with_its_rule(ask, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(says)):
        ask(untrained())
    assert not list(tmp_path.iterdir())
