"""docs/extend.md: every block of it runs, and what it promises holds."""
import re
from pathlib import Path

import torch

import minalbef
from minalbef.albef import ALBEF
from minalbef.system.checkpoint import read_run
from minalbef.system.metrics import read_metrics

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"


def losses(folder: Path) -> set[str]:
    return set(read_metrics(folder)[-1]) & {"itc", "itm", "mlm"}


def test_the_page_runs_and_its_runs_are_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        exec(compile(block, "docs/extend.md", "exec"), names)
    runs = Path("runs")

    # another contrastive loss
    assert losses(runs / "sigmoid") == {"itc", "itm", "mlm"}
    sim = torch.tensor([[12.0, 9.0]])
    positive = torch.tensor([[True, False]])
    by_hand = torch.log1p(torch.exp(torch.tensor([-2.0, -1.0]))).sum()
    assert torch.isclose(names["sigmoid_loss"](sim, None, 0.0, positive), by_hand)

    # an objective left out
    assert losses(runs / "no-mlm") == {"itc", "itm"}

    # an encoder of timm's, loaded again
    run = minalbef.load(runs / "timm")
    name = "image_encoder.model.cls_token"
    assert run.model.state_dict()[name].equal(read_run(runs / "timm")[3][name])
    assert not ALBEF(run.config).state_dict()[name].equal(run.model.state_dict()[name])
    assert "TimmEncoder, to tokens of width 96" in str(run)

    # a dataset of one's own
    assert read_run(runs / "squares")[1] == "retrieval"
    assert read_metrics(runs / "squares")
