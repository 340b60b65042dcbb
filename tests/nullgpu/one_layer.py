"""Train an image layer that Inductor and Triton compile for the null GPU: prints counts."""
import json

import torch

import gpu_counts
from helpers import SMALL_PAPER
from minalbef.fast.loop import recompute_and_compile
from minalbef.presets import preset
from minalbef.vision import ViT

config = preset("paper-4m", compile=True, **SMALL_PAPER)
encoder = ViT(config).cuda()
image = torch.randn(4, 3, config.image_size, config.image_size).cuda()
with recompute_and_compile(encoder, config):
    for _ in range(2):
        with gpu_counts.count() as counts, torch.autocast("cuda", torch.bfloat16):
            encoder(image).sum().backward()
print(json.dumps(counts))
