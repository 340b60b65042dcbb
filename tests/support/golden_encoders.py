"""The encoders' figures beside those that the original's code recorded, at both's small size."""
import torch

from golden_rule import figures, fill, off, original_state
from minalbef import vision
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.weights import key_table

# the original's, made small
CONFIG = Config(
    image_size=32, patch_size=8, image_width=48, image_depth=4, image_heads=4, vocab_size=64,
    text_length=12, positions=40, text_width=48, text_depth=2, text_heads=4, fusion_depth=2,
    dropout=0.0, embed_dim=16, queue_size=16, batch=4, epoch=12, mask_rate=0.5, lr=1e-3,
    decay_all=True,
)
TOKENS = 2e-5  # the original's float32 and float64 differ by less than 4e-6


@torch.no_grad()
def encoders() -> dict[str, float]:
    """All that is computed and was recorded: {what: worst difference over tolerance}."""
    recorded = figures("encoders")
    arrays = recorded["arrays"]
    model = fill(ALBEF(CONFIG), key_table.read(original_state(recorded["state_keys"])).student)
    pixels = arrays["image"]
    tokens = arrays["input_ids"].long()
    keep = arrays["attention_mask"].bool()
    image_keep = arrays["image_mask_partial"].bool()
    lower = model.text_encoder.layers[0]
    upper = model.fusion.layers[0]
    patches = model.encode_image(pixels)
    text = model.encode_text(tokens, keep)
    embedded = model.text_encoder.embeddings(tokens)
    fused = model.fuse(text, keep, patches)
    rows = torch.tensor([2, 0, 3])
    values = {
        "vit_patch_embed": model.image_encoder.patch_embed(pixels),
        "vit_tokens": patches,
        "bert_embeddings": embedded,
        "text_layer1": lower(embedded, keep),
        "text_tokens": text,
        "fusion_layer_first": upper(text, keep, (upper.cross.k(patches), upper.cross.v(patches))),
        "fusion_tokens": fused,
        "fusion_tokens_partial_image_mask": model.fuse(text, keep, patches, image_keep),
        "image_feat": model.image_feature(patches),
        "text_feat": model.text_feature(text),
        "mlm_logits_unmasked": model.word_logits(fused),
    }
    differences = {name: off(value, arrays[name], TOKENS) for name, value in values.items()}
    pairs = model.fuse(text, keep, patches, image_keep, pairs=(rows, rows), queries=1)
    expected = arrays["fusion_tokens_partial_image_mask"][rows, :1]
    differences["pairs"] = off(pairs, expected, TOKENS)
    for grid in (6, 3):
        name = f"pos_embed_{grid}x{grid}"
        resized = vision.resize_positions(arrays["pos_embed_src"], grid)
        differences[name] = off(resized, arrays[name], 1e-6)
    return differences | probe(model, arrays, pixels, tokens, keep)


def probe(model: ALBEF, arrays: dict, pixels, tokens, keep) -> dict[str, float]:
    """The same of faint inputs: then a norm's epsilon is not small against the variance."""
    images = model.image_encoder
    words = model.text_encoder.embeddings
    faint = [images.cls_token, images.pos_embed, images.patch_embed.proj.bias]
    faint += [words.word_embed.weight, words.pos_embed.weight, words.type_embed.weight]
    for parameter in faint:
        parameter *= 1e-3
    probes = {
        "vit_tokens": model.encode_image(pixels * 1e-3),
        "bert_embeddings": words(tokens),
        "text_tokens": model.encode_text(tokens, keep),
    }
    differences = {}
    for name, value in probes.items():
        differences[f"eps_probe_{name}"] = off(value, arrays[f"eps_probe_{name}"], TOKENS)
    return differences
