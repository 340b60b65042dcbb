"""The encoders' figures beside those that the original's code recorded, at the small size of both."""
import torch

from golden_rule import figures, fill, off, original_state
from minalbef import vision
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.weights import key_table

CONFIG = Config(                                                 # the original's, made small
    image_size=32, patch_size=8, image_width=48, image_depth=4, image_heads=4, vocab_size=64, text_length=12,
    positions=40, text_width=48, text_depth=2, text_heads=4, fusion_depth=2, dropout=0.0, embed_dim=16, queue_size=16,
    batch=4, epoch=12, mask_rate=0.5, lr=1e-3, decay_all=True)
TOKENS = 2e-5                           # the original's float32 and float64 differ by less than 4e-6


@torch.no_grad()
def encoders() -> dict[str, float]:
    """All that is computed and was recorded: {what: worst difference over tolerance}."""
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
        "fusion_layer_first": upper(text, keep, (upper.cross.k(seen), upper.cross.v(seen))),
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
