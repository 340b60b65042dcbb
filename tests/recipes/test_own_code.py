"""A run that is trained with code of yours goes on with that code alone."""
import linecache
from functools import partial
from types import ModuleType

import pytest

from captions import CAPTIONS, SIZES, prepare_captions
from minalbef.pretrain import Pretrain
from minalbef.recipes import pretrain
from minalbef.recipes.own_code import hash_code


class OwnPretrain(Pretrain):
    def weights(self, step):
        return {"itc": 0.5}


class OtherLoss(Pretrain):
    """Pretraining with a loss that it is given."""

    def __init__(self, *args, itc, **options):
        super().__init__(*args, **options)
        self.itc_loss = itc


@pytest.fixture
def run(tmp_path):
    """(make) -> pretrains in tmp_path/run, or goes on there."""
    data = prepare_captions(tmp_path, CAPTIONS)
    config = pretrain.settings("tiny", [*SIZES, "vocab_size=48", "match_from=0"], [data])

    def go(make, **changes):
        pretrain.pretrain(config, tmp_path / "run", [data], quiet=True, make=make, **changes)
    return go


def file_of(text: str) -> ModuleType:
    """A module of these lines, whose source Python finds as it does a notebook's."""
    module = ModuleType("losses_of_mine")
    text = "import torch\n" + text
    name = f"<typed {len(linecache.cache)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), module.__dict__)
    return module


LOSS = "def loss(sim, teacher_sim, alpha, positive):\n    return -torch.log_softmax({} * sim, 1)[positive].mean()\n"


@pytest.mark.parametrize("first, second, says", [
    (partial(Pretrain, without=("mlm",)), partial(Pretrain, without=("itm",)),
     "argument without: "),
    (OwnPretrain, None,
     "task class: .* there, none here; code of .*OwnPretrain: .* there, none here"),
    (partial(OtherLoss, itc=file_of(LOSS.format(1)).loss),
     partial(OtherLoss, itc=file_of(LOSS.format(2)).loss),
     "code of losses_of_mine.loss: ")])
def test_another_loss_or_task_is_refused_with_the_reason(
        run, tmp_path, first, second, says):
    run(first)
    before = (tmp_path / "run" / "state.pt").read_bytes()
    with pytest.raises(ValueError,
                       match=f"run holds a run that began from something else .*{says}.*--run"):
        run(second)
    assert (tmp_path / "run" / "state.pt").read_bytes() == before


def test_what_a_function_uses_counts_and_comments_do_not():
    texts = {
        "as it is": "SCALE = 2\ndef inner(x):\n    return SCALE * x\ndef loss(x):\n    return inner(x)\n",
        "a constant": "SCALE = 3\ndef inner(x):\n    return SCALE * x\ndef loss(x):\n    return inner(x)\n",
        "an inner function": "SCALE = 2\ndef inner(x):\n    return SCALE + x\ndef loss(x):\n    return inner(x)\n",
        "a comment": "SCALE = 2\ndef inner(x):\n    return SCALE * x  # scale\n\ndef loss(x):\n    return inner(x)\n"}
    hashes = {name: hash_code([file_of(text).loss]) for name, text in texts.items()}
    assert hashes["as it is"].keys() == {"losses_of_mine.loss", "losses_of_mine.inner"}
    assert hashes["as it is"] == hashes["a comment"]
    for change in ("a constant", "an inner function"):
        assert hashes[change] != hashes["as it is"], change
