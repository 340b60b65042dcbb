"""pretrained: ViT and BERT weights compute what they do in timm and transformers;
what is not loaded is named."""

from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch.testing import assert_close
from transformers import BertConfig, BertForMaskedLM, BertModel

from helpers import disturb, same_state, small, texts
from minalbef.albef import ALBEF
from minalbef.data import data_folder
from minalbef.presets import preset
from minalbef.tasks.run import load
from minalbef.vision import ViT
from minalbef.weights.pretrained import load_bert, load_vit

DEPTH = dict(text_depth=2, fusion_depth=2)


def timm_vit() -> VisionTransformer:
    torch.manual_seed(1)
    return disturb(VisionTransformer(24, 8, num_classes=5, embed_dim=32, depth=2, num_heads=4,
                                     mlp_ratio=2)).eval()


def our_vit() -> ViT:
    return disturb(ViT(small(stem="patch")), seed=9)


def bert(kind=BertModel):
    torch.manual_seed(2)
    config = BertConfig(vocab_size=64, hidden_size=48, num_hidden_layers=4, num_attention_heads=4,
                        intermediate_size=96, max_position_embeddings=12)
    return disturb(kind(config)).eval()


def our_albef(**changes) -> ALBEF:
    torch.manual_seed(3)
    return disturb(ALBEF(small(**DEPTH | changes)), seed=9).eval()


# ViT


@torch.no_grad()
def test_a_vit_computes_what_timms_does(tmp_path):
    reference = timm_vit()
    model = our_vit()
    source = reference.state_dict()
    torch.save({"model": source}, tmp_path / "file.pth")      # as DeiT's files have it
    report = load_vit(model, tmp_path / "file.pth")
    image = torch.randn(2, 3, 24, 24)
    assert_close(model(image), reference.forward_features(image), atol=1e-5, rtol=1e-5)
    assert set(report.unexpected) == {"head.weight", "head.bias"}
    assert not report.absent
    assert not report.resized
    assert set(report.loaded) | set(report.unexpected) == set(source)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda s: s.pop("blocks.1.norm2.bias"), "missing blocks.1.norm2.bias"),
        (
            lambda s: s.update({"dist_token": torch.ones(1, 1, 32)}),
            "has dist_token: it is not a plain ViT.*deit_base_patch16_224",
        ),
    ],
)
def test_a_vit_that_does_not_fit_is_refused_by_name(change, says):
    state = timm_vit().state_dict()
    change(state)
    with pytest.raises(ValueError, match=says):
        load_vit(our_vit(), state)


def test_of_a_run_the_image_encoder_is_taken():
    encoder = ViT(preset("tiny"))
    report = load_vit(encoder, "tiny/start")
    start = load(data_folder() / "tiny" / "start").model.image_encoder.state_dict()
    for name, value in encoder.state_dict().items():
        assert_close(value, start[name], atol=0, rtol=0)
    assert len(report.loaded) == len(start) and "start" in report.source


# BERT


def compare(
    model: ALBEF, reference: BertModel, tokens: torch.Tensor,
    keep: torch.Tensor, atol: float = 1e-5
):
    """Text tokens as a whole; of every fusion layer,
    what comes before and after cross-attention, which BERT lacks."""
    below = len(model.text_encoder.layers)
    hidden = reference(tokens, attention_mask=keep.long(),
                       output_hidden_states=True).hidden_states
    assert_close(model.encode_text(tokens, keep)[keep],
                 hidden[below][keep], atol=atol, rtol=1e-5)
    assert len(reference.encoder.layer) == below + len(model.fusion.layers)
    for layer, bert_layer, x, y in zip(
        model.fusion.layers, reference.encoder.layer[below:],
        hidden[below:], hidden[below + 1 :]
    ):
        x = layer.norm1(x + layer.attn(x, keep=keep))
        assert_close(layer.norm2(x + layer.mlp(x))[keep], y[keep], atol=atol, rtol=1e-5)


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
@torch.no_grad()
def test_bert_computes_what_transformers_does(kind):
    """With a word head the keys are those of BERT's first release, as the hub's files have them."""
    reference = bert(kind)
    has_head = kind is BertForMaskedLM
    source = reference.state_dict()
    if has_head:
        source = {key.replace("LayerNorm.weight", "LayerNorm.gamma")
                  .replace("LayerNorm.bias", "LayerNorm.beta"): value
                  for key, value in source.items()}
        source["bert.embeddings.position_ids"] = torch.arange(12)[None]
    model = our_albef()
    fresh = {name: value.clone()
             for name, value in model.state_dict().items() if "cross" in name}
    report = load_bert(model, source)
    tokens, keep = texts(3, 9)
    compare(model, reference.bert if has_head else reference, tokens, keep)
    assert set(report.loaded) | set(report.unexpected) == set(source)
    assert {name for name in report.absent if "cross" in name} == set(fresh)
    for name, value in fresh.items():
        assert model.state_dict()[name].equal(value), "cross-attention keeps its start"
    assert any(name.startswith("word_head.") for name in report.absent) == (not has_head)
    for key in report.unexpected:
        assert "pooler" in key or "seq_relationship" in key
    if has_head:
        x = torch.randn(2, 5, 48)
        assert_close(model.word_logits(x), reference.cls.predictions(x), atol=1e-5, rtol=1e-5)


# names on the hub


@pytest.fixture
def hub(monkeypatch):
    """A hub of made-up repositories: name -> its files."""
    repositories: dict[str, dict[str, Path]] = {}

    def download(repository: str, name: str) -> str:
        if repository not in repositories:
            raise errors.LocalEntryNotFoundError(
                "cannot find the requested files; check your connection"
            )
        if name not in repositories[repository]:
            raise errors.EntryNotFoundError(f"404: {name}")
        return str(repositories[repository][name])

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return repositories


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_name_is_fetched_from_the_hub_in_either_form(hub, tmp_path, name):
    for part, model in (("vit", timm_vit()), ("bert", bert())):
        hub[f"a/{part}"] = {name: tmp_path / part / name}
        (tmp_path / part).mkdir()
        state = {key: value.clone() for key, value in model.state_dict().items()}
        save_file(state, tmp_path / part / name) if "safe" in name else torch.save(
            state, tmp_path / part / name
        )
    by_name = our_albef(stem="patch")
    by_file = our_albef(stem="patch")
    assert load_vit(by_name.image_encoder, "a/vit").loaded
    assert load_bert(by_name, "a/bert").loaded
    load_vit(by_file.image_encoder, tmp_path / "vit" / name)
    load_bert(by_file, tmp_path / "bert" / name)
    assert same_state(by_name.state_dict(), by_file.state_dict())


@pytest.mark.parametrize(
    "load, name, address",
    [
        (
            load_vit,
            "deit_base_patch16_224",
            "timm/deit_base_patch16_224.fb_in1k/resolve/main/model.safetensors",
        ),
        (
            load_bert,
            "google-bert/bert-base-uncased",
            "google-bert/bert-base-uncased/resolve/main/model.safetensors",
        ),
    ],
)
def test_without_a_network_the_file_to_fetch_is_named(hub, load, name, address):
    says = f"could not fetch .*check your connection.*fetch https://huggingface.co/{address}.*pass its path"
    with pytest.raises(ValueError, match=says):
        load(our_vit() if load is load_vit else our_albef(), name)
