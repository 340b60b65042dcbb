"""An encoder that a config names is built again by every command."""
import sys

import pytest
import torch
from torch.testing import assert_close

import minalbef
from helpers import small
from minalbef.albef import ALBEF
from minalbef.data import data_folder
from minalbef.system.encoders import TimmEncoder
from minalbef.viz.explorer import write_explorer
from processes import Refused, command

OWN = """
import torch
from torch import nn


class Patches(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.conv = nn.Conv2d(3, config.image_width, 8, 8)

    def forward(self, image):
        x = self.conv(image).flatten(2).mT
        return torch.cat([x.mean(1, keepdim=True), x], 1)


class Narrow(Patches):
    def forward(self, image):
        return super().forward(image)[..., 1:]
"""
SETTINGS = ("epoch=64", "batch=16", "queue_size=64", "siblings_from=0", "match_from=0",
            "warm_steps=0", "share_stem=false", "device=cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a module of one's own in it."""
    (tmp_path / "encoders_of_mine.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("encoders_of_mine", None)


@pytest.mark.slow(minutes=1)
def test_every_command_takes_a_run_with_an_encoder_of_ones_own(folder):
    command("pretrain", "image_encoder=encoders_of_mine:Patches", *SETTINGS, "--run", "run",
            "--quiet")
    assert type(minalbef.load("run").model.image_encoder).__name__ == "Patches"
    assert "image to caption" in command("evaluate", "run", "--size", "0.02", "--quiet")
    command("finetune", "entailment", "epochs=0.01", "batch=16", "--from", "run", "--run",
            "tuned", "--quiet")
    command("search", "a cat", "--run", "run", "--out", "found.png")
    assert "ITC" in command("doctor", "run")
    command("explore", "run", "--images", data_folder() / "tiny", "--out", "pictures.html")
    with pytest.raises(ValueError, match="image_encoder=encoders_of_mine:Patches"):
        write_explorer(minalbef.load("run"), folder / "explorer.html")


def test_a_model_of_timms_gives_tokens_of_the_configs_width():
    config = small(image_encoder="timm:resnet10t", image_size=64, patch_size=8)
    model = ALBEF(config)
    tokens = model.encode_image(torch.randn(2, 3, 64, 64))
    assert isinstance(model.image_encoder, TimmEncoder)
    assert tokens.shape == (2, 1 + 4, config.image_width)
    model.eval()
    image = torch.randn(2, 3, 64, 64)
    encoder = model.image_encoder
    theirs = image * encoder.scale + encoder.shift       # normalised as timm's weights expect
    features = encoder.model.forward_features(theirs).flatten(2).mT
    with torch.no_grad():
        tokens = model.encode_image(image)
        assert_close(tokens[:, 0], model.image_encoder.proj(features.mean(1)))


@pytest.mark.parametrize("name, says", [
    ("vitt", "image_encoder='vitt' must be vit, timm:NAME or yourmodule:YourClass"),
    ("timm:no_such_net", "image_encoder=timm:no_such_net: .*timm.list_models"),
    ("no_such_module:Net",
     "No module named 'no_such_module'; the module must be in the folder"),
    ("encoders_of_mine:Missing", "has no attribute 'Missing'"),
    ("encoders_of_mine:Narrow", "and must give tokens .* end the encoder in an nn.Linear"),
])
def test_an_encoder_that_does_not_fit_is_refused_by_name(folder, name, says):
    with pytest.raises(Refused, match=says):
        command("pretrain", f"image_encoder={name}", *SETTINGS, "--run", "run", "--quiet")
