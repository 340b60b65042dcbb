"""Scripts of notebooks/results: a forecast worked out by hand, and NLVR2's layers that share more or less."""
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from helpers import disturb, small, texts
from minalbef.albef import ALBEF
from minalbef.tasks.nlvr2 import PairModel

RESULTS = Path(__file__).parents[2] / "notebooks" / "results"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"results_{name}", RESULTS / f"{name}.py")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def share(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def rows(intercept: float, slope: float, *samples: int) -> list[dict]:
    return [{"step": n, "seconds": 1.0, "samples": n, "relation": share(intercept + slope * math.log(n))}
            for n in samples]


def test_a_curve_that_is_a_line_in_logits_is_forecast_without_a_miss():
    curve = rows(-8.0, 1.0, *range(1000, 11_000, 1000))
    found = script("forecast").forecast(curve[:6], curve, 40_000)["relation"]
    ten, forty = (round(share(math.log(n) - 8), 3) for n in (10_000, 40_000))
    assert found == {"tested": ten, "found": ten, "miss": 0, "mean": forty, "low": forty, "high": forty}


def test_the_interval_is_twice_the_miss_on_each_side_in_logits():
    """The first curve stays at 1/2, logit 0; the second at logit 1: its forecast is 1 ± 2. Place misses by nothing."""
    before, run = ([{**row, "place": 0.5, "size": 0.5} for row in rows(at, 0.0, 1, 2, 3, 4)]
                   for at in (0.0, 1.0))
    found = script("forecast").forecast(before, run, 900)
    assert found["relation"]["miss"] == 1 and found["place"]["miss"] == 0
    assert found["relation"]["low"] == round(share(-1), 3) and found["relation"]["high"] == round(share(3), 3)
    assert found["place"] == {"tested": 0.5, "found": 0.5, "miss": 0, "mean": 0.5, "low": 0.5, "high": 0.5}


def test_no_interval_is_narrower_than_the_median_miss_allows():
    before, run = ([{**row, "place": share(at), "size": 0.5} for row in rows(at, 0.0, 1, 2, 3, 4)] for at in (0.0, 1.0))
    size = script("forecast").forecast(before, run, 900)["size"]
    assert size["miss"] == 0 and (size["low"], size["high"]) == (round(share(-2), 3), round(share(2), 3))


def test_only_the_last_half_of_a_curve_counts_and_certainty_has_an_end():
    curve = rows(0.0, 0.0, 100, 200)
    curve = [{**row, "relation": 0.9} for row in curve] + [{**row, "samples": 10 * row["samples"], "relation": 1.0}
                                                           for row in curve]
    assert script("forecast").extend(curve, "relation", 10_000) == pytest.approx(math.log(0.998 / 0.002))


def test_the_forecast_of_small_is_what_the_two_curves_say():
    module, said = script("forecast"), json.loads((RESULTS / "forecast.json").read_text(encoding="utf-8"))
    assert said["figures"] == module.forecast(module.curve("tiny"), module.curve("desk"), said["samples"])


def test_pairs_that_share_nothing_or_everything_begin_as_the_same_model():
    module, config = script("sharing"), small(fusion_depth=3)
    image, (tokens, keep) = torch.randn(4, 3, 24, 24), texts(3, 8, lengths=[8, 5, 3])
    albef, pairs, trained = disturb(ALBEF(config), 0.1), torch.tensor([[0, 1], [2, 1], [3, 3]]), {}
    for what in module.SHARES:
        model = PairModel(config, torch.nn.Linear(config.text_width, 2))
        model.start(albef)
        before = model(image, pairs, tokens, keep)
        first, second = module.share(model, what).albef.fusion.layers[:2]
        after = model(image, pairs, tokens, keep)
        assert torch.equal(after, before)
        tied = second.cross.q.weight is first.cross.q.weight, second.cross.k is None
        assert tied == {"nothing": (False, False), "keys and values": (False, True), "everything": (True, True)}[what]
        after.square().sum().backward()
        trained[what] = sum(one.grad is not None for one in model.parameters())
    assert trained["nothing"] > trained["keys and values"] > trained["everything"]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("curve_*.json")), ids=lambda path: path.stem)
def test_a_curve_is_of_the_settings_that_its_command_has_today(path):
    measured = json.loads(path.read_text(encoding="utf-8"))
    today = json.loads(json.dumps(script("curve").RUNS[path.stem[6:]].to_dict()))
    assert measured["command"] == f"python notebooks/results/curve.py {path.stem[6:]}" and len(measured["rows"]) == 10
    assert measured["config"] == {name: today[name] for name in measured["config"]}
    assert measured["rows"][-1]["samples"] == today["epochs"] * today["epoch"]
