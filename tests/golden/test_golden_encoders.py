"""The encoders against the original's recorded figures: tokens, features, masks, norms' epsilons, positions, names."""
import math

import torch
from torch import nn

from golden_rule import figures, fill, image, original_state
from minalbef import vision
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.presets import preset
from minalbef.weights import key_table

CONFIG = Config(                                                 # the original's, made small
    image_size=32, patch_size=8, image_width=48, image_depth=4, image_heads=4, vocab_size=64, text_length=12,
    positions=40, text_width=48, text_depth=2, text_heads=4, fusion_depth=2, dropout=0.0, embed_dim=16, queue_size=16,
    batch=4, epoch=12, mask_rate=0.5, lr=1e-3, decay_all=True)
TOKENS = 2e-5                           # the original's float32 and float64 differ by less than 4e-6


def off(ours, theirs, atol: float, rtol: float = 0.0) -> float:
    """The worst difference, as a multiple of what is tolerated: above 1 is wrong, and so are other shapes and NaN."""
    ours, theirs = (torch.as_tensor(x, dtype=torch.float64).detach() for x in (ours, theirs))
    if ours.shape != theirs.shape or ours.isnan().any():
        return math.inf
    return ((ours - theirs).abs() / (atol + rtol * theirs.abs())).max().item()


def checksum(x: torch.Tensor) -> list:
    x = x.detach().double()
    return [x.sum().item(), x.norm().item(), list(x.shape)]


def wrong(differences: dict[str, float]) -> dict[str, float]:
    """Those that are not tolerated: {} where all is well."""
    return {name: value for name, value in differences.items() if not value <= 1}


@torch.no_grad()
def encoders() -> dict[str, float]:
    """Everything of this file that is computed: {what: worst difference over tolerance}."""
    recorded = figures("encoders")
    theirs = recorded["arrays"]
    model = fill(ALBEF(CONFIG), key_table.read(original_state(recorded["state_keys"])).student)
    pixels, tokens, keep = theirs["image"], theirs["input_ids"].long(), theirs["attention_mask"].bool()
    image_keep, lower, upper = theirs["image_mask_partial"].bool(), model.text_encoder.layers[0], model.fusion.layers[0]
    seen, text = model.encode_image(pixels), model.encode_text(tokens, keep)
    embedded, fused = model.text_encoder.embeddings(tokens), model.fuse(text, keep, seen)
    rows = torch.tensor([2, 0, 3])
    ours = {
        "vit_patch_embed": model.image_encoder.patch_embed(pixels), "vit_tokens": seen, "bert_embeddings": embedded,
        "text_layer1": lower(embedded, keep), "text_tokens": text,
        "fusion_layer_first": upper.look(upper.read(text, keep), upper.cross.keys_values(seen), None),
        "fusion_tokens": fused, "fusion_tokens_partial_image_mask": model.fuse(text, keep, seen, image_keep),
        "image_feat": model.image_feature(seen), "text_feat": model.text_feature(text),
        "mlm_logits_unmasked": model.word_logits(fused)}
    differences = {name: off(value, theirs[name], TOKENS) for name, value in ours.items()}
    pairs = model.fuse(text, keep, seen, image_keep, pairs=(rows, rows), queries=1)
    differences["pairs"] = off(pairs, theirs["fusion_tokens_partial_image_mask"][rows, :1], TOKENS)
    for grid in (6, 3):
        resized = vision.resize_positions(theirs["pos_embed_src"], grid)
        differences[f"pos_embed_{grid}x{grid}"] = off(resized, theirs[f"pos_embed_{grid}x{grid}"], 1e-6)
    faint = [model.image_encoder.cls_token, model.image_encoder.pos_embed, model.image_encoder.patch_embed.proj.bias,
             *(getattr(model.text_encoder.embeddings, f"{name}_embed").weight for name in ("word", "pos", "type"))]
    for parameter in faint:                              # then a norm's epsilon is not small against the variance
        parameter *= 1e-3
    probes = {"vit_tokens": model.encode_image(pixels * 1e-3), "bert_embeddings": model.text_encoder.embeddings(tokens),
              "text_tokens": model.encode_text(tokens, keep)}
    return differences | {f"eps_probe_{name}": off(value, theirs[f"eps_probe_{name}"], TOKENS)
                          for name, value in probes.items()}


def test_encoders_compute_what_the_original_computes():
    assert wrong(encoders()) == {}


def test_norms_that_no_faint_input_reaches_have_berts_epsilon():
    model = ALBEF(CONFIG)
    norms = [part for home in (model.fusion, model.word_head)
             for part in home.modules() if isinstance(part, nn.LayerNorm)]
    assert len(norms) == 7 and {norm.eps for norm in norms} == {1e-12}


def test_nothing_recorded_of_the_encoders_is_left_out():
    inputs = {"image", "input_ids", "attention_mask", "image_mask_partial", "pos_embed_src"}
    assert set(figures("encoders")["arrays"]) - inputs == set(encoders()) - {"pairs"}


def test_weights_and_picture_are_made_as_the_original_had_them():
    recorded = figures("encoders")
    state = original_state(recorded["state_keys"])
    for name, expected in recorded["weight_checksums"].items():
        total, norm, shape = checksum(state[name])
        assert shape == expected[2] and off([total, norm], expected[:2], 1e-6) <= 1, name
    assert image("input.image", 4, 3, 32, 32).equal(recorded["arrays"]["image"])


def test_the_papers_sizes_have_the_originals_counts_of_parameters():
    with torch.device("meta"):
        model = ALBEF(preset("paper-4m"))
    def count(*parts):
        return sum(p.numel() for part in parts for p in part.parameters())
    assert count(model.image_encoder) == 85_844_736
    assert count(model.text_encoder, model.fusion, model.word_head) == 123_697_722
    assert count(model) == 209_937_725
