"""ALBEF's successors: each learns, and its run is recorded; chapter 18 has the rest."""
import math
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks" / "experiments" / "after"))

import after  # noqa: E402
import false_captions  # noqa: E402
from minalbef.cli.main import run_script  # noqa: E402
from minalbef.recipes import pretrain  # noqa: E402


@pytest.fixture
def few_captions(monkeypatch):
    """The tokenizer learns from few captions, which takes less time."""
    monkeypatch.setattr(pretrain, "CAPTIONS", 300)


FEW = {"batch": 16, "queue_size": 32, "bucket": 2, "match_from": 0.0, "queue_from": 1.0,
       "hard_from": 0.0}
AT_CHANCE = {"itm", "itm_box", "itc_box"}        # losses that begin there, and stay a while
RECIPES = ("siglip", "filip", "xvlm", "blip", "coca", "llava-trained", "oracle")


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_learns_from_the_shipped_image_encoder(name, few_captions):
    recipe = after.RECIPES[name]
    config = after.config_of(recipe, 2, 10, FEW | {"warmup_steps": 2})
    assert config.steps == 10 and config.siblings == 0 and config.warm_steps == 0
    pairs = []
    if recipe.pairs:
        pairs = [pair for pair in false_captions.noisy_set(config, 64) if not pair.noise]
    task, tokenizer, config = after.begin(recipe, config)
    shipped = after.load(after.data_folder() / recipe.start).model.image_encoder.state_dict()
    for key, value in task.student.image_encoder.state_dict().items():
        assert value.equal(shipped[key])
    batch = after.make_batches(recipe, config, tokenizer, pairs)(0)
    rows = after.train_steps(task, lambda step: batch, config, range(10))
    assert all(map(math.isfinite, rows[-1].values()))
    for loss in rows[0].keys() - AT_CHANCE:
        assert rows[-1][loss] < rows[0][loss], loss


@pytest.fixture
def quick(monkeypatch, tmp_path, few_captions):
    """`after.py` whose runs are short and are asked few questions."""
    train_run = after.train_run
    out = tmp_path / "after.json"

    def train_short(*arguments):
        return train_run(*arguments, share=0.03, changes=FEW)

    def call(words):
        command = f"after.py {words} --out {out} --run {tmp_path}"
        monkeypatch.setattr(sys, "argv", command.split())
        run_script(after.main)
        return after.read_runs(out)

    monkeypatch.setattr(after, "train_run", train_short)
    monkeypatch.setattr(after, "TIMED", 2)
    monkeypatch.setattr(after, "WARM", 2)
    return call


def test_a_run_is_recorded_and_not_trained_twice(
        quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(after, "seconds_per_step", lambda recipe, config, pairs: 0.25)
    (first,) = quick("coca --seed 7 --cpu 1")
    assert first["steps"] == 4 and first["cpu"] > 0
    assert " coca --seed 7 --steps 4 --out " in first["command"]
    assert {"itc r1", "likelihood relation", "next all"} <= first["figures"].keys()
    assert not any(name.startswith(("itm", "word")) for name in first["figures"])
    monkeypatch.setattr(after, "train_run", lambda *arguments: pytest.fail("trained again"))
    assert quick("coca --seed 7 --cpu 1") == [first]
    assert "coca, seed 7: is in" in capsys.readouterr().out


def test_a_mistake_is_one_line(quick, capsys):
    with pytest.raises(SystemExit):
        quick("siglipp")
    error = " ".join(capsys.readouterr().err.split())
    assert "no recipe 'siglipp' (did you mean 'siglip'?); there are all, base" in error
