"""docs/extend.md: every block of it runs, and what it promises holds."""
import re
from pathlib import Path

import pytest
import torch

import minalbef
from minalbef.albef import ALBEF
from minalbef.pretrain import Pretrain
from minalbef.system.checkpoint import read_run
from minalbef.system.metrics import read_metrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The names that the page defines, and the folder in which it ran."""
    folder = tmp_path_factory.mktemp("page")
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            exec(compile(block, "docs/extend.md", "exec"), names)
        yield names, folder / "runs"


def losses(folder: Path) -> set[str]:
    return set(read_metrics(folder)[-1]) & {"itc", "itm", "mlm"}


def test_another_contrastive_loss_trains(page):
    names, runs = page
    assert losses(runs / "sigmoid") == {"itc", "itm", "mlm"}
    sim = torch.tensor([[12.0, 9.0]])
    positive = torch.tensor([[True, False]])
    by_hand = torch.log1p(torch.exp(torch.tensor([-2.0, -1.0]))).sum()
    assert torch.isclose(names["sigmoid_loss"](sim, None, 0.0, positive), by_hand)
    first = read_metrics(runs / "sigmoid")[0]["itc"]
    assert float(first) != float(read_metrics(runs / "no-mlm")[0]["itc"])


def test_an_objective_that_is_left_out_is_not_computed(page):
    assert losses(page[1] / "no-mlm") == {"itc", "itm"}
    with pytest.raises(ValueError, match=r"without=\['itc'\]: only itm and mlm can be left out"):
        Pretrain(minalbef.preset("tiny"), without=("itc",))


def test_an_encoder_of_timms_trains_and_is_loaded_again(page):
    _, runs = page
    run = minalbef.load(runs / "timm")
    name = "image_encoder.model.cls_token"
    saved = read_run(runs / "timm")[3][name]
    assert run.model.state_dict()[name].equal(saved)
    assert not ALBEF(run.config).state_dict()[name].equal(saved), "it has not learnt"
    assert "TimmEncoder, to tokens of width 96" in str(run)


def test_a_dataset_of_ones_own_trains_a_run(page):
    assert read_run(page[1] / "squares")[1] == "retrieval"
    assert len(read_metrics(page[1] / "squares")) > 0
