"""A run that is trained with code of yours goes on with that code alone."""
from dataclasses import replace
from functools import partial
from types import ModuleType

import pytest
import torch
from torch import nn

from captions import CAPTIONS, SIZES, prepare_captions
from helpers import small
from minalbef.albef import ALBEF
from minalbef.pretrain import Pretrain
from minalbef.recipes import finetune, own_code, pretrain
from minalbef.recipes.own_code import hash_code, origin_of_code
from minalbef.system import checkpoint
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import retrieval
from minalbef.tasks.table import TASKS

SCALE = 2.0


def scaled(sim):
    return SCALE * sim


def own_loss(sim, teacher_sim, alpha, positive):
    return -torch.log_softmax(scaled(sim), 1)[positive].mean()


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
    """A module of these lines, which has no file."""
    module = ModuleType("losses_of_mine")
    exec(compile("import torch\n" + text, "<typed>", "exec"), module.__dict__)
    return module


LOSS = "def loss(sim, teacher_sim, alpha, positive):\n    return -torch.log_softmax({} * sim, 1)[positive].mean()\n"


@pytest.mark.parametrize("first, second, says", [
    (partial(OtherLoss, itc=own_loss), None, "it had argument itc, which is missing here"),
    (partial(OtherLoss, itc=own_loss), Pretrain, "it had argument itc, which is missing here"),
    (None, partial(OtherLoss, itc=own_loss), "it did not have argument itc"),
    (partial(Pretrain, without=("mlm",)), partial(Pretrain, without=("itm",)), "its argument without differs"),
    (OwnPretrain, None, "it had task class, which is missing here; it had code of .*OwnPretrain"),
    (partial(OtherLoss, itc=file_of(LOSS.format(1)).loss), partial(OtherLoss, itc=file_of(LOSS.format(2)).loss),
     "its code of losses_of_mine.loss differs")])
def test_another_loss_or_task_is_refused_with_the_reason(run, tmp_path, first, second, says):
    run(first)
    before = (tmp_path / "run" / "state.pt").read_bytes()
    with pytest.raises(ValueError, match=f"run holds a run that began from something else: .*{says}.*--run"):
        run(second)
    assert (tmp_path / "run" / "state.pt").read_bytes() == before


def test_the_same_code_goes_on_and_the_default_task_by_name_is_the_default(run):
    run(partial(OtherLoss, itc=own_loss))
    run(partial(OtherLoss, itc=own_loss))


def test_a_run_of_the_default_task_goes_on_by_its_name(run):
    run(None)
    run(Pretrain)


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


def test_code_that_a_class_a_closure_a_default_or_a_module_holds_is_looked_at():
    inner = file_of("def loss(x):\n    return x\n").loss

    def closure(x):
        return inner(x)

    def default(x, inner=inner):
        return inner(x)

    class Holder(nn.Module):
        loss = staticmethod(inner)

    for part in (closure, default, Holder, partial(map, inner), type("Heir", (Holder,), {})):
        assert "losses_of_mine.loss" in hash_code([part]), part
    assert not hash_code([torch.relu, nn.Linear, Pretrain, map, len])


def test_a_notebooks_functions_are_yours_though_jupyter_is_installed(monkeypatch):
    function = file_of("def loss(x):\n    return x\n").loss
    function.__module__ = "__main__"
    main = ModuleType("__main__")
    main.__file__ = "/lib/site-packages/ipykernel_launcher.py"
    monkeypatch.setitem(own_code.sys.modules, "__main__", main)
    assert hash_code([function]).keys() == {"__main__.loss"}


def test_the_order_of_a_sets_words_does_not_count():
    """It differs from process to process."""
    a, b = {"x": frozenset("abcdefgh")}, {"x": frozenset("hgfedcba")}
    assert own_code.describe_value(a) == own_code.describe_value(b)


class OwnRetrieval(retrieval.Retrieval):
    def weights(self, step):
        return {"itc": 0.5}


def test_fine_tuning_goes_on_with_the_module_that_it_began_with(tmp_path, monkeypatch):
    tokenizer = Tokenizer.train(CAPTIONS, 64)
    checkpoint.save(tmp_path / "source", ALBEF(small(vocab_size=len(tokenizer))), tokenizer)
    data = prepare_captions(tmp_path, CAPTIONS)
    changes = ("epochs=1", "batch=4", "warmup_steps=0", "image_size=24", "queue_size=8")
    config = finetune.settings("retrieval", tmp_path / "source", changes, [data])

    def tune():
        finetune.finetune("retrieval", tmp_path / "source", tmp_path / "run", config, [data], quiet=True)
    with monkeypatch.context() as patch:
        patch.setitem(TASKS, "retrieval", replace(TASKS["retrieval"], module=OwnRetrieval))
        tune()
        tune()
    with pytest.raises(ValueError, match="it had code of .*OwnRetrieval.*, which is missing here"):
        tune()


def test_of_the_default_task_nothing_enters_the_origin():
    task = Pretrain(small(), special=(0, 1, 2, 3, 4), mask=4, rates=torch.full((64,), 0.15))
    assert origin_of_code(Pretrain, task, (Pretrain,)) == {}
    assert list(origin_of_code(partial(Pretrain, without=("mlm",)), task, (Pretrain,))) == ["argument without"]
