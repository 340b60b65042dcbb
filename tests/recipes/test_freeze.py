"""--freeze: an encoder stays as it is, in pretraining and fine-tuning, and on resume."""
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from captions import CAPTIONS, SIZES, prepare_captions, stop_at
from helpers import same_state
from minalbef.pretrain import Pretrain
from minalbef.recipes import finetune, pretrain
from minalbef.train import Stopped


def part(weights: dict, name: str) -> dict:
    return {key: value for key, value in weights.items() if key.startswith(name)}


def test_a_frozen_encoder_keeps_its_bits_and_all_else_learns(tmp_path, monkeypatch):
    data = prepare_captions(tmp_path, CAPTIONS)
    config = pretrain.settings("tiny", [*SIZES, "vocab_size=48", "match_from=0"], [data])
    first = pretrain.begin(config, [data])[0].student.state_dict()
    kept = replace(config, freeze="image")
    options = dict(data=[data], quiet=True, make=Pretrain)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(patch, 2)
        pretrain.pretrain(kept, tmp_path / "run", **options)
    with pytest.raises(ValueError, match="freeze: image there"):
        pretrain.pretrain(config, tmp_path / "run", **options)
    pretrain.pretrain(kept, tmp_path / "run", **options)
    last = load_file(tmp_path / "run" / "model.safetensors")
    assert same_state(part(last, "image_encoder."), part(first, "image_encoder."))
    for name in ("text_encoder.", "fusion.", "image_proj."):
        assert not same_state(part(last, name), part(first, name)), name
    changes = ("epochs=1", "batch=4", "warmup_steps=0", "image_size=16", "freeze=image,text")
    tuning = finetune.settings("retrieval", tmp_path / "run", changes, [data])
    finetune.finetune("retrieval", tmp_path / "run", tmp_path / "tuned", tuning, [data],
                      quiet=True)
    tuned = load_file(tmp_path / "tuned" / "model.safetensors")
    for name in ("image_encoder.", "text_encoder."):
        assert same_state(part(tuned, name), part(last, name))
    assert not same_state(part(tuned, "fusion."), part(last, "fusion."))


@pytest.mark.parametrize("encoder, flag", [("image", "--vit"), ("text", "--bert")])
def test_random_weights_are_not_frozen(encoder, flag, tmp_path):
    data = prepare_captions(tmp_path, CAPTIONS)
    config = pretrain.settings("tiny", [*SIZES, "vocab_size=48"], [data], freeze=[encoder])
    with pytest.raises(ValueError, match=f"freeze={encoder}: .* random initialisation; .* {flag}"):
        pretrain.pretrain(config, tmp_path / "run", [data], quiet=True)
    assert not (tmp_path / "run" / "model.safetensors").exists()
